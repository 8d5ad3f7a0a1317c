"""The three-line use: one photo, one sentence, one mask."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gl_ris.errors import UserError
from gl_ris.proposals import SLIC, ProposalGenerator, Proposals
from gl_ris.scorers import load_scorer

if TYPE_CHECKING:
    from PIL import Image

    from gl_ris.clip import RegionCLIP

CLIP = ("ViT-B-32-quickgelu", "openai")
"""The paper's ViT; its weights are downloaded on first use."""


@dataclass(frozen=True)
class Segmentation:
    """What an expression refers to.

    Attributes:
        mask: bool ``(H, W)`` in the pixels of the image as given.
        box: float32 ``(4,)`` XYXY in pixels, the tight box of the mask, right and lower edge exclusive.
        score: Of the chosen proposal, a cosine similarity for Global-Local.
        ranking: int64 ``(N,)`` indices into `proposals`, the best first.
        scores: float32 ``(N,)`` of all proposals, in their own order.
        proposals: What was chosen from.
    """

    mask: Tensor
    box: Tensor
    score: float
    ranking: Tensor
    scores: Tensor
    proposals: Proposals


def segment(
    image: str | Path | Image.Image | np.ndarray | Tensor,
    expression: str,
    *,
    clip: str | RegionCLIP = CLIP[0],
    pretrained: str | None = None,
    method: str = "global_local",
    proposals: ProposalGenerator | Proposals | None = None,
    recipe: Any = "clean",
    device: str = "cpu",
    **options: Any,
) -> Segmentation:
    """Find what an expression refers to in an image.

    Args:
        image: A file, a PIL image, or uint8 RGB as an array ``(H, W, 3)`` or a tensor ``(3, H, W)``.
        expression: A referring expression, e.g. "a cat is lying on the seat of the scooter".
        clip: A name for `gl_ris.load_clip`, kept loaded between calls, or a loaded model.
        pretrained: Weights of that name; None takes OpenAI's for the default model.
        method: A scoring method by short name or class path.
        proposals: A generator or ready proposals; None takes `SLIC` with its defaults, which suits plain
            pictures: for photos give the masks of a stronger generator.
        recipe: ``"clean"``, ``"published"`` or a `Recipe`.
        device: Where a model given by name is put.
        **options: ``alpha``, ``beta``, ``masked_blocks``, ``parser`` of the method.

    Returns:
        The chosen mask, and the ranking of all.

    Raises:
        UserError: The image cannot be read, the expression is empty, there are no proposals, or a name is
            unknown.
    """
    if not expression.strip():
        raise UserError("The expression is empty; say what to look for, e.g. 'the dog on the left'.")
    pixels = _pixels(image)
    model = _loaded(clip, pretrained or _usual_weights(clip), device) if isinstance(clip, str) else clip
    found = proposals if isinstance(proposals, Proposals) else (proposals or SLIC())(pixels)
    if not len(found):
        raise UserError("The generator proposed no masks for this image; give masks by proposals=.")
    scorer = load_scorer(method)(model, recipe=recipe, **options)
    scores = scorer(pixels, found.masks, [expression], boxes=None)[0].cpu()
    ranking = scores.argsort(descending=True, stable=True)
    best = int(ranking[0])
    return Segmentation(found.masks[best], found.boxes[best], float(scores[best]), ranking, scores, found)


def _usual_weights(name: str | RegionCLIP) -> str | None:
    return CLIP[1] if name == CLIP[0] else None


@lru_cache(maxsize=2)
def _loaded(name: str, pretrained: str | None, device: str) -> RegionCLIP:
    from gl_ris.clip import load_clip

    return load_clip(name, pretrained, device=device)


def _pixels(image: str | Path | Image.Image | np.ndarray | Tensor) -> Tensor:
    """Turn any accepted image into uint8 ``(3, H, W)``."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(image, str | Path):
        try:
            with Image.open(image) as opened:
                image = opened.convert("RGB")
        except (OSError, UnidentifiedImageError) as error:
            raise UserError(f"The image '{image}' cannot be read: {error}.") from error
    if isinstance(image, Image.Image):
        image = np.array(image.convert("RGB"))
    pixels = torch.from_numpy(image).permute(2, 0, 1) if isinstance(image, np.ndarray) else image
    if pixels.dtype != torch.uint8 or pixels.ndim != 3 or pixels.shape[0] != 3:
        raise UserError(
            "Expected `image` to be uint8 RGB, an array (H, W, 3) or a tensor (3, H, W), "
            f"but got {pixels.dtype} {tuple(pixels.shape)}."
        )
    return pixels.contiguous()
