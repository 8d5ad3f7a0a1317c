"""What a tower reads of one image and its masks, made as a recipe says."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from gl_ris.crops import (
    crop_windows,
    masked_crop,
    masks_on_grid,
    resize_pixels,
    standardize,
    to_unit_range,
)
from gl_ris.masks import projection_boxes, tight_boxes
from gl_ris.recipe import IMAGENET_MEAN, IMAGENET_STD, Recipe

if TYPE_CHECKING:
    from gl_ris.clip.region_clip import RegionCLIP

_T = TypeVar("_T")

_BOX_RULES: dict[str, Callable[[Tensor], Tensor]] = {"tight": tight_boxes, "projection": projection_boxes}


class TowerInputs:
    """One image and its masks, and the pixels, grids and crops that were made of them so far.

    Everything is made on first use and kept, under the recipe fields it depends on: recipes that differ
    elsewhere share it.

    Attributes:
        clip: The model, for its preprocessing and the size of its input and grid.
        image: uint8 ``(3, H, W)``, a copy on the model's device.
        masks: bool ``(N, H, W)``, likewise.
        boxes: float ``(N, 4)``, likewise, or None.
        occupied: bool ``(N,)``, False for a mask without a pixel.

    Raises:
        ValueError: A shape or dtype is wrong.
    """

    def __init__(self, clip: RegionCLIP, image: Tensor, masks: Tensor, boxes: Tensor | None = None) -> None:
        _check(image, masks, boxes)
        self.clip = clip
        # Copies: the caller may write into its tensors before it asks again.
        self.image, self.masks = (tensor.to(clip.device, copy=True) for tensor in (image, masks))
        self.boxes = None if boxes is None else boxes.to(clip.device, copy=True)
        self.occupied = self.masks.flatten(1).any(dim=1)
        self._kept: dict[Hashable, Any] = {}

    def is_about(self, image: Tensor, masks: Tensor, boxes: Tensor | None) -> bool:
        """Say whether this is the context of exactly these values."""
        if (boxes is None) != (self.boxes is None):
            return False
        pairs = [(image, self.image), (masks, self.masks)]
        if boxes is not None and self.boxes is not None:
            pairs.append((boxes, self.boxes))
        return all(a.dtype == b.dtype and torch.equal(a.to(b.device), b) for a, b in pairs)

    def pixels(self, recipe: Recipe) -> Tensor:
        """The image as the tower reads it, float32 ``(1, 3, *image_size)``, standardised."""
        return self._once(("pixels", *self._pixel_fields(recipe)), lambda: self._pixels(recipe))

    def grid_masks(self, recipe: Recipe) -> Tensor:
        """The masks on the tower's feature grid, float32 ``(N, rows, columns)`` in [0, 1]."""
        grid = self.clip.tower.grid_size
        return self._once(
            ("grid", recipe.grid_mask), lambda: masks_on_grid(self.masks, grid, recipe.grid_mask)
        )

    def grid_regions(self, recipe: Recipe) -> Tensor:
        """`grid_masks`, but a mask that vanished on the grid is there as the covered share of each cell."""
        return self._once(("regions", recipe.grid_mask), lambda: self._grid_regions(recipe))

    def crops(self, recipe: Recipe, rows: Tensor) -> Tensor:
        """Make the masked crops of some masks.

        Args:
            recipe: Says how.
            rows: int64 ``(n,)``, which masks.

        Returns:
            float32 ``(n, 3, *image_size)``, standardised.
        """
        canvas, windows = self._canvas(recipe), self._windows(recipe)
        mean, std = self._statistics(recipe)
        fill = canvas.new_tensor(mean) + canvas.new_tensor(std) * canvas.new_tensor(recipe.crop_fill)
        resize = self._resizer(recipe)
        crops = [
            resize(masked_crop(canvas, self.masks[row], windows[row], fill)[None], self.clip.image_size)
            for row in rows.tolist()
        ]
        return standardize(torch.cat(crops), mean, std)

    def _grid_regions(self, recipe: Recipe) -> Tensor:
        grid = self.grid_masks(recipe)
        shares = masks_on_grid(self.masks, self.clip.tower.grid_size, "area")
        return torch.where(grid.flatten(1).any(dim=1)[:, None, None], grid, shares)

    def _pixels(self, recipe: Recipe) -> Tensor:
        pixels = self._resizer(recipe)(self._source(recipe)[None], self.clip.image_size)
        return standardize(pixels, *self._statistics(recipe))

    def _source(self, recipe: Recipe) -> Tensor:
        """The image in [0, 1] at the working size."""
        size = recipe.working_size
        return self._once(("source", size), lambda: to_unit_range(self.image, size))

    def _canvas(self, recipe: Recipe) -> Tensor:
        """The image in [0, 1] at its original size, by way of the working size; crops are cut from it."""
        size = (self.image.shape[1], self.image.shape[2])
        return self._once(
            ("canvas", *self._pixel_fields(recipe)),
            lambda: self._resizer(recipe)(self._source(recipe)[None], size)[0],
        )

    def _windows(self, recipe: Recipe) -> list[list[int]]:
        size = (self.image.shape[1], self.image.shape[2])
        boxes = _BOX_RULES[recipe.boxes](self.masks) if self.boxes is None else self.boxes
        key = ("windows", recipe.box_rounding, recipe.boxes)
        return self._once(key, lambda: crop_windows(boxes.float(), size, recipe.box_rounding).tolist())

    def _resizer(self, recipe: Recipe) -> Callable[[Tensor, tuple[int, int]], Tensor]:
        return partial(resize_pixels, mode=self._mode(recipe), antialias=recipe.antialias)

    def _mode(self, recipe: Recipe) -> Any:
        return self.clip.interpolation if recipe.interpolation == "weights" else recipe.interpolation

    def _statistics(self, recipe: Recipe) -> tuple[tuple[float, ...], tuple[float, ...]]:
        if recipe.normalization == "imagenet":
            return IMAGENET_MEAN, IMAGENET_STD
        return self.clip.mean, self.clip.std

    def _pixel_fields(self, recipe: Recipe) -> tuple[Hashable, ...]:
        return recipe.normalization, recipe.working_size, self._mode(recipe), recipe.antialias

    def _once(self, key: Hashable, make: Callable[[], _T]) -> _T:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]


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
