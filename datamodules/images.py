"""Finding and reading image files that annotations name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gl_ris.errors import UserError


def image_path(folder: Path, file_name: str) -> Path:
    """Return the path of ``file_name`` inside ``folder``.

    The name alone is judged, not where a link in the folder leads: links are the doing of whoever set up the
    folder, names come with the annotations.

    Raises:
        UserError: If the name leads out of the folder.

    Example:
        >>> image_path(Path("images"), "a/../1.jpg").name
        '1.jpg'
    """
    inside = Path(os.path.abspath(folder))
    path = Path(os.path.abspath(inside / file_name))
    if "\0" in file_name or path == inside or not path.is_relative_to(inside):
        raise UserError(f"The annotations name an image {file_name!r}, which leads out of '{folder}'.")
    return path


def find_image_folder(given: Path | None, candidates: Sequence[Path], file_names: Sequence[str]) -> Path:
    """Return the folder that holds the images.

    Args:
        given: The folder the user named, or None.
        candidates: Where to look otherwise; the first that holds one of the images is taken.
        file_names: Names of some images.

    Raises:
        UserError: If no folder fits, naming those that were tried.
    """
    tried = [given] if given is not None else list(candidates)
    for folder in tried:
        if folder.is_dir() and any(image_path(folder, name).is_file() for name in file_names):
            return folder
    names = ", ".join(f"'{folder}'" for folder in tried)
    raise UserError(
        f"None of the images ({file_names[0]}, ...) is in {names}. Set image_root to their folder."
    )


def read_image(source: Path | IO[bytes], height: int, width: int) -> Tensor:
    """Read an image in the pixel orientation it is stored in, which is that of the annotations.

    EXIF rotation is not applied. Grey, palette and CMYK images become RGB, 16-bit values lose their lower 8
    bits, alpha is dropped.

    Args:
        source: The file, or its content as a stream that can seek.
        height: Rows that the annotations say it has.
        width: Columns likewise.

    Returns:
        uint8 ``(3, height, width)``, RGB.

    Raises:
        ValueError: If the file cannot be read to its end or is of another size; the message is the reason.
    """
    try:
        with Image.open(source) as image:
            size = image.size
            pixels = _to_rgb(image) if size == (width, height) else None
    except FileNotFoundError as error:
        raise ValueError("image file is missing") from error
    except Exception as error:  # Pillow's decoders answer to damage with nearly every exception there is
        raise ValueError(f"image cannot be read ({str(error) or type(error).__name__})") from error
    if pixels is None:
        raise ValueError(f"image is {size[0]} x {size[1]}, annotated as {width} x {height}")
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Return uint8 ``(H, W, 3)``."""
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip rather than scale
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "F":
        raise ValueError("floating point pixels have no known range")
    return np.array(image.convert("RGB"))
