"""A folder of one's own: images, and a CSV or JSONL file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import Folder
from datamodules.checking.run import Options, check, find_targets
from datamodules.fewshot import universe
from datamodules.scene import Scene
from gl_ris.errors import UserError

HEIGHT, WIDTH = 6, 10
# rows 1 to 3, columns 2 to 5
BOX = np.zeros((HEIGHT, WIDTH), dtype=bool)
BOX[1:4, 2:6] = True
POLYGON = [2, 1, 6, 1, 6, 4, 2, 4]
# column by column: runs of False and True in turn
RUNS = {"size": [HEIGHT, WIDTH], "counts": [13, 3, 3, 3, 3, 3, 3, 3, 26]}
Write = Callable[..., Path]


def picture(height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    values = np.arange(height * width * 3, dtype=np.uint32).reshape(height, width, 3)
    return Image.fromarray((values * 7 % 251).astype(np.uint8))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the images a.png and below/b.png, mask.png, and rows as CSV or JSONL; gives the folder."""

    def make(rows: Sequence[Mapping[str, Any]] | str, name: str = "rows.csv", delimiter: str = ",") -> Path:
        root = tmp_path / "mine"
        (root / "below").mkdir(parents=True, exist_ok=True)
        picture().save(root / "a.png")
        picture().save(root / "below" / "b.png")
        Image.fromarray(BOX.astype(np.uint8) * 255).save(root / "mask.png")
        if isinstance(rows, str):
            text = rows
        elif name.endswith(".jsonl"):
            text = "".join(json.dumps(row) + "\n" for row in rows)
        else:
            out = io.StringIO()
            columns = list(dict.fromkeys(column for row in rows for column in row))
            writer = csv.DictWriter(out, columns, delimiter=delimiter, lineterminator="\r\n")
            writer.writeheader()
            for row in rows:
                texts = {k: json.dumps(v) if isinstance(v, list | dict) else v for k, v in row.items()}
                writer.writerow(texts)
            text = out.getvalue()
        (root / name).write_text(text, encoding="utf-8", newline="")
        return root

    return make


def scenes(root: Path, **options: Any) -> list[Scene]:
    return list(Folder(root, **options).predict_dataloader())


def row(**more: Any) -> dict[str, Any]:
    return {"file": "a.png", "expression": "the box", **more}


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
@pytest.mark.parametrize("mask", ["mask.png", "./mask.png", RUNS, [POLYGON], POLYGON], ids=str)
def test_each_form_of_a_mask_is_the_same_target(mask: Any, name: str, write: Write) -> None:
    (scene,) = scenes(write([row(mask=mask)], name))
    assert (scene.targets.numpy() == BOX[None]).all()
    assert (scene.image.permute(1, 2, 0).numpy() == np.asarray(picture())).all()
    line = 1 if name.endswith("l") else 2
    assert (scene.image_id, scene.ref_ids, scene.sent_ids) == ("a.png", [line], [line])
    assert scene.targeted is None
    assert scene.error is None


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_masks_of_every_mode_are_what_is_not_black(mode: str, write: Write) -> None:
    root = write([row(mask="mask.png")])
    if mode == "I;16":
        Image.fromarray(BOX.astype(np.uint16) * 300).save(root / "mask.png")
    elif mode == "P":
        coloured = Image.fromarray(BOX.astype(np.uint8) * 3, mode="P")
        coloured.putpalette([9, 9, 9] * 256)
        coloured.save(root / "mask.png")
    else:
        Image.fromarray(BOX.astype(np.uint8) * 255).convert(mode).save(root / "mask.png")
    (scene,) = scenes(root)
    assert (scene.targets.numpy() == BOX[None]).all()


def test_a_mask_that_can_be_seen_through_is_a_failure_with_its_reason(write: Write) -> None:
    root = write([row(mask="mask.png")])
    Image.fromarray(np.dstack([BOX.astype(np.uint8) * 255] * 4)).save(root / "mask.png")
    (scene,) = scenes(root)
    assert "mask has pixels that can be seen through" in scene.faults[0]


def test_rows_without_a_mask_have_no_target(write: Write) -> None:
    rows = [row(), row(mask=RUNS, expression="b"), {**row(mask=None), "file": "below/b.png"}]
    first, second = scenes(write(rows, "rows.jsonl"))
    assert first.targeted is not None
    assert second.targeted is not None
    assert (first.targeted.tolist(), second.targeted.tolist()) == ([False, True], [False])
    assert first.targets.any(dim=2).any(dim=1).tolist() == [False, True]
    assert second.image_id == "below/b.png"
    assert first.to("meta").targeted.device.type == "meta"


def test_what_has_no_target_is_nothing_to_learn_from(write: Write) -> None:
    data = Folder(write([row(), row(mask=RUNS, expression="b")], "rows.jsonl"))
    keys, places = universe(data.records, "mine", classes=False)
    assert [key.ref_id for key in keys] == [2]
    assert dict(places) == {2: [(0, 1)]}


