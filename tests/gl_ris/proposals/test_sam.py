from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gl_ris.errors import UserError
from gl_ris.proposals import SAM, ProposalGenerator, Proposals, find_generator
from gl_ris.proposals.sam_network import Encoded, hash_of
from tiny_sams import FAMILIES, save_sam

EVERYTHING: dict[str, Any] = {
    "pred_iou_thresh": -9.0,
    "stability_score_thresh": 0.0,
    "box_nms_thresh": 1.0,
    "min_region": 1,
    "min_area": 1,
    "max_iou": 1.0,
}
"""Settings that keep all that the network answers, but for empty and identical masks."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Give the folder of a tiny model of a family."""
    made: dict[str, str] = {}

    def folder(family: str) -> str:
        if family not in made:
            made[family] = str(save_sam(tmp_path_factory.mktemp(family), family))
        return made[family]

    return folder


def picture(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    coarse = torch.randint(0, 256, (3, 4, 5), generator=generator).float()
    return torch.nn.functional.interpolate(coarse[None], (height, width), mode="bilinear")[0].byte()


def assert_alike(masks: Tensor, others: Tensor) -> None:
    """Check that each mask has its like on the other side; the rounding of a point may move a pixel."""
    ours, theirs = (m[m.any(dim=2).any(dim=1)].flatten(1).float() for m in (masks, others))
    shared = ours @ theirs.T
    ious = shared / (ours.sum(1)[:, None] + theirs.sum(1) - shared)
    assert ious.amax(dim=0).min() > 0.98
    assert ious.amax(dim=1).min() > 0.98


@pytest.mark.parametrize("family", FAMILIES)
def test_the_masks_are_those_of_transformers_own_pipeline(family: str, folders: Callable[[str], str]) -> None:
    from PIL import Image
    from transformers import pipeline

    # on others, its grid misses a part of the picture for the families that squash it
    image = picture(150, 150)
    theirs = pipeline("mask-generation", model=folders(family))(
        Image.fromarray(image.permute(1, 2, 0).numpy()),
        points_per_crop=3,
        pred_iou_thresh=-9,
        stability_score_thresh=0.4,
        stability_score_offset=0.005,
        crops_nms_thresh=1.0,
    )
    sam = SAM(
        folders(family),
        **{**EVERYTHING, "stability_score_thresh": 0.4},
        stability_score_offset=0.005,
        points_per_side=3,
    )
    ours = sam(image)
    assert len(ours) >= 2
    assert_alike(ours.masks, torch.stack(theirs["masks"]))
    best = max(s.item() for m, s in zip(theirs["masks"], theirs["scores"], strict=True) if m.any())
    assert ours.scores[0].item() == pytest.approx(best)


@pytest.mark.parametrize("size", [(30, 62), (62, 30)], ids=str)
@pytest.mark.parametrize(
    ("family", "processor"), [("sam", "Sam"), ("sam_hq", "SamHQ"), ("sam2", "Sam2"), ("edgetam", "Sam2")]
)
def test_every_part_of_an_oblong_image_is_asked(
    family: str, processor: str, size: tuple[int, int], folders: Callable[[str], str]
) -> None:
    import transformers

    image, (height, width) = picture(*size), size
    prepare = getattr(transformers, f"{processor}Processor")(
        transformers.AutoImageProcessor.from_pretrained(folders(family))
    )
    model = transformers.AutoModelForMaskGeneration.from_pretrained(folders(family)).eval()
    points = [[[(2 * x + 1) * width / 8, (2 * y + 1) * height / 8]] for y in range(4) for x in range(4)]
    inputs = prepare(images=image, input_points=[points], return_tensors="pt")
    with torch.no_grad():
        answer = model(**inputs)
    sizes = [inputs["original_sizes"]]
    sizes += [inputs["reshaped_input_sizes"]] if "reshaped_input_sizes" in inputs else []
    wanted = prepare.post_process_masks(answer.pred_masks, *sizes)[0].flatten(0, 1)
    ours = SAM(folders(family), **EVERYTHING, points_per_side=4, points_per_batch=16)(image)
    assert_alike(ours.masks, wanted)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_what_comes_out_fits_together(family: str, folders: Callable[[str], str]) -> None:
    proposals = SAM(folders(family), **{**EVERYTHING, "min_area": 20, "max_iou": 0.95})(picture(37, 51))
    assert proposals.masks.shape[1:] == (37, 51)
    assert proposals.masks.dtype == torch.bool
    assert len(proposals) > 1
    assert (proposals.scores.diff() <= 0).all()
    assert proposals.masks.sum(dim=(1, 2)).min() >= 20


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_lower_precisions_find_about_the_same(
    family: str, precision: str, folders: Callable[[str], str]
) -> None:
    image = picture(40, 40)
    settings = {**EVERYTHING, "points_per_side": 2}
    full, low = (SAM(folders(family), precision=p, **settings)(image) for p in ("fp32", precision))
    assert low.scores.dtype == torch.float32
    assert low.scores[0].item() == pytest.approx(full.scores[0].item(), abs=0.05)
    assert abs(low.masks.float().mean() - full.masks.float().mean()) < 0.2


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 3), (3, 90), (1, 200), (3, 3)], ids=str)
@pytest.mark.parametrize("family", ["sam", "sam2"])
def test_tiny_and_narrow_images_are_survived(
    family: str, size: tuple[int, int], folders: Callable[[str], str]
) -> None:
    proposals = SAM(folders(family), **EVERYTHING, points_per_side=2)(picture(*size))
    assert proposals.masks.shape[1:] == size
    # SAM itself makes 64 pixels of 200, and nothing of 1
    assert (len(proposals) == 0) <= (family == "sam")


