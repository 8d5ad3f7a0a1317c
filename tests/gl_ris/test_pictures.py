"""Every form of a picture that a user may hold, against pixels worked out by hand."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.images import read_image
from gl_ris.errors import UserError
from gl_ris.pictures import read_picture

RAMP = np.add.outer(np.arange(6) * 20, np.arange(9) * 10).astype(np.uint8)  # uint8 (6, 9), 0 to 180
COLOR = np.stack([RAMP, 200 - RAMP, RAMP // 2], axis=-1)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


PALETTE = Image.fromarray(COLOR).quantize(256)
ALPHA = np.dstack([COLOR, np.full_like(RAMP, 7)])
GREY = np.repeat(RAMP[..., None], 3, axis=2)
DEEP = RAMP.astype(np.uint16) * 256 + 255


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        pytest.param(COLOR, COLOR, id="array"),
        pytest.param(COLOR[:, :, ::-1][:, :, ::-1], COLOR, id="view"),
        pytest.param(np.ascontiguousarray(COLOR[:, :, ::-1])[:, :, ::-1], COLOR, id="from cv2"),
        pytest.param(COLOR[::-1], COLOR[::-1], id="upside down"),
        pytest.param(np.asfortranarray(COLOR), COLOR, id="by columns"),
        pytest.param(RAMP, GREY, id="grey"),
        pytest.param(RAMP[..., None], GREY, id="one channel"),
        pytest.param(ALPHA, COLOR, id="alpha"),
        pytest.param(DEEP, GREY, id="16 bits"),
        pytest.param(torch.from_numpy(COLOR).permute(2, 0, 1), COLOR, id="tensor"),
        pytest.param(torch.from_numpy(RAMP), GREY, id="grey tensor"),
        pytest.param(torch.from_numpy(RAMP)[None], GREY, id="tensor of one channel"),
        pytest.param(torch.from_numpy(ALPHA).permute(2, 0, 1), COLOR, id="tensor with alpha"),
        pytest.param(Image.fromarray(COLOR), COLOR, id="PIL"),
        pytest.param(Image.fromarray(RAMP), GREY, id="PIL grey"),
        pytest.param(Image.fromarray(DEEP), GREY, id="PIL 16 bits"),
        pytest.param(Image.fromarray(DEEP.astype(np.int32)), GREY, id="PIL 16 bits in 32"),
        pytest.param(Image.fromarray(ALPHA), COLOR, id="PIL alpha"),
        pytest.param(Image.fromarray(RAMP > 90), np.where(GREY > 90, 255, 0), id="PIL bits"),
        pytest.param(PALETTE, np.asarray(PALETTE.convert("RGB")), id="PIL palette"),
        pytest.param(Image.fromarray(COLOR).convert("CMYK"), COLOR, id="CMYK"),
        pytest.param(encoded(Image.fromarray(COLOR)), COLOR, id="bytes"),
        pytest.param(bytearray(encoded(Image.fromarray(COLOR))), COLOR, id="bytearray"),
        pytest.param(encoded(Image.fromarray(DEEP)), GREY, id="16-bit PNG"),
        pytest.param(encoded(PALETTE, transparency=0), np.asarray(PALETTE.convert("RGB")), id="palette PNG"),
        pytest.param(
            encoded(
                Image.fromarray(COLOR),
                "WEBP",
                lossless=True,
                save_all=True,
                append_images=[Image.new("RGB", (9, 6))],
            ),
            COLOR,
            id="animation",
        ),
        pytest.param(encoded(Image.fromarray(COLOR), "TIFF"), COLOR, id="TIFF"),
    ],
)
def test_whatever_is_clear_is_read(picture: Any, expected: np.ndarray) -> None:
    pixels = read_picture(picture)
    assert pixels.dtype == torch.uint8
    assert pixels.is_contiguous()
    np.testing.assert_array_equal(pixels.permute(1, 2, 0).numpy(), expected)


def test_files_are_read_by_name_and_open(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(COLOR).save(path)
    with path.open("rb") as file:
        forms = [read_picture(str(path)), read_picture(path), read_picture(file)]
    forms.append(read_picture(io.BytesIO(path.read_bytes())))
    for pixels in forms:
        np.testing.assert_array_equal(pixels.permute(1, 2, 0).numpy(), COLOR)


def test_what_was_given_is_left_as_it_was() -> None:
    array, image = COLOR.copy(), Image.fromarray(COLOR)
    read_picture(array).zero_()
    read_picture(image).zero_()
    np.testing.assert_array_equal(array, COLOR)
    np.testing.assert_array_equal(np.asarray(image), COLOR)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["file", "bytes", "PIL"])
def test_photos_are_turned_upright_and_data_sets_read_as_stored(
    form: str, orientation: int, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(COLOR), "PNG", exif=exif)
    path = tmp_path / "phone.png"
    path.write_bytes(content)
    # how the stored rows and columns are shown, after the EXIF standard
    shown = {
        1: COLOR,
        2: COLOR[:, ::-1],
        3: COLOR[::-1, ::-1],
        4: COLOR[::-1],
        5: COLOR.transpose(1, 0, 2),
        6: COLOR[::-1].transpose(1, 0, 2),
        7: COLOR[::-1, ::-1].transpose(1, 0, 2),
        8: COLOR[:, ::-1].transpose(1, 0, 2),
    }[orientation]
    picture = {"file": path, "bytes": content, "PIL": Image.open(path)}[form]
    np.testing.assert_array_equal(read_picture(picture).permute(1, 2, 0).numpy(), shown)
    np.testing.assert_array_equal(read_image(path, 6, 9).permute(1, 2, 0).numpy(), COLOR)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (None, "but got NoneType"),
        ([COLOR], "but got list"),
        (COLOR / 255, r"but got float64 \(6, 9, 3\)"),
        (COLOR.transpose(2, 0, 1), r"an array \(H, W, 3\) .* but got uint8 \(3, 6, 9\)"),
        (COLOR[None], r"but got uint8 \(1, 6, 9, 3\)"),
        (torch.zeros(6, 9, 3, dtype=torch.uint8), r"a tensor \(3, H, W\), but got torch.uint8 \(6, 9, 3\)"),
        (torch.zeros(3, 6, 9), r"but got torch.float32"),
        (np.zeros((0, 9, 3), np.uint8), r"but got .*uint8 \(3, 0, 9\)|\(0, 9, 3\)"),
        (
            Image.fromarray(RAMP.astype(np.float32)),
            "cannot be read: floating point pixels have no known range",
        ),
        (Image.fromarray(RAMP.astype(np.int32) - 1), "cannot be read: pixels of 32 bits have no known range"),
        (b"", "The image of 0 bytes cannot be read: it is none of JPEG"),
        (b"GIF89a", "The image of 6 bytes cannot be read"),
        (encoded(Image.fromarray(COLOR))[:-30], "cannot be read"),
        (io.StringIO("text"), "cannot be read"),
        ("no/such.png", "'no/such.png' cannot be read: there is no such file"),
        ("/dev", "'/dev' cannot be read: there is no such file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is none of JPEG"),
    ],
    ids=lambda value: str(value)[:25],
)
def test_what_is_not_clear_is_named(picture: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_picture(picture)


def test_a_picture_that_unpacks_to_gigabytes_is_refused_unread() -> None:
    bomb = encoded(Image.new("1", (30_000, 30_000)))
    assert len(bomb) < 200_000
    with pytest.raises(UserError, match=r"30000 x 30000|exceeds limit"):
        read_picture(bomb)
