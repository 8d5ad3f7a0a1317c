"""Pickles that hold plain values, read so that they cannot run anything."""

from __future__ import annotations

import gc
import io
import pickle
from pathlib import Path
from typing import Any, NoReturn

from datamodules.files import ANEW, clean_text
from gl_ris.errors import UserError, in_short

MAX_PICKLE = 1 << 30
"""Files of more bytes are not opened; the largest refs have less than a tenth of it."""


class _PlainUnpickler(pickle.Unpickler):
    # what a pickle calls it has to name first: without names it can make numbers, text and containers alone
    def find_class(self, module_name: str, global_name: str) -> NoReturn:
        raise UserError(f"it asks for '{module_name:.60}.{global_name:.60}', and annotations need no code")


def read_plain_pickle(path: Path) -> Any:
    """Read a pickle that holds plain values only, Python 2 era files included.

    No global is admitted at all, so that no pickle can run anything. Python 2 byte strings are read as UTF-8;
    those that are not UTF-8 keep their bytes as surrogate escapes, which `clean_text` reads as Latin-1.

    Raises:
        UserError: The file is missing, larger than any refs, damaged, truncated, or asks for any global.
    """
    if not path.is_file():
        raise UserError(f"No annotation file at '{path}'.")
    if (size := path.stat().st_size) > MAX_PICKLE:
        raise UserError(f"'{path}' is a file of {size:,} bytes, more than refs can have. {ANEW}")
    collecting = gc.isenabled()
    gc.disable()  # a million values that all stay: to look through them again and again takes 3 times as long
    try:
        content = io.BytesIO(path.read_bytes())
        return _PlainUnpickler(content, encoding="utf-8", errors="surrogateescape").load()
    except UserError as error:
        reason = clean_text(in_short(error))
        raise UserError(f"'{path}' was refused: {reason}. Fetch the file from a source you trust.") from error
    except Exception as error:  # the unpickler answers to damage with nearly every exception there is
        reason = clean_text(in_short(error))
        raise UserError(f"'{path}' is not a readable pickle ({reason}). {ANEW}") from error
    finally:
        if collecting:
            gc.enable()
