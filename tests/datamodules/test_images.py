from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules.images import find_image_folder, image_path, read_image
from gl_ris.errors import UserError
from gl_ris.pictures import read_picture

RAMP = np.add.outer(np.arange(6) * 20, np.arange(9) * 10).astype(np.uint8)  # uint8 (6, 9), 0 to 180


def color() -> Image.Image:
    return Image.fromarray(np.stack([RAMP, 200 - RAMP, RAMP // 2], axis=-1))


def save(path: Path, image: Image.Image, kind: str, **options: object) -> Path:
    image.save(path, format=kind, **options)  # type: ignore[arg-type]
    return path


def test_pixels_come_as_stored(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "a.png", color(), "PNG"), 6, 9)
    assert image.shape == (3, 6, 9)
    assert image.is_contiguous()
    np.testing.assert_array_equal(image.numpy().transpose(1, 2, 0), np.asarray(color()))


def test_exif_rotation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees to show"
    path = save(tmp_path / "a.jpg", color(), "JPEG", exif=exif, quality=100, subsampling=0)
    plain = save(tmp_path / "b.jpg", color(), "JPEG", quality=100, subsampling=0)
    np.testing.assert_array_equal(read_image(path, 6, 9), read_image(plain, 6, 9))
    with pytest.raises(ValueError, match="image is 9 x 6, annotated as 6 x 9"):
        read_image(path, 9, 6)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("L", "PNG"),
        ("1", "PNG"),
        ("LA", "PNG"),
        ("RGBA", "PNG"),
        ("P", "GIF"),
        ("CMYK", "JPEG"),
        ("YCbCr", "JPEG"),
    ],
    ids=["grey", "bits", "grey-alpha", "alpha", "palette", "cmyk", "ycbcr"],
)
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str, kind: str) -> None:
    original = color().convert(mode)
    image = read_image(save(tmp_path / "a", original, kind), 6, 9)
    assert image.shape == (3, 6, 9)
    wanted = np.asarray(original.convert("RGB")).astype(int)
    assert np.abs(image.numpy().transpose(1, 2, 0) - wanted).max() <= (0 if kind != "JPEG" else 40)


def test_grey_is_the_same_in_all_channels(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "a.png", Image.fromarray(RAMP), "PNG"), 6, 9)
    np.testing.assert_array_equal(image.numpy(), np.stack([RAMP] * 3))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_high_byte(tmp_path: Path, kind: str) -> None:
    wide = Image.fromarray(RAMP.astype(np.uint16) * 256 + 99)
    image = read_image(save(tmp_path / "a", wide, kind), 6, 9)
    np.testing.assert_array_equal(image.numpy(), np.stack([RAMP] * 3))


def test_cmyk_black_is_black(tmp_path: Path) -> None:
    ink = Image.new("CMYK", (9, 6), (0, 0, 0, 255))
    assert read_image(save(tmp_path / "a.jpg", ink, "JPEG"), 6, 9).max() <= 8


@pytest.mark.parametrize("keep", [0, 3, 100, 0.3, 0.9], ids=str)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_truncated_file_is_an_error(tmp_path: Path, kind: str, keep: float) -> None:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, format=kind)
    data = buffer.getvalue()
    path = tmp_path / "a"
    path.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    with pytest.raises(ValueError, match=r"^image cannot be read \(.+\)$"):
        read_image(path, 64, 64)


@pytest.mark.parametrize(
    "content", [b"{}", b"<svg/>", b"\x89PNG\r\n\x1a\n" + b"\0" * 50], ids=["json", "svg", "png-head"]
)
def test_what_is_no_image_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match="image cannot be read"):
        read_image(tmp_path / "a", 6, 9)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="image file is missing"):
        read_image(tmp_path / "a.png", 6, 9)


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tiff", Image.fromarray(RAMP.astype(np.float32)), "TIFF")
    with pytest.raises(ValueError, match="floating point"):
        read_image(path, 6, 9)


@pytest.mark.parametrize(
    "name",
    ["../a.jpg", "/etc/passwd", "x/../../a.jpg", "..", ".", "", "x/..", "a\0.jpg"],
    ids=["up", "absolute", "down-and-up", "parent", "self", "empty", "itself", "nul"],
)
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="leads out of"):
        image_path(tmp_path / "images", name)


