"""What the baselines have in common: what they ignore, what they share, and the empty cases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import gl_ris
from gl_ris.clip import RegionCLIP, load_clip
from gl_ris.recipe import Recipe
from gl_ris.scorers import Scorer
from gl_ris.scorers.floors import LargestProposal
from gl_ris.scorers.global_local import GlobalLocal
from gl_ris.scorers.grad_cam import GradCAM
from gl_ris.scorers.region_token import RegionToken
from gl_ris.scorers.score_map import ScoreMap

EXPRESSIONS = ["the red star", "a striped square left of the dog", "green"]


BASELINES: list[type[Scorer]] = [GradCAM, ScoreMap, RegionToken, LargestProposal]


def fits(method: type[Scorer], clip: RegionCLIP) -> bool:
    return method is not RegionToken or clip.tower.kind == "vit"


def test_largest_is_the_area(clip: RegionCLIP, image: Tensor, masks: Tensor) -> None:
    scorer = LargestProposal(clip)
    areas = [sum(map(sum, mask.tolist())) for mask in masks]
    assert scorer(image, masks, EXPRESSIONS).tolist() == [areas] * 3
    assert scorer.texts(EXPRESSIONS) == []


@pytest.mark.parametrize("method", [ScoreMap, RegionToken])
def test_a_mask_that_vanishes_on_the_grid_still_has_a_score(
    clips: dict[str, RegionCLIP], image: Tensor, method: type[Scorer]
) -> None:
    clip = clips["vit"]
    masks = torch.zeros(2, 45, 70, dtype=torch.bool)
    masks[0, 22, 0] = True
    masks[1] = True
    recipe = Recipe(grid_mask="sampled")
    assert clip.context(image, masks).grid_masks(recipe)[0].sum() == 0
    scores = method(clip, recipe=recipe)(image, masks, EXPRESSIONS)
    expected = method(clip, recipe="clean")(image, masks, EXPRESSIONS)
    torch.testing.assert_close(scores, expected)
    assert scores.isfinite().all()


@pytest.mark.parametrize("method", BASELINES)
def test_baselines_know_no_noun_phrase_alpha_beta_or_mixing(
    clip: RegionCLIP, image: Tensor, masks: Tensor, method: type[Scorer]
) -> None:
    if not fits(method, clip):
        return
    other = Recipe(vit_unit_visual=False, resnet_unit_map=True, resnet_cosine=False, resnet_unit_text=False)
    plain = method(clip, recipe="clean")
    scores = plain(image, masks, EXPRESSIONS)
    changed = method(clip, alpha=0.1, beta=0.2, masked_blocks=1, recipe=other)
    torch.testing.assert_close(changed(image, masks, EXPRESSIONS, ["dog"] * 3), scores)
    assert plain.texts(EXPRESSIONS, ["dog"] * 3) in (EXPRESSIONS, [])


@pytest.mark.parametrize("method", BASELINES)
@pytest.mark.parametrize("recipe", ["clean", "published"])
def test_an_empty_mask_never_wins_and_nothing_gives_nothing(
    clip: RegionCLIP, image: Tensor, masks: Tensor, method: type[Scorer], recipe: str
) -> None:
    if not fits(method, clip):
        return
    scorer = method(clip, recipe=recipe)
    expected = scorer(image, masks, EXPRESSIONS)
    with_empty = torch.cat([masks[:2], torch.zeros(1, 45, 70).bool(), masks[2:]])
    scores = scorer(image, with_empty, EXPRESSIONS)
    assert scores.dtype == torch.float32
    assert (scores[:, 2] == -torch.inf).all()
    torch.testing.assert_close(scores[:, [0, 1, 3, 4, 5, 6]], expected, rtol=1e-4, atol=1e-5)
    assert scorer(image, masks[:0], EXPRESSIONS).shape == (3, 0)
    assert scorer(image, masks, []).shape == (0, 6)


def test_scorers_share_what_they_need_of_the_tower(
    clip: RegionCLIP, image: Tensor, masks: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One state for Grad-CAM and Score map; a ResNet's serves Global-Local as well."""
    monkeypatch.setattr(clip, "_context", None)
    states: list[int] = []
    work = clip.tower.image_state
    monkeypatch.setattr(clip.tower, "image_state", lambda *a: (states.append(a[1]), work(*a))[1])
    methods: list[type[Scorer]] = [GradCAM, ScoreMap, GlobalLocal]
    for method in methods * 2:
        method(clip, recipe="clean")(image, masks, EXPRESSIONS, EXPRESSIONS)
    assert states == ([1, 3] if clip.tower.kind == "vit" else [0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_lower_precision_scores_nearly_the_same(
    clip_folder: Callable[..., Path], kind: str, dtype: torch.dtype, image: Tensor, masks: Tensor
) -> None:
    name = f"local-dir:{clip_folder(kind)}"
    full, low = load_clip(name), load_clip(name, dtype=dtype)
    for method in (method for method in BASELINES if fits(method, full)):
        expected, scores = (method(clip, recipe="clean")(image, masks, EXPRESSIONS) for clip in (full, low))
        assert (scores - expected).abs().max() < 0.05 * expected.abs().max(), method.title


def test_their_names_are_in_the_package() -> None:
    assert (gl_ris.GradCAM, gl_ris.ScoreMap, gl_ris.RegionToken) == (GradCAM, ScoreMap, RegionToken)
    assert gl_ris.LargestProposal is LargestProposal
