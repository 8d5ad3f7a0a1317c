"""Write tests/data/freesolo_outputs.json: what the published code answers to random weights and pixels.

The published code (NVlabs/FreeSOLO, commit 340311b) is not part of this project and not free for every use;
the tests need its answers alone. With detectron2 installed and a copy of that repository in FOLDER:

    PYTHONPATH=FOLDER python tests/gl_ris/proposals/freesolo/make_published_outputs.py FOLDER
"""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import torch

# Only its training needs OpenCV.
sys.modules["cv2"] = types.ModuleType("cv2")
sys.modules["cv2"].__version__ = "0.0"  # type: ignore[attr-defined]
sys.modules["cv2"].__getattr__ = lambda name: None  # type: ignore[attr-defined]

HERE = Path(__file__).parent
CASE: dict[str, Any] = {"weights_seed": 5, "pixels_seed": 5, "pixels": [150, 190], "image": [120, 160]}


def published_network(folder: str) -> Any:
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model
    from freesolo import add_solo_config
    from freesolo.modeling.solov2 import PseudoSOLOv2  # noqa: F401  registers itself

    config = get_cfg()
    add_solo_config(config)
    config.merge_from_file(f"{folder}/configs/freesolo/freesolo_30k.yaml")
    config.MODEL.DEVICE = "cpu"
    model = build_model(config).eval()
    model.normalizer = lambda image: image  # the image comes normalised
    return model


def main() -> None:
    spec = importlib.util.spec_from_file_location("draws", HERE / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    draws = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draws)
    from gl_ris.masks import encode_rle

    model = published_network(sys.argv[1])
    shapes = {name: shape for name, shape in draws.published_shapes().items() if name != "_iter"}
    weights = draws.random_weights(shapes, CASE["weights_seed"])
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()}, strict=False)
    pixels = torch.from_numpy(draws.random_pixels(CASE["pixels"], CASE["pixels_seed"]))
    height, width = CASE["image"]
    with torch.no_grad():
        found = model([{"image": pixels, "height": height, "width": width}])[0]["instances"]
    answer = {
        **CASE,
        "scores": found.scores.tolist(),
        "boxes": found.pred_boxes.tensor.tolist(),
        "masks": [encode_rle(mask.bool())["counts"] for mask in found.pred_masks],
    }
    (draws.DATA / "freesolo_outputs.json").write_text(json.dumps(answer, indent=1) + "\n")


if __name__ == "__main__":
    main()
