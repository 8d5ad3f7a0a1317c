"""Networks of detectron2: its absence by a fake, its work by detectron2 itself where that is installed."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gl_ris.errors import UserError
from gl_ris.proposals import GENERATORS, CutLER, Detectron2, Proposals

needs_detectron2 = pytest.mark.skipif(
    importlib.util.find_spec("detectron2") is None, reason="detectron2 is not installed"
)
MASK_RCNN = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"
INSTALL = r"pip install --no-build-isolation git\+https://github\.com/facebookresearch/detectron2\.git"


@pytest.fixture
def aside() -> Iterator[None]:
    """Lay the real detectron2 aside; it cannot be imported twice."""
    real = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "detectron2"}
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "detectron2"]:
        del sys.modules[name]
    sys.modules.update(real)


@pytest.mark.usefixtures("aside")
@pytest.mark.parametrize("make", [CutLER, lambda: Detectron2(MASK_RCNN)], ids=["CutLER", "Detectron2"])
def test_a_missing_detectron2_gives_the_install_line(make: Any) -> None:
    sys.modules["detectron2"] = None  # type: ignore[assignment]
    with pytest.raises(UserError, match=rf"needs detectron2, which is not installed; .*{INSTALL}"):
        make()


@pytest.mark.usefixtures("aside")
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ImportError('_C.so: undefined symbol: _ZN2at')", r"ImportError: _C\.so: undefined symbol"),
        ("raise AttributeError('PIL.Image has no attribute LINEAR')", "AttributeError: .*LINEAR"),
        ("import a_library_that_it_needs", "ModuleNotFoundError: .*a_library_that_it_needs"),
        ("", r"ModuleNotFoundError: .*detectron2\.config"),
    ],
    ids=["compiled-part", "old-version", "dependency", "incomplete"],
)
def test_a_broken_detectron2_gives_the_reason_and_the_install_line(
    source: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "detectron2").mkdir()
    (tmp_path / "detectron2" / "__init__.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=rf"CutLER needs detectron2, .* not work here \({reason}.*{INSTALL}"):
        CutLER()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_count": 0}, "max_count is 0, it must be at least 1"),
        ({"short_side": 0}, "short_side is 0, it must be at least 1"),
        ({"max_side": -1}, "max_side is -1, it must be at least 1"),
        ({"nms_threshold": 1.5}, "nms_threshold is 1.5, it must be from 0 to 1"),
    ],
)
def test_settings_of_cutler_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"CutLER: {message}"):
        CutLER(**settings)


def test_cutler_has_a_name() -> None:
    assert GENERATORS["cutler"] is CutLER


# What follows runs detectron2.

SMALL = {"INPUT.MIN_SIZE_TEST": 96, "INPUT.MAX_SIZE_TEST": 160, "TEST.DETECTIONS_PER_IMAGE": 12}


def image(height: int = 60, width: int = 90) -> Tensor:
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 5, 6, generator=random) * 255
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0].byte()


@pytest.fixture(scope="module")
def cutler() -> CutLER:
    torch.manual_seed(0)
    generator = CutLER(short_side=96, max_side=160, max_count=12)
    generator.load_state_dict(generator.state_dict())  # so that the weights count as given
    return generator


def answer_of_detectron2(config: Any, model: Any, image: Tensor, tmp_path: Path) -> Any:
    """What detectron2's own predictor finds with the same weights."""
    from detectron2.engine import DefaultPredictor

    config = config.clone()
    config.MODEL.WEIGHTS = str(tmp_path / "weights.pth")
    torch.save({"model": model.state_dict()}, config.MODEL.WEIGHTS)
    bgr = np.ascontiguousarray(image.permute(1, 2, 0).numpy()[:, :, ::-1])
    return DefaultPredictor(config)(bgr)["instances"]


@needs_detectron2
@pytest.mark.slow
def test_cutler_finds_what_the_settings_of_its_authors_find(cutler: CutLER, tmp_path: Path) -> None:
    import detectron2
    from detectron2.config import get_cfg

    config = get_cfg()
    zoo = Path(detectron2.__file__).parent / "model_zoo" / "configs"
    config.merge_from_file(str(zoo / "Misc" / "cascade_mask_rcnn_R_50_FPN_1x.yaml"))
    config.MODEL.DEVICE = "cpu"
    config.MODEL.PIXEL_MEAN, config.MODEL.PIXEL_STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    config.MODEL.BACKBONE.FREEZE_AT = 0
    config.MODEL.RESNETS.NORM = config.MODEL.FPN.NORM = "SyncBN"
    config.MODEL.RESNETS.STRIDE_IN_1X1 = False
    config.MODEL.ROI_HEADS.NUM_CLASSES, config.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 1, 0.0
    config.MODEL.RPN.NMS_THRESH = 0.65
    config.INPUT.FORMAT = "RGB"
    config.INPUT.MIN_SIZE_TEST, config.INPUT.MAX_SIZE_TEST = 96, 160
    config.TEST.DETECTIONS_PER_IMAGE = 12
    wanted = answer_of_detectron2(config, cutler.network, image(), tmp_path)
    found = cutler(image())
    kept = wanted.pred_masks.flatten(1).any(dim=1)
    assert len(found) == kept.sum() > 3
    assert found.masks.shape[1:] == (60, 90)
    assert torch.equal(found.masks, wanted.pred_masks[kept])
    assert torch.equal(found.boxes, wanted.pred_boxes.tensor[kept])
    assert torch.equal(found.scores, wanted.scores[kept])
    assert (found.scores.diff() <= 0).all()


