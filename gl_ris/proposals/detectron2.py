"""Masks from networks of detectron2, CutLER among them.

detectron2 is not on the package index, and needed for these alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gl_ris.errors import UserError, check_ranges, in_short
from gl_ris.files import plain, read_table
from gl_ris.proposals.base import League, Proposals
from gl_ris.proposals.network import NetworkGenerator
from gl_ris.weights import check_names_and_shapes, state_dict_in

INSTALL = "pip install --no-build-isolation git+https://github.com/facebookresearch/detectron2.git"
"""Installs detectron2; torch must be there already, and a compiler."""

# Constants and counters that old files hold and inference does not read.
_IDLE = ("pixel_mean", "pixel_std", "anchor_generator.cell_anchors", "num_batches_tracked")
_THRESHOLD = "MODEL.ROI_HEADS.SCORE_THRESH_TEST"

_CUTLER_CONFIG = "Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml"
_CUTLER = Path(__file__).parents[1] / "assets" / "cutler.yaml"


class Detectron2(NetworkGenerator):
    """Object masks from any network that detectron2 builds for instance segmentation.

    One image at a time, in float32, wherever ``to`` has put the module. What a configuration says about its
    weights and device is not used.

    Args:
        config: A configuration, YAML: a file, or a name in detectron2's model zoo such as
            ``COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml``.
        weights: File of weights (``.pth``); null leaves the network untrained.
        score_threshold: Least score of a proposal, 0 to 1; null takes what the configuration says.
        options: Changes of the configuration, such as ``{"TEST.DETECTIONS_PER_IMAGE": 50}``.
        league: What the weights have learnt from; "COCO-supervised" for those of the model zoo.

    Raises:
        UserError: detectron2 is missing or broken, the network cannot be built of these settings, or the
            weights cannot be read or do not fit.
    """

    name = "detectron2"
    title = "Detectron2"

    def __init__(
        self,
        config: str | Path,
        weights: str | Path | None = None,
        score_threshold: float | None = None,
        options: Mapping[str, Any] | None = None,
        league: League = "not stated",
    ) -> None:
        super().__init__()
        self.league = league
        self._import()
        ranges = {"from 0 to 1, or null": "score_threshold"}
        check_ranges(f"{self.title}: ", {"score_threshold": score_threshold}, ranges)
        threshold = {} if score_threshold is None else {_THRESHOLD: float(score_threshold)}
        self._options = {**(options or {}), **threshold}
        self._config = self._configure(str(config))
        content = self.start(weights, self._build)
        if content is not None:
            self._load(content)

    def settings(self) -> dict[str, Any]:
        """Return what bears on the masks: options, and where the configuration is not the default one."""
        import detectron2
        from detectron2.config import get_cfg

        default = dict(_flat(get_cfg()))
        changes = {
            name: value
            for name, value in _flat(self._config)
            if name in self._options or (_bears(name) and default.get(name, ...) != value)
        }
        versions = {"weights_sha256": self.weights_hash(), "detectron2": detectron2.__version__}
        return {**versions, "config": changes}

    def __call__(self, image: Tensor) -> Proposals:
        """Propose masks, with the scores and the boxes of the network; masks without a pixel are left out."""
        height, width = image.shape[1:]
        with self.computing():
            # The networks bring their input to their device themselves.
            found = self.network([{"image": self._input(image), "height": height, "width": width}])[0]
        instances = found.get("instances")
        if instances is None or not instances.has("pred_masks"):
            raise UserError(f"{self.title}: the network predicts no masks of instances; use another config.")
        order = instances.scores.sort(descending=True, stable=True).indices
        order = order[instances.pred_masks[order].flatten(1).any(dim=1)]
        boxes = instances.pred_boxes.tensor
        return Proposals(instances.pred_masks[order], boxes[order], instances.scores[order]).to(image.device)

    def _input(self, image: Tensor) -> Tensor:
        # As detectron2 does: resized by Pillow, bilinear, and the channels in the order of the network.
        from detectron2.data.transforms import ResizeShortestEdge

        settings = self._config.INPUT
        pixels = image.permute(1, 2, 0).cpu().numpy()
        resize = ResizeShortestEdge([settings.MIN_SIZE_TEST] * 2, settings.MAX_SIZE_TEST)
        pixels = resize.get_transform(pixels).apply_image(pixels)
        resized = torch.tensor(pixels, dtype=torch.float32).permute(2, 0, 1)
        return resized.flip(0) if settings.FORMAT == "BGR" else resized

    def _import(self) -> None:
        try:
            import detectron2
            import detectron2.config
            import detectron2.data.transforms
            import detectron2.modeling  # noqa: F401
        except Exception as error:  # an old one can fail in many ways with newer libraries
            missing = isinstance(error, ModuleNotFoundError) and error.name == "detectron2"
            state = "is not installed" if missing else f"does not work here ({in_short(error, typed=True)})"
            raise UserError(
                f"{self.title} needs detectron2, which {state}; with torch and a compiler present: {INSTALL}"
            ) from error

    def _configure(self, name: str) -> Any:
        from detectron2.config import get_cfg

        config = get_cfg()
        try:
            # Tags in the YAML that would run code are refused.
            config.merge_from_file(str(self._find(name)), allow_unsafe=False)
            config.merge_from_list([part for option in self._options.items() for part in option])
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"{self.title}: the configuration {name} cannot be used ({in_short(error, typed=True)})."
            ) from error
        config.MODEL.DEVICE, config.MODEL.WEIGHTS = "cpu", ""
        return config

    def _find(self, name: str) -> Path:
        import detectron2

        if name.endswith(".py"):
            raise UserError(f"{self.title}: {name} is a program, not data; give a YAML configuration.")
        zoo = Path(detectron2.__file__).parent / "model_zoo" / "configs"
        for path in (Path(name).expanduser(), zoo / name):
            if path.is_file():
                return path
        raise UserError(f"{self.title}: there is no configuration {name}, neither as a file nor in {zoo}.")

    def _build(self) -> Any:
        from detectron2.modeling import build_model

        try:
            return build_model(self._config)
        except Exception as error:
            why = in_short(error, typed=True)
            raise UserError(
                f"{self.title}: detectron2 cannot build the network ({why}); it must be one of its own."
            ) from error

    def _load(self, content: Any) -> None:
        def bearing(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: value for name, value in tensors.items() if not any(idle in name for idle in _IDLE)}

        given = bearing(state_dict_in(content, self.title))
        check_names_and_shapes(given, bearing(self.network.state_dict()), self.title)
        self.load_state_dict({f"network.{name}": value for name, value in given.items()}, strict=False)


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
        sides = {"short_side": short_side, "max_side": max_side}
        settings = {"max_count": max_count, "nms_threshold": nms_threshold, **sides}
        ranges = {"at least 1": "max_count short_side max_side", "from 0 to 1": "nms_threshold"}
        check_ranges("CutLER: ", settings, ranges)
        options = {
            "TEST.DETECTIONS_PER_IMAGE": max_count,
            "MODEL.ROI_HEADS.NMS_THRESH_TEST": nms_threshold,
            "INPUT.MIN_SIZE_TEST": short_side,
            "INPUT.MAX_SIZE_TEST": max_side,
        }
        configured = {**read_table(_CUTLER), **options}
        super().__init__(_CUTLER_CONFIG, weights, score_threshold, configured, self.league)


def _bears(name: str) -> bool:
    """Whether a value of a configuration can change masks."""
    unused = name in ("MODEL.WEIGHTS", "MODEL.DEVICE") or name.endswith("_TRAIN")
    return name.startswith(("MODEL.", "INPUT.", "TEST.")) and not unused


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give the values of a nested configuration under names with dots, as JSON values."""
    for key, value in sorted(config.items()):
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", plain(value)
