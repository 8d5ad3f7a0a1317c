"""Every cell of a sweep against a `ZeroShotRIS` run of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gl_ris.clip import RegionCLIP
from gl_ris.errors import EvaluationError, UserError
from gl_ris.proposals.base import Proposals
from gl_ris.recipe import Recipe
from gl_ris.scorers.global_local import GlobalLocal
from gl_ris.sweep import Cell, GlobalLocalGrid, Sweep, axis
from gl_ris.zero_shot import ZeroShotRIS
from toy_scenes import Data, Scene, run

ALPHAS, BETAS, BLOCKS = [0.0, 0.4, 0.85, 1.0], [0.0, 0.5, 1.0], [0, 1, 3]
EXPRESSIONS = ["the red star", "a big dog above the blue square", "left circle"]
PHRASES = ["the red star", "a big dog", "left circle"]


def make_scene(index: int, image: Tensor, masks: Tensor) -> Scene:
    return Scene(
        image=image.roll(7 * index, dims=2),
        expressions=EXPRESSIONS,
        targets=masks[:2],
        referents=torch.tensor([0, 1, 1]),
        image_id=index,
        ref_ids=[0, 1, 1],
        sent_ids=[0, 1, 2],
        index=index,
        proposals=Proposals.from_masks(masks),
    )


@pytest.fixture
def scenes(image: Tensor, masks: Tensor) -> list[Scene]:
    return [make_scene(index, image, masks) for index in range(4)]


@pytest.fixture(scope="module")
def names(clip_folder: Callable[..., Path]) -> dict[str, str]:
    return {kind: f"local-dir:{clip_folder(kind)}" for kind in ("vit", "resnet")}


def predict(model: ZeroShotRIS, scenes: list[Scene]) -> Any:
    run(model, Data(scenes))
    return model.evaluation


@pytest.mark.parametrize("recipe", ["clean", "published", Recipe(vit_unit_visual=False, resnet_cosine=False)])
def test_every_cell_has_the_scores_of_global_local(
    recipe: str | Recipe, clip: RegionCLIP, image: Tensor, masks: Tensor
) -> None:
    masks = torch.cat([masks, torch.zeros_like(masks[:1])])
    for k in BLOCKS if clip.tower.kind == "vit" else [3]:
        grid = GlobalLocalGrid(clip, ALPHAS, BETAS, k, recipe)(image, masks, EXPRESSIONS, PHRASES)
        cells = grid.view(len(ALPHAS), len(BETAS), len(EXPRESSIONS), len(masks))
        for a, alpha in enumerate(ALPHAS):
            for b, beta in enumerate(BETAS):
                alone = GlobalLocal(clip, alpha, beta, k, recipe)(image, masks, EXPRESSIONS, PHRASES)
                assert torch.equal(cells[a, b], alone)
                assert torch.equal(cells[a, b].argmax(dim=1), alone.argmax(dim=1))


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_every_cell_has_the_figures_of_a_run_of_its_own(
    kind: str, names: dict[str, str], scenes: list[Scene]
) -> None:
    blocks = [1, 3] if kind == "vit" else [3]
    found = predict(
        Sweep(clip=names[kind], alphas=[0.0, 0.5, 1.0], betas=[0.0, 0.7], masked_blocks=blocks), scenes
    )
    assert len(found.methods) == 6 * len(blocks)
    methods = [
        {
            "method": "global_local",
            "title": Cell(alpha, beta, k).title,
            "alpha": alpha,
            "beta": beta,
            "masked_blocks": k,
        }
        for k in blocks
        for alpha in (0.0, 0.5, 1.0)
        for beta in (0.0, 0.7)
    ]
    alone = predict(ZeroShotRIS(names[kind], methods=methods), scenes)
    assert found.methods == alone.methods
    assert len({tuple(row.values()) for row in alone.methods.values()}) > 1, "the cells should differ"
    assert (found.upper_bound, found.n_evaluated) == (alone.upper_bound, 12)


def test_misses_are_counted_as_in_a_run_of_its_own(
    names: dict[str, str], scenes: list[Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    none = Proposals.from_masks(torch.zeros(0, 45, 70, dtype=torch.bool))
    bad = [replace(scenes[0], proposals=none), replace(scenes[1], error="image file is missing")]
    bad = [*bad, *scenes[2:]]
    score, broken = GlobalLocal.mixed_features, scenes[2].image

    def visual(self: GlobalLocal, context: Any) -> Tensor:
        if torch.equal(context.image, broken):
            raise RuntimeError("no such luck")
        return score(self, context)

    monkeypatch.setattr(GlobalLocal, "mixed_features", visual)
    found = predict(Sweep(clip=names["vit"], alphas=[0.85], betas=[0.5], masked_blocks=[2, 3]), bad)
    alone = predict(ZeroShotRIS(names["vit"]), bad)
    assert found.methods["alpha=0.85 beta=0.5 masked_blocks=3"] == alone.methods["Global-Local"]
    assert found.failures == alone.failures
    assert found.failures == {
        "Global-Local: RuntimeError: no such luck": 3,
        "image file is missing": 3,
        "no proposals": 3,
    }
    assert (found.n_images, found.n_evaluated, found.n_skipped) == (4, 12, 0)
    with pytest.raises(EvaluationError, match="Not one expression could be evaluated"):
        predict(Sweep(clip=names["vit"], alphas=2, betas=2), bad[:3])


def test_a_recipe_can_leave_images_out(names: dict[str, str], scenes: list[Scene]) -> None:
    none = Proposals.from_masks(torch.zeros(0, 45, 70, dtype=torch.bool))
    recipe = Recipe(skip_images_without_proposals=True)
    found = predict(
        Sweep(clip=names["vit"], alphas=[0.5], betas=2, recipe=recipe),
        [replace(scenes[0], proposals=none), scenes[1]],
    )
    assert (found.n_evaluated, found.n_skipped) == (3, 3)
    assert found.failures == {"skipped, no proposals": 3}


def test_an_image_is_encoded_once_whatever_the_grid(
    names: dict[str, str], scenes: list[Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    from gl_ris.clip.text_tower import TextTower
    from gl_ris.clip.vit import ViTTower

    done: list[Any] = []
    for name in ("encode", "region_features"):
        work = getattr(ViTTower, name)
        # all masks of one of these images go through together
        monkeypatch.setattr(
            ViTTower, name, lambda self, *a, n=name, w=work: (done.append((n,)), w(self, *a))[1]
        )
    encode = TextTower.encode
    monkeypatch.setattr(
        TextTower, "encode", lambda self, batch: (done.extend(batch.texts), encode(self, batch))[1]
    )
    predict(Sweep(clip=names["vit"], alphas=9, betas=9, masked_blocks=[2, 3]), scenes)
    assert sum(item == ("encode",) for item in done) == len(scenes)
    assert sum(item == ("region_features",) for item in done) == 2 * len(scenes)
    texts = [item for item in done if isinstance(item, str)]
    assert len(texts) == len(set(texts)) >= len(EXPRESSIONS)


def test_the_default_cell_is_found_or_known_to_be_missing() -> None:
    both = {"alphas": 21, "betas": 3, "masked_blocks": [3, 1]}
    # of several k, the paper's for the paper's models, and that of RefShapes for its own
    assert Sweep(clip="ViT-B-32-quickgelu", pretrained="openai", **both).default == Cell(0.85, 0.5, 3)
    assert Sweep(clip="refshapes-vit", **both).default == Cell(0.85, 0.5, 1)
    assert Sweep(alphas=[0.95], betas=[0.5], masked_blocks=2, alpha=0.95).default == Cell(0.95, 0.5, 2)
    assert Sweep(alphas=2, betas=2).default is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alphas": 1}, "alphas=1 is no number of steps"),
        ({"betas": []}, r"betas=\[\] must hold one value or more"),
        ({"betas": [0.5, 0.5]}, "each once"),
        ({"alphas": [0.5, 1.5]}, "1.5 is out of range"),
        ({"alphas": [float("nan")]}, "nan is out of range"),
        ({"masked_blocks": []}, "must hold one number or more"),
        ({"masked_blocks": [2, 2]}, "each once"),
        ({"alpha": 2.0}, "alpha=2.0 is out of range"),
        ({"precision": "fp8"}, "Unknown precision 'fp8'"),
        ({"recipe": "clan"}, "Did you mean 'clean'"),
    ],
)
def test_wrong_settings_are_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Sweep(**settings)


def test_a_resnet_takes_one_number_of_masked_blocks(names: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"masked_blocks=\[1, 3\] makes no difference to a ResNet"):
        Sweep(clip=names["resnet"], masked_blocks=[1, 3]).configure_model()
    with pytest.raises(UserError, match="masked_blocks=9 does not fit"):
        Sweep(clip=names["vit"], masked_blocks=[1, 9]).configure_model()


def test_steps_are_the_decimals_that_one_would_write() -> None:
    assert axis("alphas", 21) == [float(f"{step * 5 // 100}.{step * 5 % 100:02d}") for step in range(21)]
    assert axis("alphas", [1, 0.5]) == [0.5, 1.0]
