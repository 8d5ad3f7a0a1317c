"""Class-agnostic proposals of the SAM family (Kirillov et al., ICCV 2023), asked on a grid of points."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from gl_ris.clip.threads import one_thread_per_operation
from gl_ris.errors import UserError, unknown_name
from gl_ris.masks import tight_boxes
from gl_ris.proposals.base import ProposalGenerator, Proposals
from gl_ris.proposals.sam_files import family_of, find_model, hash_of
from gl_ris.proposals.sam_grid import Crop, crop_layers, point_grid
from gl_ris.proposals.sam_masks import cut_off, distinct, stability, without_small_regions
from gl_ris.proposals.sam_network import PRECISIONS, Encoded, SamNetwork

_PIXELS_AT_ONCE = 1 << 26
"""Masks are brought to the size of the image in parts of about so many pixels, which bounds the memory."""
_NETWORK_PIXELS = 1 << 20
"""On the way they have the size of the network's input."""

Found = tuple[Tensor, Tensor]
"""Masks, bool ``(N, H, W)``, and scores, float32 ``(N,)``."""


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
        crops_n_layers: Ask once more on crops of the image: 2 by 2, then 4 by 4, ... in so many layers.
        crop_overlap_ratio: Overlap of the crops of the first layer as a share of the shorter side, from 0 to
            below 1.
        crop_n_points_downscale_factor: From layer to layer the points per side are divided by this, at
            least 1.
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

    def __init__(
        self,
        model: str,
        points_per_side: int = 8,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.7,
        stability_score_thresh: float = 0.7,
        stability_score_offset: float = 1.0,
        multimask: bool = True,
        crops_n_layers: int = 0,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        box_nms_thresh: float = 0.7,
        min_region: int = 800,
        min_area: int = 800,
        max_iou: float = 0.9,
        max_count: int | None = None,
        precision: str = "fp32",
    ) -> None:
        self.model = model
        self.points_per_side = points_per_side
        self.points_per_batch = points_per_batch
        self.pred_iou_thresh = pred_iou_thresh
        self.stability_score_thresh = stability_score_thresh
        self.stability_score_offset = stability_score_offset
        self.multimask = multimask
        self.crops_n_layers = crops_n_layers
        self.crop_overlap_ratio = crop_overlap_ratio
        self.crop_n_points_downscale_factor = crop_n_points_downscale_factor
        self.box_nms_thresh = box_nms_thresh
        self.min_region = min_region
        self.min_area = min_area
        self.max_iou = max_iou
        self.max_count = max_count
        self.precision = precision
        self._check()
        self._folder = find_model(model)
        self._family = family_of(self._folder)
        self._network: SamNetwork | None = None

    def _check(self) -> None:
        if self.precision not in PRECISIONS:
            raise unknown_name("precision of SAM", self.precision, PRECISIONS)
        counts = "points_per_side points_per_batch crop_n_points_downscale_factor min_region min_area"
        shares = "stability_score_thresh box_nms_thresh max_iou"
        ranges = {
            "pred_iou_thresh": (self.pred_iou_thresh < 1, "below 1"),
            "stability_score_offset": (self.stability_score_offset > 0, "above 0"),
            "crops_n_layers": (0 <= self.crops_n_layers <= 4, "from 0 to 4"),
            "crop_overlap_ratio": (0 <= self.crop_overlap_ratio < 1, "from 0 to below 1"),
            "max_count": (self.max_count is None or self.max_count >= 1, "at least 1, or null"),
            **{name: (0 <= getattr(self, name) <= 1, "from 0 to 1") for name in shares.split()},
            **{name: (getattr(self, name) >= 1, "at least 1") for name in counts.split()},
        }
        for name, (fine, wanted) in ranges.items():
            if not fine:
                raise UserError(f"SAM: {name} is {getattr(self, name)}, it must be {wanted}.")

    def settings(self) -> dict[str, Any]:
        """Return every setting that bears on the masks; the model by type and hash, wherever it lies."""
        own = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        del own["model"]
        return {"family": self._family, "weights_sha256": self.weights_hash(), **own}

    def weights_hash(self) -> str:
        """Return the SHA-256 of the model's files."""
        return hash_of(self._folder)

    def prepare(self, image_ids: Sequence[int | str]) -> None:
        """Load the network, so that a damaged one is told before the run."""
        self._loaded()

    def __getstate__(self) -> dict[str, Any]:
        # the network is no part of what is sent to other processes; they load it themselves
        return {**vars(self), "_network": None}

    def _loaded(self) -> SamNetwork:
        if self._network is None:
            self._network = SamNetwork(self._folder, PRECISIONS[self.precision])
        return self._network

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Proposals:
        """Propose masks.

        Args:
            image: uint8 ``(3, H, W)``, RGB, any size.

        Returns:
            Proposals at the image's own size and on its device, best first; there may be none, as in an image
            of fewer than `min_area` pixels, or so narrow that SAM's own resize leaves nothing of it.

        Raises:
            UserError: The model's files are damaged.
        """
        network = self._loaded()
        network.to(image.device)
        crops = crop_layers(image.shape[1], image.shape[2], self.crops_n_layers, self.crop_overlap_ratio)
        with torch.autocast(image.device.type, enabled=False), one_thread_per_operation(image.device):
            found = [self._in_crop(network, image, layer, crop) for layer, crop in crops]
        masks, scores = (torch.cat(parts) for parts in zip(*found, strict=True))
        masks, scores = self._cleaned(*self._apart(masks, scores))
        keep = distinct(masks, scores, self.max_iou)[: self.max_count]
        return Proposals.from_masks(masks[keep], scores[keep])

    def _in_crop(self, network: SamNetwork, image: Tensor, layer: int, crop: Crop) -> Found:
        """Return what is found in a crop, as masks of the whole image."""
        height, width = image.shape[1:]
        x0, y0, x1, y1 = crop
        parts = [(image.new_zeros(0, height, width, dtype=torch.bool), torch.zeros(0, device=image.device))]
        encoded = network.encode(image[:, y0:y1, x0:x1].contiguous())
        if encoded is not None:
            per_side = max(1, self.points_per_side // self.crop_n_points_downscale_factor**layer)
            for own, scores in self._answers(network, encoded, point_grid(per_side).to(image.device)):
                masks = own.new_zeros(len(own), height, width)
                masks[:, y0:y1, x0:x1] = own
                whole = ~cut_off(tight_boxes(masks), crop, height, width)
                parts.append((masks[whole], scores[whole]))
        masks, scores = (torch.cat(part) for part in zip(*parts, strict=True))
        return masks, scores

    def _answers(self, network: SamNetwork, encoded: Encoded, points: Tensor) -> Iterator[Found]:
        """Yield the good and stable masks at each part of the points, at the size of the crop."""
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

    def _apart(self, masks: Tensor, scores: Tensor) -> Found:
        """Drop masks whose box overlaps that of a better one too much; best first."""
        from torchvision.ops import nms

        keep = nms(tight_boxes(masks), scores, self.box_nms_thresh)
        return masks[keep], scores[keep]

    def _cleaned(self, masks: Tensor, scores: Tensor) -> Found:
        """Clean masks of small regions, and drop what is small then."""
        for index, mask in enumerate(masks):
            masks[index] = without_small_regions(mask, self.min_region)
        large = masks.sum(dim=(1, 2)) >= self.min_area
        return self._apart(masks[large], scores[large])
