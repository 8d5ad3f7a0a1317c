"""What `gl_ris.segment` takes where no model is named, and what that has to fetch first."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gl_ris.errors import UserError, in_short
from gl_ris.proposals.base import ProposalGenerator

if TYPE_CHECKING:
    from torch import Tensor

    from gl_ris.proposals import SAM

CLIP = ("ViT-B-32-quickgelu", "openai")
"""The paper's ViT; its weights are downloaded on first use."""

SAM2 = "facebook/sam2.1-hiera-tiny"
"""What proposes masks on photographs; downloaded on first use, Apache-2.0."""

# what these repositories hold of what is fetched, in MB, and which files that are
_VIT = "timm/vit_base_patch32_clip_224.openai"
_SIZES = {_VIT: 605, SAM2: 156}
_FILES = {_VIT: "open_clip_model.safetensors", SAM2: "--include '*.json' --include '*.safetensors'"}
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors")

# of pictures of RefShapes: heights and widths, and at most how many colours, as a share of the pixels
_CANVASES, _MOST_COLOURS = ((192, 240), (216, 216), (240, 192)), 0.25


def usual_weights(name: str) -> str | None:
    """Return the weights of a CLIP model that come with its name alone, if any do."""
    return CLIP[1] if name == CLIP[0] else None


class Shares(NamedTuple):
    """What Global-Local takes where nothing is said: its alpha (Eq. 5), beta (Eq. 8) and k (Eq. 3)."""

    alpha: float = 0.85
    beta: float = 0.5
    masked_blocks: int = 3


_DRAWN = Shares(0.4, 0.75, 1)


def usual_shares(clip_name: str) -> Shares:
    """Return the paper's shares, for RefCOCOg, or those that RefShapes' train split chose for its CLIPs."""
    return _DRAWN if suits_drawings(clip_name) else Shares()


def shares_of_others(clip_name: str, shares: Shares) -> str | None:
    """Say which shares suit a CLIP model if it has those of the other kind: drawn world, photographs.

    None if it has not, and of models in folders, whose world is not known.
    """
    from gl_ris.clip.loading import LOCAL

    usual = usual_shares(clip_name)
    if shares == usual or shares not in (_DRAWN, Shares()) or clip_name.startswith(LOCAL):
        return None
    has, wanted = (
        f"alpha={own.alpha} beta={own.beta} masked_blocks={own.masked_blocks}" for own in (shares, usual)
    )
    world = "the drawn world of RefShapes" if shares == _DRAWN else "photographs"
    return f"{clip_name} has {has}, which suit {world}; for this model give {wanted}."


def suits_drawings(clip_name: str) -> bool:
    """Say whether a CLIP model is one of the drawn world, for which SLIC proposes; others see photographs."""
    from gl_ris.clip.loading import SHIPPED

    return clip_name in SHIPPED


def usual_proposals(clip_name: str) -> ProposalGenerator:
    """Return SLIC for a shipped CLIP and SAM 2 for any other, kept loaded between calls.

    A `UserError` that names the alternatives if SAM 2 can neither be found nor downloaded.
    """
    from gl_ris.proposals import SLIC

    if suits_drawings(clip_name):
        return SLIC()
    try:
        return _sam2()
    except UserError as error:
        raise UserError(
            f"On photographs SAM 2 ({SAM2}) proposes masks by default, and it cannot be had "
            f"({in_short(error.__cause__ or error, 100)}). Give others to segment: with nothing to download, "
            "proposals=gl_ris.proposals.Felzenszwalb.for_photos() (on the command line "
            "proposals=felzenszwalb-photo); or gl_ris.proposals.SAM('FOLDER'), a local folder of that model."
        ) from error


@functools.lru_cache(maxsize=1)
def _sam2() -> SAM:
    from gl_ris.proposals import SAM

    return SAM(SAM2)


def is_drawing(pixels: Tensor) -> bool:
    """Say whether an image, uint8 ``(3, H, W)``, may be of RefShapes: of its sizes, and of few colours."""
    if tuple(pixels.shape[1:]) not in _CANVASES:
        return False
    distinct = pixels.flatten(1).unique(dim=1).shape[1]
    return distinct < _MOST_COLOURS * pixels[0].numel()


def of_photograph(clip: str) -> str:
    """Say what a CLIP of the drawn world is worth on other pictures."""
    return (
        f"{clip} knows drawn shapes (RefShapes) and nothing else: what it chooses on this picture means "
        f"nothing. Photographs need real weights: clip={CLIP[0]}."
    )


@contextmanager
def fetching(clip: str, weights: str | None, named: bool, masks: str | None) -> Iterator[None]:
    """Say on stderr, once, which models are used and what is not here yet; then let them be fetched inside.

    ``named``: whether the CLIP model is one to be loaded; ``masks``: what proposes, where nobody named it. A
    `UserError` inside also says how to fetch elsewhere what is not here.
    """
    repositories = [_repository(clip, weights)] if named else []
    repositories += [SAM2] if masks == "sam" else []
    absent = [repository for repository in repositories if repository and not _is_here(repository)]
    if named or masks:
        _say(clip if weights is None else f"{clip} ({weights})", masks, tuple(absent))
    try:
        yield
    except UserError as error:
        if not absent:
            raise
        raise UserError(f"{error} {_elsewhere(absent)}") from error


def _elsewhere(absent: Sequence[str]) -> str:
    from huggingface_hub import constants

    fetch = " && ".join(f"hf download {name} {_FILES.get(name, '')}".rstrip() for name in absent)
    return (
        f"On a machine with network, `export HF_HUB_CACHE=$PWD/hub && {fetch}` fetches what is not here; put "
        f"what is in that folder hub into {constants.HF_HUB_CACHE}."
    )


@functools.cache
def _say(clip: str, masks: str | None, absent: tuple[str, ...]) -> None:
    used = {"sam": f"SAM 2 ({SAM2})", "slic": "SLIC"}.get(masks or "")
    text = f"gl_ris.segment: CLIP model {clip}" + (f", masks by {used}" if used else "")
    if absent:
        from huggingface_hub import constants

        parts = " and ".join(f"{repository}, {_size(repository)}" for repository in absent)
        text += f"; to be downloaded from {constants.ENDPOINT} into {constants.HF_HUB_CACHE}: {parts}"
    print(f"{text}.", file=sys.stderr, flush=True)


def _repository(clip: str, weights: str | None) -> str | None:
    """Return the repository on the hub that a CLIP model is fetched from, if it is fetched from there."""
    from gl_ris.clip.loading import HUB

    if clip.startswith(HUB):
        return clip.removeprefix(HUB)
    if weights is None or Path(weights).is_file():
        return None
    from open_clip.pretrained import get_pretrained_cfg

    place = (get_pretrained_cfg(clip, weights) or {}).get("hf_hub")
    return "/".join(place.split("/")[:2]) if place else None


def _is_here(repository: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(repository, name), str) for name in _WEIGHTS)


def _size(repository: str) -> str:
    """Say how much is fetched; for what is not known by heart, the hub is asked."""
    if repository in _SIZES:
        return f"{_SIZES[repository]:,} MB"
    from huggingface_hub import HfApi

    from gl_ris.hub import PATIENCE, reaching_hub

    try:
        with reaching_hub():
            files = HfApi().model_info(repository, files_metadata=True, timeout=PATIENCE).siblings or []
    except Exception:  # the download itself will say what is wrong with the network or the name
        return "of a size that only the hub knows"
    sizes = {file.rfilename: file.size or 0 for file in files}
    return f"{next((sizes[name] for name in _WEIGHTS if name in sizes), 0) / 1e6:,.0f} MB"