def test_an_image_smaller_than_the_smallest_area_has_no_proposals(folders: Callable[[str], str]) -> None:
    proposals = SAM(folders("sam"), pred_iou_thresh=-9, stability_score_thresh=0)(picture(20, 30))
    assert (proposals.masks.shape, proposals.boxes.shape, proposals.scores.shape) == (
        (0, 20, 30),
        (0, 4),
        (0,),
    )


class Answers:
    """In place of a network: answers each point with given logits at the size of the image."""

    def __init__(self, logits: Tensor, scores: Tensor) -> None:
        self.logits, self.scores, self.asked = logits, scores, []  # type: ignore[var-annotated]

    def encode(self, image: Tensor) -> Encoded:
        size = (image.shape[1], image.shape[2])
        return Encoded({}, size, size)

    def masks_at(self, encoded: Encoded, points: Tensor, multimask: bool) -> tuple[Tensor, Tensor]:
        self.asked.append(points)
        first = sum(len(part) for part in self.asked[:-1])
        return self.logits[first : first + len(points)], self.scores[first : first + len(points)]

    def upscale(self, logits: Tensor, encoded: Encoded) -> Tensor:
        return logits


def ask(folder: str, logits: Tensor, scores: list[float], **settings: Any) -> Proposals:
    side = round(len(scores) ** 0.5)
    sam = SAM(folder, points_per_side=side, **{**EVERYTHING, **settings})
    sam._network = Answers(logits, torch.tensor(scores))  # type: ignore[assignment]
    return sam(torch.zeros(3, *logits.shape[1:], dtype=torch.uint8))


def blocks(*areas: tuple[int, int, int, int], outer: float = -5.0) -> Tensor:
    """Logits of boxes (y0, x0, y1, x1) in images of 40 x 50: 5 within."""
    logits = torch.full((len(areas), 40, 50), outer)
    for layer, (y0, x0, y1, x1) in zip(logits, areas, strict=True):
        layer[y0:y1, x0:x1] = 5.0
    return logits


