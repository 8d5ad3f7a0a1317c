"""Class-agnostic proposals of the SAM family (Kirillov et al., ICCV 2023), asked on a grid of points."""

# No postponed annotations: jsonargparse checks values by the types of fields, which must be no mere text.

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gl_ris.bits import Bits
from gl_ris.clip.loading import PRECISIONS
from gl_ris.clip.tower import one_thread_per_operation
from gl_ris.errors import check_ranges, unknown_name
from gl_ris.masks import pairwise_areas, suppress, tight_boxes
from gl_ris.proposals.base import ProposalGenerator, Proposals
from gl_ris.proposals.post import best_first
from gl_ris.proposals.sam_network import Encoded, SamNetwork, family_of, files_of, find_model, hash_of

# Masks are brought to the size of the image in parts of about so many pixels, which bounds the memory; on the
# way they have the size of the network's input.
_PIXELS_AT_ONCE, _NETWORK_PIXELS = 1 << 26, 1 << 20

Scored = tuple[Tensor, Tensor]  # Masks, bool (N, H, W), and their scores, float32 (N,).


@dataclass(eq=False)
class SAM(ProposalGenerator):
    """Masks of SAM, SAM 2, SAM-HQ, EdgeTAM and what else transformers can ask at points.

    The network is asked at every point of a grid; of its answers those stay that it thinks good, that are
    stable, large enough, and not nearly the same as a better one. The defaults are the coarse setting of
    later zero-shot work (HybridGL's: 8 points per side, both thresholds 0.7, holes and islands of under 800
    pixels cleaned away); masks of under 800 pixels are dropped, too, unless ``min_area=1`` keeps them.

    The score of a proposal is the IoU that the network predicts for it. The network runs on the device of the
    image.

    Args:
        model: A name on the Hugging Face hub, such as facebook/sam-vit-base or facebook/sam2.1-hiera-tiny, or
            a folder with the same files. Only safetensors are read. With HF_HUB_OFFLINE=1 nothing is
            downloaded.
        points_per_side: The grid has this number of points squared, at least 1.
        points_per_batch: Points that are asked at once, at least 1; more is faster and needs more memory.
        pred_iou_thresh: Masks stay whose predicted IoU is above this; 0 or less keeps all.
        stability_score_thresh: Masks stay whose stability is above this, from 0, which keeps all, to 1.
        stability_score_offset: By how much the cut through the logits is moved to measure stability, above 0.
        multimask: Three masks per point (whole, part, subpart) or one.
        box_nms_thresh: Masks whose box has an intersection over union above this with that of a better one
            are dropped, from 0 to 1; 1 keeps all.
        min_region: Smaller holes of a mask are filled and smaller islands taken away, in pixels of the
            image; 1 for none.
        min_area: Smallest proposal in pixels of the image, at least 1.
        max_iou: Masks whose intersection over union with a better one is above this are dropped, from 0 to
            1; identical ones always are.
        max_count: Most proposals of an image, at least 1; null for all.
        precision: Of the weights: fp32, bf16 or fp16.

    Raises:
        UserError: A setting is out of its range, or the model cannot be found or downloaded.
    """

    name = "sam"
    league = "class-agnostic supervised"

    model: str
    points_per_side: int = 8
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.7
    stability_score_thresh: float = 0.7
    stability_score_offset: float = 1.0
    multimask: bool = True
    box_nms_thresh: float = 0.7
    min_region: int = 800
    min_area: int = 800
    max_iou: float = 0.9
    max_count: int | None = None
    precision: str = "fp32"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise unknown_name("precision of SAM", self.precision, PRECISIONS)
        ranges = {
            "below 1": "pred_iou_thresh",
            "above 0": "stability_score_offset",
            "at least 1, or null": "max_count",
            "from 0 to 1": "stability_score_thresh box_nms_thresh max_iou",
            "at least 1": "points_per_side points_per_batch min_region min_area",
        }
        check_ranges("SAM: ", vars(self), ranges)
        self._folder = find_model(self.model)
        self._family = family_of(self._folder)
        self._network: SamNetwork | None = None

    def settings(self) -> dict[str, Any]:
        """Return every setting that bears on the masks; the model by type and hash, wherever it lies."""
        own = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        del own["model"]
        return {"family": self._family, "weights_sha256": self.weights_hash(), **own}

    def weights_hash(self) -> str:
        """Return the SHA-256 of the model's files."""
        return hash_of(self._folder)

    def input_files(self) -> dict[str, Path]:
        """Return the model's files."""
        return {f"{Path(self.model).name}/{path.name}": path for path in files_of(self._folder)}

    def prepare(self, image_ids: Sequence[int | str]) -> None:
        """Load the network, so that a damaged one is told before the run."""
        self._loaded()

    def __getstate__(self) -> dict[str, Any]:
        # The network is no part of what is sent to other processes; they load it themselves.
        return {**vars(self), "_network": None}

    def _loaded(self) -> SamNetwork:
        if self._network is None:
            self._network = SamNetwork(self._folder, PRECISIONS[self.precision])
        return self._network

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Proposals:
        """Propose masks; none, too, for an image so narrow that SAM's own resize leaves nothing of it."""
        network = self._loaded()
        found = [
            (image.new_zeros(0, *image.shape[1:], dtype=torch.bool), torch.zeros(0, device=image.device))
        ]
        with torch.autocast(image.device.type, enabled=False), one_thread_per_operation(image.device):
            encoded = network.encode(image.contiguous())
            if encoded is not None:
                found += self._answers(network, encoded, point_grid(self.points_per_side).to(image.device))
        masks, scores = (torch.cat(parts) for parts in zip(*found, strict=True))
        masks, scores = self._cleaned(*self._apart(masks, scores))
        keep = distinct(masks, scores, self.max_iou)[: self.max_count]
        return Proposals.from_masks(masks[keep], scores[keep])

    def _answers(self, network: SamNetwork, encoded: Encoded, points: Tensor) -> Iterator[Scored]:
        """Yield the good and stable masks at each part of the points, at the size of the image."""
        at_once = max(1, _PIXELS_AT_ONCE // max(_NETWORK_PIXELS, math.prod(encoded.size)))
        for some in points.split(self.points_per_batch):
            logits, scores = network.masks_at(encoded, some, self.multimask)
            good = (scores > self.pred_iou_thresh) if self.pred_iou_thresh > 0 else ~scores.isnan()
            for low, own in zip(logits[good].split(at_once), scores[good].split(at_once), strict=True):
                full = network.upscale(low, encoded)
                stable = (full > 0).any(dim=2).any(dim=1)
                if self.stability_score_thresh > 0:
                    stable &= stability(full, self.stability_score_offset) > self.stability_score_thresh
                yield full[stable] > 0, own[stable]

    def _apart(self, masks: Tensor, scores: Tensor) -> Scored:
        """Drop masks whose box overlaps that of a better one too much; best first."""
        from torchvision.ops import nms

        keep = nms(tight_boxes(masks), scores, self.box_nms_thresh)
        return masks[keep], scores[keep]

    def _cleaned(self, masks: Tensor, scores: Tensor) -> Scored:
        """Clean masks of small regions, and drop what is small then."""
        for index, mask in enumerate(masks):
            masks[index] = without_small_regions(mask, self.min_region)
        large = Bits(masks).areas >= self.min_area
        return self._apart(masks[large], scores[large])


def point_grid(per_side: int) -> Tensor:
    """Spread points, float32 ``(per_side ** 2, 2)``, evenly over the unit square, row by row, x and y.

    Example:
        >>> point_grid(2).tolist()
        [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    """
    steps = (torch.arange(per_side) + 0.5) / per_side
    return torch.stack([steps.repeat(per_side), steps.repeat_interleave(per_side)], dim=1)


def stability(logits: Tensor, offset: float) -> Tensor:
    """Measure how little masks depend on where their logits, float ``(N, H, W)``, are cut.

    The area with the cut at ``offset`` as a share of that with the cut at ``-offset``, float32 ``(N,)``; 0
    where both are empty.
    """
    inner, outer = ((logits > cut).sum(dim=(-2, -1)) for cut in (offset, -offset))
    return inner.float() / outer.clamp(min=1)


def without_small_regions(mask: Tensor, min_region: int) -> Tensor:
    """Fill a mask's holes of fewer pixels, then take away its islands of fewer; bool ``(H, W)``.

    Regions hang together across corners, too. The largest island stays, however small.
    """
    if min_region <= 1 or not mask.any():
        return mask
    pixels = mask.cpu().numpy()
    holes, areas = _regions(~pixels)
    pixels = pixels | (areas < min_region)[holes] & ~pixels
    islands, areas = _regions(pixels)
    keep = areas >= min_region
    keep[1 + areas[1:].argmax()] = True
    return torch.from_numpy(keep[islands] & pixels).to(mask.device)


def _regions(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Each connected region has a number from 1 on, and each number its area; 0 is what is outside.
    from scipy.ndimage import label

    labels, count = label(pixels, structure=np.ones((3, 3)))
    return labels, np.bincount(labels.ravel(), minlength=count + 1)


def distinct(masks: Tensor, scores: Tensor, max_iou: float) -> Tensor:
    """Choose masks greedily by score, leaving out what has a larger IoU with a chosen one, or is the same.

    Returns their rows, int64, best first; equal scores keep their order.
    """
    intersection, union = pairwise_areas(masks, masks)
    same = ((intersection > max_iou * union) | (intersection == union)).cpu().numpy()
    chosen = suppress(best_first(scores).tolist(), same)
    return torch.tensor(chosen, dtype=torch.int64, device=masks.device)
