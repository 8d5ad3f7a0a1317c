"""Grad-CAM against plain autograd over a whole pass by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from by_hand import attend, embedded, feature_map, pixels_of, pooled_map, run_block
from gl_ris.clip import RegionCLIP, load_clip
from gl_ris.recipe import Recipe
from gl_ris.scorers.grad_cam import GradCAM
from tiny_clips import VISION

EXPRESSIONS = ["the red star", "a striped square left of the dog", "green"]


def last_map_and_rest(clip: RegionCLIP, image: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The last map (C, rows, columns), and what makes the image's feature (D,) of one, by hand."""
    pixels = pixels_of(clip, image)
    if clip.tower.kind == "resnet":
        return feature_map(clip, pixels), lambda last: pooled_map(clip, last)
    visual = clip.model.visual
    tokens = embedded(clip, pixels)
    *blocks, block = visual.transformer.resblocks
    for earlier in blocks:
        tokens = run_block(earlier, tokens)
    normed = block.ln_1(tokens)

    def rest(last: Tensor) -> Tensor:
        token = tokens[:1] + attend(block, normed[:1], torch.cat([normed[:1], last.flatten(1).T]))
        return (visual.ln_post(token + block.mlp(block.ln_2(token))) @ visual.proj)[0]

    return normed[1:].T.reshape(-1, *clip.tower.grid_size), rest


def grad_cam(clip: RegionCLIP, image: Tensor, text: Tensor) -> Tensor:
    """Grad-CAM's map (rows, columns) by plain autograd over a whole hand-written pass."""
    found, rest = last_map_and_rest(clip, image)
    last = found.detach().clone().requires_grad_()
    feature = rest(last)
    (feature @ text / feature.norm() / text.norm()).backward()
    assert last.grad is not None
    cam = sum(last.grad[c].mean() * last[c] for c in range(len(last)))
    return torch.relu(cam).detach()  # type: ignore[arg-type]


def test_grad_cam_is_plain_autograds(clip: RegionCLIP, image: Tensor, masks: Tensor) -> None:
    with torch.inference_mode():
        actual = GradCAM(clip, recipe="clean")(image, masks, EXPRESSIONS)
    maps = [grad_cam(clip, image, text) for text in clip.encode_texts(EXPRESSIONS)]
    assert sum(int(cam.max() > 0) for cam in maps) >= 2
    for scores, cam in zip(actual, maps, strict=True):
        pixels = F.interpolate(cam[None, None], masks.shape[1:], mode="bilinear", align_corners=False)[0, 0]
        expected = torch.stack([pixels[mask].sum() for mask in masks])
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-6)


def test_grad_cam_favours_larger_masks(clip: RegionCLIP, image: Tensor, masks: Tensor) -> None:
    scores = GradCAM(clip, recipe="clean")(image, masks, EXPRESSIONS)
    assert (scores >= 0).all()
    assert (scores[:, 3:4] >= scores).all()  # the mask of everything
    positive = scores[:, 3] > 0
    assert positive.any()
    assert (scores[:, 3] > scores[:, 5])[positive].all()


