"""Region token, the baseline with one class token per mask (Adapting CLIP)."""

from __future__ import annotations

from torch import Tensor

from gl_ris.clip.image import ImageContext
from gl_ris.clip.region_clip import RegionCLIP
from gl_ris.scorers.base import Scorer, Texts, check_class_token, cosine


class RegionToken(Scorer):
    """Cosine between a class token that sees its region alone, in *all* blocks, and the sentence (Eq. 6).

    Each class token attends to itself and to the grid tokens of its region; grid tokens attend to all grid
    tokens and the image's own class token, as in the unchanged model (see `gl_ris.clip.vit`). A
    token is in a region that covers half of it; a small region has the tokens that it covers most, and one
    that vanishes on the recipe's grid goes by the covered share of each cell. Adapting CLIP has other
    patches and another rule: ``region_token_patches`` and ``region_token_members`` of `gl_ris.recipe.Recipe`.

    ``alpha``, ``beta`` and ``masked_blocks`` have no influence.

    Raises:
        UserError: The image tower is a ResNet, which has no class token to take through its blocks.
    """

    name = "region_token"
    title = "Region token"
    whole_sentence = True
    cosines = True

    def check(self, clip: RegionCLIP) -> None:
        """Accept a ViT only."""
        check_class_token(self, clip)

    def prepare(self, context: ImageContext) -> None:
        """Compute the class token of every mask."""
        context.region_tokens(self.recipe)

    def score(self, context: ImageContext, expressions: Texts, noun_phrases: Texts | None) -> Tensor:
        """Score by the cosine."""
        return cosine(self.text_features(expressions), context.region_tokens(self.recipe))
