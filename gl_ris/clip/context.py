"""The work on one image and its masks that methods share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gl_ris.clip.inputs import TowerInputs
from gl_ris.clip.region_tokens import region_tokens, tokens_of
from gl_ris.clip.threads import map_batches, one_thread_per_operation
from gl_ris.recipe import Recipe


class ImageContext(TowerInputs):
    """One image, its masks, and what was computed of them so far.

    Everything is computed on first use and kept, under the recipe fields it depends on: two methods, or two
    recipes that differ elsewhere, share it. Obtained from `RegionCLIP.context`.
    """

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
        key = ("tokens", recipe.grid_mask, *self._pixel_fields(recipe))
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
        members = tokens_of(self.grid_regions(recipe))
        # As many in one pass as the image has tokens of its own, which bounds the memory.
        parts = members.split(max(self.clip.image_batch, members.shape[1]))
        with one_thread_per_operation(self.clip.device):
            embedded = self.image_state(recipe, tower.depth)
            features = map_batches(lambda part: region_tokens(tower, embedded, part), parts)
        return torch.cat(features).float()
