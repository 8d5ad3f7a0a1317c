from __future__ import annotations

import copy
import json
import logging
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco
from pycocotools.coco import COCO
from torch import Tensor

from gl_ris.errors import UserError
from gl_ris.files import decode
from gl_ris.proposals import COCOResults, Proposals, coco_results, find_generator, write_coco_results

HEIGHT, WIDTH = 30, 40
IMAGE = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)


def block(y0: int, x0: int, y1: int, x1: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[y0:y1, x0:x1] = 1
    return mask


def compressed(mask: np.ndarray) -> dict[str, Any]:
    packed = coco.encode(np.asfortranarray(mask))
    return {"size": list(packed["size"]), "counts": packed["counts"].decode()}


def uncompressed(mask: np.ndarray) -> dict[str, Any]:
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat]))).tolist()
    return {"size": list(mask.shape), "counts": np.diff([0, *edges, flat.size]).tolist()}


def entry(image_id: Any, mask: Any, score: Any) -> dict[str, Any]:
    segmentation = compressed(mask) if isinstance(mask, np.ndarray) else mask
    return {"image_id": image_id, "category_id": 1, "segmentation": segmentation, "score": score}


A, B, C = block(2, 3, 10, 20), block(0, 0, 30, 5), block(12, 12, 20, 30)
SCATTERED = [
    entry(7, A, 0.5),
    entry(9, B, 0.1),
    entry(7, uncompressed(B), 0.75),
    entry("x", B, 1),
    entry(7, [[12, 12, 30, 12, 30, 20, 12, 20]], -3),
    entry("7", A, 0.25),
]


def save(path: Path, value: Any, **options: Any) -> str:
    path.write_text(value if isinstance(value, str) else json.dumps(value, **options), encoding="utf-8")
    return str(path)


@pytest.fixture
def scattered(tmp_path: Path) -> str:
    return save(tmp_path / "masks.json", SCATTERED)


def test_each_image_gets_its_own_masks_best_first(scattered: str) -> None:
    results = COCOResults(scattered)
    proposals = results.for_image(7, IMAGE)
    np.testing.assert_array_equal(proposals.masks.numpy(), np.stack([B, A, C]).astype(bool))
    assert proposals.scores.tolist() == [0.75, 0.5, -3]
    assert proposals.boxes.tolist()[1] == [3, 2, 20, 10]
    assert results.for_image("7", IMAGE).scores.tolist() == [0.25]
    assert results.for_image("x", IMAGE).scores.tolist() == [1]
    assert results.for_image(8, IMAGE).masks.shape == (0, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("options", "scores"),
    [
        ({"max_count": 2}, [0.75, 0.5]),
        ({"min_score": 0.5}, [0.75, 0.5]),
        ({"min_score": 0.51}, [0.75]),
        ({"min_score": 2}, []),
        ({"min_score": -9.0, "max_count": 9}, [0.75, 0.5, -3]),
    ],
    ids=str,
)
def test_the_best_may_be_enough(scattered: str, options: dict[str, Any], scores: list[float]) -> None:
    assert COCOResults(scattered, **options).for_image(7, IMAGE).scores.tolist() == scores


def test_equal_scores_keep_their_order_and_empty_masks_go(tmp_path: Path) -> None:
    masks = [A, np.zeros_like(A), B, C]
    path = save(tmp_path / "m.json", [entry(1, mask, 1) for mask in masks])
    found = COCOResults(path).for_image(1, IMAGE).masks.numpy()
    np.testing.assert_array_equal(found, np.stack([A, B, C]).astype(bool))


@pytest.mark.parametrize(
    "options", [{}, {"indent": 3}, {"separators": (",", ":")}, {"ensure_ascii": False}], ids=str
)
def test_any_spelling_of_json_is_read(options: dict[str, Any], tmp_path: Path) -> None:
    value = [*SCATTERED, {**entry("größe 犬", A, 0.5), "note": 'a "]" and a \\ and a }', "more": [{}, [1]]}]
    results = COCOResults(save(tmp_path / "m.json", value, **options))
    assert len(results.for_image("größe 犬", IMAGE)) == 1
    assert results.for_image(7, IMAGE).scores.tolist() == [0.75, 0.5, -3]


def test_a_whole_id_may_have_a_decimal_point(tmp_path: Path) -> None:
    assert len(COCOResults(save(tmp_path / "m.json", [entry(7.0, A, 0.5)])).for_image(7, IMAGE)) == 1


