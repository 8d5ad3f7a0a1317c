"""The folder in which made data is kept between runs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gl_ris.errors import UserError
from gl_ris.files import cache_folder

__all__ = ["cache_folder", "written_whole"]


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Write a folder so that it appears complete or not at all.

    Args:
        folder: The folder to make. If another process finishes it first, that one's work stands.

    Yields:
        An empty folder beside it to write into; it becomes ``folder`` when the block ends without an error,
        and is removed when it does not.

    Raises:
        UserError: Nothing can be written there.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise UserError(
            f"The cache folder '{folder.parent}' cannot be written to ({error.strerror}); "
            "set GL_RIS_CACHE to one that can."
        ) from error
    try:
        yield draft
        try:
            draft.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
