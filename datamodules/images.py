"""Finding and reading image files that annotations name."""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import torch
from PIL import Image
from torch import Tensor

from gl_ris.errors import UserError, in_short
from gl_ris.pictures import FORMATS, to_rgb


def image_path(folder: Path, file_name: str) -> Path:
    r"""Return the path of ``file_name`` inside ``folder``; `UserError` if the name leads out of it.

    The name alone is judged, not where a link in the folder leads: links are the doing of whoever set up the
    folder, names come with the annotations. Backslashes part folders as slashes do. Names of non-ASCII
    characters come in two forms (NFC, NFD); a file is found whichever of them it has.

    Example:
        >>> image_path(Path("images"), "a\\../1.jpg").name
        '1.jpg'
    """
    inside = Path(os.path.abspath(folder))
    path = Path(os.path.abspath(inside / file_name.replace("\\", "/")))
    if "\0" in file_name or path == inside or not path.is_relative_to(inside):
        raise UserError(f"The annotations name an image {file_name!r:.200}, which leads out of '{folder}'.")
    if path.name.isascii() or is_file(path):
        return path
    forms = (path.parent / unicodedata.normalize(form, path.name) for form in ("NFC", "NFD"))
    return next(filter(is_file, forms), path)


def is_file(path: Path) -> bool:
    """Say whether there is a regular file; a name that the system cannot have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def find_image_folder(given: Path | None, candidates: Sequence[Path], file_names: Sequence[str]) -> Path:
    """Return the folder ``given``, or else the first of the candidates that hold most of the images.

    `UserError`, naming those that were tried, if none of the images is in any.
    """
    tried = [given] if given is not None else list(candidates)
    best, most = None, 0
    for folder in tried:
        found = sum(is_file(image_path(folder, name)) for name in file_names) if folder.is_dir() else 0
        if found > most:
            best, most = folder, found
        if most == len(file_names):
            break
    if best is not None:
        return best
    names = ", ".join(f"'{folder}'" for folder in tried)
    raise UserError(
        f"None of the images ({file_names[0]:.200}, ...) is in {names}. Set image_root to their folder."
    )


def read_image(source: Path | IO[bytes], height: int, width: int) -> Tensor:
    """Read an image in the pixel orientation it is stored in, which is that of the annotations.

    EXIF rotation is not applied. Grey, palette and CMYK images become RGB, 16-bit values lose their lower 8
    bits, alpha is dropped. Of several frames the first is read. Returns uint8 ``(3, height, width)``, RGB;
    `ValueError` with the reason if the file cannot be read to its end or is of another size than annotated.
    """
    if isinstance(source, Path) and not is_file(source):  # a pipe would be waited for
        raise ValueError("image file is missing")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked here
            with Image.open(source, formats=FORMATS) as image:
                size = image.size
                pixels = to_rgb(image) if size == (width, height) else None
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"image cannot be read (it is none of {', '.join(FORMATS)})") from error
    except Exception as error:  # Pillow's decoders answer to damage with nearly every exception there is
        raise ValueError(f"image cannot be read ({in_short(error)})") from error
    if pixels is None:
        raise ValueError(f"image is {size[0]} x {size[1]}, annotated as {width} x {height}")
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
