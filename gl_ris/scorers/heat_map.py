"""Heat map: masks scored by a map of the text over the image."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gl_ris.clip.dense import check_way, dense_features, patch_of
from gl_ris.clip.image import ImageContext
from gl_ris.clip.region_clip import RegionCLIP
from gl_ris.errors import UserError
from gl_ris.heat import as_pictures, cosine_maps, mask_scores
from gl_ris.recipe import Recipe
from gl_ris.scorers.base import Scorer, Texts

# maps that are brought to the size of the image together, which bounds the memory
_AT_ONCE = 16


class HeatMap(Scorer):
    """A heat map of the whole sentence (Eq. 6), brought to the size of the image and scaled to [0, 1].

    Fields of the recipe: ``heat``, the map; ``heat_size``, what the image is read at, by the weights' own
    preprocessing whatever else the recipe says; ``heat_rule``, from the map to scores (see `gl_ris.heat`).
    ``alpha``, ``beta`` and ``masked_blocks`` have no influence.

    Raises:
        UserError: The map does not fit the tower, or the size is not one of whole patches.
    """

    name = "heat_map"
    title = "Heat map"
    whole_sentence = True
    cosines = False

    def check(self, clip: RegionCLIP) -> None:
        """Accept a tower of which the map can be read, at a size in whole patches."""
        size, patch = self.recipe.heat_size, patch_of(clip)
        check_way(clip, self._way)
        if size is not None and size % patch:
            raise UserError(
                f"recipe.heat_size={size} must be a multiple of {patch}, the patch of {clip.name}."
            )

    @property
    def _way(self) -> str:
        usual = "gem" if self.clip.tower.kind == "vit" else "maskclip"
        return usual if self.recipe.heat == "auto" else self.recipe.heat

    @property
    def _size(self) -> tuple[int, int]:
        size = self.recipe.heat_size
        return self.clip.image_size if size is None else (size, size)

    def prepare(self, context: ImageContext) -> None:
        """Compute the feature of every position."""
        self._dense(context)

    def _dense(self, context: ImageContext) -> Tensor:
        def read() -> Tensor:
            pixels = context.as_input(Recipe(), context.image.float() / 255, self._size)
            return dense_features(self.clip, self._way, pixels)

        return context.keep(("heat", self._way, self._size), read)

    def pictures(self, context: ImageContext, text: Tensor) -> Iterator[Tensor]:
        """Give maps of text features ``(E, D)``, some at a time, ``(part, H, W)`` in [0, 1]."""
        height, width = context.image.shape[1:]
        for part in text.split(_AT_ONCE):
            yield as_pictures(cosine_maps(part, self._dense(context)), (height, width), self._size)

    def maps(self, context: ImageContext, expressions: Texts) -> Tensor:
        """Maps of expressions, ``(E, H, W)`` in [0, 1]."""
        return torch.cat([*self.pictures(context, self.text_features(expressions))])

    def score(self, context: ImageContext, expressions: Texts, noun_phrases: Texts | None) -> Tensor:
        """Score every mask by the rule."""
        pictures = self.pictures(context, self.text_features(expressions))
        return torch.cat([mask_scores(part, context.masks, self.recipe.heat_rule) for part in pictures])
