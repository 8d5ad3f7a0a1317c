"""Any picture that a user may hold, as the pixels that the method works on."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from gl_ris.errors import UserError, in_short
from gl_ris.files import MAX_PIXELS

# what image files may be; among Pillow's other formats are some that start programs
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")

Picture = str | Path | bytes | IO[bytes] | Image.Image | np.ndarray | Tensor

_FITTING = (
    "a file name, an open file or its bytes, a PIL image, or uint8 RGB pixels: an array (H, W, 3) or a "
    "tensor (3, H, W)"
)


def read_picture(picture: Picture) -> Tensor:
    """Turn any picture into pixels, upright.

    Files, bytes and PIL images are turned as their EXIF orientation says, as viewers show them; arrays and
    tensors are taken as they are. Grey, palette and CMYK become RGB, values of 16 bits lose their lower 8,
    alpha is dropped, and of several frames the first (of a PIL image the current one) is read.

    Args:
        picture: A file name, an open file or its bytes; a PIL image; an array ``(H, W)`` or ``(H, W, C)`` of
            uint8 or uint16; or a uint8 tensor ``(H, W)`` or ``(C, H, W)``. C: 1 is grey, 3 is RGB, 4 is RGB
            and alpha.

    Returns:
        uint8 ``(3, H, W)``, RGB, contiguous.

    Raises:
        UserError: It is none of these, or cannot be read to its end.
    """
    if isinstance(picture, Tensor):
        return _of_tensor(picture)
    if isinstance(picture, np.ndarray):
        return _of_array(picture)
    if isinstance(picture, Image.Image):
        return _pixels(picture, "The image")
    if isinstance(picture, str | Path):
        path = Path(picture).expanduser()
        if not path.is_file():  # a pipe would be waited for
            raise UserError(f"The image '{picture}' cannot be read: there is no such file.")
        return _of_file(path, f"The image '{picture}'")
    if isinstance(picture, bytes | bytearray | memoryview):
        return _of_file(io.BytesIO(picture), f"The image of {len(picture):,} bytes")
    if hasattr(picture, "read") and hasattr(picture, "seek"):
        return _of_file(picture, f"The image {getattr(picture, 'name', 'file')!r}")
    raise UserError(f"Expected `image` to be {_FITTING}, but got {type(picture).__name__}.")


def to_rgb(image: Image.Image) -> np.ndarray:
    """Return the pixels of a PIL image, uint8 ``(H, W, 3)``; a `ValueError` if their range is not known."""
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip rather than scale
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError("pixels of 32 bits have no known range")
        return np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "F":
        raise ValueError("floating point pixels have no known range")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


def require_whole(image: Image.Image) -> None:
    """Raise a `ValueError` for an unread picture whose strips do not cover it: Pillow would leave black."""
    areas = [(x1 - x0) * (y1 - y0) for _, (x0, y0, x1, y1), *_ in getattr(image, "tile", ()) or ()]
    if image.format == "TIFF" and areas and sum(areas) < image.width * image.height:
        raise ValueError("strips of it are missing")


def _of_file(source: Any, what: str) -> Tensor:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked below
            opened = Image.open(source, formats=FORMATS)
    except Image.UnidentifiedImageError as error:
        raise UserError(f"{what} cannot be read: it is none of {', '.join(FORMATS)}.") from error
    except Exception as error:  # Pillow answers to damage with nearly every exception there is
        raise UserError(f"{what} cannot be read: {in_short(error)}.") from error
    with opened:
        return _pixels(opened, what)


def _pixels(image: Image.Image, what: str) -> Tensor:
    if not 0 < image.width * image.height <= MAX_PIXELS:
        raise UserError(
            f"{what} is of {image.width} x {image.height} pixels; one to {MAX_PIXELS:,} can be worked on."
        )
    try:
        require_whole(image)
        pixels = to_rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # as above
        raise UserError(f"{what} cannot be read: {in_short(error)}.") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _of_array(array: np.ndarray) -> Tensor:
    channels = array.shape[2:] or (1,)
    if array.dtype not in (np.uint8, np.uint16) or array.ndim not in (2, 3) or channels[0] not in (1, 3, 4):
        raise _unfit(str(array.dtype), array.shape)
    values = array >> 8 if array.dtype == np.uint16 else array
    # a copy, since arrays that run backwards (``image[:, :, ::-1]``) or are read-only make no tensor
    pixels = np.array(values, dtype=np.uint8, order="C").reshape(*array.shape[:2], *channels)
    return _of_tensor(torch.from_numpy(pixels).permute(2, 0, 1))


def _of_tensor(tensor: Tensor) -> Tensor:
    pixels = tensor[None] if tensor.ndim == 2 else tensor
    if pixels.dtype != torch.uint8 or pixels.ndim != 3 or len(pixels) not in (1, 3, 4) or not pixels.numel():
        raise _unfit(str(tensor.dtype), tuple(tensor.shape))
    return pixels[:3].expand(3, -1, -1).contiguous()


def _unfit(dtype: str, shape: tuple[int, ...]) -> UserError:
    return UserError(f"Expected `image` to be {_FITTING}, but got {dtype} {shape}.")


def is_file(path: Path) -> bool:
    """Say whether there is a regular file; a name that the system cannot have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_mask(path: Path, height: int, width: int) -> Tensor:
    """Read a mask out of a picture, bool ``(height, width)``: what is neither black nor of index 0.

    `ValueError` with the reason if it cannot be read, has another size, or pixels that can be seen through.
    """
    with opened(path, "mask") as image:
        if image.size != (width, height):
            raise Misfit(f"mask is {image.width} x {image.height}, its image is {width} x {height}")
        pixels = np.asarray(image)
        if image.mode in ("LA", "RGBA", "PA"):
            if (pixels[..., -1] != 255).any():
                raise Misfit("mask has pixels that can be seen through; save it in black and white")
            pixels = pixels[..., :-1]
    marked = pixels != 0
    return torch.from_numpy(marked if marked.ndim == 2 else marked.any(axis=2))


class Misfit(ValueError):
    """What is wrong with an image that can be read."""


@contextmanager
def opened(source: Path | IO[bytes], what: str = "image") -> Iterator[Image.Image]:
    """Open a picture; what goes wrong with it, also inside the block, is a ValueError with the reason."""
    if isinstance(source, Path) and not is_file(source):  # a pipe would be waited for
        raise ValueError(f"{what} file is missing")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # whoever reads checks the size
            with Image.open(source, formats=FORMATS) as image:
                require_whole(image)
                yield image
    except Misfit:
        raise
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"{what} cannot be read (it is none of {', '.join(FORMATS)})") from error
    except Exception as error:  # Pillow's decoders answer to damage with nearly every exception there is
        raise ValueError(f"{what} cannot be read ({in_short(error)})") from error
