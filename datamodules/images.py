"""Finding and reading image files that annotations name."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from gl_ris.errors import UserError
from gl_ris.pictures import Misfit, is_file, opened, to_rgb


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


def find_image_folder(
    given: Path | None,
    candidates: Sequence[Path],
    file_names: Sequence[str],
    option: str = "data.image_root",
) -> Path:
    """Return the folder ``given``, or else the first of the candidates that hold most of the images.

    `UserError`, naming those that were tried and the option to set, if none of the images is in any.
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
        f"None of the images ({file_names[0]:.200}, ...) is in {names}. Name their folder by {option}=FOLDER."
    )


def size_of(path: Path, upright: bool = False, what: str = "image") -> tuple[int, int]:
    """Read height and width of an image out of its header; ``upright`` and errors as for `read_image`."""
    with opened(path, what) as image:
        return _size(image, upright)[::-1]


def read_image(source: Path | IO[bytes], height: int, width: int, upright: bool = False) -> Tensor:
    """Read an image in the pixel orientation it is stored in, which is that of most annotations.

    EXIF rotation is applied only if ``upright``, and size and pixels are then as viewers show them. Grey,
    palette and CMYK images become RGB, 16-bit values lose their lower 8 bits, alpha is dropped. Of several
    frames the first is read. Returns uint8 ``(3, height, width)``, RGB; `ValueError` with the reason if the
    file cannot be read to its end or is of another size than annotated.
    """
    with opened(source) as image:
        size = _size(image, upright)
        if size != (width, height):
            raise Misfit(f"image is {size[0]} x {size[1]}, annotated as {width} x {height}")
        turned = upright and _orientation(image) > 1
        pixels = to_rgb(ImageOps.exif_transpose(image) if turned else image)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


# width and height
def _size(image: Image.Image, upright: bool) -> tuple[int, int]:
    return image.size[::-1] if upright and _orientation(image) in (5, 6, 7, 8) else image.size


def _orientation(image: Image.Image) -> int:
    # of a PNG that does not tell at its beginning, Pillow would read all pixels to look behind them
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & set(image.info):
        return 1
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))