FOUR = blocks((0, 0, 10, 10), (0, 0, 10, 11), (20, 20, 40, 50), (15, 5, 18, 8))


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, [1, 3, 0, 2]),
        ({"pred_iou_thresh": 0.5}, [1, 3]),
        ({"pred_iou_thresh": 0.6}, [1]),
        ({"min_area": 10}, [1, 0, 2]),
        ({"min_area": 101}, [1, 2]),
        ({"box_nms_thresh": 0.9}, [1, 3, 2]),
        ({"max_iou": 0.9}, [1, 3, 2]),
        ({"max_iou": 0.92}, [1, 3, 0, 2]),
        ({"max_count": 2}, [1, 3]),
        ({"points_per_batch": 1}, [1, 3, 0, 2]),
    ],
    ids=str,
)
def test_each_setting_keeps_what_it_says(
    settings: dict[str, Any], kept: list[int], folders: Callable[[str], str]
) -> None:
    scores = [0.5, 0.9, 0.2, 0.6]
    proposals = ask(folders("sam"), FOUR, scores, **settings)
    assert proposals.scores.tolist() == pytest.approx([scores[k] for k in kept])
    assert torch.equal(proposals.masks, FOUR[kept] > 0)


def test_unstable_masks_and_those_without_a_score_are_dropped(folders: Callable[[str], str]) -> None:
    logits = blocks((0, 0, 10, 10), (20, 0, 30, 10), (0, 20, 10, 30), (20, 20, 30, 30))
    logits[1, 20:30, 0:4] = 0.5  # 60 of 100 pixels stay when the cut is raised by 1
    logits[3] = -0.5  # nothing; all of it when the cut is lowered
    for threshold, kept in ((0.0, [0, 1]), (0.59, [0, 1]), (0.6, [0])):
        proposals = ask(
            folders("sam"), logits, [0.9, 0.8, float("nan"), 0.7], stability_score_thresh=threshold
        )
        assert torch.equal(proposals.masks, logits[kept] > 0)
    wide = ask(folders("sam"), logits[:1], [0.9], stability_score_thresh=0.5, stability_score_offset=9.0)
    assert len(wide) == 0


def test_identical_masks_come_once(folders: Callable[[str], str]) -> None:
    logits = blocks(*[(3, 4, 30, 40)] * 4)
    assert ask(folders("sam"), logits, [0.1, 0.4, 0.4, 0.3]).scores.tolist() == pytest.approx([0.4])


def test_small_regions_are_cleaned_before_small_masks_are_dropped(folders: Callable[[str], str]) -> None:
    logits = blocks((0, 0, 20, 20), (25, 0, 30, 5), (0, 30, 3, 33), (0, 0, 1, 1))
    logits[0, 5:7, 5:7] = -5  # a hole of 4
    logits[0, 30:32, 30:32] = 5  # an island of 4
    logits[2, 10:13, 30:32] = 5  # two islands, both small: the larger stays
    proposals = ask(folders("sam"), logits, [0.9, 0.8, 0.7, 0.6], min_region=10, min_area=9)
    wanted = blocks((0, 0, 20, 20), (25, 0, 30, 5), (0, 30, 3, 33)) > 0
    assert torch.equal(proposals.masks, wanted)


def test_the_weights_tell_generators_apart(folders: Callable[[str], str], tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(folders("sam"), tmp_path / "elsewhere"))
    here, there = SAM(folders("sam")), SAM(str(copy))
    assert here.settings() == there.settings()
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    os.utime(copy / "model.safetensors", ns=(1, 1))
    assert here.settings() != there.settings()
    assert here.weights_hash() == hash_of(Path(folders("sam")))
    assert SAM(folders("sam2")).settings()["weights_sha256"] != here.settings()["weights_sha256"]


def test_settings_are_all_and_rebuild_the_generator(folders: Callable[[str], str]) -> None:
    import inspect

    sam = SAM(folders("sam"), points_per_side=3, max_count=5)
    settings = sam.settings()
    assert json.loads(json.dumps(settings)) == settings
    assert (settings.pop("family"), len(settings.pop("weights_sha256"))) == ("sam", 64)
    assert {"model", *settings} == set(inspect.signature(SAM).parameters)
    assert SAM(folders("sam"), **settings).settings() == sam.settings()
    assert isinstance(sam, ProposalGenerator)
    assert sam.league == "class-agnostic supervised"


def test_it_travels_to_other_processes_without_its_network(folders: Callable[[str], str]) -> None:
    sam = SAM(folders("sam"), **EVERYTHING)
    wanted = sam(picture(40, 40))
    sent = pickle.dumps(sam)
    assert len(sent) < 5000
    assert torch.equal(pickle.loads(sent)(picture(40, 40)).masks, wanted.masks)


