"""One image and its masks as a tower reads them, and the features made of them, as a recipe says.

Everything is squashed to the tower's input size, never centre-cropped, so that a mask and the feature grid
always cover the same part of the image. Pixel values are RGB in [0, 1] until `standardize`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal, Protocol, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gl_ris.bits import Bits
from gl_ris.clip.prompts import PROMPTS, SHORT_SIDE, grown_box
from gl_ris.clip.tower import Tower, map_batches, one_thread_per_operation
from gl_ris.clip.vit import centred_on_corners, region_tokens, tokens_of
from gl_ris.masks import projection_boxes, tight_boxes
from gl_ris.recipe import IMAGENET_MEAN, IMAGENET_STD, Recipe

_Make = TypeVar("_Make", bound=Callable[..., Any])

_BOX_RULES: dict[str, Callable[[Bits], Tensor]] = {"tight": tight_boxes, "projection": projection_boxes}
_RESIZING = ("working_size", "interpolation", "antialias")  # What the pixels that a tower reads depend on.
_PIXELS = ("normalization", *_RESIZING)


class Model(Protocol):
    """What an `ImageContext` needs of a `gl_ris.clip.RegionCLIP`."""

    tower: Tower
    image_size: tuple[int, int]
    feature_dim: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Any

    @property
    def device(self) -> torch.device:
        """Where the weights are."""

    @property
    def image_batch(self) -> int:
        """Masks or crops that go through the tower together."""


def _kept(*fields: str) -> Callable[[_Make], _Make]:
    """Make what a method gives once for all recipes that agree in ``fields``, on one thread per operation."""

    def decorate(make: _Make) -> _Make:
        @functools.wraps(make)
        def ask(self: ImageContext, recipe: Recipe, *blocks: int) -> Any:
            # A tower without blocks to mask does the same for any number of them.
            blocks = tuple(min(count, self.clip.tower.depth) for count in blocks)
            key = (make.__name__, *blocks, *(self._effective(recipe, field) for field in fields))
            return self.keep(key, lambda: make(self, recipe, *blocks))

        return cast("_Make", ask)

    return decorate


class ImageContext:
    """One image, its masks, and what was made and computed of them so far.

    Everything is made on first use and kept, under the recipe fields it depends on: two methods, or two
    recipes that differ elsewhere, share it. Obtained from `RegionCLIP.context`.

    Attributes:
        clip: The model, for its preprocessing, its tower, and the size of its input and grid.
        image: uint8 ``(3, H, W)``, a copy on the model's device.
        masks: bool ``(N, H, W)``, likewise, but those of `Bits` are no copy.
        bits: What is counted of them.
        boxes: float ``(N, 4)``, a copy, or None.
        occupied: bool ``(N,)``, False for a mask without a pixel.
        scene: What a run asks about the image, a `gl_ris.evaluator.SceneLike`; None outside of one.

    Raises:
        ValueError: A shape or dtype is wrong.
    """

    def __init__(self, clip: Model, image: Tensor, masks: Tensor | Bits, boxes: Tensor | None = None) -> None:
        _check(image, Bits.of(masks).masks, boxes)
        self.clip = clip
        # Copies: the caller may write into its tensors before it asks again.
        self.image = image.to(clip.device, copy=True)
        self.boxes = None if boxes is None else boxes.to(clip.device, copy=True)
        self._given = self.bits = Bits.of(masks)
        if self._given is not masks or self._given.masks.device != clip.device:
            self.bits = Bits(self._given.masks.to(clip.device, copy=True))
        self.masks, self.occupied = self.bits.masks, self.bits.areas > 0
        self._made: dict[Hashable, Any] = {}
        self.scene: Any = None
        self.weights: Any = None  # of which state of the model the features are

    def keep(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Give what ``make`` gives: made once for ``key``, without gradients, on one thread per operation."""
        if key not in self._made:
            with torch.no_grad(), one_thread_per_operation(self.clip.device):
                self._made[key] = make()
        return self._made[key]

    def is_about(self, image: Tensor, masks: Tensor | Bits, boxes: Tensor | None) -> bool:
        """Say whether this is the context of exactly these values."""
        given = self.masks if masks is self._given else Bits.of(masks).masks
        pairs = [(image, self.image), (given, self.masks), (boxes, self.boxes)]
        return all(
            a is b or (a is not None and b is not None and a.dtype == b.dtype and _equal(a, b))
            for a, b in pairs
        )

    @_kept(*_PIXELS)
    def pixels(self, recipe: Recipe) -> Tensor:
        """The image as the tower reads it, float32 ``(1, 3, *image_size)``, standardised."""
        return self.as_input(recipe, self._source(recipe), self.clip.image_size)

    def as_input(self, recipe: Recipe, picture: Tensor, size: tuple[int, int]) -> Tensor:
        """A picture ``(3, h, w)`` in [0, 1] as a tower reads it, ``(1, 3, *size)``, standardised."""
        return standardize(self._resized(recipe, picture, size), *self._statistics(recipe))

    def colour(self, recipe: Recipe, standardised: Sequence[float]) -> Tensor:
        """The colour ``(3,)`` in [0, 1] that is ``standardised`` once a tower reads it."""
        mean, std = (self.image.new_tensor(each, dtype=torch.float32) for each in self._statistics(recipe))
        return mean + std * std.new_tensor(standardised)

    @_kept("grid_mask")
    def grid_masks(self, recipe: Recipe) -> Tensor:
        """The masks on the tower's feature grid, float32 ``(N, rows, columns)`` in [0, 1]."""
        return masks_on_grid(self.bits, self.clip.tower.grid_size, recipe.grid_mask)

    @_kept("grid_mask")
    def grid_regions(self, recipe: Recipe) -> Tensor:
        """`grid_masks`, but a mask that vanished on the grid is there as the covered share of each cell."""
        grid = self.grid_masks(recipe)
        shares = masks_on_grid(self.bits, self.clip.tower.grid_size, "area")
        return torch.where(grid.flatten(1).any(dim=1)[:, None, None], grid, shares)

    def crops(self, recipe: Recipe, rows: Tensor) -> Tensor:
        """Masked crops of the masks in ``rows``, float32 ``(len(rows), 3, *image_size)``, standardised.

        Or other pictures of them, by ``local_prompt`` and ``local_frame``: see `gl_ris.clip.prompts`.
        """
        canvas, windows = self._canvas(recipe), self._windows(recipe)
        stays, instead = PROMPTS[recipe.local_prompt].stays, self._instead(recipe)
        crops = [
            masked_crop(
                canvas,
                stays(self.masks[row], windows[row], self._unit),
                self._framed(recipe, windows[row]),
                instead,
            )
            for row in rows.tolist()
        ]
        return torch.cat([self.as_input(recipe, crop, self.clip.image_size) for crop in crops])

    @_kept("unit_map", *_PIXELS)
    def image_state(self, recipe: Recipe, masked_blocks: int) -> Any:
        """What the tower computes once per image; see `Tower.image_state`."""
        unit_map = recipe.mixing(self.clip.tower.kind).unit_map
        return self.clip.tower.image_state(self.pixels(recipe), masked_blocks, unit_map)

    @_kept("unit_map", "grid_mask", *_PIXELS)
    def global_features(self, recipe: Recipe, masked_blocks: int) -> Tensor:
        """Global-context visual features (Eq. 3), float32 ``(N, D)``, as the tower gives them."""
        tower, state = self.clip.tower, self.image_state(recipe, masked_blocks)
        return self._by_mask(
            lambda part: tower.region_features(state, part, masked_blocks),
            self.grid_masks(recipe).split(self.clip.image_batch),
        )

    @_kept("local_prompt", "local_frame", "crop_fill", "box_rounding", "boxes", *_PIXELS)
    def local_features(self, recipe: Recipe) -> Tensor:
        """Local-context visual features (Eq. 4), float32 ``(N, D)``, as the tower gives them."""
        self._instead(recipe)  # Made here, once, and not by several workers at the same time.
        self._windows(recipe)
        return self._by_mask(
            lambda part: self.clip.tower.encode(self.crops(recipe, part)),
            torch.arange(len(self.masks)).split(self.clip.image_batch),
        )

    @_kept(*_PIXELS)
    def dense_features(self, recipe: Recipe) -> Tensor:
        """A feature for every position of the grid, float32 ``(rows, columns, D)``, not normalised."""
        return self.clip.tower.dense_features(self.image_state(recipe, 1)).float()

    @_kept("grid_mask", "region_token_patches", "region_token_members", *_PIXELS)
    def region_tokens(self, recipe: Recipe) -> Tensor:
        """Class tokens that saw one region each, float32 ``(N, D)``, not normalised; of a ViT only."""
        tower: Any = self.clip.tower
        if recipe.region_token_patches == "cells":
            embedded = self.image_state(recipe, tower.depth)
        else:
            embedded = tower.image_state(centred_on_corners(tower, self.pixels(recipe)), tower.depth)
        if recipe.region_token_members == "covered":
            members = tokens_of(self.grid_regions(recipe))
        else:
            members = masks_on_grid(self.bits, tower.grid_size, "nearest").flatten(1).bool()
        # As many in one pass as the image has tokens of its own, which bounds the memory.
        parts = members.split(max(self.clip.image_batch, members.shape[1]))
        return self._by_mask(lambda part: region_tokens(tower, embedded, part), parts)

    def _by_mask(self, encode: Callable[[Tensor], Tensor], parts: Sequence[Tensor]) -> Tensor:
        if not len(self.masks):
            return torch.zeros(0, self.clip.feature_dim, device=self.clip.device)
        return torch.cat(map_batches(encode, parts)).float()

    @_kept("working_size")
    def _source(self, recipe: Recipe) -> Tensor:
        """The image in [0, 1] at the working size."""
        return to_unit_range(self.image, recipe.working_size)

    @_kept(*_RESIZING)
    def _canvas(self, recipe: Recipe) -> Tensor:
        """The image in [0, 1] at its original size, by way of the working size; crops are cut from it."""
        return self._resized(recipe, self._source(recipe), self._size)[0]

    @_kept("box_rounding", "boxes")
    def _windows(self, recipe: Recipe) -> list[list[int]]:
        boxes = _BOX_RULES[recipe.boxes](self.bits) if self.boxes is None else self.boxes
        return crop_windows(boxes.float(), self._size, recipe.box_rounding).tolist()

    @_kept("local_prompt", "crop_fill", *_PIXELS)
    def _instead(self, recipe: Recipe) -> Tensor:
        """What a picture of a mask shows in the place of other pixels: a colour ``(3,)`` or ``(3, H, W)``."""
        canvas, made = self._canvas(recipe), PROMPTS[recipe.local_prompt].instead
        if made is not None:
            return made(canvas, self._unit)
        return self.colour(recipe, recipe.crop_fill)

    def _framed(self, recipe: Recipe, window: list[int]) -> list[int]:
        """The part of the image that a picture of a mask shows, XYXY in whole pixels."""
        if recipe.local_frame == "full":
            return [0, 0, self._size[1], self._size[0]]
        return grown_box(window, self._size) if PROMPTS[recipe.local_prompt].around else window

    @property
    def _unit(self) -> float:
        """Pixels of the image for one of those in which `gl_ris.clip.prompts` counts."""
        return min(self._size) / SHORT_SIDE

    @property
    def _size(self) -> tuple[int, int]:
        return self.image.shape[1], self.image.shape[2]

    def _resized(self, recipe: Recipe, pixels: Tensor, size: tuple[int, int]) -> Tensor:
        mode = self._effective(recipe, "interpolation")
        return resize_pixels(pixels[None], size, mode=mode, antialias=recipe.antialias)

    def _statistics(self, recipe: Recipe) -> tuple[tuple[float, ...], tuple[float, ...]]:
        if recipe.normalization == "imagenet":
            return IMAGENET_MEAN, IMAGENET_STD
        return self.clip.mean, self.clip.std

    def _effective(self, recipe: Recipe, field: str) -> Any:
        """What a field of the recipe or its mixing comes to for this model and these boxes."""
        if field == "unit_map":
            return recipe.mixing(self.clip.tower.kind).unit_map
        value = getattr(recipe, field)
        if field == "interpolation" and value == "weights":
            return self.clip.interpolation
        return None if field == "boxes" and self.boxes is not None else value


