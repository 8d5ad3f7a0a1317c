"""Heat maps against the formulas in plain loops, in float64; scores of masks against a count of pixels."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from by_hand import dense, embedded, pixels_of, run_block
from gl_ris.clip import RegionCLIP, load_clip
from gl_ris.clip.dense import WAYS
from gl_ris.errors import UserError
from gl_ris.heat import as_pictures, heat_maps, mask_scores, position_mask

LAST = ("maskclip", "sclip", "clearclip", "naclip")


def in_double(clip: RegionCLIP) -> RegionCLIP:
    found = copy.deepcopy(clip)
    found.model.double()
    return found


def heads_of(block: Any, tokens: Tensor) -> list[list[Tensor]]:
    """Queries, keys and values of tokens (L, width): for each head (L, d)."""
    attention = block.attn
    rows = block.ln_1(tokens) @ attention.in_proj_weight.T + attention.in_proj_bias
    return [list(part.chunk(attention.num_heads, dim=1)) for part in rows.chunk(3, dim=1)]


def softmax_rows(logits: Tensor) -> Tensor:
    return torch.stack([row.exp() / row.exp().sum() for row in logits])


def weighed(name: str, query: Tensor, key: Tensor, grid: tuple[int, int]) -> Tensor:
    scale, count = 1 / math.sqrt(query.shape[1]), len(query)
    near = torch.zeros(count, count, dtype=torch.float64)
    for i in range(1, count):
        for j in range(1, count):
            down, right = (f(i - 1, grid[1]) - f(j - 1, grid[1]) for f in (int.__floordiv__, int.__mod__))
            near[i, j] = math.exp(-(down**2 + right**2) / (2 * 5**2))
    if name == "maskclip":
        return torch.eye(count, dtype=torch.float64)
    if name == "sclip":
        return softmax_rows(scale * query @ query.T) + softmax_rows(scale * key @ key.T)
    return softmax_rows(scale * query @ query.T if name == "clearclip" else scale * key @ key.T + near)


def last_by_hand(clip: RegionCLIP, name: str, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    *blocks, block = clip.model.visual.transformer.resblocks
    for each in blocks:
        tokens = run_block(each, tokens)
    parts = [weighed(name, q, k, grid) @ v for q, k, v in zip(*heads_of(block, tokens), strict=True)]
    out = block.attn.out_proj(torch.cat(parts, dim=1))
    if name != "sclip":
        return out
    tokens = tokens + out
    return tokens + block.mlp(block.ln_2(tokens))


def gem_by_hand(clip: RegionCLIP, tokens: Tensor) -> Tensor:
    stream = tokens
    for block in clip.model.visual.transformer.resblocks:  # five, fewer than GEM's six
        lengths = [row.norm() for row in block.ln_1(tokens)]
        total = []
        for heads in zip(*heads_of(block, tokens), strict=True):
            sharp = torch.stack(lengths).mean() / math.sqrt(heads[0].shape[1])
            for vectors in heads:
                unit = torch.stack([row / row.norm() for row in vectors])
                moved = softmax_rows(sharp * unit @ unit.T) @ unit
                unit = torch.stack([row / row.norm() for row in moved])
                total.append(softmax_rows(sharp * unit @ unit.T) @ heads[2] / 3)
        of_heads = [total[at] + total[at + 1] + total[at + 2] for at in range(0, len(total), 3)]
        mixed = torch.cat(of_heads, dim=1)
        stream = stream + block.attn.out_proj(mixed)
        tokens = run_block(block, tokens)
    return stream


def cubic(offset: float) -> float:
    """Keys' kernel with a = -0.75, torch's without antialiasing; with it a is -0.5."""
    return 0.0 if abs(offset) >= 2 else _cubic(abs(offset), -0.75)


def _cubic(x: float, a: float) -> float:
    return (a + 2) * x**3 - (a + 3) * x**2 + 1 if x <= 1 else a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a


def resized_positions(own: Tensor, old: int, new: int) -> Tensor:
    """Position embeddings (old * old, width) to new x new by the factor (new + 0.1) / old; edges go on."""
    weights = torch.zeros(new, old, dtype=torch.float64)
    for to in range(new):
        place = (to + 0.5) * old / (new + 0.1) - 0.5
        for at in range(math.floor(place) - 1, math.floor(place) + 3):
            weights[to, min(max(at, 0), old - 1)] += cubic(place - at)
    maps = own.unflatten(0, (old, old))
    return torch.einsum("ri,cj,ijw->rcw", weights, weights, maps).flatten(0, 1)


def cosines(clip: RegionCLIP, tokens: Tensor, text: Tensor, grid: tuple[int, int]) -> Tensor:
    visual = clip.model.visual
    features = (visual.ln_post(tokens[1:]) @ visual.proj).unflatten(0, grid)
    return F.cosine_similarity(text[:, None, None], features[None], dim=-1)


@pytest.mark.parametrize("name", WAYS)
@torch.no_grad()
def test_heat_maps_are_the_formulas_in_plain_loops(
    name: str, clips: dict[str, RegionCLIP], image: Tensor
) -> None:
    clip, text = clips["vit"], torch.randn(3, 24)
    pixels = pixels_of(clip, image)
    exact = in_double(clip)
    tokens = embedded(exact, pixels.double())
    tokens = gem_by_hand(exact, tokens) if name == "gem" else last_by_hand(exact, name, tokens, (4, 4))
    expected = cosines(exact, tokens, text.double(), (4, 4))
    actual = heat_maps(clip, name, pixels, text)
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=2e-6)
    assert actual.std(dim=(1, 2)).min() > 1e-3


@pytest.mark.parametrize("name", ["clearclip", "gem"])
@torch.no_grad()
def test_other_sizes_resize_position_embeddings_as_each_code_does(
    name: str, clips: dict[str, RegionCLIP]
) -> None:
    clip, text, pixels = clips["vit"], torch.randn(2, 24), torch.randn(1, 3, 56, 56)
    exact = in_double(clip)
    visual = exact.model.visual
    own = visual.positional_embedding
    if name == "gem":  # upwards, antialiasing changes the kernel alone
        maps = own[1:].T.reshape(1, -1, 4, 4)
        grown = F.interpolate(maps, (7, 7), mode="bicubic", antialias=True)[0].flatten(1).T
    else:
        grown = resized_positions(own[1:], 4, 7)
    patches = F.conv2d(pixels.double(), visual.conv1.weight, stride=8)[0].flatten(1).T
    tokens = visual.ln_pre(torch.cat([visual.class_embedding[None] + own[:1], patches + grown]))
    tokens = gem_by_hand(exact, tokens) if name == "gem" else last_by_hand(exact, name, tokens, (7, 7))
    actual = heat_maps(clip, name, pixels, text)
    torch.testing.assert_close(
        actual.double(), cosines(exact, tokens, text.double(), (7, 7)), rtol=0, atol=4e-6
    )


@torch.no_grad()
def test_maskclip_of_a_resnet_is_two_convolutions(clips: dict[str, RegionCLIP], image: Tensor) -> None:
    clip, text = clips["resnet"], torch.randn(2, 24)
    pixels = pixels_of(clip, image)
    expected = F.cosine_similarity(text[:, :, None, None], dense(clip, pixels)[None], dim=1)
    torch.testing.assert_close(heat_maps(clip, "maskclip", pixels, text), expected, rtol=1e-4, atol=1e-5)
    assert heat_maps(clip, "maskclip", torch.randn(1, 3, 128, 64), text).shape == (2, 4, 2)


@pytest.mark.parametrize(
    ("kind", "name", "shape", "error", "message"),
    [
        (
            "resnet",
            "gem",
            (1, 3, 96, 96),
            UserError,
            r"'gem' does not fit .*ResNet; choose a ViT.*'maskclip'",
        ),
        ("vit", "gemm", (1, 3, 32, 32), UserError, "Unknown heat map 'gemm'. Did you mean 'gem'"),
        ("vit", "gem", (1, 3, 32, 36), ValueError, "in multiples of 8, got"),
        ("vit", "gem", (2, 3, 32, 32), ValueError, r"pixels must be \(1, 3, h, w\)"),
    ],
)
def test_what_does_not_fit_is_told(
    kind: str,
    name: str,
    shape: tuple[int, ...],
    error: type[Exception],
    message: str,
    clips: dict[str, RegionCLIP],
) -> None:
    with pytest.raises(error, match=message):
        heat_maps(clips[kind], name, torch.zeros(shape), torch.ones(1, 24))


def test_attention_of_another_kind_is_refused(clip_folder: Callable[..., Path]) -> None:
    vision = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 5, "head_width": 8, "mlp_ratio": 2.0}
    folder = clip_folder("vit", vision_cfg={**vision, "block_type": "custom"})
    with pytest.raises(UserError, match="cannot read its attention"):
        heat_maps(load_clip(f"local-dir:{folder}"), "sclip", torch.zeros(1, 3, 32, 32), torch.ones(1, 24))


MAP = torch.tensor([[0.0, 0.25, 0.5], [1.0, 0.5, 0.75]])
MASKS = torch.tensor(
    [[[0, 1, 1], [0, 0, 0]], [[1, 0, 0], [1, 0, 0]], [[1, 1, 1], [1, 1, 1]], [[0, 0, 0], [0, 0, 0]]]
).bool()


def by_counting(rule: str, pixels: np.ndarray, mask: np.ndarray, b: float) -> float:
    inside, outside = pixels[mask], pixels[~mask]
    mean, rest = (part.mean() if part.size else pixels.mean() for part in (inside, outside))
    return {
        "in": mean,
        "in_out": mean - rest,
        "balanced": (2 - b) * mean - b * rest,
        "sum_sqrt_area": inside.sum() / math.sqrt(max(mask.sum(), 1)),
    }[rule]


@pytest.mark.parametrize("rule", ["in", "in_out", "balanced", "sum_sqrt_area"])
@pytest.mark.parametrize("b", [1.8, 0.3])
def test_rules_count_pixels(rule: str, b: float) -> None:
    maps = torch.stack([MAP, 3 - 2 * MAP])
    expected = [[by_counting(rule, one.numpy(), mask.numpy(), b) for mask in MASKS] for one in maps]
    torch.testing.assert_close(mask_scores(maps, MASKS, rule, b), torch.tensor(expected).float())


def test_masks_that_hold_the_peak_come_first_by_the_mean_inside() -> None:
    masks = torch.tensor(
        [[[0, 0, 0], [0, 1, 1]], [[1, 0, 0], [1, 0, 0]], [[0, 0, 0], [1, 1, 0]], [[0, 1, 0], [0, 0, 0]]]
    ).bool()
    assert mask_scores(100 * MAP[None], masks, "peak")[0].argsort(descending=True).tolist() == [2, 1, 0, 3]


def test_maps_of_another_size_are_resized_and_each_may_have_its_own_b() -> None:
    maps, masks = torch.rand(2, 3, 4), torch.rand(5, 30, 41) > 0.5
    large = F.interpolate(maps[None], (30, 41), mode="bilinear", align_corners=False)[0]
    balances = torch.tensor([[1.5], [1.95]])
    rows = [mask_scores(large[i : i + 1], masks, "balanced", float(balances[i])) for i in range(2)]
    torch.testing.assert_close(mask_scores(maps, masks, "balanced", balances), torch.cat(rows))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"rule": "inn"}, UserError, "Unknown rule of a heat map 'inn'. Did you mean 'in'"),
        ({"b": 2.5}, UserError, "b=2.5 is out of range"),
        ({"b": float("nan")}, UserError, "b=nan is out of range"),
        ({"maps": MAP}, ValueError, r"maps must be \(T, h, w\)"),
        ({"masks": MASKS.float()}, ValueError, "masks bool"),
    ],
)
def test_wrong_scores_are_refused(change: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        mask_scores(**{"maps": MAP[None], "masks": MASKS, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("place", "rows"),
    [
        (None, [[1, 1, 1, 1, 1]] * 3),
        ("left", [[1, 0.75, 0.5, 0.25, 0]] * 3),
        ("right", [[0, 0.25, 0.5, 0.75, 1]] * 3),
        ("middle", [[0, 1, 1, 0.5, 0]] * 3),
        ("top", [[1] * 5, [0.5] * 5, [0] * 5]),
        ("bottom", [[0] * 5, [0.5] * 5, [1] * 5]),
    ],
)
def test_position_masks(place: str | None, rows: list[list[float]]) -> None:
    torch.testing.assert_close(position_mask(place, 3, 5), torch.tensor(rows).float())


def test_an_unknown_place_is_refused() -> None:
    with pytest.raises(UserError, match=r"Unknown place 'lfet'. Did you mean 'left'"):
        position_mask("lfet", 2, 2)


def test_pictures_span_zero_to_one_and_an_even_map_is_zero() -> None:
    found = as_pictures(torch.stack([3 - 5 * MAP, torch.full((2, 3), 7.0)]), (20, 30), (8, 12))
    assert (found[0].min(), found[0].max()) == (0, 1)
    assert not found[1].any()
    assert found[0, 0, 0] == 1
    torch.testing.assert_close(as_pictures(MAP[None], (2, 3))[0], MAP)
