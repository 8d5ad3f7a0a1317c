"""HybridGL: global and local stream of each mask fused in the last blocks, and the best masks ranked anew.

Published: Liu et al., "Hybrid Global-Local Representation with Augmented Spatial Guidance" (CVPR 2025).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gl_ris.clip.blocks import ALL, run_blocks
from gl_ris.clip.image import ImageContext, masks_on_grid
from gl_ris.clip.region_clip import RegionCLIP
from gl_ris.clip.tower import map_batches, one_thread_per_operation
from gl_ris.heat import mask_scores, position_mask
from gl_ris.masks import tight_boxes
from gl_ris.rerank.hybridgl import ANCHORS, CANDIDATES, read_flag, relation
from gl_ris.scorers.base import Texts, check_class_token, cosine
from gl_ris.scorers.heat_map import HeatMap

if TYPE_CHECKING:
    from spacy.tokens import Doc

# shares of relation and coherence in the scores of the candidates
_SHARES = {"full": (0.4, 0.6), "relation": (1.0, 0.0), "coherence": (0.0, 1.0)}
# how much what is outside counts; as much as usual, or where a word speaks of size
_USUAL, _BALANCE = 1.8, {"big": 1.95, "small": 1.5}
_PLACES = {
    "left": {"left"},
    "right": {"right"},
    "middle": {"middle", "between"},
    "top": {"up", "top", "above"},
    "bottom": {"down", "under", "bottom", "low"},
}
# what attends to the mask alone: the class token of the global stream
_GLOBAL = (1, 3)


class _Mode(NamedTuple):
    """Streams of the last blocks; the first two are the local and the global one."""

    # the pictures that they start from, 0 local and 1 global
    start: tuple[int, ...]
    # what enters a block in each, from all of them and the mask
    feed: Callable[[Sequence[Tensor], Tensor], list[Tensor]]
    # those whose class tokens are the feature
    out: tuple[int, ...]


class _Said(NamedTuple):
    """What an expression says: texts of its anchors, the flag of the relation, the place."""

    anchors: list[str]
    flag: str
    place: str | None


_MODES = {
    "g2l": _Mode((0, 1), lambda of, mask: [of[0] + 2 * of[1] * mask, of[1]], (0,)),
    "l2g": _Mode((0, 1), lambda of, _: [of[0], of[0] + 2 * of[1]], (1,)),
    "both": _Mode(
        (0, 1, 0, 1), lambda of, mask: [*of[:2], of[2] + 2 * of[1] * mask, of[0] + 2 * of[3]], (2, 3)
    ),
}


class HybridGL(HeatMap):
    """Hybrid features of every mask, and spatial guidance among the three best.

    Two pictures of the whole image, blurred outside the mask (global) and of one colour there (local), pass
    through the tower; in the last ``masked_blocks`` blocks one stream is fed with twice the other, whose grid
    tokens the mask multiplies, and the global class token attends to the mask alone. The text is
    Global-Local's (Eq. 8). The three best masks are scored anew: 0.4 of the softmax of their relation to the
    best ones for the anchors (`gl_ris.rerank.hybridgl.relation`) and 0.6 of coherence, the rule "balanced"
    on the heat map of "a photo of a (noun phrase)." weighed by the place that the expression names.

    Fields ``heat``, ``heat_size`` and ``hybrid_...`` of the recipe have the details; ``alpha``,
    ``working_size`` and crops have no part in it. Boxes are those of the masks (published: SAM's, a pixel
    shorter).

    Args:
        mode: ``"g2l"``, ``"l2g"`` or ``"both"``; None leaves it to the recipe's ``hybrid_mode``.
        settings: Those of a `Scorer`, which says what is raised; also for a ResNet.
    """

    name = "hybrid_gl"
    title = "HybridGL"
    whole_sentence = False

    def __init__(self, clip: RegionCLIP, *settings: Any, mode: str | None = None, **named: Any) -> None:
        super().__init__(clip, *settings, **named)
        if mode is not None:
            self.recipe = self.recipe.replace(hybrid_mode=mode)
        # they still are where nothing is ranked anew
        self.cosines = self.recipe.hybrid_guidance == "none"
        self.in_order = self.recipe.hybrid_candidates == "run" and not self.cosines
        self._counts = [CANDIDATES, ANCHORS]
        self._said: dict[str, _Said] = {}

    def check(self, clip: RegionCLIP) -> None:
        """Accept a ViT only."""
        check_class_token(self, clip)
        super().check(clip)

    @torch.no_grad()
    def visual_features(self, image: Tensor, masks: Tensor) -> Tensor:
        """Hybrid features of masks, bool ``(N, H, W)``, in an image, uint8 ``(3, H, W)``.

        They are float32 ``(N, D)``, before normalisation; those of a mask without a pixel mean nothing. A
        ValueError for other shapes or dtypes.
        """
        return self._features(self.clip.context(image, masks))

    @torch.no_grad()
    def fuse(self, global_pixels: Tensor, local_pixels: Tensor, masks: Tensor) -> Tensor:
        """Pass both pictures of each mask, standardised ``(N, 3, *image_size)``, through the tower.

        Masks are bool ``(N, H, W)`` of any size, features float32 ``(N, D)``, before normalisation; by mode
        ``"both"`` they are a sum of two. A ValueError for other shapes or dtypes.
        """
        shape = (len(masks), 3, *self.clip.image_size)
        if (
            masks.dtype != torch.bool
            or masks.ndim != 3
            or not global_pixels.shape == local_pixels.shape == shape
        ):
            raise ValueError(f"masks must be bool (N, H, W), and both pixels (N, 3, {shape[2]}, {shape[3]}).")
        shares = masks_on_grid(masks, self.clip.tower.grid_size, self.recipe.grid_mask)
        given = (each.split(self.clip.image_batch) for each in (global_pixels, local_pixels, shares))
        with one_thread_per_operation(self.clip.device):
            return torch.cat(map_batches(lambda part: self._fused(*part), list(zip(*given, strict=True))))

    def _fused(self, global_pixels: Tensor, local_pixels: Tensor, shares: Tensor) -> Tensor:
        tower: Any = self.clip.tower
        mode, first = _MODES[self.recipe.hybrid_mode], tower.depth - self.masked_blocks
        blocks, tokens = list(tower.visual.transformer.resblocks), torch.cat([local_pixels, global_pixels])
        pictures = run_blocks(tower.layers, blocks[:first], tower.embedded(tokens)).chunk(2)
        streams = [pictures[number] for number in mode.start]
        # the class token is never masked
        mask = F.pad(shares.flatten(1).to(streams[0].dtype), (1, 0), value=1.0)
        bias = mask.new_zeros(len(mask), 1, mask.shape[1], mask.shape[1])
        bias[:, 0, 0].masked_fill_(mask == 0, -torch.inf)
        for block in blocks[first:]:
            fed, last = mode.feed(streams, mask[..., None]), block is blocks[-1]
            for number in mode.out if last else range(len(fed)):
                rows, own = slice(0, 1) if last else ALL, bias if number in _GLOBAL else None
                streams[number] = run_blocks(tower.layers, [block], fed[number], rows, own)
        return torch.stack([tower.project(streams[number][:, 0]).float() for number in mode.out]).sum(dim=0)

    def prepare(self, context: ImageContext) -> None:
        """Compute the feature of every mask, and what the heat map is made of."""
        self._features(context)
        if self.recipe.hybrid_guidance != "none":
            super().prepare(context)

    def _features(self, context: ImageContext) -> Tensor:
        fields = ("hybrid_mode", "hybrid_fill", "grid_mask", "normalization", "interpolation", "antialias")
        key = (self.name, self.masked_blocks, *(getattr(self.recipe, field) for field in fields))
        return context.keep(key, lambda: self._encoded_masks(context))

    def _encoded_masks(self, context: ImageContext) -> Tensor:
        sharp, outside = context.image.float() / 255, _blurred(context.image)
        fill = context.colour(self.recipe, self.recipe.hybrid_fill)[:, None, None]

        def encode(masks: Tensor) -> Tensor:
            pictures = [
                [context.as_input(self.recipe, sharp.where(m, other), self.clip.image_size) for m in masks]
                for other in (outside, fill)
            ]
            shares = masks_on_grid(masks, self.clip.tower.grid_size, self.recipe.grid_mask)
            return self._fused(torch.cat(pictures[0]), torch.cat(pictures[1]), shares)

        parts = context.masks.split(self.clip.image_batch) if len(context.masks) else ()
        return torch.cat([torch.zeros(0, self.clip.feature_dim).to(sharp), *map_batches(encode, parts)])

    def texts(self, expressions: Texts, noun_phrases: Texts | None = None) -> list[str]:
        """Sentences and noun phrases, and what the guidance asks for."""
        found = super().texts(expressions, noun_phrases)
        if self.recipe.hybrid_guidance == "none":
            return found
        anchors = [text for said in self._read(expressions) for text in said.anchors]
        return found + anchors + self._prompts(expressions, noun_phrases)

    def _prompts(self, expressions: Texts, noun_phrases: Texts | None) -> list[str]:
        return [f"a photo of a {phrase}." for phrase in self._phrases(expressions, noun_phrases)]

    def maps(self, context: ImageContext, expressions: Texts) -> Tensor:
        """Maps of the prompts of noun phrases, ``(E, H, W)`` in [0, 1], before places weigh them."""
        return torch.cat([*self.pictures(context, self.clip.encode_texts(self._prompts(expressions, None)))])

    def score(self, context: ImageContext, expressions: Texts, noun_phrases: Texts | None) -> Tensor:
        """Score by the cosine, and rank the candidates anew; other masks stand behind them in their order."""
        scores = self._cosines(context, self.text_features(expressions, noun_phrases))
        if self.recipe.hybrid_guidance == "none" or not context.occupied.any():
            return scores
        counts = [min(count, int(context.occupied.sum())) for count in self._counts]
        if self.recipe.hybrid_candidates == "run":
            self._counts = counts
        prompts = self.clip.encode_texts(self._prompts(expressions, noun_phrases))
        pictures, boxes = chain.from_iterable(self.pictures(context, prompts)), tight_boxes(context.bits)
        rows, shares = [], _SHARES[self.recipe.hybrid_guidance]
        for own, picture, said in zip(scores, pictures, self._read(expressions), strict=True):
            p, q = (100 * own).softmax(dim=0), None
            if said.anchors:
                mean = self.clip.encode_texts(said.anchors).mean(dim=0, keepdim=True)
                q = (100 * self._cosines(context, mean)[0]).softmax(dim=0)
            found, weights = relation(p, q, boxes.double(), said.flag, *counts)
            anew = shares[0] * weights + shares[1] * self._coherence(picture, context.masks[found], said)
            rows.append((p - 2 + anew.min()).index_copy(0, found, anew))
        return torch.stack(rows)

    def _cosines(self, context: ImageContext, text: Tensor) -> Tensor:
        found = cosine(text, self._features(context)).double()
        return found.masked_fill(~context.occupied, -torch.inf)

    def _coherence(self, picture: Tensor, masks: Tensor, said: _Said) -> Tensor:
        """Score masks by a heat map ``(H, W)`` in [0, 1] that is weighed by a place, ``(N,)``."""
        picture = picture * position_mask(said.place, *picture.shape).to(picture)
        picture = picture / torch.where(picture.mean() > 0, picture.mean(), 1)
        b = _BALANCE.get(said.flag, _USUAL)
        found = mask_scores(picture[None], masks, "balanced", b)[0].double()
        if self.recipe.hybrid_full_frame == "wins":
            # 0 / 0 counts as the largest of all numbers in the published code
            found[masks.flatten(1).all(dim=1)] = 1e4
        return found

    def _read(self, expressions: Texts) -> list[_Said]:
        from gl_ris.text import load_parser, published_texts

        new = [text for text in dict.fromkeys(expressions) if text not in self._said]
        docs = load_parser(self.parser).pipe(published_texts(new, self.parser)) if new else ()
        for text, doc in zip(new, docs, strict=True):
            others, flag = read_flag(doc, fixed=self.recipe.hybrid_relation == "fixed")
            anchors = [f"a photo of {anchor}" for anchor in others]
            self._said[text] = _Said(anchors, flag, place_of(doc, self.recipe.hybrid_position))
        return [self._said[text] for text in expressions]


def place_of(doc: Doc, which: str) -> str | None:
    """Return the place whose word has the first syntactic head, None without any.

    ``which`` is the recipe's ``hybrid_position``: if it leaves the first place out, there is none.
    """
    place = min(
        ((word.head.i, word.i, place) for word in doc for place in _PLACES if word.text in _PLACES[place]),
        default=(0, 0, None),
    )[2]
    left_out = {"all": (), "horizontal": ("top", "bottom"), "none": tuple(_PLACES)}[which]
    return None if place in left_out else place


def _blurred(image: Tensor) -> Tensor:
    """Blur an image, uint8 ``(3, H, W)``, by a kernel of 15 x 15, to whole grey levels, in [0, 1]."""
    from scipy.ndimage import gaussian_filter

    pixels = image.cpu().numpy().astype("float32")
    # the deviation that OpenCV takes for a kernel of that size
    blurred = gaussian_filter(pixels, 2.6, mode="mirror", radius=7, axes=(1, 2))
    return torch.from_numpy(blurred.round() / 255).to(image.device)
