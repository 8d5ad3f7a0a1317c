"""Subsets of the expressions have figures of their own, counted in the same pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import pytest
import torch
from torch import Tensor

from gl_ris.errors import EvaluationError
from toy_scenes import Data, Scene, make_scene, no_proposals


@dataclass(frozen=True)
class Marked(Scene):
    subsets: dict[str, Tensor] = field(default_factory=dict)


def marked(index: int, texts: Sequence[str], *flags: int, **changes: Any) -> Marked:
    scene = make_scene(index, texts, **changes)
    values = {one.name: getattr(scene, one.name) for one in fields(scene)}
    return Marked(
        **values, subsets={"odd": torch.tensor(flags, dtype=torch.bool), "never": torch.zeros(len(texts)) > 0}
    )


def test_a_subset_has_the_figures_of_its_expressions_alone(predict: Callable[..., Any]) -> None:
    first = marked(0, ["take 0", "take 1", "take 2"], 1, 0, 1)
    rest = [marked(1, ["take 1"], 0), marked(2, ["take 0", "take 0"], 1, 0, proposals=no_proposals())]
    data = Data([first, *rest])
    data.subset_sizes = {"odd": 3, "never": 0}
    model, records = predict(data)
    odd, never = model.evaluation.subsets["odd"], model.evaluation.subsets["never"]
    # the first chooses its target, the third both targets, the fifth nothing: it misses a target of 6 x 8
    small, large = 6 * 6, 8 * 16
    hit, missed = 2 * small, 2 * small + large + 6 * 8
    assert odd.methods["Told"]["oIoU"] == pytest.approx(100 * hit / missed)
    assert odd.methods["Told"]["mIoU"] == pytest.approx(100 * (1 + small / (small + large)) / 3)
    assert (odd.n_images, odd.n_evaluated, odd.failures) == (2, 3, {"no proposals": 1})
    assert (never.n_images, never.n_evaluated) == (0, 0)
    assert model.evaluation.n_evaluated == 6
    assert [r.subsets for r in records] == [("odd",), (), ("odd",), (), ("odd",), ()]


def test_skipped_expressions_are_skipped_in_their_subset(predict: Callable[..., Any]) -> None:
    from gl_ris.recipe import Recipe

    data = Data([marked(0, ["take 0"], 1), marked(1, ["take 0", "take 0"], 1, 0, proposals=no_proposals())])
    data.subset_sizes = {"odd": 2, "never": 0}
    model, _ = predict(data, recipe=Recipe(skip_images_without_proposals=True))
    odd = model.evaluation.subsets["odd"]
    assert (odd.methods["Told"]["oIoU"], odd.n_evaluated, odd.n_skipped) == (100, 1, 1)


def test_a_subset_of_another_size_than_that_of_the_data_is_an_error(predict: Callable[..., Any]) -> None:
    data = Data([marked(0, ["take 0"], 1)])
    data.subset_sizes = {"odd": 2, "never": 0}
    with pytest.raises(EvaluationError, match="Evaluated 1 expressions of subset 'odd', but the split has 2"):
        predict(data)


def test_data_without_subsets_have_none(predict: Callable[..., Any]) -> None:
    model, (record,) = predict(Data([make_scene(0, ["take 0"])]))
    assert (model.evaluation.subsets, record.subsets) == ({}, None)
