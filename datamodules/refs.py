"""The refs of RefCOCO, RefCOCO+ and RefCOCOg: ``refs(<split_by>).p``, a list of dicts in a pickle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.checks import KEY, require_fields
from datamodules.files import clean_text
from datamodules.plain_pickle import read_plain_pickle
from datamodules.records import Key
from gl_ris.errors import UserError, unknown_name

MAX_SENTENCE = 10_000
"""Sentences of more characters are taken for damage; RefCOCOg's longest has a few hundred."""


def refs_path(folder: Path, split_by: str) -> Path:
    """Return where the refs of partition ``split_by`` lie."""
    return folder / f"refs({split_by}).p"


def partitions(folder: Path) -> list[str]:
    """Return the partitions that ``folder`` has refs of, e.g. ``["google", "umd"]``."""
    return sorted(path.name[len("refs(") : -len(").p")] for path in folder.glob("refs(*).p"))


def read_refs(folder: Path, split_by: str) -> list[dict[str, Any]]:
    """Read and check the refs of one partition.

    Args:
        folder: Folder of the data set, e.g. ``data/refcocog``.
        split_by: ``"unc"``, ``"umd"``, ``"google"`` or another that is there.

    Raises:
        UserError: If the folder or partition is not there, the file is not a list of refs, or two of them
            have one id.
    """
    path = require_partition(folder, split_by)
    refs = read_plain_pickle(path)
    check_refs(refs, str(path), path.stat().st_size)
    require_own_ids(refs, str(path))
    return refs


def require_partition(folder: Path, split_by: str) -> Path:
    """Return the file with the refs of one partition.

    Raises:
        UserError: If the folder or partition is not there.
    """
    if not folder.is_dir():
        raise UserError(f"No folder '{folder}': it should hold refs(<split_by>).p and instances.json.")
    path = refs_path(folder, split_by)
    if not path.is_file():
        raise unknown_name(f"partition (split_by) of '{folder}'", split_by, partitions(folder))
    return path


def check_refs(refs: Any, where: str, most: int | None = None) -> None:
    """Check that ``refs`` has the shape of a refs file.

    Args:
        refs: What was read, or is about to be written.
        where: Name of the file, for the message.
        most: How many sentences there can be. A pickle may name one list of sentences again and again, so
            that a small file stands for billions of them.

    Raises:
        UserError: Naming the first record and field at fault.
    """
    if not isinstance(refs, list):
        raise UserError(f"'{where}' holds {type(refs).__name__}, not a list of refs.")
    sentences = 0
    for number, ref in enumerate(refs):
        place = f"'{where}': ref {number}"
        require_fields(ref, place, **_REF)
        sentences += len(ref["sentences"])
        if most is not None and sentences > most:
            raise UserError(f"{place}: there are more sentences than fit into the file.")
        for sentence in ref["sentences"]:
            _check_sentence(sentence, f"{place}, one of its sentences")


def require_own_ids(refs: Sequence[Mapping[str, Any]], where: str) -> None:
    """Check that every ref has an id of its own.

    Raises:
        UserError: Naming the first two that share one.
    """
    seen: dict[Key, int] = {}
    for number, ref in enumerate(refs):
        first = seen.setdefault(ref["ref_id"], number)
        if first != number:
            raise UserError(
                f"'{where}': ref {number} has the 'ref_id' of ref {first}, {ref['ref_id']!r:.60}."
            )


_REF: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("ref_id", "ann_id", "image_id", "category_id"), KEY),
    "split": (str,),
    "sentences": (list,),
}


def _check_sentence(sentence: Any, place: str) -> None:
    require_fields(sentence, place, sent_id=KEY, sent=(str,))
    if len(sentence["sent"]) > MAX_SENTENCE:
        raise UserError(f"{place} has {len(sentence['sent']):,} characters; up to {MAX_SENTENCE:,} are read.")


def raw_sentences(ref: Mapping[str, Any]) -> list[str]:
    """Return a ref's sentences as they were typed (``raw``); none if one lacks them or they are as ``sent``.

    Example:
        >>> raw_sentences({"sentences": [{"sent": "left dog", "raw": "Left dog!"}]})
        ['Left dog!']
    """
    found = [sentence.get("raw") for sentence in ref["sentences"]]
    usable = all(isinstance(text, str) and len(text) <= MAX_SENTENCE for text in found)
    if not usable or found == [sentence["sent"] for sentence in ref["sentences"]]:
        return []
    return [clean_text(text) for text in found]