def _equal(values: Tensor, others: Tensor) -> bool:
    if values.dtype in (torch.bool, torch.uint8) and values.device.type == others.device.type == "cpu":
        return np.array_equal(values.numpy(), others.numpy())  # in a twentieth of the time
    return torch.equal(values.to(others.device), others)


def _check(image: Tensor, masks: Tensor, boxes: Tensor | None) -> None:
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"image must be uint8 (3, H, W), got {image.dtype} {tuple(image.shape)}.")
    if masks.dtype != torch.bool or masks.ndim != 3 or masks.shape[1:] != image.shape[1:]:
        raise ValueError(
            f"masks must be bool (N, {image.shape[1]}, {image.shape[2]}) like the image, "
            f"got {masks.dtype} {tuple(masks.shape)}."
        )
    if boxes is not None and boxes.shape != (len(masks), 4):
        raise ValueError(f"boxes must be ({len(masks)}, 4) XYXY, got {tuple(boxes.shape)}.")


def to_unit_range(image: Tensor, working_size: int | None = None) -> Tensor:
    """Turn an image, uint8 ``(3, H, W)`` RGB, into float32 ``(3, h, w)`` in [0, 1] on its device.

    ``working_size`` is the short side in pixels to resize to with Pillow (bilinear, rounded to whole grey
    levels; the long side is truncated to an integer); None keeps the size.
    """
    if working_size is not None:
        from torchvision.transforms.functional import pil_to_tensor, resize, to_pil_image

        image = pil_to_tensor(resize(to_pil_image(image.cpu()), [working_size])).to(image.device)
    return image.float() / 255