BAD = [
    (row(file="b.png"), "'b.png': image file is missing"),
    (row(file="rows.csv"), "'rows.csv': image cannot be read (it is none of JPEG, PNG"),
    (row(file="../x.png"), "name an image '../x.png', which leads out of"),
    (row(file=""), "file is empty"),
    (row(expression=" "), "expression is empty"),
    (row(mask="none.png"), "mask file is missing"),
    (row(mask="../mask.png"), "leads out of"),
    (row(mask="/etc/passwd"), "leads out of"),
    (row(mask="rows.csv"), "mask cannot be read"),
    (row(mask="{nothing"), "mask is no JSON"),
    (row(mask={"size": [10, 6], "counts": [60]}), "mask is 6 x 10, its image 10 x 6, upright"),
    (row(mask={"size": [3, 3], "counts": [9]}), "mask is 3 x 3, its image 10 x 6"),
    (row(mask={"size": "big", "counts": [9]}), "mask has size 'big'"),
    (row(mask=[[1, 2, 3]]), "not a flat list of an even count of numbers"),
    (row(mask=[["x"]]), "something other than lists of numbers"),
    (row(mask=[]), "mask has no polygon"),
]


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
@pytest.mark.parametrize(("bad", "reason"), BAD, ids=[reason[:25] for _, reason in BAD])
def test_a_bad_row_is_named_by_its_line(bad: dict[str, Any], reason: str, name: str, write: Write) -> None:
    root = write([row(mask=RUNS), bad], name)
    (root / "rows.csv").touch()  # what the rows name
    line = 2 if name.endswith("l") else 3
    with pytest.raises(UserError) as told:
        Folder(root, annotations=name).setup()
    assert f"1 of 2 rows cannot be used: line {line}: " in str(told.value)
    assert reason in str(told.value)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1]", "it is no JSON object"),
        ('{"file": "a.png"', "it is no JSON object"),
        ('{"file": 3, "expression": "x"}', "file is 3, which is no text"),
        ('{"file": "a.png", "expression": ["x"]}', "expression is ['x'], which is no text"),
        ('{"file": "a.png", "expression": "x", "mask": 3}', "mask is 3, neither a file nor an outline"),
        ('{"file": "a.png", "expression": "x", "id": 1.5}', "id is 1.5, neither a short text nor"),
        ('{"file": "a.png", "expression": "x", "id": "k"}', "id 'k' is that of line 2, too"),
        ('{"file": "a.png", "expression": "x"}', "id is empty, while other rows have one"),
    ],
)
def test_a_line_of_jsonl_that_is_no_row(line: str, reason: str, write: Write) -> None:
    good = json.dumps(row(id="k"))
    root = write(f"\n{good}\n\n{line}\n", "rows.jsonl")
    with pytest.raises(UserError) as told:
        Folder(root).setup()
    assert f"line 4: {reason}" in str(told.value)


def test_ten_bad_rows_are_named_and_the_rest_counted(write: Write) -> None:
    root = write([row(file=f"{number}.png") for number in range(25)])
    with pytest.raises(UserError) as told:
        Folder(root).setup()
    assert str(told.value).count("; line ") == 9
    assert "25 of 25 rows cannot be used: line 2: '0.png'" in str(told.value)
    assert str(told.value).endswith("and 15 more.")
    assert "\n" not in str(told.value)


def test_missing_images_count_as_failed_where_that_is_wanted(write: Write) -> None:
    rows = [
        row(mask=RUNS),
        row(file="b.png"),
        row(file="c.png", mask=RUNS),
        row(file="c.png", mask="none.png"),
    ]
    with pytest.raises(UserError, match=r"1 of 4 rows cannot be used: line 5: mask file is missing"):
        Folder(write(rows), allow_missing_images=True).setup()
    found = scenes(write(rows[:3]), allow_missing_images=True)
    assert [scene.error for scene in found] == [None, *["image file is missing"] * 2]
    assert (found[2].targets.numpy() == BOX[None]).all()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_as_spreadsheets_write_it(delimiter: str, write: Write) -> None:
    rows = [row(expression='two\nlines, "quoted"; and\tmore'), row(file="none.png")]
    root = write(rows, delimiter=delimiter)
    text = (root / "rows.csv").read_text()
    (root / "rows.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    with pytest.raises(UserError, match=r"line 4: 'none\.png'"):  # the first row has two lines
        Folder(root).setup()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no row"),
        ("file,expression\n", "has no row"),
        ("file,text\na.png,x\n", "lacks the column expression; the columns are file, expression, mask"),
        ("filename,expression\na.png,x\n", "has a column 'filename'. Did you mean 'file'?"),
        ("file,Expression\na.png,x\n", "has a column 'Expression'. Did you mean 'expression'?"),
        ("file,expression,masks\na.png,x,m\n", "has a column 'masks'. Did you mean 'mask'?"),
        ('file,expression\na.png,"x\n', "is no CSV from line 2 on"),
        ("file,expression\na.png,x,y,z\n", "line 2: it has 4 cells, the first line 2"),
    ],
)
def test_a_file_that_is_no_table_of_rows(text: str, said: str, write: Write) -> None:
    with pytest.raises(UserError) as told:
        Folder(write(text)).setup()
    assert said in str(told.value)


