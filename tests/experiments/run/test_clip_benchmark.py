"""The figures of one model, on tiny ones; scenes with RefCOCO's counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from experiments.run import clip_benchmark, measuring
from experiments.run.clip_benchmark import measure_model
from experiments.run.synthetic_scenes import Sizes, make_scenes

SIZES, CPU = Sizes(2, 5, 40, 60), torch.device("cpu")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "SHAPES", ((8, 16, 16),))
    monkeypatch.setattr(measuring, "_PATIENCE", 0.005)


def test_scenes_have_the_counts_of_refcoco_and_no_text_twice() -> None:
    scenes = make_scenes(Sizes(20, 3, 48, 64), seed=0)
    refs = [ref for scene in scenes for ref in scene.refs]
    texts = [text for scene in scenes for text in (*scene.sentences, *scene.phrases)]
    assert len(refs) / len(scenes) == 2.5
    assert sum(len(ref.sentences) for ref in refs) / len(refs) == 2.8
    assert len({*texts}) >= len(texts) * 0.85, "some places are empty, where a sentence is its noun phrase"
    assert len({text for scene in scenes for text in scene.sentences}) == 140
    assert all(scene.masks.flatten(1).any(dim=1).all() for scene in scenes)
    assert {tuple(scene.image.shape) for scene in scenes} == {(3, 48, 64)}
    again = make_scenes(Sizes(20, 3, 48, 64), seed=0)
    assert all(torch.equal(a.image, b.image) and a.refs == b.refs for a, b in zip(scenes, again, strict=True))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["vit", "resnet"])
@pytest.mark.parametrize("steady", [True, False])
def test_a_model_is_measured_in_every_precision(
    kind: str, steady: bool, clip_dirs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = iter([{"F.linear": 50.0}] * 2 + [{"F.linear": 50.0 if steady else 30.0}] * 2)
    monkeypatch.setattr(clip_benchmark, "matrix_rates", lambda *_: next(rates))
    monkeypatch.setattr(clip_benchmark, "has_bf16", lambda _: True)
    kinds = ["fp32", "bf16"]
    figures, controls = measure_model(clip_dirs[kind], kinds, SIZES, CPU, 0)
    assert [*figures] == [*controls] == kinds
    fp32: dict[str, Any] = figures["fp32"]
    assert (fp32["choices_equal"], fp32["choices"]) == (True, {"equal": 14, "of": 14})
    assert fp32["largest_difference"] < 1e-5
    assert fp32["work_saved"] == pytest.approx(fp32["gflop"]["loop"] / fp32["gflop"]["program"])
    assert fp32["work_saved"] > 1.5
    for found in figures.values():
        assert found["seconds"]["loop"] == fp32["seconds"]["loop"], "always against the loop in fp32"
        verdicts = [found["ratio_to_reference"], found["same_work_faster"], found["share_of_limit"]]
        verdicts += [found["crops"]["ratio"], found["text"]["ratio"]]
        assert [verdict is not None for verdict in verdicts] == [steady] * 5
        assert 1 <= len(found["not_matrix"]) <= 5
        assert set(found["kernels"]) == ({"linear"} if kind == "vit" else {"linear", "convolution"})
    if steady:
        assert fp32["ratio_to_reference"] == pytest.approx(fp32["work_saved"] * fp32["same_work_faster"])
        assert fp32["share_of_limit"] == pytest.approx(fp32["crops"]["gflops"] / 50)


@pytest.mark.usefixtures("quick")
def test_bf16_is_left_out_where_the_processor_has_none(
    clip_dirs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_benchmark, "has_bf16", lambda _: False)
    figures, controls = measure_model(clip_dirs["vit"], ["fp32", "bf16"], SIZES, CPU, 0)
    assert [*controls] == ["fp32"]
    assert figures["bf16"] == {
        "ratio_to_reference": None,
        "choices_equal": None,
        "share_of_limit": None,
        "missing": "this cpu has no bfloat16",
    }


def test_random_weights_are_those_of_the_seed() -> None:
    one, same, other = (
        clip_benchmark.load_random("refshapes-vit", CPU, seed).model.state_dict() for seed in (0, 0, 1)
    )
    # a folder brings its own
    assert all(torch.equal(one[key], other[key]) and torch.equal(one[key], same[key]) for key in one)