def resize_pixels(
    pixels: Tensor, size: tuple[int, int], *, mode: Literal["bilinear", "bicubic"], antialias: bool
) -> Tensor:
    """Resize float ``(B, 3, h, w)`` in [0, 1] to exactly ``size`` (height, width), whatever the aspect ratio.

    What bicubic overshoots is cut to [0, 1], as it is in an image library. ``antialias`` averages over the
    source pixels that a target pixel covers when making smaller.
    """
    if pixels.shape[-2:] == size:
        return pixels
    resized = F.interpolate(pixels, size, mode=mode, align_corners=False, antialias=antialias)
    return resized.clamp(0, 1)


def standardize(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Subtract the RGB mean of pixels, float ``(B, 3, h, w)`` in [0, 1], and divide by the deviation."""
    return (pixels - pixels.new_tensor(mean).view(3, 1, 1)) / pixels.new_tensor(std).view(3, 1, 1)


def masks_on_grid(
    masks: Tensor | Bits, grid: tuple[int, int], rule: Literal["area", "sampled", "nearest"]
) -> Tensor:
    """Bring masks, bool ``(N, H, W)``, to a feature grid (rows, columns) over the whole image (for Eq. 3).

    The result is float32 ``(N, *grid)`` in [0, 1]. ``"area"`` averages each cell (cells share a row or column
    of pixels where the size is no multiple of the grid), so a mask with a pixel keeps a positive cell;
    ``"sampled"`` interpolates between the four pixels around each cell's centre, so a small mask can vanish;
    ``"nearest"`` takes the pixel at each cell's upper left corner.
    """
    bits = Bits.of(masks)
    if rule == "area":
        return bits.cell_shares(grid)
    if rule == "nearest":
        octets = bits.masks.view(torch.uint8)[:, None]
        return F.interpolate(octets, grid, mode="nearest")[:, 0].float()
    return bits.cell_samples(grid)


def crop_windows(boxes: Tensor, size: tuple[int, int], rounding: Literal["cover", "truncate"]) -> Tensor:
    """Round boxes, float ``(N, 4)`` XYXY, to whole pixels inside an image of ``size`` (height, width).

    ``"cover"`` rounds outwards, ``"truncate"`` all four numbers towards zero. The windows are int64
    ``(N, 4)`` XYXY, right and lower edge exclusive; an empty one is widened to one pixel (the published code
    fails there).
    """
    height, width = size
    if rounding == "truncate":
        low, high = boxes[:, :2].trunc(), boxes[:, 2:].trunc()
    else:
        low, high = boxes[:, :2].floor(), boxes[:, 2:].ceil()
    edge = boxes.new_tensor([width, height])
    low = torch.minimum(low.clamp(min=0), edge - 1)
    high = torch.maximum(torch.minimum(high, edge), low + 1)
    return torch.cat([low, high], dim=1).long()


def masked_crop(pixels: Tensor, mask: Tensor, window: Sequence[int], fill: Tensor) -> Tensor:
    """Cut a window out of float ``(3, H, W)`` and replace what is outside the mask (``crop(I * m)``, Eq. 4).

    The mask is bool ``(H, W)``, the window XYXY in whole pixels, exclusive, and ``fill`` the background's
    colour ``(3,)`` or a picture of it ``(3, H, W)``; the result is ``(3, window height, window width)``.
    """
    left, top, right, bottom = window
    inside = mask[top:bottom, left:right]
    outside = fill.view(3, 1, 1) if fill.ndim == 1 else fill[:, top:bottom, left:right]
    return torch.where(inside, pixels[:, top:bottom, left:right], outside)
