"""Packed masks, against numpy's plain sums and torch's own pooling and interpolation, to the last bit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gl_ris.bits import Bits, count, pack
from gl_ris.clip.image import masks_on_grid
from gl_ris.masks import pairwise_areas, projection_boxes, tight_boxes
from gl_ris.metrics import mask_areas

# widths around a word, a byte, and of photographs; a pixel, a row, a column
SIZES = [(1, 1), (1, 130), (70, 1), (3, 7), (5, 8), (6, 63), (4, 64), (9, 65), (33, 100), (48, 64), (97, 427)]
GRIDS = [(7, 7), (1, 1), (1, 3), (14, 14), (5, 2), (24, 24)]


def some_masks(size: tuple[int, int], seed: int = 0) -> Tensor:
    """Bool ``(6, *size)``: none and all, thin and dense noise, a block, the last pixel."""
    noise = torch.rand(6, *size, generator=torch.Generator().manual_seed(seed))
    masks = noise < torch.tensor([0.0, 2.0, 0.03, 0.6, 0.0, 0.0])[:, None, None]
    masks[4, size[0] // 3 : size[0] // 2 + 1, size[1] // 3 : size[1] // 2 + 1] = True
    masks[5, -1, -1] = True
    return masks


LAYOUTS = {
    "plain": lambda masks: masks,
    "transposed": lambda masks: masks.transpose(1, 2).contiguous().transpose(1, 2),
    "every other": lambda masks: masks.repeat_interleave(2, dim=2)[:, :, ::2],
    "expanded": lambda masks: masks[3].expand(2, -1, -1),
    "none": lambda masks: masks[:0],
}


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_word_has_64_pixels_of_a_row_and_nothing_behind_it(size: tuple[int, int]) -> None:
    masks = some_masks(size)
    words = pack(masks)
    assert words.dtype == np.uint64
    assert words.shape == (6, size[0], -(-size[1] // 64))
    pixels = np.unpackbits(words.view(np.uint8), axis=-1).astype(bool)
    np.testing.assert_array_equal(pixels[..., : size[1]], masks.numpy())
    assert not pixels[..., size[1] :].any()
    assert count(words).tolist() == [int(mask.sum()) for mask in masks.numpy()]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_areas_rows_and_columns_are_numpys(size: tuple[int, int], layout: str) -> None:
    masks = LAYOUTS[layout](some_masks(size))
    bits, plain = Bits(masks), masks.numpy()
    assert bits.areas.dtype == torch.int64
    np.testing.assert_array_equal(bits.areas.numpy(), plain.sum(axis=(1, 2)))
    for found, axis in zip(bits.occupied, (1, 2), strict=True):
        assert found.dtype == torch.bool
        np.testing.assert_array_equal(found.numpy(), plain.any(axis=axis))
    for boxes in (tight_boxes, projection_boxes):
        assert torch.equal(boxes(bits), boxes(masks))
        assert boxes(bits).shape == (len(masks), 4)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_intersections_are_numpys(size: tuple[int, int], layout: str) -> None:
    masks, others = LAYOUTS[layout](some_masks(size)), some_masks(size, seed=1)
    for own, other in [(masks, others), (others, masks), (masks, masks), (masks, others[:0])]:
        intersection, union = pairwise_areas(Bits(own), other)
        assert intersection.shape == union.shape == (len(own), len(other))
        assert intersection.dtype == union.dtype == torch.int64
        for (i, a), (j, b) in itertools.product(enumerate(own.numpy()), enumerate(other.numpy())):
            assert (intersection[i, j], union[i, j]) == ((a & b).sum(), (a | b).sum())


def test_masks_without_a_single_pixel_share_nothing() -> None:
    for size in [(0, 5), (5, 0)]:
        masks = torch.zeros(2, *size, dtype=torch.bool)
        assert [areas.tolist() for areas in pairwise_areas(masks, masks)] == [[[0, 0], [0, 0]]] * 2


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_shares_and_samples_have_torchs_bits(size: tuple[int, int], grid: tuple[int, int]) -> None:
    masks = torch.cat([some_masks(size), some_masks(size, seed=2)[2:4]])
    floats = masks[:, None].float()
    expected = {
        "area": F.adaptive_avg_pool2d(floats, grid),
        "sampled": F.interpolate(floats, grid, mode="bilinear", align_corners=False, antialias=False),
        "nearest": F.interpolate(floats, grid, mode="nearest"),
    }
    for rule, values in expected.items():
        found = masks_on_grid(Bits(masks), grid, rule)  # type: ignore[arg-type]
        assert found.dtype == torch.float32
        assert torch.equal(found, values[:, 0]), rule
        assert torch.equal(masks_on_grid(masks.transpose(1, 2).contiguous().mT, grid, rule), found)  # type: ignore[arg-type]
        assert masks_on_grid(masks[:0], grid, rule).shape == (0, *grid)  # type: ignore[arg-type]


def test_random_sizes_sample_with_torchs_bits() -> None:
    """Where a centre falls on a row but for rounding, the rows that are read are hardest to foresee."""
    sizes = np.random.default_rng(0).integers(1, 400, (150, 2)).tolist()
    for (height, width), side in itertools.product(
        sizes + [[side * 3, side * 5] for side in (7, 12, 24)], (7, 12)
    ):
        masks = torch.rand(2, height, width, generator=torch.Generator().manual_seed(height)) < 0.5
        expected = F.interpolate(masks[:, None].float(), (side, side), mode="bilinear")[:, 0]
        assert torch.equal(masks_on_grid(masks, (side, side), "sampled"), expected)


def test_cells_of_a_large_image_are_counted_exactly() -> None:
    """A cell of over 2**24 pixels, in which a float32 sum of ones would stand still."""
    masks = torch.ones(1, 4200, 8400, dtype=torch.bool)
    masks[0, 0, ::2] = False
    assert Bits(masks).areas.item() == 4200 * 8400 - 4200
    left, right = Bits(masks).cell_shares((1, 2))[0, 0].tolist()
    assert left == right == float(np.float32(4200 * 4200 - 2100) / np.float32(4200) / np.float32(4200))


@pytest.mark.parametrize("shape", [(5, 9), (3, 1, 64), (2, 3, 6, 70), (0, 4, 4)], ids=str)
def test_areas_of_pairs_are_torchs(shape: tuple[int, ...]) -> None:
    first, second = (torch.rand(shape, generator=torch.Generator().manual_seed(i)) < 0.5 for i in range(2))
    shared, together = mask_areas(first, second)
    assert shared.dtype == together.dtype == torch.int64
    assert torch.equal(shared, (first & second).sum(dim=(-2, -1)))
    assert torch.equal(together, (first | second).sum(dim=(-2, -1)))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_torch_counts_the_same_elsewhere(size: tuple[int, int], device: str) -> None:
    """What runs on a GPU, here also on a CPU, where it can be run anywhere."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    masks, others = some_masks(size), some_masks(size, seed=1)
    here, there, some = Bits(masks), Bits(masks.to(device)), Bits(others[:3].to(device))
    there._packed = some._packed = False
    assert torch.equal(there.areas.cpu(), here.areas)
    assert all(torch.equal(a.cpu(), b) for a, b in zip(there.occupied, here.occupied, strict=True))
    found = [*pairwise_areas(there, some), *pairwise_areas(some, there)]
    expected = [*pairwise_areas(here, others[:3]), *pairwise_areas(others[:3], here)]
    assert {area.device.type for area in found} == {device}
    assert all(torch.equal(a.cpu(), b) for a, b in zip(found, expected, strict=True))
    assert "words" not in {**vars(there), **vars(some)}
    for rule in ("area", "sampled", "nearest"):
        ours, theirs = (masks_on_grid(bits, (7, 7), rule) for bits in (here, there))  # type: ignore[arg-type]
        torch.testing.assert_close(theirs.cpu(), ours)