def test_the_network_answers_the_same_inside_and_outside_of_inference_mode(
    folders: Callable[[str], str],
) -> None:
    sam = SAM(folders("sam2"), **EVERYTHING)
    with torch.inference_mode():
        inside = sam(picture(40, 40))
    assert torch.equal(sam(picture(40, 40)).masks, inside.masks)


@pytest.mark.parametrize(
    ("setting", "value", "wanted"),
    [
        ("points_per_side", 0, "at least 1"),
        ("points_per_batch", 0, "at least 1"),
        ("pred_iou_thresh", 1.0, "below 1"),
        ("stability_score_thresh", -0.1, "from 0 to 1"),
        ("stability_score_offset", 0, "above 0"),
        ("box_nms_thresh", 1.1, "from 0 to 1"),
        ("min_region", 0, "at least 1"),
        ("min_area", 0, "at least 1"),
        ("max_iou", float("nan"), "from 0 to 1"),
        ("max_count", 0, "at least 1, or null"),
    ],
)
def test_settings_out_of_range_are_refused(setting: str, value: float, wanted: str) -> None:
    with pytest.raises(UserError, match=rf"SAM: {setting} is {value}, it must be {wanted}\."):
        SAM("anywhere", **{setting: value})


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UserError, match=r"Unknown precision of SAM 'fp8'\. .*Available: bf16, fp16, fp32"):
        SAM("anywhere", precision="fp8")


def test_by_name_alone_it_says_what_it_needs() -> None:
    with pytest.raises(UserError, match=r"'sam' cannot be made by its name alone, it needs: model"):
        find_generator("sam")


def spoil(folder: Path, how: str) -> None:
    from safetensors.torch import load_file, save_file

    weights = folder / "model.safetensors"
    if how == "no weights":
        weights.unlink()
    elif how == "pickled weights":
        torch.save(load_file(weights), folder / "pytorch_model.bin")
        weights.unlink()
    elif how == "cut off":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif how == "a tensor less":
        tensors = load_file(weights)
        del tensors["mask_decoder.iou_token.weight"]
        save_file(tensors, weights, metadata={"format": "pt"})
    elif how == "no config":
        (folder / "config.json").unlink()
    elif how == "a broken config":
        (folder / "config.json").write_text("{")
    elif how == "another model":
        (folder / "config.json").write_text('{"model_type": "bert"}')
    elif how == "no preprocessor":
        (folder / "preprocessor_config.json").unlink()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no weights", r"there is no \*\.safetensors in .*facebook/sam-vit-base"),
        ("pickled weights", r"there is no \*\.safetensors in "),
        ("cut off", r"sam model in .* cannot be loaded \("),
        ("a tensor less", r"1 tensors of the sam model are missing \(the first: mask_decoder\.iou_token"),
        ("no config", r"there is no config\.json in "),
        ("a broken config", r"config\.json is damaged"),
        ("another model", r"is of type 'bert', which makes no masks of points; .* sam, sam2,"),
        ("no preprocessor", r"cannot be loaded \(.*preprocessor_config\.json"),
    ],
)
def test_a_spoilt_folder_is_told(
    how: str, message: str, folders: Callable[[str], str], tmp_path: Path
) -> None:
    import shutil

    folder = Path(shutil.copytree(folders("sam"), tmp_path / "sam"))
    spoil(folder, how)
    with pytest.raises(UserError, match=message):
        SAM(str(folder)).prepare([])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("./nowhere", r"SAM model '\./nowhere': there is no such folder; give the name"),
        ("no/such/name", r"SAM model 'no/such/name' is neither a folder nor .* \(HFValidationError"),
        ("facebook/sam-vit-base", r"SAM model 'facebook/sam-vit-base' is neither a folder nor .*; give the"),
    ],
)
def test_a_missing_model_is_told(
    model: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=message):
        SAM(model)


def test_a_model_in_the_hubs_cache_needs_no_network(
    folders: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    cached = tmp_path / "models--tiny--sam"
    shutil.copytree(folders("sam"), cached / "snapshots" / ("0" * 40))
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0" * 40)
    assert SAM("tiny/sam").settings() == SAM(folders("sam")).settings()
