"""FreeSOLO, a network that proposes masks without having seen a label (Wang et al., CVPR 2022)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gl_ris.clip.image import standardize, to_unit_range
from gl_ris.errors import check_ranges, unknown_name
from gl_ris.masks import projection_boxes
from gl_ris.proposals.base import Proposals
from gl_ris.proposals.network import NetworkGenerator
from gl_ris.proposals.post import shares_left
from gl_ris.recipe import IMAGENET_MEAN, IMAGENET_STD
from gl_ris.weights import check_names_and_shapes, renamed, state_dict_in

if TYPE_CHECKING:
    from gl_ris.proposals.freesolo_network import Predictions

_DEPTHS = (50, 101)
# Numbers in memory at a time; the published code draws all candidates at once, which has no bound.
_NUMBERS_PER_BLOCK = 1 << 26


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
        # The network needs torchvision, which the choice of another generator need not wait for.
        from gl_ris.proposals.freesolo_network import FreeSOLONetwork

        super().__init__()
        if depth not in _DEPTHS:
            raise unknown_name("depth of FreeSOLO,", depth, _DEPTHS)
        check_ranges("FreeSOLO: ", {"short_side": short_side}, {"at least 1": "short_side"})
        self.depth, self.short_side = depth, short_side
        self.decoding = Decoding(
            score_threshold, mask_threshold, max_candidates, nms_sigma, keep_threshold, max_count
        )
        content = self.start(weights, lambda: FreeSOLONetwork(depth))
        if content is not None:
            self.load_detectron2_state_dict(content)

    def load_detectron2_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load weights under the names that they were published with.

        They are tensors or numpy arrays by name, or a mapping that has them under ``model``. `UserError` if
        one is missing, unexpected or of another shape, or this is no such mapping.
        """
        tensors = state_dict_in(state_dict, self.title)
        tensors.pop("_iter", None)  # a counter of the training
        check_names_and_shapes(tensors, self.named_weights(), self.title)
        own = self.network.state_dict()
        self.load_state_dict({f"network.{name}": tensors[renamed(name, "freesolo")] for name in own})

    def named_weights(self) -> dict[str, Tensor]:
        """Return the weights under the names that they were published with."""
        return {renamed(name, "freesolo"): tensor for name, tensor in self.network.state_dict().items()}

    def settings(self) -> dict[str, Any]:
        """Return every setting that bears on the masks; the weights by their SHA-256, not by their file."""
        own = {"depth": self.depth, "short_side": self.short_side, **asdict(self.decoding)}
        return {"weights_sha256": self.weights_hash(), **own}

    def __call__(self, image: Tensor) -> Proposals:
        """Propose masks, scores in [0, 1], with the boxes of `gl_ris.masks.projection_boxes`."""
        pixels = standardize(to_unit_range(image, self.short_side), IMAGENET_MEAN, IMAGENET_STD)
        return self.infer(pixels, (image.shape[1], image.shape[2]))

    def infer(self, pixels: Tensor, output_size: tuple[int, int]) -> Proposals:
        """Propose masks of an image that is already resized and normalised, on its device.

        Its pixels are float ``(3, h, w)`` (else `ValueError`), RGB, normalised by ImageNet's mean and
        standard deviation; ``output_size`` is height and width of the masks. `UserError` if the weights were
        turned into another type than float32.
        """
        from gl_ris.proposals.freesolo_network import CANVAS

        if pixels.ndim != 3 or pixels.shape[0] != 3:
            raise ValueError(f"pixels must be (3, h, w), got {tuple(pixels.shape)}.")
        height, width = pixels.shape[1:]
        with self.computing() as device:
            seen = pixels.to(device, torch.float32)
            canvas = F.pad(seen, (0, -width % CANVAS, 0, -height % CANVAS))
            proposals = decode(self.network(canvas[None]), (height, width), output_size, self.decoding)
        return proposals.to(pixels.device)


@dataclass(frozen=True)
class Decoding:
    """The thresholds of decoding, see `FreeSOLO`; the defaults are the published ones."""

    score_threshold: float = 0.1
    mask_threshold: float = 0.5
    max_candidates: int = 500
    nms_sigma: float = 2.0
    keep_threshold: float = 0.05
    max_count: int = 100

    def __post_init__(self) -> None:
        ranges = {
            "above 0 and below 1": "mask_threshold",
            "at least 0": "nms_sigma",
            "from 0 to 1": "score_threshold keep_threshold",
            "at least 1": "max_candidates max_count",
        }
        check_ranges("FreeSOLO: ", vars(self), ranges)


class Candidates(NamedTuple):
    """Masks at the resolution of the mask features."""

    probabilities: Tensor  # float (N, h, w)
    labels: Tensor  # int64 (N,), which of the two categories
    scores: Tensor  # float (N,)

    def rows(self, chosen: Tensor) -> Candidates:
        """Return some of them."""
        return Candidates(*(values[chosen] for values in self))


