"""One image and its masks as a tower reads them, and the features made of them, as a recipe says."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from gl_ris.clip.threads import map_batches, one_thread_per_operation
from gl_ris.clip.tower import Tower
from gl_ris.clip.vit import centred_on_corners, region_tokens, tokens_of
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

_T = TypeVar("_T")

_BOX_RULES: dict[str, Callable[[Tensor], Tensor]] = {"tight": tight_boxes, "projection": projection_boxes}


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


class ImageContext:
    """One image, its masks, and what was made and computed of them so far.

    Everything is made on first use and kept, under the recipe fields it depends on: two methods, or two
    recipes that differ elsewhere, share it. Obtained from `RegionCLIP.context`.

    Attributes:
        clip: The model, for its preprocessing, its tower, and the size of its input and grid.
        image: uint8 ``(3, H, W)``, a copy on the model's device.
        masks: bool ``(N, H, W)``, likewise.
        boxes: float ``(N, 4)``, likewise, or None.
        occupied: bool ``(N,)``, False for a mask without a pixel.

    Raises:
        ValueError: A shape or dtype is wrong.
    """

    def __init__(self, clip: Model, image: Tensor, masks: Tensor, boxes: Tensor | None = None) -> None:
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
        """Masked crops of the masks in ``rows``, float32 ``(len(rows), 3, *image_size)``, standardised."""
        canvas, windows = self._canvas(recipe), self._windows(recipe)
        mean, std = self._statistics(recipe)
        fill = canvas.new_tensor(mean) + canvas.new_tensor(std) * canvas.new_tensor(recipe.crop_fill)
        resize = self._resizer(recipe)
        crops = [
            resize(masked_crop(canvas, self.masks[row], windows[row], fill)[None], self.clip.image_size)
            for row in rows.tolist()
        ]
        return standardize(torch.cat(crops), mean, std)

    def image_state(self, recipe: Recipe, masked_blocks: int) -> Any:
        """What the tower computes once per image; see `Tower.image_state`."""
        unit_map = recipe.mixing(self.clip.tower.kind).unit_map
        # A tower without blocks to mask does the same for any number of them.
        masked_blocks = min(masked_blocks, self.clip.tower.depth)
        key = ("state", masked_blocks, unit_map, *self._pixel_fields(recipe))
        return self._once(
            key, lambda: self.clip.tower.image_state(self.pixels(recipe), masked_blocks, unit_map)
        )

    def global_features(self, recipe: Recipe, masked_blocks: int) -> Tensor:
        """Global-context visual features (Eq. 3), float32 ``(N, D)``, as the tower gives them."""
        unit_map = recipe.mixing(self.clip.tower.kind).unit_map
        key = ("global", masked_blocks, unit_map, recipe.grid_mask, *self._pixel_fields(recipe))
        return self._once(key, lambda: self._global_features(recipe, masked_blocks))

    def local_features(self, recipe: Recipe) -> Tensor:
        """Local-context visual features (Eq. 4), float32 ``(N, D)``, as the tower gives them."""
        key = (
            "local",
            recipe.crop_fill,
            recipe.box_rounding,
            None if self.boxes is not None else recipe.boxes,
            *self._pixel_fields(recipe),
        )
        return self._once(key, lambda: self._local_features(recipe))

    def dense_features(self, recipe: Recipe) -> Tensor:
        """A feature for every position of the grid, float32 ``(rows, columns, D)``, not normalised."""
        return self._once(("dense", *self._pixel_fields(recipe)), lambda: self._dense_features(recipe))

    def region_tokens(self, recipe: Recipe) -> Tensor:
        """Class tokens that saw one region each, float32 ``(N, D)``, not normalised; of a ViT only."""
        key = (
            "tokens",
            recipe.grid_mask,
            recipe.region_token_patches,
            recipe.region_token_members,
            *self._pixel_fields(recipe),
        )
        return self._once(key, lambda: self._region_tokens(recipe))

    def _global_features(self, recipe: Recipe, masked_blocks: int) -> Tensor:
        if not len(self.masks):
            return torch.zeros(0, self.clip.feature_dim, device=self.clip.device)
        grid, tower = self.grid_masks(recipe), self.clip.tower
        with one_thread_per_operation(self.clip.device):
            state = self.image_state(recipe, masked_blocks)
            features = map_batches(
                lambda part: tower.region_features(state, part, masked_blocks),
                grid.split(self.clip.image_batch),
            )
        return torch.cat(features).float()

    def _local_features(self, recipe: Recipe) -> Tensor:
        if not len(self.masks):
            return torch.zeros(0, self.clip.feature_dim, device=self.clip.device)
        # Made here, once, and not by several workers at the same time.
        self._canvas(recipe)
        self._windows(recipe)
        rows = torch.arange(len(self.masks))
        with one_thread_per_operation(self.clip.device):
            features = map_batches(
                lambda part: self.clip.tower.encode(self.crops(recipe, part)),
                rows.split(self.clip.image_batch),
            )
        return torch.cat(features).float()

    def _dense_features(self, recipe: Recipe) -> Tensor:
        with one_thread_per_operation(self.clip.device):
            return self.clip.tower.dense_features(self.image_state(recipe, 1)).float()

    def _region_tokens(self, recipe: Recipe) -> Tensor:
        if not len(self.masks):
            return torch.zeros(0, self.clip.feature_dim, device=self.clip.device)
        tower: Any = self.clip.tower
        if recipe.region_token_members == "nearest":
            members = masks_on_grid(self.masks, tower.grid_size, "nearest").flatten(1).bool()
        else:
            members = tokens_of(self.grid_regions(recipe))
        # As many in one pass as the image has tokens of its own, which bounds the memory.
        parts = members.split(max(self.clip.image_batch, members.shape[1]))
        with one_thread_per_operation(self.clip.device):
            if recipe.region_token_patches == "corners":
                embedded = tower.image_state(centred_on_corners(tower, self.pixels(recipe)), tower.depth)
            else:
                embedded = self.image_state(recipe, tower.depth)
            features = map_batches(lambda part: region_tokens(tower, embedded, part), parts)
        return torch.cat(features).float()

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