@pytest.mark.parametrize(
    "mode", [torch.inference_mode, torch.no_grad, torch.enable_grad], ids=["inference", "no-grad", "grad"]
)
def test_grad_cam_works_in_every_mode_and_leaves_no_gradient(
    clip: RegionCLIP, image: Tensor, masks: Tensor, mode: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = GradCAM(clip, recipe="clean")(image, masks, EXPRESSIONS)
    monkeypatch.setattr(clip, "_context", None)
    scorer = GradCAM(clip, recipe="clean")
    with mode():
        scorer.prepare(clip.context(image, masks))
        scores = scorer(image, masks, EXPRESSIONS)
    assert torch.equal(scores, expected)
    assert not scores.requires_grad
    assert all(value.grad is None for value in clip.parameters())


def test_grad_cam_of_weights_that_were_loaded_in_inference_mode(
    clip_folder: Callable[..., Path], image: Tensor, masks: Tensor
) -> None:
    with torch.inference_mode():
        clip = load_clip(f"local-dir:{clip_folder('vit')}")
        assert GradCAM(clip, recipe="clean")(image, masks, EXPRESSIONS).max() > 0


def test_grad_cam_runs_the_image_once_and_goes_back_once_for_all_expressions(
    clip: RegionCLIP, image: Tensor, masks: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip, "_context", None)
    passes = {"image_state": 0, "pool": 0, "backward": 0}
    for name in ("image_state", "pool"):
        work = getattr(clip.tower, name)

        def counted(*a: object, name: str = name, work: Callable = work) -> object:
            passes[name] += 1
            return work(*a)

        monkeypatch.setattr(clip.tower, name, counted)
    backward = torch.autograd.grad
    monkeypatch.setattr(
        torch.autograd,
        "grad",
        lambda *a, **k: (passes.update(backward=passes["backward"] + 1), backward(*a, **k))[1],
    )
    GradCAM(clip, recipe="clean")(image, masks, EXPRESSIONS)
    assert passes == {"image_state": 1, "pool": 1, "backward": 1}


@torch.no_grad()
def test_towers_pool_the_last_map_with_a_vector_added_to_all_positions(
    clip: RegionCLIP, image: Tensor, masks: Tensor
) -> None:
    state = clip.context(image, masks).image_state(Recipe(), 1)
    last, rest = last_map_and_rest(clip, image)
    torch.testing.assert_close(clip.tower.last_map(state)[0], last, rtol=1e-4, atol=1e-5)
    shifts = torch.randn(4, len(last), generator=torch.Generator().manual_seed(5))
    expected = torch.stack([rest(last + shift[:, None, None]) for shift in shifts])
    torch.testing.assert_close(clip.tower.pool(state, shifts), expected, rtol=1e-4, atol=1e-5)
    assert (expected - rest(last)).abs().amax(1).min() > 1e-2


def test_blocks_of_another_kind_are_pooled_as_a_whole(
    clip_folder: Callable[..., Path], image: Tensor
) -> None:
    """A ViT of open_clip's custom blocks that computes what one of the ordinary ones does."""
    plain = load_clip(f"local-dir:{clip_folder('vit')}")
    other = load_clip(f"local-dir:{clip_folder('vit', vision_cfg={**VISION['vit'], 'block_type': 'custom'})}")
    other.model.load_state_dict(plain.model.state_dict())
    masks = torch.ones(2, *image.shape[1:], dtype=torch.bool)
    found, expected = (GradCAM(one, recipe="clean")(image, masks, EXPRESSIONS) for one in (other, plain))
    assert type(other.model.visual.transformer.resblocks[-1].attn) is not torch.nn.MultiheadAttention
    assert expected.max() > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_grad_cam_in_half_precision_is_close(
    clip_folder: Callable[..., Path], image: Tensor, masks: Tensor, dtype: torch.dtype
) -> None:
    for kind in VISION:
        folder = f"local-dir:{clip_folder(kind)}"
        whole = GradCAM(load_clip(folder), recipe="clean")(image, masks, EXPRESSIONS)
        with torch.inference_mode():
            half = GradCAM(load_clip(folder, dtype=dtype), recipe="clean")(image, masks, EXPRESSIONS)
        assert half.dtype == torch.float32
        assert (half - whole).abs().max() < 0.1 * whole.max()


@torch.no_grad()
def test_many_expressions_score_as_each_does_by_itself(
    clip: RegionCLIP, image: Tensor, masks: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gl_ris.scorers.grad_cam._AT_ONCE", 2)
    scorer = GradCAM(clip, recipe="clean")
    together = scorer(image, masks, EXPRESSIONS)
    alone = torch.cat([scorer(image, masks, [text]) for text in EXPRESSIONS])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)
