"""Towers of many shapes against open_clip's own encoders, by each kind of kernel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gl_ris.clip import RegionCLIP, kernels, load_clip
from gl_ris.clip.kernels import PACKED, PLAIN, Kernels, Layers
from tiny_clips import VISION

VIT, RESNET = VISION["vit"], VISION["resnet"]
TEXT: dict[str, Any] = {
    "context_length": 12,
    "vocab_size": 22,
    "width": 24,
    "heads": 3,
    "layers": 3,
    "hf_tokenizer_name": "x",
}
TEXTS = ["dog", "the red star", "a big circle", "the small blue square left of a star", "a dog"]
SHAPES: dict[str, dict[str, Any]] = {
    "three heads": {"vision_cfg": {**VIT, "width": 24, "layers": 2}},
    "layer scale": {"vision_cfg": {**VIT, "ls_init_value": 0.3}, "text_cfg": {**TEXT, "ls_init_value": 0.3}},
    "quick gelu": {"quick_gelu": True},
    "tanh gelu": {
        "vision_cfg": {**VIT, "act_kwargs": {"approximate": "tanh"}},
        "text_cfg": {**TEXT, "act_kwargs": {"approximate": "tanh"}},
    },
    "blocks of another kind": {
        "vision_cfg": {**VIT, "qk_norm": True, "scale_attn": True},
        "text_cfg": {**TEXT, "scale_fc": True},
    },
    "one block": {"vision_cfg": {**VIT, "layers": 1}, "text_cfg": {**TEXT, "layers": 1}},
    "pixels left over": {"vision_cfg": {**VIT, "image_size": 30, "no_ln_pre": True}},
    "text not causal": {"text_cfg": {**TEXT, "no_causal_mask": True}, "custom_text": True},
    "class token behind the text": {"text_cfg": {**TEXT, "embed_cls": True}, "custom_text": True},
    "resnet": {"vision_cfg": {**RESNET, "layers": [2, 1, 1, 2]}},
    "wide resnet": {"vision_cfg": {**RESNET, "width": 12, "head_width": 24, "image_size": 64}},
}


@pytest.fixture(params=[PLAIN, PACKED])
def by_each_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == PACKED:
        try:
            kernels._try(torch.float32)
        except (AttributeError, RuntimeError):
            pytest.skip("this torch has no packed weights")
    monkeypatch.setattr(kernels, "kernels_here", lambda _: Kernels(request.param, request.param))


@pytest.fixture(params=list(SHAPES))
def clip(request: pytest.FixtureRequest, clip_folder: Callable[..., Path]) -> RegionCLIP:
    return load_clip(f"local-dir:{clip_folder('vit', **{'text_cfg': TEXT, **SHAPES[request.param]})}")


def check_against_open_clip(clip: RegionCLIP) -> None:
    pixels = torch.randn(5, 3, *clip.image_size)
    with torch.no_grad():
        expected = clip.model.encode_image(pixels)
        texts = clip.model.encode_text(clip._text_tower.tokenizer(TEXTS))
        torch.testing.assert_close(clip.encode_image(pixels), expected, rtol=1e-4, atol=2e-5)
        torch.testing.assert_close(clip.encode_texts(TEXTS), texts, rtol=1e-4, atol=2e-5)
    assert (expected[0] - expected[1]).abs().max() > 2e-3
    assert (texts[0] - texts[1]).abs().max() > 2e-3


@pytest.mark.usefixtures("by_each_kind")
def test_images_and_texts_are_encoded_as_by_open_clip(clip: RegionCLIP) -> None:
    keys = {key: value.clone() for key, value in clip.model.state_dict().items()}
    check_against_open_clip(clip)
    assert list(clip.model.state_dict()) == list(keys)
    assert all(torch.equal(value, keys[key]) for key, value in clip.model.state_dict().items())
    # all of it at another place, then in place, norms and their statistics too
    clip.model.load_state_dict({key: value * 1.1 for key, value in keys.items()}, assign=True)
    check_against_open_clip(clip)
    with torch.no_grad():
        for tensor in clip.model.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(0.9)
    check_against_open_clip(clip)


@pytest.mark.usefixtures("by_each_kind")
@pytest.mark.parametrize("masked_blocks", [0, 1, 2])
def test_regions_are_those_of_open_clips_blocks_on_masked_tokens(
    clip: RegionCLIP, masked_blocks: int
) -> None:
    tower: Any = clip.tower
    pixels, grids = torch.randn(1, 3, *clip.image_size), torch.rand(4, *tower.grid_size)
    grids *= grids > 0.3
    with torch.no_grad():
        if tower.kind == "resnet":
            found = tower.region_features(tower.image_state(pixels), grids)
            whole = clip.model.visual.forward_intermediates(pixels, [4], intermediates_only=True)
            masked = whole["image_intermediates"][0] * grids[:, None]
            expected = clip.model.visual.attnpool(masked)
        else:
            masked_blocks = min(masked_blocks, tower.depth)
            found = tower.region_features(tower.image_state(pixels, masked_blocks), grids, masked_blocks)
            expected = regions_by_hooks(clip, pixels, grids, masked_blocks)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)


def regions_by_hooks(clip: RegionCLIP, pixels: Tensor, grids: Tensor, masked_blocks: int) -> Tensor:
    keep = torch.cat([torch.ones(len(grids), 1), grids.flatten(1)], dim=1)[..., None]
    blocks = list(clip.model.visual.transformer.resblocks)
    masked = blocks[len(blocks) - masked_blocks :]
    hooks = [block.register_forward_pre_hook(lambda _, inputs: (inputs[0] * keep,)) for block in masked]
    try:
        return clip.model.encode_image(pixels.expand(len(grids), -1, -1, -1))
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.usefixtures("by_each_kind")
def test_the_last_block_is_computed_for_what_is_pooled(
    clips: dict[str, RegionCLIP], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    linear, mlp = Layers.linear, Layers.mlp

    def spy(self: Layers, inputs: Tensor, weight: Tensor, *rest: Any) -> Tensor:
        seen.append((inputs.shape[1], len(weight)))
        return linear(self, inputs, weight, *rest)

    def spy_on_mlp(self: Layers, inputs: Tensor, *rest: Any) -> Tensor:
        seen.append((inputs.shape[1], 0))
        return mlp(self, inputs, *rest)

    monkeypatch.setattr(Layers, "linear", spy)
    monkeypatch.setattr(Layers, "mlp", spy_on_mlp)
    clip = clips["vit"]
    with torch.no_grad():
        clip.tower.encode(torch.randn(2, 3, 32, 32))
        # queries, keys and values, output layer, MLP
        whole = [(17, size) for size in (32, 64, 32, 0)]
        last = [(1, 32), (17, 64), (1, 32), (1, 0)]
        assert seen == [*whole * 4, *last]
        seen.clear()
        state = clip.tower.image_state(torch.randn(1, 3, 32, 32), 2)
        assert seen == whole * 3
        clip.tower.region_features(state, torch.ones(6, 4, 4), 2)
        assert seen == [*whole * 4, *last]
        seen.clear()
        clip._text_tower.encode(clip._text_tower.batches(["dog"], 1)[0][0])
        assert [length for length, _ in seen] == [3] * 4 + [1, 3, 1, 1]


@pytest.mark.usefixtures("by_each_kind")
@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_pixels_get_the_gradient_of_open_clips_encoder(kind: str, clips: dict[str, RegionCLIP]) -> None:
    clip, pixels = clips[kind], torch.randn(2, 3, *clips[kind].image_size, requires_grad=True)
    found, expected = (
        torch.autograd.grad(encode(pixels).square().sum(), pixels)[0]
        for encode in (clip.encode_image, clip.model.encode_image)
    )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_who_listens_to_a_layer_is_told(kind: str, clip_folder: Callable[..., Path]) -> None:
    clip = load_clip(f"local-dir:{clip_folder(kind)}")
    pixels, calls = torch.randn(2, 3, *clip.image_size), []
    visual = clip.model.visual
    part: nn.Module = visual.transformer.resblocks[1].attn if kind == "vit" else visual.layer2[0].conv2
    with torch.no_grad():
        before = clip.encode_image(pixels)
        hook = part.register_forward_hook(lambda *_: calls.append(1))
        heard = clip.encode_image(pixels)
        hook.remove()
    assert calls == [1]
    torch.testing.assert_close(heard, before, rtol=1e-4, atol=1e-5)


def test_a_model_says_how_it_is_computed(
    clips: dict[str, RegionCLIP], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gl_ris.clip.region_clip.kernels_here", lambda _: Kernels(PACKED, PLAIN))
    assert clips["vit"].kernels == {"linear": PACKED}
    assert clips["resnet"].kernels == {"linear": PACKED, "convolution": PLAIN}
