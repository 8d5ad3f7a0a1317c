"""The three-line use: one photo, one sentence, one mask."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from gl_ris.defaults import CLIP, announce, suits_drawings, usual_proposals, usual_weights
from gl_ris.errors import UserError, unknown_name
from gl_ris.pictures import Picture, read_picture
from gl_ris.proposals import PostProcessing, ProposalGenerator, Proposals
from gl_ris.proposals.post import AS_MADE
from gl_ris.rerank import check_reranking, reranked
from gl_ris.scorers import Scorer, load_scorer

if TYPE_CHECKING:
    from gl_ris.clip import RegionCLIP


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
    """

    mask: Tensor
    box: Tensor
    score: float
    ranking: Tensor
    scores: Tensor
    proposals: Proposals
    noun_phrase: str


def segment(
    image: Picture,
    expression: str,
    *,
    clip: str | RegionCLIP = CLIP[0],
    pretrained: str | None = None,
    method: str = "global_local",
    proposals: ProposalGenerator | Proposals | Any = None,
    post: PostProcessing = AS_MADE,
    recipe: Any = "clean",
    device: str = "cpu",
    rerank: str = "none",
    top: int | None = None,
    **options: Any,
) -> Segmentation:
    """Find what an expression refers to in an image, as a run of `gl_ris.ZeroShotRIS` does.

    Before anything is loaded, a line on stderr says which models are used and what has to be downloaded.

    Args:
        image: A file, its bytes or a PIL image, which are turned upright as their EXIF orientation says
            (annotated data sets are read as stored instead); or uint8 RGB as an array ``(H, W, 3)`` or a
            tensor ``(3, H, W)``, taken as it is. `gl_ris.pictures.read_picture` says what else is read.
        expression: A referring expression, e.g. "a cat is lying on the seat of the scooter".
        clip: A name for `gl_ris.load_clip`, kept loaded between calls, or a loaded model.
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
        **options: ``alpha``, ``beta``, ``masked_blocks``, ``parser`` of the method.

    Returns:
        The chosen mask, and the ranking of all.

    Raises:
        UserError: The image cannot be read, the expression is no text or empty, there are no masks or none
            has a pixel, a score is not a number, a model cannot be had, or a name is unknown.
    """
    _check_expression(expression)
    kind = load_scorer(method)
    _check_options(kind, options)
    check_reranking(rerank, top)
    pixels = read_picture(image)
    name = clip if isinstance(clip, str) else clip.name
    weights = (pretrained or usual_weights(clip)) if isinstance(clip, str) else None
    usual = None if proposals is not None else "slic" if suits_drawings(name) else "sam"
    if usual or isinstance(clip, str):
        announce(name, weights, isinstance(clip, str), usual)
    # what is smaller to fetch, and quicker to fail, first
    given = usual_proposals(name) if proposals is None else proposals
    model = _loaded(clip, weights, device) if isinstance(clip, str) else clip
    scorer = reranked(kind(model, recipe=recipe, **options), rerank, top)
    found = post(_masks(given, pixels.to(model.device)))
    return _choose(scorer, pixels, expression, found)


def _check_expression(expression: Any) -> None:
    if not isinstance(expression, str):
        kind = type(expression).__name__
        raise UserError(f"The expression must be one text, e.g. 'the dog on the left', but it is a {kind}.")
    if not expression.strip():
        raise UserError("The expression is empty; say what to look for, e.g. 'the dog on the left'.")


def _check_options(kind: type[Scorer], options: dict[str, Any]) -> None:
    parameters = inspect.signature(kind).parameters
    names = [name for name in parameters if name not in ("clip", "recipe")]
    for name in options:
        if name not in names and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            raise unknown_name("option of segment", name, names)


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


def _choose(scorer: Scorer, pixels: Tensor, expression: str, found: Proposals) -> Segmentation:
    from gl_ris.choices import choose
    from gl_ris.text import noun_phrases

    if not found.masks.any():
        lack = (
            f"None of the {len(found)} masks has a pixel" if len(found) else "The generator proposed no masks"
        )
        raise UserError(f"{lack} for this image; give others by proposals=.")
    phrases = noun_phrases([expression], scorer.parser, published=scorer.recipe.text == "tokens")
    device = scorer.clip.device
    scores = scorer(pixels.to(device), found.masks.to(device), [expression], phrases)
    choices = choose(scores)
    best, score = choices.rows[0], choices.scores[0]
    if best is None or score is None or not np.isfinite(score):
        reason = choices.failures[0] or f"the best score is {score}"
        raise UserError(
            f"No mask can be chosen: {reason}. The weights of the CLIP model may hold NaN or infinite values."
        )
    row = scores[0].cpu()
    ranking = row.argsort(descending=True, stable=True)
    return Segmentation(found.masks[best], found.boxes[best], score, ranking, row, found, phrases[0])
