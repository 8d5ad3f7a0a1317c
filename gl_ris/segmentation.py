"""One's own photo: one sentence, one mask; or many of both, with models and features that are kept."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from gl_ris.bits import Bits
from gl_ris.defaults import (
    CLIP,
    Shares,
    fetching,
    is_drawing,
    of_photograph,
    suits_drawings,
    usual_proposals,
    usual_shares,
    usual_weights,
)
from gl_ris.errors import UserError, unknown_name
from gl_ris.pictures import Picture, read_picture
from gl_ris.proposals import PostProcessing, ProposalGenerator, Proposals
from gl_ris.proposals.post import AS_MADE
from gl_ris.rerank import check_reranking, reranked
from gl_ris.scorers import Scorer, load_scorer
from gl_ris.split_texts import SplitTexts

if TYPE_CHECKING:
    from gl_ris.clip import RegionCLIP
    from gl_ris.parsing import Parsed


@dataclass(frozen=True)
class Segmentation:
    """What an expression refers to.

    Attributes:
        mask: bool ``(H, W)`` in the pixels of the image, upright if it was a file or a PIL image.
        box: float32 ``(4,)`` XYXY in pixels, the tight box of the mask, right and lower edge exclusive.
        score: Of the chosen proposal, a cosine similarity for Global-Local; of its own scale if re-ranked.
        ranking: int64 ``(N,)`` indices into `proposals`, the best first; those without a pixel come last.
        scores: float32 ``(N,)`` of all proposals, in their own order; -inf without a pixel.
        proposals: What was chosen from, after post-processing.
        noun_phrase: The words of the expression that name its target, as the parser found them.
        parsed: What else the expression says: places, relations ...
    """

    mask: Tensor
    box: Tensor
    score: float
    ranking: Tensor
    scores: Tensor
    proposals: Proposals
    noun_phrase: str
    parsed: Parsed


class Segmenter:
    """Finds what expressions refer to, in any number of images, with models that it keeps.

    Nothing is loaded before the first image, or `load`. A line on stderr says then which models are used and
    what has to be downloaded, and another one if a CLIP of the drawn world sees something else.

    Args:
        clip: A name for `gl_ris.load_clip`, shared by all who ask for the same, or a loaded model.
        pretrained: Weights of that name; None takes OpenAI's for the default model.
        method: A scoring method by short name or class path.
        proposals: A generator; or ready masks of the upright image: `Proposals`, bool ``(N, H, W)``, or the
            list of SAM's ``generate()``. None takes SLIC for a shipped CLIP, which is for drawings, and for
            any other SAM 2 (facebook/sam2.1-hiera-tiny).
        post: What is done to the masks before one is chosen; by default nothing.
        recipe: ``"clean"``, ``"published"`` or a `Recipe`.
        device: Where a model given by name is put.
        rerank: What ranks the masks anew, ``"none"``, ``"full"`` ...: see `gl_ris.rerank.load_reranker`.
        top: How many of the best masks; None for the re-ranker's own number.
        alpha: Share of the global visual feature, from 0 to 1 (Eq. 5); None takes the paper's 0.85, and 0.4
            for a shipped CLIP (`gl_ris.defaults.usual_shares`).
        beta: Share of the global text feature, from 0 to 1 (Eq. 8); likewise 0.5, and 0.75.
        masked_blocks: Blocks of a ViT with masked tokens, counted from the last (k in the paper); likewise 3,
            and 1.
        parser: What parses expressions: None for the shipped pipeline of spaCy, or another one.
        **options: What else the method takes.

    Raises:
        UserError: A name is unknown, or a setting cannot be; from the first image on, a model cannot be had.
    """

    def __init__(
        self,
        clip: str | RegionCLIP = CLIP[0],
        pretrained: str | None = None,
        *,
        method: str = "global_local",
        proposals: ProposalGenerator | Proposals | Any = None,
        post: PostProcessing = AS_MADE,
        recipe: Any = "clean",
        device: str = "cpu",
        rerank: str = "none",
        top: int | None = None,
        alpha: float | None = None,
        beta: float | None = None,
        masked_blocks: int | None = None,
        parser: Any = None,
        **options: Any,
    ) -> None:
        kind = load_scorer(method)
        parameters = inspect.signature(kind).parameters
        named = [name for name in parameters if name not in ("clip", "recipe")]
        for name in options:
            if name not in named and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
                raise unknown_name("option of segment", name, named)
        check_reranking(rerank, top)
        self.clip_name = clip if isinstance(clip, str) else clip.name
        self.weights = (pretrained or usual_weights(clip)) if isinstance(clip, str) else None
        self._clip, self._device, self._given, self._post = clip, device, proposals, post
        asked = {"alpha": alpha, "beta": beta, "masked_blocks": masked_blocks}
        own: Any = {name: value for name, value in asked.items() if value is not None}
        shares = usual_shares(self.clip_name)._replace(**own)
        self._make = lambda model: reranked(kind(model, *shares, recipe, parser, **options), rerank, top)
        self._rerank, self._scorer = rerank, cast("Scorer | None", None)
        self._texts = SplitTexts(parser)
        self._opened: OpenImage | None = None
        self._warned = False

    def load(self) -> Scorer:
        """Load what is not loaded yet, and return the scorer."""
        if self._scorer is None:
            named, usual = isinstance(self._clip, str), None
            if self._given is None:
                usual = "slic" if suits_drawings(self.clip_name) else "sam"
            with fetching(self.clip_name, self.weights, named, usual):
                # what is smaller to fetch, and quicker to fail, first
                self._given = usual_proposals(self.clip_name) if usual else self._given
                own, name = self._clip, self.clip_name
                self._scorer = self._make(_loaded(name, self.weights, self._device) if named else own)
        return self._scorer

    def prepare(self, expressions: Sequence[str]) -> None:
        """Parse and encode expressions that will be asked, all at once, which costs less than one by one."""
        scorer = self.load()
        phrases = self._texts.phrases(expressions, scorer.recipe.text)
        self._texts.parsed(expressions)
        scorer.clip.prepare_texts(scorer.texts(expressions, phrases))

    def models(self) -> dict[str, Any]:
        """Name what answers: the CLIP model, its weights, the method with its shares, what makes masks."""
        made = self._given.name if isinstance(self._given, ProposalGenerator) else "given"
        clip, scorer = {"clip": self.clip_name, "pretrained": self.weights}, self.load()
        shares = {name: getattr(scorer, name) for name in Shares._fields}
        return {**clip, "method": scorer.title, **shares, "proposals": made, "rerank": self._rerank}

    def open(self, image: Picture) -> OpenImage:
        """Read an image, make its masks and encode them, once for all expressions to come.

        Args:
            image: A file, its bytes or a PIL image, which are turned upright as their EXIF orientation says
                (annotated data sets are read as stored instead); or uint8 RGB as an array ``(H, W, 3)`` or a
                tensor ``(3, H, W)``, taken as it is. `gl_ris.pictures.read_picture` says what else is read.

        Raises:
            UserError: It cannot be read, there are no masks or none has a pixel, or a model cannot be had.
        """
        pixels = read_picture(image)
        scorer = self.load()
        if not self._warned and suits_drawings(self.clip_name) and not is_drawing(pixels):
            self._warned = True
            print(of_photograph(self.clip_name), file=sys.stderr, flush=True)
        found = self._post(_masks(self._given, pixels.to(scorer.clip.device)))
        return OpenImage(scorer, self._texts, pixels, found)

    def __call__(self, image: Picture, expression: str) -> Segmentation:
        """Find what an expression refers to; the image of the last call is not opened again.

        `UserError` as `open` and `OpenImage` raise.
        """
        _check_expression(expression)
        pixels = read_picture(image)
        if self._opened is None or not torch.equal(self._opened.image, pixels):
            self._opened = self.open(pixels)
        return self._opened(expression)


class OpenImage:
    """An image with its masks and their features, by `Segmenter.open`: an expression costs its text alone.

    Attributes:
        image: uint8 ``(3, H, W)`` RGB, upright.
        proposals: What is chosen from, after post-processing.
    """

    def __init__(self, scorer: Scorer, texts: SplitTexts, image: Tensor, proposals: Proposals) -> None:
        count = len(proposals)
        if not proposals.masks.any():
            lack = f"None of the {count} masks has a pixel" if count else "The generator proposed no masks"
            raise UserError(f"{lack} for this image; give others by proposals=.")
        self.image, self.proposals, self._scorer, self._texts = image, proposals, scorer, texts
        device = scorer.clip.device
        self._context = scorer.clip.context(image.to(device), Bits(proposals.masks.to(device)))
        scorer.prepare(self._context)

    @property
    def areas(self) -> Tensor:
        """Pixels of each mask, int64 ``(N,)``."""
        return self._context.bits.areas.cpu()

    def by(self, scorer: Scorer) -> OpenImage:
        """Return the same image for another scorer of its model; what is encoded stays so."""
        other = copy.copy(self)
        other._scorer = scorer
        return other

    def __call__(self, expression: str) -> Segmentation:
        """Find what an expression refers to; `UserError` as `all` raises."""
        return self.all([expression])[0]

    def all(self, expressions: Sequence[str]) -> list[Segmentation]:
        """Find what each of several expressions refers to.

        Raises:
            UserError: One is no text or empty, or a score is not a number.
        """
        from gl_ris.choices import choose

        for expression in expressions:
            _check_expression(expression)
        if not expressions:
            return []
        scorer, texts = self._scorer, self._texts
        phrases, parses = texts.phrases(expressions, scorer.recipe.text), texts.parsed(expressions)
        self._context = context = scorer.clip.again(self._context)
        scores = scorer(context.image, context.bits, expressions, phrases).cpu()
        choices = choose(scores)
        return [
            self._chosen(choices, row, scores[row], phrase, parsed)
            for row, (phrase, parsed) in enumerate(zip(phrases, parses, strict=True))
        ]

    def _chosen(self, choices: Any, row: int, scores: Tensor, phrase: str, parsed: Parsed) -> Segmentation:
        best, score, found = choices.rows[row], choices.scores[row], self.proposals
        if best is None or not np.isfinite(score):
            reason = choices.failures[row] or f"the best score is {score}"
            raise UserError(
                f"No mask can be chosen: {reason}. The weights of the CLIP model may hold NaN or infinite "
                "values."
            )
        ranking = scores.argsort(descending=True, stable=True)
        mask, box = found.masks[best], found.boxes[best]
        return Segmentation(mask, box, score, ranking, scores, found, phrase, parsed)


def segment(image: Picture, expression: str, **settings: Any) -> Segmentation:
    """Find what an expression refers to in an image, as a run of `gl_ris.ZeroShotRIS` does.

    Args:
        image: Any picture, see `Segmenter.open`.
        expression: A referring expression, e.g. "a cat is lying on the seat of the scooter".
        **settings: Those of a `Segmenter`, which is what to use for more images or expressions.

    Returns:
        The chosen mask, and the ranking of all.

    Raises:
        UserError: The image cannot be read, the expression is no text or empty, there are no masks or none
            has a pixel, a score is not a number, a model cannot be had, or a name is unknown.
    """
    _check_expression(expression)
    return Segmenter(**settings)(image, expression)


def _check_expression(expression: Any) -> None:
    if not isinstance(expression, str):
        kind = type(expression).__name__
        raise UserError(f"The expression must be one text, e.g. 'the dog on the left', but it is a {kind}.")
    if not expression.strip():
        raise UserError("The expression is empty; say what to look for, e.g. 'the dog on the left'.")


@lru_cache(maxsize=2)
def _loaded(name: str, pretrained: str | None, device: str) -> RegionCLIP:
    from gl_ris.clip import load_clip

    return load_clip(name, pretrained, device=device)


def _masks(given: Any, pixels: Tensor) -> Proposals:
    """Return the proposals of an image, contiguous and on the CPU; a `UserError` if there are none."""
    if isinstance(given, ProposalGenerator):
        found = given(pixels)
    elif isinstance(given, Proposals):
        found = given
    elif isinstance(given, list) and (not given or isinstance(given[0], Mapping)):
        found = Proposals.from_list(given, size=(pixels.shape[1], pixels.shape[2]))
    elif isinstance(given, Tensor | np.ndarray | list):
        found = Proposals.from_masks(given)
    else:
        raise UserError(
            "proposals must be a generator such as gl_ris.proposals.SLIC(), Proposals, bool masks (N, H, W) "
            f"or the list of SAM's generate(), not {type(given).__name__} {given!r:.60}."
        )
    if len(found) and found.masks.shape[1:] != pixels.shape[1:]:
        own, wanted = ("{} x {}".format(*shape[1:]) for shape in (found.masks.shape, pixels.shape))
        raise UserError(
            f"The masks are of {own} pixels (height x width), but the image is {wanted}; masks must be of "
            "its size, upright if its file has an EXIF orientation (PIL.ImageOps.exif_transpose)."
        )
    # in the layout of a store, which bears on the last bits of sums over pixels
    found = found.to("cpu")
    return Proposals(found.masks.contiguous(), found.boxes.float(), found.scores.float())