def decode(
    predictions: Predictions, seen_size: tuple[int, int], output_size: tuple[int, int], settings: Decoding
) -> Proposals:
    """Turn the predictions for one image into proposals of ``output_size`` (H, W), best first, perhaps none.

    ``seen_size`` is (h, w) of the image as the network saw it, without the padding.
    """
    found = suppress(draw(predictions, settings), settings)
    masks = to_image(found.probabilities, seen_size, output_size, settings.mask_threshold)
    seen = masks.flatten(1).any(dim=1)
    return Proposals(masks[seen], projection_boxes(masks[seen]), found.scores[seen])


def draw(predictions: Predictions, settings: Decoding) -> Candidates:
    """Draw the masks of all candidates, and keep the best.

    The score is the category times the mean probability inside the mask. They come best first, of equals the
    earlier cell.
    """
    # Cell by cell; a cell can be a candidate in both categories.
    cells, labels = (predictions.categories > settings.score_threshold).nonzero(as_tuple=True)
    height, width = predictions.features.shape[-2:]
    nothing = predictions.features.new_empty(0, height, width)
    best = Candidates(nothing, labels[:0], nothing.sum((1, 2)))
    for part in _blocks(len(cells), height * width):
        drawn = _draw_block(predictions, cells[part], labels[part], settings.mask_threshold)
        joined = Candidates(*(torch.cat(parts) for parts in zip(best, drawn, strict=True)))
        best = _best(joined, settings.max_candidates)
    return best


def _blocks(count: int, size: int) -> Iterator[slice]:
    step = max(1, _NUMBERS_PER_BLOCK // size)
    return (slice(start, start + step) for start in range(0, count, step))


def _draw_block(predictions: Predictions, cells: Tensor, labels: Tensor, threshold: float) -> Candidates:
    kernels = predictions.kernels[cells]
    probabilities = F.conv2d(predictions.features, kernels[:, :, None, None])[0].sigmoid()
    inside = probabilities > threshold
    areas = inside.sum((1, 2)).to(probabilities.dtype)
    # A mask must have more pixels than the stride of its features.
    large = areas > predictions.strides[cells]
    probabilities, inside, areas = probabilities[large], inside[large], areas[large]
    certainty = (probabilities * inside).sum((1, 2)) / areas
    categories = predictions.categories[cells, labels][large]
    return Candidates(probabilities, labels[large], categories * certainty)


def _best(candidates: Candidates, count: int) -> Candidates:
    return candidates.rows(candidates.scores.sort(descending=True, stable=True).indices[:count])


def suppress(candidates: Candidates, settings: Decoding) -> Candidates:
    """Lower the scores of masks that overlap better ones, and keep what stays above the threshold."""
    masks = candidates.probabilities > settings.mask_threshold
    scores = matrix_nms(masks, candidates.labels, candidates.scores, settings.nms_sigma)
    lowered = candidates._replace(scores=scores).rows(scores >= settings.keep_threshold)
    return _best(lowered, settings.max_count)


def matrix_nms(masks: Tensor, labels: Tensor, scores: Tensor, sigma: float) -> Tensor:
    """Lower each score ``(N,)`` by the overlap with better masks of the same label, see `shares_left`.

    The masks, bool ``(N, h, w)``, come best first, and none of them is empty.
    """
    flat = masks.flatten(1).to(scores.dtype)
    areas, shared = flat.sum(dim=1), flat @ flat.T
    ious = shared / (areas[:, None] + areas - shared) * (labels[:, None] == labels)
    return scores * shares_left(ious, sigma)


def to_image(
    probabilities: Tensor, seen_size: tuple[int, int], output_size: tuple[int, int], threshold: float
) -> Tensor:
    """Bring probabilities ``(N, h, w)`` to the size of the image, and cut them: bool ``(N, H, W)``.

    ``seen_size`` is (h, w) of the image as the network saw it, ``output_size`` (H, W) of the result.
    """
    height, width = probabilities.shape[-2:]
    # For inputs below 97 pixels this can come out at less than the stride of 4, in the published code too.
    factor = max(math.ceil(seen_size[0] / height), math.ceil(seen_size[1] / width))
    larger = factor * factor * height * width + output_size[0] * output_size[1]
    masks = [probabilities.new_empty(0, *output_size, dtype=torch.bool)]
    for part in _blocks(len(probabilities), larger):
        canvas = (height * factor, width * factor)
        seen = F.interpolate(probabilities[None, part], size=canvas, mode="bilinear")
        seen = seen[..., : seen_size[0], : seen_size[1]]
        masks.append(F.interpolate(seen, size=output_size, mode="bilinear")[0] > threshold)
    return torch.cat(masks)
