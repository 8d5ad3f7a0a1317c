"""Which folders and partitions a name on the command line stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.checking.counts import Published, known_names, published
from gl_ris.errors import UserError, unknown_name


@dataclass(frozen=True)
class Target:
    """One partition of one data set, to be checked.

    Attributes:
        name: Name of the data set: of its folder.
        folder: Where its annotations lie.
        format: ``refer`` or ``phrasecut``.
        partition: Name of the partition.
    """

    name: str
    folder: Path
    format: str
    partition: str

    @property
    def published(self) -> Published | None:
        """What is published of it, or None."""
        return published(self.name, self.partition)


def find_targets(name: str, root: Path, split_by: Sequence[str] = ()) -> list[Target]:
    """Return what a name stands for.

    Args:
        name: A known data set below ``root``, a folder of annotations, or a folder of such folders.
        root: Where known data sets are.
        split_by: Partitions; none for all that are there.

    Raises:
        UserError: If there is no such data set, folder or partition.
    """
    if name in known_names():
        folder, fix = root / name, f"Fetch it: python -m datamodules.download {name} --root={root}"
        found = _in_folder(folder, name)
        if not found:
            raise UserError(f"No annotations of {name} in '{folder}'. {fix}")
    elif (folder := Path(name).expanduser()).is_dir():
        found = _in_folder(folder, folder.resolve().name)
        for below in sorted(path for path in folder.iterdir() if path.is_dir()) if not found else ():
            found += _in_folder(below, below.name)
        if not found:
            raise UserError(f"'{folder}' holds neither refs(<split_by>).p nor refer_<split>.json.")
    else:
        raise unknown_name("data set, and no folder", name, known_names())
    there = [target.partition for target in found]
    for partition in split_by:
        if partition not in there:
            raise unknown_name(f"partition (--split-by) of {name}", partition, there)
    return [target for target in found if not split_by or target.partition in split_by]


def _in_folder(folder: Path, name: str) -> list[Target]:
    from datamodules.refer import partitions

    phrases = (folder, folder / "VGPhraseCut_v0", folder / "data" / "VGPhraseCut_v0")
    found = [Target(name, folder, "refer", partition) for partition in partitions(folder)]
    for place in phrases:
        if not found and phrase_splits(place):
            found.append(Target(name, place, "phrasecut", "official"))
    return found


def phrase_splits(folder: Path) -> list[str]:
    """Return the splits of PhraseCut in a folder; its files without targets (``refer_input_*``) are none."""
    names = sorted(path.stem.removeprefix("refer_") for path in folder.glob("refer_*.json"))
    return [name for name in names if not name.startswith("input_")]
