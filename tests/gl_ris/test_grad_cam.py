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
from gl_ris.scorers.grad_cam import GradCAM

EXPRESSIONS = ["the red star", "a striped square left of the dog", "green"]


def grad_cam(clip: RegionCLIP, image: Tensor, text: Tensor) -> Tensor:
    """Grad-CAM's map (rows, columns) by plain autograd over a whole hand-written pass."""
    pixels = pixels_of(clip, image)
    if clip.tower.kind == "resnet":
        last = feature_map(clip, pixels).clone().requires_grad_()
        feature = pooled_map(clip, last)
    else:
        visual = clip.model.visual
        tokens = embedded(clip, pixels)
        for block in visual.transformer.resblocks[:-1]:
            tokens = run_block(block, tokens)
        block = visual.transformer.resblocks[-1]
        normed = block.ln_1(tokens)
        last = normed[1:].T.reshape(-1, *clip.tower.grid_size).detach().requires_grad_()
        token = tokens[:1] + attend(block, normed[:1], torch.cat([normed[:1], last.flatten(1).T]))
        feature = (visual.ln_post(token + block.mlp(block.ln_2(token))) @ visual.proj)[0]
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


def test_grad_cam_runs_the_image_once_and_goes_back_once_for_each_expression(
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
    assert passes == {"image_state": 1, "pool": 1, "backward": len(EXPRESSIONS)}