def test_an_empty_list_has_nothing_for_anyone(tmp_path: Path) -> None:
    results = COCOResults(save(tmp_path / "m.json", " [ ] "))
    assert len(results.for_image(1, IMAGE)) == 0
    with pytest.raises(UserError, match=r"no entry for any of the 1 images: its image ids are none at all"):
        results.prepare([1])


GOOD = json.dumps(entry(1, A, 0.5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "damaged"),
        ("[", "truncated"),
        (f"[{GOOD}", "truncated"),
        (f"[{GOOD},", "truncated"),
        (f"[{GOOD}, {GOOD[:20]}", "truncated"),
        (f"[{GOOD}, {GOOD[:-30]}", "truncated"),
        (f"[{GOOD}, {GOOD[:-1]}", "truncated"),
        (f"[{GOOD}] x", r"trailing characters \(byte \d+\)"),
        (f"[{GOOD}{GOOD}]", r"malformed.* \(byte \d+\)"),
        (f"[{GOOD},]", r"malformed.* \(byte \d+\)"),
        ("[1, 2]", r"Expected `object`, got `int` - at `\$\[0\]`"),
        ('{"annotations": []}', "Expected `array`, got `object`"),
        ('"text"', "Expected `array`, got `str`"),
        ("[{'a': 1}]", r"malformed.* \(byte 2\)"),
        ("[" + '{"a":' + "[" * 200_000, "damaged"),
        ('[{"image_id": "\udcff", "segmentation": [], "score": 1}]', "can.t decode byte 0xff"),
        ('[{"segmentation": [], "score": 1}]', r"missing required field `image_id` - at `\$\[0\]`"),
        (f"[{GOOD}, " + '{"image_id": null}]', r"Expected .*, got `null` - at `\$\[1\]\.image_id`"),
        ('[{"image_id": true}]', "got `bool`"),
        ('[{"image_id": 1.5, "segmentation": [], "score": 1}]', "entry 1 has image_id 1.5, no whole number"),
        ('[{"image_id": 1, "score": 1}]', "missing required field `segmentation`"),
        ('[{"image_id": 1, "segmentation": []}]', "entry 1 has neither a score nor a predicted_iou"),
        ('[{"image_id": 1, "segmentation": [], "score": "high"}]', r"Expected `float`, got `str` .*\.score"),
        ('[{"image_id": 1, "segmentation": [], "score": true}]', r"Expected `float`, got `bool` .*\.score"),
        ('[{"image_id": 1, "segmentation": [], "score": NaN}]', "malformed"),
        ('[{"image_id": 1, "segmentation": [], "score": -Infinity}]', "malformed"),
        ('[{"image_id": 1, "segmentation": [], "score": 1e39}]', r"Expected `float` <= 3\.4.*\.score"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_damaged_file_is_told_with_the_place(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=message) as caught:
        COCOResults(str(path)).prepare([1])
    assert str(path) in str(caught.value)
    assert "It must be a JSON list of objects" in str(caught.value)


def change(segmentation: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(segmentation), **changes}


@pytest.mark.parametrize(
    ("segmentation", "what"),
    [
        (change(compressed(A), counts=compressed(A)["counts"][:-2]), "damaged"),
        (change(compressed(A), counts="\u0000\u1234"), "damaged"),
        (change(compressed(A), size="big"), "damaged"),
        (change(uncompressed(A), counts=[-5, 10]), "damaged"),
        (change(uncompressed(A), counts=[10**30]), "damaged"),
        (change(uncompressed(A), counts=[[1]]), "damaged"),
        ({}, "damaged"),
        ([1, 2, 3, 4, 5, 6], "damaged"),
        ([[1, 2, 3, 4, 5, 6, 7]], "damaged"),
        ([["a", 2, 3, 4, 5, 6]], "damaged"),
        ([[1e9, 2, 3, 4, 5, 6]], "damaged"),
        ([[10**400, 2, 3, 4, 5, 6]], "damaged"),
        ([[None] * 6], "damaged"),
        ("x", "damaged"),
        ("", "damaged"),
        ([2**70], "damaged"),
        ([["1", "1", "3", "1", "3", "3"]], "damaged"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_damaged_mask_fails_its_image_alone(segmentation: Any, what: str, tmp_path: Path) -> None:
    path = save(tmp_path / "m.json", [entry(1, segmentation, 0.5), entry(1, A, 1), entry(2, A, 1)])
    results = COCOResults(path)
    with pytest.raises(ValueError, match=f"a mask in m.json is {what}$") as caught:
        results.for_image(1, IMAGE)
    assert not isinstance(caught.value, UserError)
    assert len(results.for_image(2, IMAGE)) == 1
    assert len(COCOResults(path, max_count=1).for_image(1, IMAGE)) == 1


@pytest.mark.parametrize(
    ("segmentation", "own"),
    [
        (compressed(np.zeros((WIDTH, HEIGHT), np.uint8)), (WIDTH, HEIGHT)),
        (change(compressed(A), size=[10**9, 10**9]), (10**9, 10**9)),
        (np.ones((WIDTH, HEIGHT), bool).tolist(), (WIDTH, HEIGHT)),
    ],
    ids=["turned", "huge", "written out"],
)
def test_a_mask_of_another_size_is_told_with_both(
    segmentation: Any, own: tuple[int, int], tmp_path: Path
) -> None:
    path = save(tmp_path / "m.json", [entry(2, A, 1), entry(1, A, 1), entry(1, segmentation, 0.5)])
    message = (
        rf"m\.json: entry 3 is a mask of {own[0]} x {own[1]} pixels \(height x width\), but its image 1 is "
        rf"of {HEIGHT} x {WIDTH}\. Masks must be of the size of the original image"
    )
    results = COCOResults(path)
    with pytest.raises(UserError, match=message):
        results.for_image(1, IMAGE)
    with pytest.raises(UserError, match=message):
        results.check_sizes({2: (HEIGHT, WIDTH), 1: (HEIGHT, WIDTH), 7: (1, 1)})
    assert len(results.for_image(2, IMAGE)) == 1
    COCOResults(path, min_score=0.6).check_sizes({2: (HEIGHT, WIDTH), 1: (HEIGHT, WIDTH)})


def test_lists_of_sam_are_read(tmp_path: Path) -> None:
    made = [
        {"image_id": 1, "segmentation": uncompressed(A), "predicted_iou": 0.5, "stability_score": 0.9},
        {
            "image_id": 1,
            "segmentation": compressed(B),
            "predicted_iou": 0.75,
            "area": 3,
            "bbox": [0, 0, 1, 1],
        },
        {
            "image_id": 1,
            "segmentation": C.astype(bool).tolist(),
            "predicted_iou": 0.25,
            "crop_box": [0, 0, 5, 4],
        },
    ]
    found = COCOResults(save(tmp_path / "m.json", made)).for_image(1, IMAGE)
    np.testing.assert_array_equal(found.masks.numpy(), np.stack([B, A, C]).astype(bool))
    assert found.scores.tolist() == [0.75, 0.5, 0.25]
    del made[0]["image_id"]
    with pytest.raises(UserError, match=r"`image_id`.*SAM's generate\(\) knows no image_id: add it to each"):
        COCOResults(save(tmp_path / "n.json", made)).prepare([1])


def test_images_without_an_entry_are_counted_once(scattered: str, caplog: pytest.LogCaptureFixture) -> None:
    results = COCOResults(scattered)
    with caplog.at_level(logging.WARNING):
        results.prepare([7, 8, 9, 10])
        results.prepare([7, 8, 9, 10])
    assert [record.message for record in caplog.records] == [
        f"{scattered} has no entry for 2 of the 4 images (the first: 8); they have no proposals."
    ]


def test_a_file_about_other_images_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "m.json", [entry("07.jpg", A, 1), entry("8.jpg", A, 1)])
    message = r"any of the 2 images: its image ids are '07.jpg', '8.jpg', those of the data set 7, 8\."
    with pytest.raises(UserError, match=message):
        COCOResults(path).prepare([7, 8])


@pytest.fixture
def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """List the files that are read through."""
    read: list[Path] = []

    def watched(path: Path, *rest: Any) -> Any:
        read.append(path)
        return decode(path, *rest)

    monkeypatch.setattr(coco_results, "decode", watched)
    return read


def test_the_file_is_read_through_once_in_each_process(scattered: str, count_reads: list[Path]) -> None:
    results = COCOResults(scattered)
    results.prepare([7])
    assert (len(results.for_image(7, IMAGE)), len(results.for_image(9, IMAGE))) == (3, 1)
    assert len(count_reads) == 1
    sent = pickle.dumps(results)
    assert len(sent) < 1000
    assert len(pickle.loads(sent).for_image(7, IMAGE)) == 3


def test_a_changed_file_is_noticed(scattered: str) -> None:
    old = COCOResults(scattered)
    before = old.settings()
    old.prepare([7])
    save(Path(scattered), SCATTERED[::-1])
    os.utime(scattered, ns=(1, 1))
    with pytest.raises(UserError, match="has changed since it was read"):
        old.for_image(9, IMAGE)
    new = COCOResults(scattered)
    assert len(new.for_image(7, IMAGE)) == 3
    assert new.settings() != before


def test_an_index_of_an_earlier_version_is_ignored(scattered: str) -> None:
    Path(f"{scattered}.index.npz").write_bytes(b"PK\x03\x04 no zip")
    assert len(COCOResults(scattered).for_image(7, IMAGE)) == 3


def test_settings_know_the_file_by_its_content(scattered: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    copied = save(tmp_path / "other" / "name.json", SCATTERED)
    assert COCOResults(copied).settings() == COCOResults(scattered).settings()
    assert json.loads(json.dumps(COCOResults(copied, 0.5, 3).settings()))["max_count"] == 3
    assert COCOResults(copied).league == "not stated"
    assert COCOResults(copied, league="unsupervised").league == "unsupervised"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "nowhere.json"}, r"There is no file 'nowhere\.json'; COCOResults needs the path"),
        ({"max_count": 0}, "max_count is 0, it must be at least 1"),
        ({"min_score": float("nan")}, "min_score is nan"),
        ({"league": "unsupervized"}, "Unknown league 'unsupervized'. Did you mean 'unsupervised'"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, Any], message: str, scattered: str) -> None:
    with pytest.raises(UserError, match=message):
        COCOResults(**{"path": scattered, **options})


def test_without_an_id_it_cannot_serve(scattered: str) -> None:
    with pytest.raises(UserError, match=r"call for_image\(image_id, image\)"):
        COCOResults(scattered)(IMAGE)
    with pytest.raises(UserError, match="'coco_results' cannot be made by its name alone, it needs: path"):
        find_generator("coco_results")


def some_proposals(count: int, seed: int) -> Proposals:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(count, HEIGHT, WIDTH, generator=generator) > 0.6
    return Proposals.from_masks(masks, torch.rand(count, generator=generator).sort(descending=True).values)


FOUND: list[tuple[int | str, Proposals]] = [
    (5, some_proposals(3, 1)),
    (2, some_proposals(0, 2)),
    (11, some_proposals(4, 3)),
]


def test_what_is_written_is_read_back_exactly(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "masks.json"
    assert write_coco_results(path, iter(FOUND)) == 7
    assert [file.name for file in path.parent.iterdir()] == ["masks.json"]
    results = COCOResults(str(path))
    for image_id, proposals in FOUND:
        back = results.for_image(image_id, IMAGE)
        for ours, theirs in zip(vars(back).values(), vars(proposals).values(), strict=True):
            assert torch.equal(ours, theirs)


def test_pycocotools_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "masks.json"
    write_coco_results(path, FOUND)
    truth = COCO()
    truth.dataset = {
        "images": [{"id": i, "height": HEIGHT, "width": WIDTH} for i, _ in FOUND],
        "annotations": [],
        "categories": [{"id": 1, "name": "object"}],
    }
    truth.createIndex()
    loaded = truth.loadRes(str(path))
    for image_id, proposals in FOUND:
        annotations = loaded.loadAnns(loaded.getAnnIds(imgIds=[image_id]))
        masks = [torch.from_numpy(loaded.annToMask(annotation)).bool() for annotation in annotations]
        assert len(masks) == len(proposals)
        for mask, annotation, wanted, box, score in zip(
            masks, annotations, *vars(proposals).values(), strict=True
        ):
            assert torch.equal(mask, wanted)
            x0, y0, width, height = annotation["bbox"]
            assert [x0, y0, x0 + width, y0 + height] == box.tolist()
            assert annotation["area"] == int(wanted.sum())
            assert np.float32(annotation["score"]) == np.float32(score.item())


def test_a_file_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "masks.json"
    path.write_text("[]")

    def breaking() -> Iterator[tuple[int | str, Proposals]]:
        yield FOUND[0]
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_coco_results(path, breaking())
    bad: Tensor = torch.tensor([float("nan")])
    with pytest.raises(UserError, match="score of a mask of image 3 is nan"):
        write_coco_results(path, [(3, Proposals.from_masks(torch.ones(1, 4, 5, dtype=torch.bool), bad))])
    assert path.read_text() == "[]"
    assert [file.name for file in tmp_path.iterdir()] == ["masks.json"]
    assert write_coco_results(path, []) == 0
    assert json.loads(path.read_text()) == []
