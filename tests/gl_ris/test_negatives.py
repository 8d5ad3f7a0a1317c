"""Subtraction of negatives against the cosines written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gl_ris.clip import RegionCLIP
from gl_ris.errors import UserError
from gl_ris.recipe import NEGATIVE_TEXTS, Recipe
from gl_ris.scorers import load_scorer
from gl_ris.sweep import GlobalLocalGrid
from toy_scenes import Data, make_scene

SAID = ["a red star", "the dog on the left"]
NEGATIVES = ["a moon", "the sky", "a small car"]
SOME: dict[str, Any] = {"negative_texts": NEGATIVES}


@pytest.mark.parametrize("method", ["global_local", "cropping"])
def test_the_mean_cosine_of_the_negatives_is_subtracted(
    clips: dict[str, RegionCLIP], image: Tensor, masks: Tensor, method: str
) -> None:
    clip = clips["vit"]
    plain, less = (
        load_scorer(method)(clip, recipe=Recipe(negatives=weight, **SOME), beta=1.0) for weight in (0, 0.7)
    )
    scores = plain(image, masks, SAID, SAID)
    # a text's own row of scores is its cosines with the masks
    rows = plain(image, masks, NEGATIVES, NEGATIVES)
    expected = scores - 0.7 * rows.mean(dim=0)
    torch.testing.assert_close(less(image, masks, SAID, SAID), expected, rtol=0, atol=1e-5)
    assert not torch.allclose(scores, expected, atol=1e-4)


def test_without_a_weight_nothing_is_encoded_or_changed(
    clip: RegionCLIP, image: Tensor, masks: Tensor
) -> None:
    usual, other = (load_scorer("global_local")(clip, recipe=recipe) for recipe in (Recipe(), Recipe(**SOME)))
    assert torch.equal(usual(image, masks, SAID, SAID), other(image, masks, SAID, SAID))
    assert usual.texts(SAID, SAID) == other.texts(SAID, SAID) == SAID + SAID


def test_what_is_encoded_ahead_has_the_negatives(clip: RegionCLIP) -> None:
    scorer = load_scorer("cropping")(clip, recipe=Recipe(negatives=1))
    assert scorer.texts(SAID, SAID) == [*SAID, *NEGATIVE_TEXTS]


def test_a_grid_subtracts_them_too(clip: RegionCLIP, image: Tensor, masks: Tensor) -> None:
    recipe = Recipe(negatives=0.5, **SOME)
    grid = GlobalLocalGrid(clip, [0.0, 0.4], [0.5, 1.0], 1, recipe)
    made = grid(image, masks, SAID, SAID).split(len(SAID))
    for (alpha, beta), scores in zip([(0.0, 0.5), (0.0, 1.0), (0.4, 0.5), (0.4, 1.0)], made, strict=True):
        own = load_scorer("global_local")(clip, alpha, beta, 1, recipe)
        assert torch.equal(scores, own(image, masks, SAID, SAID))


def test_prompts_and_negatives_vary_by_method_in_one_run(predict: Any) -> None:
    methods = [
        {"method": "global_local", "title": name, "alpha": 0.0, "recipe": recipe}
        for name, recipe in {
            "plain": {},
            "blur": {"local_prompt": "blur", "local_frame": "full"},
            "less": {"negatives": 1.0, **SOME},
        }.items()
    ]
    model, records = predict(Data([make_scene(0, SAID)]), methods)
    assert model.methods == ["plain", "blur", "less"]
    assert {record.method for record in records} == set(model.methods)
    assert [variant.recipe.local_prompt for variant in model.variants] == ["crop", "blur", "crop"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"local_prompt": "blurr"}, "recipe field 'local_prompt' 'blurr'. Did you mean 'blur'"),
        ({"local_frame": "whole"}, "recipe field 'local_frame' 'whole'"),
        ({"negatives": -1.0}, "recipe.negatives=-1.0 must be a weight, 0 or more"),
        ({"negatives": float("nan")}, "must be a weight"),
        ({"negatives": True}, "must be a weight"),
        ({"negatives": "much"}, "must be a weight"),
        ({"negative_texts": "sky"}, "negative_texts='sky' must be a list of texts"),
        ({"negative_texts": []}, "must be a list of texts"),
        ({"negative_texts": [1]}, "must be a list of texts"),
    ],
)
def test_wrong_values_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Recipe.resolve(fields)
