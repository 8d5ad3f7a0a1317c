"""Global-Local CLIP, the method of the paper, and Cropping, one cell of it."""

from __future__ import annotations

import torch
from torch import Tensor

from gl_ris.clip.image import ImageContext
from gl_ris.scorers.base import Scorer, Texts, blend, unit_if


class GlobalLocal(Scorer):
    """Similarity of the mask-guided global-local visual and the global-local textual feature (Eqs. 1 to 8).

    Example:
        >>> GlobalLocal.title
        'Global-Local'
    """

    name = "global_local"
    title = "Global-Local"

    def visual_weight(self) -> float:
        """The share of the global visual feature that this method uses."""
        return self.alpha

    @torch.no_grad()
    def visual_features(
        self, image: Tensor, masks: Tensor, boxes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mask-guided global and local visual features, as they go into the mix of Eq. 5.

        Args:
            image: uint8 ``(3, H, W)`` RGB at its original size.
            masks: bool ``(N, H, W)``.
            boxes: float ``(N, 4)`` XYXY pixels to crop by; derived from the masks by the recipe if None.

        Returns:
            Global (Eq. 3) and local (Eq. 4) features, float32 ``(N, D)`` each, normalised where the recipe
            says so. Those of a mask without a pixel mean nothing.

        Raises:
            ValueError: A shape or dtype is not as above.
        """
        context = self.clip.context(image, masks, boxes)
        return self._global(context), self._local(context)

    def prepare(self, context: ImageContext) -> None:
        """Compute the visual feature of every mask (Eqs. 3 to 5)."""
        self.mixed_features(context)

    def score(self, context: ImageContext, expressions: Texts, noun_phrases: Texts | None) -> Tensor:
        """Score by the similarity of Eq. 1."""
        return self.similarity(self.text_features(expressions, noun_phrases), self.mixed_features(context))

    def mixed_features(self, context: ImageContext) -> Tensor:
        """Visual features mixed by their weight (Eq. 5), float32 ``(N, D)``, not normalised after mixing."""
        return blend(self.visual_weight(), lambda: self._global(context), lambda: self._local(context))

    def _global(self, context: ImageContext) -> Tensor:
        features = context.global_features(self.recipe, self.masked_blocks)
        return unit_if(self.mixing.unit_global, features)

    def _local(self, context: ImageContext) -> Tensor:
        return unit_if(self.mixing.unit_local, context.local_features(self.recipe))


class Cropping(GlobalLocal):
    """Similarity of the masked crop (Eq. 4) and the whole sentence (Eq. 6).

    ``alpha``, ``beta`` and ``masked_blocks`` have no influence. (The paper's Cropping is the local-visual,
    global-text cell of its Table 3.)
    """

    name = "cropping"
    title = "Cropping"
    whole_sentence = True

    def visual_weight(self) -> float:
        """None of the global visual feature."""
        return 0.0
