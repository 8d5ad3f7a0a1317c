"""Score map, the baseline that compares every position with the sentence (MaskCLIP)."""

from __future__ import annotations

from torch import Tensor

from gl_ris.clip.image import ImageContext
from gl_ris.scorers.base import Scorer, Texts, cosine, inside_masks


class ScoreMap(Scorer):
    """Mean over the mask of the cosine between each position's feature and the whole sentence (Eq. 6).

    The features are MaskCLIP's: the value and output layers of the last attention, applied to each position
    by itself. On a ResNet that is the attention pooling; on a ViT the attention of the last block, whose
    residual connections and MLP stay (see the towers' ``dense_features``).

    The mask is brought to the grid as the recipe says and weighs the positions; a mask that vanishes there
    weighs them by the covered share of each cell. Or the map is resized to the image (bilinear): see
    ``score_map_mask`` of `gl_ris.recipe.Recipe`. Either way area has no influence in itself. ``alpha``,
    ``beta`` and ``masked_blocks`` have no influence, nor has what the recipe says about mixing: it is always
    a cosine.
    """

    name = "score_map"
    title = "Score map"
    whole_sentence = True
    cosines = True

    def prepare(self, context: ImageContext) -> None:
        """Compute the feature of every position."""
        context.dense_features(self.recipe)

    def maps(self, context: ImageContext, expressions: Texts) -> Tensor:
        """Score every position, float32 ``(E, rows, columns)`` in [-1, 1]; the grid covers the image."""
        features = context.dense_features(self.recipe)
        scores = cosine(self.text_features(expressions), features.flatten(0, 1))
        return scores.unflatten(1, features.shape[:2])

    def score(self, context: ImageContext, expressions: Texts, noun_phrases: Texts | None) -> Tensor:
        """Average the map over each mask."""
        maps = self.maps(context, expressions)
        if self.recipe.score_map_mask == "pixels":
            return inside_masks(maps, context.bits, "mean")
        weights = context.grid_regions(self.recipe).flatten(1)
        total = weights.sum(dim=1, keepdim=True)
        # The score of a mask without a pixel is replaced anyway.
        weights = weights / total.masked_fill(total == 0, 1)
        return maps.flatten(1) @ weights.T