def test_columns_of_other_programs_are_left_alone(write: Write) -> None:
    (scene,) = scenes(write([row(annotator="me", category="dog")]))
    assert scene.expressions == ["the box"]


def test_splits(write: Write) -> None:
    root = write([row(split=split, expression=f"of {split}") for split in ("val", "test", "")])
    (everything,), (part,) = scenes(root), scenes(root, split="val")
    assert everything.expressions == ["of val", "of test", "of"]
    assert part.expressions == ["of val"]
    with pytest.raises(UserError, match=r"Unknown split of '.*rows.csv' 'tst'\. Did you mean 'test'\?"):
        Folder(root, split="tst").setup()


def test_the_file_of_rows_is_found_or_named(write: Write, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No folder '.*nowhere': give yours by data\.root=FOLDER"):
        Folder(tmp_path / "nowhere").require_files()
    root = write([row()])
    (root / "more.jsonl").write_text(json.dumps(row(expression="other")))
    with pytest.raises(UserError, match=r"several files \(more.jsonl, rows.csv\); name one by data\.annot"):
        Folder(root).require_files()
    assert scenes(root, annotations="more.jsonl")[0].expressions == ["other"]
    assert scenes(root, annotations=root / "rows.csv")[0].expressions == ["the box"]
    with pytest.raises(UserError, match=r"No CSV or JSONL file 'a\.png'"):
        Folder(root, annotations="a.png").require_files()
    with pytest.raises(UserError, match="holds no CSV or JSONL file"):
        Folder(root / "below").require_files()


@pytest.mark.parametrize(("upright", "fits"), [(True, True), (False, False)])
@pytest.mark.parametrize("orientation", [6, 8])
def test_images_are_seen_upright_and_masks_are_of_what_is_seen(
    orientation: int, upright: bool, fits: bool, write: Write
) -> None:
    root = write([row(mask=RUNS)])
    exif = Image.Exif()
    exif[0x0112] = orientation
    # 6 is shown after a quarter turn clockwise, 8 after one the other way
    stored = picture().rotate(90 if orientation == 6 else -90, expand=True)
    assert stored.size == (HEIGHT, WIDTH)
    stored.save(root / "a.png", exif=exif)
    if not fits:
        with pytest.raises(UserError, match="line 2: mask is 10 x 6, its image 6 x 10"):
            scenes(root, upright=upright)
        return
    (scene,) = scenes(root, upright=upright)
    assert (scene.image.permute(1, 2, 0).numpy() == np.asarray(picture())).all()
    assert (scene.targets.numpy() == BOX[None]).all()


def test_ground_truth_is_not_among_the_proposals(write: Write) -> None:
    with pytest.raises(UserError, match="proposals=ground_truth needs every instance"):
        Folder(write([row(mask=RUNS)]), proposals="ground_truth")


def test_the_check_counts_by_split_and_names_each_bad_row(write: Write) -> None:
    rows = [row(split="val", mask=RUNS), row(split="val"), row(file="below/b.png")]
    root = write([*rows, *(row(file=f"{number}.png") for number in range(7))])
    for name, place in (("folder", root), (str(root), Path("elsewhere"))):
        (target,) = find_targets(name, place)
        report = check(target, Options(images="decode", progress=False))
        counts = {s: {k: c.found for k, c in kinds.items()} for s, kinds in report.splits.items()}
        assert counts == {
            "all": {"expressions": 1, "with masks": 0, "images": 1},
            "val": {"expressions": 2, "with masks": 1, "images": 1},
        }
        assert report.problems.counts == {"row": 7, "not compared": 1}
        assert report.problems.examples["row"][0] == "line 5: '0.png': image file is missing"
        assert len(report.problems.examples["row"]) == 7
        assert report.looked[1].endswith("1 images decoded in " + str(root) + ", 1 masks drawn")


def test_a_damaged_image_costs_its_own_expressions_alone(write: Write) -> None:
    root = write([row(mask=RUNS), row(file="below/b.png", mask=RUNS)])
    content = (root / "below" / "b.png").read_bytes()
    (root / "below" / "b.png").write_bytes(content[: len(content) // 2])
    first, second = scenes(root)
    assert first.error is None
    assert "image cannot be read" in str(second.error)
    assert torch.equal(first.targets, second.targets)
