"""The catalogue of what can be fetched, read from ``catalogue.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from gl_ris.errors import unknown_name

CATALOGUE = Path(__file__).with_name("catalogue.yaml")


@dataclass(frozen=True)
class Made:
    """Something that is there once an item is complete.

    Attributes:
        path: A file or folder below the root.
        either: Another path that will do as well.
        files: For a folder: the pattern of the files that count.
        count: For a folder: how many of them there are at least.
    """

    path: str
    either: str | None = None
    files: str | None = None
    count: int = 0

    def found(self, root: Path) -> Path | None:
        """Return where it is, or None if it is missing or incomplete."""
        for name in filter(None, (self.path, self.either)):
            path = root / name
            if self.files is None and path.is_file():
                return path
            if self.files is not None and path.is_dir() and self.number(root) >= self.count:
                return path
        return None

    def number(self, root: Path) -> int:
        """Return how many files of the pattern are in the folder."""
        return sum(1 for _ in (root / self.path).glob(self.files or "*"))


@dataclass(frozen=True)
class Download:
    """One file to transfer, usually an archive.

    Attributes:
        file: Its name in the folder of downloads.
        urls: Where it may be had, tried in order.
        magic: What kind of file it is: a key of `datamodules.fetching.verify.KINDS`.
        place: Where it goes: for an archive, beginnings of names in it and where below the root they go; for
            a single file, ``{"": path}``.
        size: Its exact size in bytes, where one is published.
        about: About its size, where none is.
        sha256: Its hash, where one is published.
        md5: Likewise.
        unpacked: About how many bytes its content takes.
    """

    file: str
    urls: tuple[str, ...]
    magic: str
    place: Mapping[str, str]
    size: int | None = None
    about: int = 0
    sha256: str | None = None
    md5: str | None = None
    unpacked: int = 0

    @property
    def bytes(self) -> int:
        """Its size, exact or about."""
        return self.size or self.about

    @property
    def needed(self) -> int:
        """About the bytes of disk that it needs while it is fetched and unpacked."""
        return self.bytes + self.unpacked


@dataclass(frozen=True)
class Hub:
    """A repository of the Hugging Face hub.

    Attributes:
        repo: Its name.
        type: ``dataset`` or ``model``.
        pick: Patterns of the names of the files that are wanted.
        into: Folder below the root.
        about: About how many bytes that is.
        flat: Match and place files by their last name, wherever in the repository they are.
        endpoint: Another hub, for a mirror.
    """

    repo: str
    type: str
    pick: tuple[str, ...]
    into: str
    about: int
    flat: bool = False
    endpoint: str | None = None

    @property
    def page(self) -> str:
        """Its page on the web."""
        folder = "datasets/" if self.type == "dataset" else ""
        return f"{self.endpoint or 'https://huggingface.co'}/{folder}{self.repo}"


@dataclass(frozen=True)
class Clip:
    """Models that open_clip fetches itself.

    Attributes:
        models: Names of architectures.
        pretrained: Name of the weights.
        about: About how many bytes that is.
    """

    models: tuple[str, ...]
    pretrained: str
    about: int


@dataclass(frozen=True)
class Item:
    """Something that can be fetched under one name.

    Attributes:
        name: The name.
        title: What it is.
        terms: Its licence or terms.
        facts: What is known about its sources, and from where.
        makes: What is there afterwards.
        downloads: The files to transfer.
        hub: The hub repository to take it from.
        clip: The open_clip models to fetch.
        needs: Names of other items that it takes to work with this one.
        by_hand: Where else it may be had, by a person.
        check: Name under which `datamodules.check` knows it.
    """

    name: str
    title: str
    terms: str
    facts: tuple[str, ...]
    makes: tuple[Made, ...] = ()
    downloads: tuple[Download, ...] = ()
    hub: Hub | None = None
    clip: Clip | None = None
    needs: tuple[str, ...] = ()
    by_hand: tuple[str, ...] = field(default=())
    check: str | None = None

    @property
    def bytes(self) -> int:
        """About how many bytes are transferred."""
        parts = [part.about for part in (self.hub, self.clip) if part is not None]
        return sum(download.bytes for download in self.downloads) + sum(parts)

    @property
    def exact(self) -> bool:
        """Whether `bytes` is published rather than an estimate."""
        return bool(self.downloads) and all(d.size is not None for d in self.downloads)


@cache
def read_catalogue(path: Path = CATALOGUE) -> dict[str, Item]:
    """Read the catalogue: items by name, in the file's order."""
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: item_from(name, entry) for name, entry in entries.items()}


def item_from(name: str, entry: Mapping[str, Any]) -> Item:
    """Make an item from what stands in the file under its name."""
    parts: dict[str, Any] = dict(entry)
    parts["makes"] = tuple(_made(made) for made in entry.get("makes", ()))
    parts["downloads"] = tuple(
        Download(**{**d, "urls": tuple(d["urls"])}) for d in entry.get("downloads", ())
    )
    if "hub" in entry:
        parts["hub"] = Hub(**{**entry["hub"], "pick": tuple(entry["hub"]["pick"])})
    if "clip" in entry:
        parts["clip"] = Clip(**{**entry["clip"], "models": tuple(entry["clip"]["models"])})
    for key in ("facts", "needs", "by_hand"):
        parts[key] = tuple(entry.get(key, ()))
    return Item(name=name, **parts)


def _made(entry: Mapping[str, Any]) -> Made:
    return Made(**{("either" if key == "or" else key): value for key, value in entry.items()})


def find_item(name: str, catalogue: Mapping[str, Item] | None = None) -> Item:
    """Return the item of that name.

    Raises:
        UserError: If there is none, with the nearest name.
    """
    items = read_catalogue() if catalogue is None else catalogue
    if name not in items:
        raise unknown_name("name to fetch", name, items)
    return items[name]
