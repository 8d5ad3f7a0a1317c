"""CutLER, a detector that proposes masks without having seen a label (Wang et al., CVPR 2023)."""

from __future__ import annotations

from pathlib import Path

from gl_ris.errors import UserError
from gl_ris.proposals.detectron2 import Detectron2

_CONFIG = "Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml"
_NETWORK = {
    "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
    "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
    "INPUT.FORMAT": "RGB",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    # Trained with SyncBN, which is the same without training and the same on one processor.
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.FPN.NORM": "BN",
    "MODEL.ROI_HEADS.NUM_CLASSES": 1,
    "MODEL.RPN.NMS_THRESH": 0.65,
}


class CutLER(Detectron2):
    """Object masks from CutLER's Cascade Mask R-CNN, which was trained without a label.

    Needs detectron2. The scores are the detector's, 0 to 1.

    Args:
        weights: File of weights, e.g. ``cutler_cascade_final.pth``; null leaves the network untrained.
        score_threshold: Least score of a proposal, 0 to 1: 0 in the published evaluation, 0.35 in the demo.
        max_count: Most proposals of an image, at least 1.
        nms_threshold: Largest intersection over union of the boxes of two proposals, 0 to 1.
        short_side: Length in pixels that the image's shorter side is resized to, at least 1.
        max_side: Largest length in pixels of the longer side after that, at least 1.

    Raises:
        UserError: detectron2 is missing or broken, a setting is out of its range, or the weights cannot be
            read or do not fit.
    """

    name = "cutler"
    title = "CutLER"
    league = "unsupervised"

    def __init__(
        self,
        weights: str | Path | None = None,
        score_threshold: float = 0.0,
        max_count: int = 100,
        nms_threshold: float = 0.5,
        short_side: int = 800,
        max_side: int = 1333,
    ) -> None:
        for name, value in {"max_count": max_count, "short_side": short_side, "max_side": max_side}.items():
            if not value >= 1:
                raise UserError(f"CutLER: {name} is {value}, it must be at least 1.")
        if not 0 <= nms_threshold <= 1:
            raise UserError(f"CutLER: nms_threshold is {nms_threshold}, it must be from 0 to 1.")
        options = {
            "TEST.DETECTIONS_PER_IMAGE": max_count,
            "MODEL.ROI_HEADS.NMS_THRESH_TEST": nms_threshold,
            "INPUT.MIN_SIZE_TEST": short_side,
            "INPUT.MAX_SIZE_TEST": max_side,
        }
        super().__init__(_CONFIG, weights, score_threshold, {**_NETWORK, **options}, self.league)
