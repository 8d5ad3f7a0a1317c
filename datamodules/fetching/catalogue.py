"""What can be fetched, read from ``catalogue.yaml``, whose head says what the fields are for."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import msgspec
from tqdm import tqdm

from gl_ris.errors import unknown_name

CATALOGUE = Path(__file__).with_name("catalogue.yaml")
DOWNLOADS = "downloads"  # folder below the root for archives and unfinished parts


# a field that is misspelt in the file is an error, not left out
class Made(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that is there once an item is complete."""

    path: str  # a file or folder below the root
    either: str | None = msgspec.field(default=None, name="or")  # another path that will do as well
    files: str | None = None  # of a folder: pattern of the files that count
    count: int = 0  # of a folder: how many of them there are at least

    def found(self, root: Path) -> Path | None:
        """Return where it is, or None if it is missing or incomplete."""
        for path in (root / name for name in (self.path, self.either) if name):
            if self.files is None and path.is_file():
                return path
            if self.files is not None and sum(1 for _ in path.glob(self.files)) >= self.count:
                return path
        return None


class Download(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file to transfer, usually an archive."""

    file: str  # its name in the folder of downloads
    urls: tuple[str, ...]  # tried in order
    magic: Literal["any", "zip", "torch", "parquet", "json"]  # first bytes: `transfer.MAGIC`
    place: dict[str, str]  # where what begins with a name in the archive goes; {"": path}: a single file
    size: int | None = None  # exact, in bytes, where one is published
    about: int = 0  # a guess where none is
    sha256: str | None = None
    md5: str | None = None
    unpacked: int = 0  # about how many bytes its content takes

    @property
    def bytes(self) -> int:
        """Its size, exact or about."""
        return self.size or self.about

    @property
    def hashes(self) -> dict[str, str]:
        """The published hashes by algorithm."""
        return {name: value for name in ("sha256", "md5") if (value := getattr(self, name))}


class Hub(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A repository of the Hugging Face hub."""

    repo: str
    type: Literal["dataset", "model"]
    pick: tuple[str, ...]  # patterns of the names of the files that are wanted
    into: str  # folder below the root
    about: int  # bytes
    flat: bool = False  # match and place files by their last name, wherever in the repository they are
    endpoint: str | None = None  # another hub, for a mirror

    @property
    def page(self) -> str:
        """Its page on the web."""
        folder = "datasets/" if self.type == "dataset" else ""
        return f"{self.endpoint or 'https://huggingface.co'}/{folder}{self.repo}"


class Clip(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Models that open_clip fetches itself."""

    models: tuple[str, ...]  # architectures
    pretrained: str
    about: int  # bytes


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that can be fetched under one name."""

    name: str
    title: str
    terms: str
    facts: tuple[str, ...] = ()  # what is known about its sources, and from where
    makes: tuple[Made, ...] = ()
    downloads: tuple[Download, ...] = ()  # one of these three
    hub: Hub | None = None
    clip: Clip | None = None
    needs: tuple[str, ...] = ()  # names of other items that it takes to work with this one
    other_sources: tuple[str, ...] = ()  # where else a person may get it
    check: str | None = None  # name under which `datamodules.check` knows it

    @property
    def bytes(self) -> int:
        """About how many bytes are transferred."""
        parts = [part.about for part in (self.hub, self.clip) if part is not None]
        return sum(download.bytes for download in self.downloads) + sum(parts)

    @property
    def exact(self) -> bool:
        """Whether `bytes` is published rather than an estimate."""
        return bool(self.downloads) and all(d.size is not None for d in self.downloads)

    @property
    def size(self) -> str:
        """Its size for people, marked where it is an estimate."""
        return ("" if self.exact else "~") + in_words(self.bytes)

    def places(self, root: Path) -> list[str]:
        """Name the files, and the folders with what they hold, that it makes.

        Example:
            >>> find_item("coco-train2014").places(Path("data"))
            ['data/train2014/*.jpg (82,783 or more)']
        """
        return [
            f"{root / made.path}"
            + (f" (or {PurePosixPath(made.either).name})" if made.either else "")
            + (f"/{made.files} ({made.count:,} or more)" if made.files else "")
            for made in self.makes
        ]


@cache
def read_catalogue(path: Path = CATALOGUE) -> dict[str, Item]:
    """Read the catalogue: items by name, in the file's order."""
    import yaml  # here, since the help of the command should come at once

    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: item_from(name, entry) for name, entry in entries.items()}


def item_from(name: str, entry: Mapping[str, Any]) -> Item:
    """Make an item from what stands in the file under its name."""
    return msgspec.convert({"name": name, **entry}, Item)


def find_item(name: str) -> Item:
    """Return the item of that name; a `UserError` names the nearest one."""
    if name not in read_catalogue():
        raise unknown_name("name to fetch", name, read_catalogue())
    return read_catalogue()[name]


def in_words(count: float) -> str:
    """Write a number of bytes for people, e.g. 13.5GB."""
    return tqdm.format_sizeof(count, "B")
