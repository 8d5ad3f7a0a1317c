"""FreeSOLO as a generator of proposals."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gl_ris.crops import standardize, to_unit_range
from gl_ris.errors import UserError, unknown_name
from gl_ris.proposals.base import Proposals
from gl_ris.proposals.freesolo.decode import Decoding, decode
from gl_ris.proposals.freesolo.names import detectron2_name
from gl_ris.proposals.network import NetworkGenerator
from gl_ris.proposals.weights import check_names_and_shapes, read_weights, state_dict_in
from gl_ris.recipe import IMAGENET_MEAN, IMAGENET_STD

_DEPTHS = (50, 101)


class FreeSOLO(NetworkGenerator):
    """Object masks from a network that was trained without a label: the paper's proposals.

    One image at a time, in float32, wherever ``to`` has put the module.

    Args:
        weights: File of weights as detectron2 saves them, e.g. ``FreeSOLO_R101_30k_pl.pth``; null leaves the
            network untrained.
        depth: Layers of the ResNet: 101, or 50.
        short_side: Length in pixels that the image's shorter side is resized to, at least 1.
        score_threshold: Cells that are an object with more than this probability are candidates, 0 to 1.
        mask_threshold: Pixels of more than this probability belong to a mask, above 0 and below 1.
        max_candidates: How many candidates compete in the matrix NMS, at least 1.
        nms_sigma: How steeply the overlap with a better mask lowers a score, at least 0.
        keep_threshold: Least score after the matrix NMS, 0 to 1.
        max_count: Most proposals of an image, at least 1.

    Raises:
        UserError: A setting is out of its range, or the weights cannot be read or do not fit.
    """

    name = "freesolo"
    title = "FreeSOLO"
    league = "unsupervised"

    def __init__(
        self,
        weights: str | Path | None = None,
        depth: int = 101,
        short_side: int = 800,
        score_threshold: float = 0.1,
        mask_threshold: float = 0.5,
        max_candidates: int = 500,
        nms_sigma: float = 2.0,
        keep_threshold: float = 0.05,
        max_count: int = 100,
    ) -> None:
        from gl_ris.proposals.freesolo.network import FreeSOLONetwork

        super().__init__()
        if depth not in _DEPTHS:
            raise unknown_name("depth of FreeSOLO,", depth, _DEPTHS)
        if not short_side >= 1:
            raise UserError(f"FreeSOLO: short_side is {short_side}, it must be at least 1.")
        self.depth, self.short_side = depth, short_side
        self.decoding = Decoding(
            score_threshold, mask_threshold, max_candidates, nms_sigma, keep_threshold, max_count
        )
        content = None if weights is None else read_weights(weights, self.title)
        # A module made in inference mode could not be given its weights outside of it.
        with torch.inference_mode(False):
            self.network = FreeSOLONetwork(depth).eval().requires_grad_(False)
        if content is not None:
            self.load_detectron2_state_dict(content)

    def load_detectron2_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load weights under the names that they were published with.

        Args:
            state_dict: Tensors or numpy arrays by name, or a mapping that has them under ``model``. The
                counter ``_iter`` is ignored.

        Raises:
            UserError: A tensor is missing, unexpected or of another shape, or this is no such mapping.
        """
        tensors = state_dict_in(state_dict, self.title)
        tensors.pop("_iter", None)
        check_names_and_shapes(tensors, self.named_weights(), self.title)
        own = self.network.state_dict()
        self.load_state_dict({f"network.{name}": tensors[detectron2_name(name)] for name in own})

    def named_weights(self) -> dict[str, Tensor]:
        """Return the weights under the names that they were published with."""
        return {detectron2_name(name): tensor for name, tensor in self.network.state_dict().items()}

    def settings(self) -> dict[str, Any]:
        """Return every setting that bears on the masks; the weights by their SHA-256, not by their file."""
        return {
            "weights_sha256": self.weights_hash(),
            "depth": self.depth,
            "short_side": self.short_side,
            **dataclasses.asdict(self.decoding),
        }

    def __call__(self, image: Tensor) -> Proposals:
        """Propose masks.

        Args:
            image: uint8 ``(3, H, W)``, RGB, any size.

        Returns:
            At most `max_count` proposals at the image's own size and on its device, best first, scores in
            [0, 1]; there may be none. The boxes are FreeSOLO's own, see `gl_ris.masks.projection_boxes`.
        """
        pixels = standardize(to_unit_range(image, self.short_side), IMAGENET_MEAN, IMAGENET_STD)
        return self.infer(pixels, (image.shape[1], image.shape[2]))

    def infer(self, pixels: Tensor, output_size: tuple[int, int]) -> Proposals:
        """Propose masks of an image that is already resized and normalised.

        Args:
            pixels: float ``(3, h, w)``, RGB, normalised by ImageNet's mean and standard deviation.
            output_size: Height and width of the masks.

        Returns:
            As for an image; on the device of ``pixels``.

        Raises:
            ValueError: ``pixels`` are not of that shape.
            UserError: The weights were turned into another type than float32.
        """
        from gl_ris.proposals.freesolo.network import CANVAS

        if pixels.ndim != 3 or pixels.shape[0] != 3:
            raise ValueError(f"pixels must be (3, h, w), got {tuple(pixels.shape)}.")
        height, width = pixels.shape[1:]
        with self.computing() as device:
            seen = pixels.to(device, torch.float32)
            canvas = F.pad(seen, (0, -width % CANVAS, 0, -height % CANVAS))
            proposals = decode(self.network(canvas[None]), (height, width), output_size, self.decoding)
        return proposals.to(pixels.device)
