"""Files and folders of masks that any program predicted."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gl_ris import mask_files
from gl_ris.errors import UserError
from gl_ris.expression_ids import ExpressionIds
from gl_ris.mask_files import Found, by_expression, check_sizes, read_found

SIZE = (4, 6)
# columns 1 and 2 of rows 1 to 3, in each form that there is
WANTED = torch.zeros(SIZE, dtype=torch.bool)
WANTED[1:4, 1:3] = True
FORMS: dict[str, Any] = {
    "uncompressed": {"size": [4, 6], "counts": [5, 3, 1, 3, 12]},
    "compressed": {"size": [4, 6], "counts": "5310;"},
    "no size": {"counts": [5, 3, 1, 3, 12]},
    "polygon": [[1, 1, 3, 1, 3, 4, 1, 4]],
    "rows": WANTED.tolist(),
}
IDS = ExpressionIds([(1, 10, 100), (1, 10, 101), (2, 20, 200)])


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def png(folder: Path, name: str, mask: torch.Tensor = WANTED) -> Path:
    folder.mkdir(exist_ok=True)
    Image.fromarray(mask.numpy()).save(folder / f"{name}.png")
    return folder


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["jsonl", "coco"])
def test_each_form_of_a_mask_is_read(form: str, kind: str, tmp_path: Path) -> None:
    row = {"image_id": 1, "sent_id": 100, "category_id": 1, "score": 0.5, "segmentation": FORMS[form]}
    path = lines(tmp_path / "masks", row if kind == "jsonl" else [row])
    (found,) = read_found(path)
    assert found.ids == {"image_id": 1, "sent_id": 100, "ref_id": None}
    assert found.size() == (None if form in ("no size", "polygon") else SIZE)
    assert torch.equal(found.read(SIZE), WANTED)


def test_null_is_no_mask_and_other_keys_are_ignored(tmp_path: Path) -> None:
    row = {"image_id": 1.0, "ref_id": 10, "sent_id": 101, "segmentation": None, "method": 3, "failure": [1]}
    (found,) = read_found(lines(tmp_path / "masks.jsonl", row))
    assert (found.mask, found.method, found.failure, found.size()) == (None, None, None, None)
    assert by_expression([found], IDS) == {(1, 10, 101): found}


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_pictures_are_masks_where_they_are_not_black(mode: str, tmp_path: Path) -> None:
    picture = Image.fromarray(WANTED.numpy().astype(np.uint8) * 255).convert(mode)
    if mode == "P":
        picture = Image.fromarray(WANTED.numpy().astype(np.uint8), "P")
        picture.putpalette([9, 9, 9, 0, 0, 0])
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".hidden.png").touch()
    picture.save(tmp_path / "10_100.png")
    (found,) = read_found(tmp_path)
    assert by_expression([found], IDS) == {(1, 10, 100): found}
    assert found.size() == SIZE
    assert torch.equal(found.read(SIZE), WANTED)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(path: Path) -> None:
    """A PNG of a few bytes that says it is of 65,000 by 65,000 pixels."""
    header = struct.pack(">IIBBBBB", 65_000, 65_000, 1, 0, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def test_hostile_pictures_are_refused_in_a_sentence(tmp_path: Path) -> None:
    bomb(tmp_path / "100.png")
    (tmp_path / "101.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    os.mkfifo(tmp_path / "200.png")
    for one in read_found(tmp_path):
        for look in (one.size, lambda one=one: one.read(SIZE)):
            with pytest.raises(UserError, match=r"^'.*00?\d?\.png': the mask is damaged \(.*\)\.$"):
                look()


@pytest.mark.parametrize(
    "mask",
    [
        {"size": [4, 6], "counts": [5, 3, 1, 3, 11]},
        {"size": [60_000, 60_000], "counts": [3_600_000_000]},
        {"size": [4, 6], "counts": "531"},
        [[1, 1, 1e9, 1, 3, 4]],
        [[1, 1, 3]],
        [[0, 0, 6, 4] * 30_000],
        [[[[1]]]],
        "mask.png",
        {"size": [5, 6], "counts": [30]},
    ],
    ids=str,
)
def test_damaged_and_huge_masks_are_refused_in_a_sentence(mask: Any, tmp_path: Path) -> None:
    path = lines(tmp_path / "masks.jsonl", {"image_id": 1, "sent_id": 100, "segmentation": mask})
    (found,) = read_found(path)
    with pytest.raises(UserError, match=r"masks\.jsonl', line 1: the mask is damaged \(.*\)\.$") as told:
        found.read(SIZE)
    assert len(str(told.value)) < 600


def test_other_sizes_are_named_with_their_count() -> None:
    code = b'{"size": [6, 4], "counts": [24]}'
    found = [Found(f"line {n}", {}, mask) for n, mask in enumerate([code, None, code])]  # type: ignore[arg-type]
    check_sizes((one, (6, 4)) for one in found)
    with pytest.raises(UserError, match=r"line 0: the mask is of 6 x 4 .* 4 x 6, and so it is for 2 masks\."):
        check_sizes((one, SIZE) for one in found)


def test_extra_and_doubled_lines_are_refused_by_name(tmp_path: Path) -> None:
    def found(*ids: dict[str, Any]) -> list[Found]:
        return list(read_found(lines(tmp_path / "masks", *({"segmentation": None, **own} for own in ids))))

    own = {"image_id": 1, "sent_id": 100}
    extra = [{"image_id": 1, "sent_id": 300 + n} for n in range(5)]
    with pytest.raises(
        UserError, match=r"of no expression of the split \(5\): .* line 2 \(sent_id 300, "
    ) as told:
        by_expression(found(own, *extra), IDS)
    assert "line 4" in str(told.value)
    assert "line 5" not in str(told.value)
    assert str(told.value).endswith(", and 2 more; take them out, or name their data by data= and split=.")
    with pytest.raises(UserError, match=r"for an expression that has one already \(1\): .* line 2"):
        by_expression(found(own, {**own, "ref_id": 10}), IDS)
    with pytest.raises(UserError, match=r"not clear \(1\): .* line 1 \(ref_id 10, image_id 1 is the "):
        by_expression(found({"image_id": 1, "ref_id": 10}), IDS)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no prediction"),
        ("[]", "holds no prediction"),
        ("[1]", "is no list of COCO results, or damaged"),
        ('{"image_id": 1}\n', r"line 1 is damaged \(Object missing required field `segmentation`"),
        ('{"image_id": 1, "sent_id": [], "segmentation": null}', "line 1 is damaged"),
        ('\n\n{"image_id": 1, "sent_id": 2', "line 3 is damaged"),
        ("[" * 5000, "damaged"),
        ("{" * 5000, "line 1 is damaged"),
    ],
)
def test_damaged_files_are_refused_in_a_sentence(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "masks"
    path.write_text(content)
    with pytest.raises(UserError, match=said):
        read_found(path)


def test_what_cannot_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lines(tmp_path / "masks.jsonl", {"image_id": 1, "sent_id": 100, "segmentation": None})
    with pytest.raises(UserError, match=r"Unknown format 'json'\. Did you mean 'jsonl'"):
        read_found(path, "json")
    with pytest.raises(UserError, match="cannot be of format png, of which only png is a folder"):
        read_found(path, "png")
    with pytest.raises(UserError, match=r"There are no predictions at '.*nowhere'"):
        read_found(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds no prediction \(format png\)"):
        read_found(tmp_path)
    monkeypatch.setattr(mask_files, "_LONGEST", 20)
    with pytest.raises(UserError, match=r"line 1 is damaged \(it has more than"):
        read_found(path)
    monkeypatch.setattr(mask_files, "_LARGEST", 20)
    with pytest.raises(UserError, match="more than is read"):
        read_found(path)