@needs_detectron2
@pytest.mark.slow
def test_another_network_reads_bgr_and_keeps_its_config(tmp_path: Path) -> None:
    generator = Detectron2(MASK_RCNN, score_threshold=0.0, options=SMALL)
    wanted = answer_of_detectron2(generator._config, generator.network, image(), tmp_path)
    assert generator._config.INPUT.FORMAT == "BGR"
    with pytest.warns(UserWarning, match="Detectron2 has random weights"):
        found = generator(image())
    kept = wanted.pred_masks.flatten(1).any(dim=1)
    assert len(found) == kept.sum() > 0
    assert torch.equal(found.masks, wanted.pred_masks[kept])
    assert torch.equal(found.scores, wanted.scores[kept])


def same(one: Proposals, other: Proposals) -> bool:
    return torch.equal(one.masks, other.masks) and torch.equal(one.scores, other.scores)


@needs_detectron2
@pytest.mark.slow
def test_weights_come_from_a_file_and_must_fit(cutler: CutLER, tmp_path: Path) -> None:
    path, weights = tmp_path / "weights.pth", dict(cutler.network.state_dict())
    weights["proposal_generator.anchor_generator.cell_anchors.0"] = torch.zeros(3, 4)  # as old files have
    torch.save({"model": weights, "iteration": 3}, path)
    other = CutLER(path, short_side=96, max_side=160, max_count=12)
    assert other.settings() == cutler.settings()
    assert same(other(image()), cutler(image()))
    del weights["backbone.fpn_lateral2.weight"]
    torch.save(weights, path)
    with pytest.raises(UserError, match=r"CutLER: .*1 missing \(backbone\.fpn_lateral2\.weight\)"):
        CutLER(path)


@needs_detectron2
def test_settings_tell_what_bears_on_the_masks(cutler: CutLER) -> None:
    settings = cutler.settings()
    assert json.loads(json.dumps(settings)) == settings
    config = settings["config"]
    assert config["INPUT.MIN_SIZE_TEST"] == 96
    assert config["MODEL.ROI_HEADS.SCORE_THRESH_TEST"] == 0.0
    assert config["MODEL.ROI_HEADS.NMS_THRESH_TEST"] == 0.5
    assert config["MODEL.ROI_HEADS.NAME"] == "CascadeROIHeads"
    assert not {"MODEL.WEIGHTS", "MODEL.DEVICE", "MODEL.RPN.PRE_NMS_TOPK_TRAIN"} & set(config)


@needs_detectron2
def test_the_surroundings_do_not_matter(cutler: CutLER) -> None:
    wanted = cutler(image())
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert same(cutler(image()), wanted)


@needs_detectron2
@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (
            "nowhere.yaml",
            {},
            r"there is no configuration nowhere\.yaml, neither .* nor in .*model_zoo",
        ),
        ("program.py", {}, "is a program, not data"),
        (MASK_RCNN, {"options": {"MODEL.NO_SUCH": 1}}, r"cannot be used .*NO_SUCH"),
        (MASK_RCNN, {"options": {"TEST.DETECTIONS_PER_IMAGE": "many"}}, "cannot be used"),
        (MASK_RCNN, {"options": {"MODEL.ROI_HEADS.NAME": "Custom"}}, r"cannot build the network .*Custom"),
        (MASK_RCNN, {"score_threshold": 2}, "score_threshold is 2, it must be from 0 to 1"),
        (MASK_RCNN, {"weights": "nowhere.pth"}, r"there is no file of weights nowhere\.pth"),
    ],
)
def test_what_detectron2_cannot_use_is_refused(config: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"Detectron2: .*{message}"):
        Detectron2(config, **settings)


@needs_detectron2
def test_a_configuration_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("OUTPUT_DIR: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(UserError, match=r"cannot be used .*ConstructorError"):
        Detectron2(path)


@needs_detectron2
@pytest.mark.slow
def test_a_network_without_masks_is_refused() -> None:
    generator = Detectron2("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml", options=SMALL)
    with (
        pytest.raises(UserError, match="Detectron2: the network predicts no masks"),
        pytest.warns(UserWarning, match="random weights"),
    ):
        generator(image())
