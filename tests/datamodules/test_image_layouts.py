"""Where images are looked for, and what becomes of those that are not there."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from datamodules import PhraseCut, RefCOCO, Scene
from gl_ris.errors import UserError


def many(root: Path, **options: Any) -> RefCOCO:
    return RefCOCO(root, "many", "toy", "val", **options)


def scenes(data: RefCOCO | PhraseCut) -> list[Scene]:
    return list(data.predict_dataloader())


def test_missing_images_are_listed_or_counted(many_images: Path) -> None:
    for name in ("9.png", "21.png"):
        (many_images / "images" / name).unlink()
    with pytest.raises(
        UserError, match=r"2 of 7 images are not in '.*images' \(the first: 9\.png, 21\.png\)"
    ):
        many(many_images).setup()
    got = scenes(many(many_images, allow_missing_images=True))
    missing = [s.image_id for s in got if s.error == "image file is missing"]
    assert (len(got), missing) == (7, [9, 21])


@pytest.mark.parametrize("name", ["../6.png", "/etc/passwd"])
def test_a_file_name_that_leads_out_stops_everything(many_images: Path, name: str) -> None:
    path = many_images / "many" / "instances.json"
    path.write_text(path.read_text().replace('"6.png"', json.dumps(name)))
    with pytest.raises(UserError, match="leads out of"):
        many(many_images).setup()


@pytest.mark.parametrize(
    "place",
    ["train2014", "images/mscoco/images/train2014", "coco/train2014", "images", "many/images", "elsewhere"],
)
def test_images_are_found_under_the_usual_layouts(many_images: Path, tmp_path: Path, place: str) -> None:
    files = sorted((many_images / "images").iterdir())
    (many_images / "parked").mkdir()
    for file in files:
        file.rename(many_images / "parked" / file.name)
    (many_images / place).mkdir(parents=True, exist_ok=True)
    for file in files:
        (many_images / "parked" / file.name).rename(many_images / place / file.name)
    root = many_images / place if place == "elsewhere" else None
    assert [s.error for s in scenes(many(many_images, image_root=root))] == [None] * 7


def test_no_image_folder_names_where_it_looked(many_images: Path) -> None:
    (many_images / "images").rename(many_images / "elsewhere")
    with pytest.raises(
        UserError,
        match=r"None of the images \(3\.png, \.\.\.\) is in .*train2014.*Name .* data\.image_root=FOLDER",
    ):
        many(many_images).setup()
    with pytest.raises(UserError, match=r"is in '[^']*nowhere'\. Name .* data\.image_root=FOLDER"):
        many(many_images, image_root=many_images / "nowhere").setup()


def move(root: Path, names: list[str], place: str) -> None:
    (root / place).mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / "images" / name).rename(root / place / name)


def test_the_layout_with_most_images_is_taken(many_images: Path) -> None:
    move(many_images, ["3.png"], "train2014")
    with pytest.raises(UserError, match=r"1 of 7 images are not in '.*images' \(the first: 3\.png\)"):
        many(many_images).setup()
    assert [s.error for s in scenes(many(many_images, limit=1))] == [None]  # its one image is in train2014


def test_missing_images_that_are_allowed_are_announced_once(
    many_images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (many_images / "images" / "9.png").unlink()
    data = many(many_images, allow_missing_images=True)
    data.setup()
    data.setup("predict")
    (told,) = [entry.getMessage() for entry in caplog.records if entry.name == "datamodules.base"]
    assert "1 of 7 images are not in" in told
    assert "9.png" in told
    assert "count as failed" in told


@pytest.mark.parametrize(
    "name", ["..\\6.png", "a\\..\\..\\6.png", "a/../../6.png", "\\\\server\\x/../../../x"]
)
def test_backslashes_lead_nowhere_either(many_images: Path, name: str) -> None:
    path = many_images / "many" / "instances.json"
    path.write_text(path.read_text().replace('"6.png"', json.dumps(name)))
    with pytest.raises(UserError, match="leads out of"):
        many(many_images).setup()


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("named", ["NFC", "NFD"])
def test_a_name_is_found_in_either_form_of_unicode(many_images: Path, form: str, named: str) -> None:
    path = many_images / "many" / "instances.json"
    path.write_text(
        path.read_text().replace('"6.png"', json.dumps(unicodedata.normalize(named, "\u00e9t\u00e9.png")))
    )
    (many_images / "images" / "6.png").rename(
        many_images / "images" / unicodedata.normalize(form, "\u00e9t\u00e9.png")
    )
    assert [s.error for s in scenes(many(many_images))] == [None] * 7


@pytest.mark.parametrize("name", ["x" * 5000 + ".png", "x/" * 3000 + "y"], ids=["long", "deep"])
def test_a_name_that_no_file_can_have_is_a_missing_image(many_images: Path, name: str) -> None:
    path = many_images / "many" / "instances.json"
    path.write_text(path.read_text().replace('"6.png"', json.dumps(name)))
    with pytest.raises(UserError, match=r"1 of 7 images are not in") as raised:
        many(many_images).setup()
    assert len(str(raised.value)) < 1000


def test_a_pipe_is_a_missing_image_and_not_waited_for(many_images: Path) -> None:
    (many_images / "images" / "6.png").unlink()
    os.mkfifo(many_images / "images" / "6.png")
    got = scenes(many(many_images, allow_missing_images=True))
    assert [s.image_id for s in got if s.error == "image file is missing"] == [6]