def test_a_folder_beside_with_the_same_beginning_is_outside(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leads out of"):
        image_path(tmp_path / "images", "../images-private/a.jpg")


@pytest.mark.parametrize("name", ["a.jpg", "coco/train2014/a.jpg", "x/../a.jpg", "...jpg", "狗.jpg"])
def test_a_name_inside_is_fine(tmp_path: Path, name: str) -> None:
    assert image_path(tmp_path, name).is_relative_to(tmp_path)


def test_a_linked_image_may_lie_elsewhere(tmp_path: Path) -> None:
    save(tmp_path / "blob", color(), "PNG")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").symlink_to(tmp_path / "blob")
    assert read_image(image_path(tmp_path / "images", "a.png"), 6, 9).shape == (3, 6, 9)


def test_the_first_folder_that_holds_an_image_is_taken(tmp_path: Path) -> None:
    candidates = [tmp_path / name for name in ("none", "empty", "full", "fuller")]
    for folder in candidates[1:]:
        folder.mkdir()
    for folder in candidates[2:]:
        (folder / "b.jpg").touch()
    assert find_image_folder(None, candidates, ["a.jpg", "b.jpg"]) == tmp_path / "full"
    with pytest.raises(
        UserError,
        match=r"None of the images \(c.jpg, ...\) is in '.*none', '.*fuller'. Name .*data\.image_root=",
    ):
        find_image_folder(None, candidates, ["c.jpg"])
    with pytest.raises(UserError, match=r"is in '[^']*empty'\. Name .*data\.image_root="):
        find_image_folder(tmp_path / "empty", candidates, ["b.jpg"])


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("P", "PNG", {"transparency": bytes(range(256))}),
        ("P", "PNG", {"transparency": 3}),
        ("RGB", "PNG", {"transparency": (0, 200, 0)}),
        ("RGBA", "WEBP", {"lossless": True, "exact": True}),
        ("RGB", "BMP", {}),
        ("RGB", "PPM", {}),
    ],
    ids=["palette-alpha", "palette-hole", "hole", "webp", "bmp", "ppm"],
)
@pytest.mark.filterwarnings("error")
def test_alpha_is_dropped_without_a_word(
    tmp_path: Path, mode: str, kind: str, options: dict[str, Any]
) -> None:
    original = color().convert(mode)
    image = read_image(save(tmp_path / "a", original, kind, **options), 6, 9)
    np.testing.assert_array_equal(image.numpy().transpose(1, 2, 0), np.asarray(original.convert("RGB")))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """Write a PNG by hand; ``rows`` are filtered by nothing, each after a zero byte."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))]
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(b)) + a + b + struct.pack(">I", zlib.crc32(a + b)) for a, b in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_16_bit_colour_keeps_its_high_bytes(tmp_path: Path) -> None:
    row = b"\0" + b"".join(struct.pack(">HHH", 256 * k + 7, 60_000, 99) for k in range(9))
    (tmp_path / "a.png").write_bytes(png(9, 6, 16, 2, row * 6))
    image = read_image(tmp_path / "a.png", 6, 9)
    np.testing.assert_array_equal(image[:, 0].numpy(), [range(9), [60_000 >> 8] * 9, [0] * 9])


def test_32_bit_pixels_are_refused(tmp_path: Path) -> None:
    wide = Image.fromarray(np.full((6, 9), 1 << 20, dtype=np.int32))
    with pytest.raises(ValueError, match="pixels of 32 bits have no known range"):
        read_image(save(tmp_path / "a.tiff", wide, "TIFF"), 6, 9)


@pytest.mark.parametrize("side", [10_000, 40_000], ids=["warned", "refused"])
@pytest.mark.filterwarnings("error")
def test_a_bomb_is_an_error_before_it_goes_off(tmp_path: Path, side: int) -> None:
    (tmp_path / "a.png").write_bytes(png(side, side, 1, 0, bytes(100)))
    with pytest.raises(ValueError, match=r"image is 10000 x 10000|decompression bomb"):
        read_image(tmp_path / "a.png", 6, 9)


def test_formats_that_start_programs_are_not_images(tmp_path: Path) -> None:
    color().save(tmp_path / "a.jpg", format="EPS")
    with pytest.raises(ValueError, match="it is none of JPEG, PNG"):
        read_image(tmp_path / "a.jpg", 6, 9)


def test_an_image_may_come_as_a_stream(tmp_path: Path) -> None:
    data = save(tmp_path / "a.png", color(), "PNG").read_bytes()
    np.testing.assert_array_equal(read_image(io.BytesIO(data), 6, 9), read_image(tmp_path / "a.png", 6, 9))


def test_a_tiff_whose_strips_do_not_cover_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    Image.fromarray(np.full((9, 12), 200, np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    # of the tag RowsPerStrip, the value
    content[content.index(struct.pack("<H", 278)) + 8] = 1
    path.write_bytes(content)
    for source in (path, io.BytesIO(content)):
        with pytest.raises(ValueError, match="strips of it are missing"):
            read_image(source, 9, 12)
    with pytest.raises(UserError, match="strips of it are missing"):
        read_picture(path)
