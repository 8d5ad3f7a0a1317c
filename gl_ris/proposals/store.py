"""Proposals on disk, made once: per data set, split, generator, its full settings and its weights.

A store is a folder ``<data set>-<partition>-<split>/<generator>-<hash>`` with ``manifest.json``, which says
in clear what the hash is made of, and shards: pairs of files that exactly one process ever writes.
``NAME.masks`` holds records one after the other, ``NAME.index`` a line for each, written after its record. A
line begins with its own checksum and holds that of its record, so what was cut off by a kill, or lost with
the power, is recognised and passed over.
"""

# Nobody repairs or extends the files of others, which is safe on any file system that keeps what one process
# appends. SQLite and LMDB want a local one; HDF5 has one writer, whose death can leave the file unreadable;
# tar files are read in sequence.

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import re
import secrets
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gl_ris.errors import UserError
from gl_ris.files import cache_folder, decode, plain, sync, sync_folder, to_json, write_json
from gl_ris.proposals.base import ImageKey, ProposalGenerator, Proposals, pack, unpack

FORMAT = 1  # Raised whenever older stores cannot be read any more.
MANIFEST, INDEX, RECORDS = "manifest.json", ".index", ".masks"
_MEND = "Bring it back, or remove its folder to have them made anew."

# Where classes lived when their first stores were made: keys name them so, or those would not be found.
FIRST_PATHS = {
    "gl_ris.proposals.superpixels.SLIC": "gl_ris.proposals.slic.SLIC",
    "gl_ris.proposals.superpixels.Felzenszwalb": "gl_ris.proposals.felzenszwalb.Felzenszwalb",
    "gl_ris.proposals.detectron2.CutLER": "gl_ris.proposals.cutler.CutLER",
    "gl_ris.proposals.freesolo.FreeSOLO": "gl_ris.proposals.freesolo.generator.FreeSOLO",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoreKey:
    """What must be equal for proposals to be the same."""

    dataset: str
    partition: str | None  # Who split it, or None.
    split: str
    generator: str
    generator_class: str  # So that two generators of one name are kept apart.
    version: int
    settings: Mapping[str, Any]
    weights: str | None  # Their hash.

    @classmethod
    def of(cls, generator: ProposalGenerator, dataset: str, partition: str | None, split: str) -> StoreKey:
        """Make the key of a generator's proposals for a split."""
        path = f"{type(generator).__module__}.{type(generator).__qualname__}"
        kind = (generator.name, FIRST_PATHS.get(path, path), generator.version)
        settings = plain(generator.settings())
        return cls(dataset, partition, split, *kind, settings, generator.weights_hash())

    @property
    def hash(self) -> str:
        """The first twelve hexadecimal digits of `sha256`."""
        return self.sha256[:12]

    @property
    def sha256(self) -> str:
        """The SHA-256 of the canonical JSON: sorted keys, 2.0 written as 2."""
        text = json.dumps(_canonical({"format": FORMAT, **asdict(self)}), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    @property
    def path(self) -> Path:
        """The folder below the root of all stores."""
        return split_folder(self.dataset, self.partition, self.split) / f"{_safe(self.generator)}-{self.hash}"


def split_folder(dataset: str, partition: str | None, split: str) -> Path:
    """Return the folder, below the root, of all stores of a split: ``<data set>-<partition>-<split>``."""
    return Path("-".join(_safe(part) for part in (dataset, partition, split) if part is not None))


def _safe(name: str) -> str:
    # A name must stay within its folder; names that become equal are still told apart by the hash.
    return re.sub(r"[^\w+-]", "_", name)


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and math.isfinite(value) and value.is_integer() else value


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of an index."""

    image: ImageKey
    # How many proposals there are, and how long making them took.
    count: int
    seconds: float
    failure: str | None = None  # Why there is no record, or None.
    # First byte of the record in its file, bytes, and CRC-32.
    offset: Annotated[int, Meta(ge=0)] = 0
    length: Annotated[int, Meta(ge=0)] = 0
    checksum: int = 0


class ProposalStore:
    """The stored proposals of one generator for one split.

    Making one, in the ``root`` of all stores, reads the index (some 200 bytes per image), if there is one,
    and writes nothing. Asking for an image reads its own record. What other processes write is seen after
    `refresh`. The generator's ``league`` is for reports. `UserError` if the folder holds something else or
    its manifest is damaged.
    """

    def __init__(self, root: Path | str, key: StoreKey, league: str = "not stated") -> None:
        manifest: dict[str, Any] = plain({"format": FORMAT, **asdict(key), "league": league})
        self._open(Path(root) / key.path, manifest)
        if (self.folder / MANIFEST).exists():
            found = read_manifest(self.folder)
            if any(_canonical(found.get(name)) != _canonical(manifest[name]) for name in asdict(key)):
                raise UserError(
                    f"The manifest in '{self.folder}' is of other proposals than its name says; remove the "
                    "folder to have them made anew."
                )

    @classmethod
    def at(cls, folder: Path) -> ProposalStore:
        """Open the store in a folder, to read; a `UserError` if its manifest is missing or damaged."""
        store = cls.__new__(cls)
        store._open(folder, read_manifest(folder))
        return store

    def _open(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder, self.manifest = folder, manifest
        self._shard: ShardWriter | None = None
        self._shard_of = 0
        self.refresh()

    def refresh(self) -> None:
        """Take up what other processes have written since."""
        self._found: defaultdict[ImageKey, list[tuple[Path, Entry]]] = defaultdict(list)
        self._failures: dict[ImageKey, str] = {}
        # Of the images whose proposals are stored, if only that there are none.
        self.image_ids: set[int | str] = set()
        for path in sorted(self.folder.glob(f"*{INDEX}")):  # the oldest first
            for entry in read_index(path):
                self._take_up(path, entry)

    def _take_up(self, path: Path, entry: Entry) -> None:
        if entry.failure is None:
            self._found[entry.image].append((path, entry))
            self.image_ids.add(entry.image.image_id)
        else:
            self._failures[entry.image] = entry.failure

    @property
    def name(self) -> str:
        """The folder's name below the root: data set, split, generator and hash."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def failures(self) -> dict[ImageKey, str]:
        """Images for which making proposals failed, with the reason, unless it worked at another time."""
        return {image: why for image, why in self._failures.items() if image not in self._found}

    @property
    def entries(self) -> list[Entry]:
        """One entry for each image whose proposals are stored."""
        return [found[0][1] for found in self._found.values()]

    @property
    def seconds(self) -> float:
        """What making the proposals of an image took, on average."""
        return sum(entry.seconds for entry in self.entries) / max(1, len(self))

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.folder.glob("*") if path.is_file())

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, image: ImageKey) -> bool:
        return self._record(image) is not None

    def get(self, image: ImageKey) -> Proposals | None:
        """Read the proposals of an image; None if they are not stored for these very pixels, or damaged.

        Of proposals that two processes stored at the same time, every process reads the same.
        """
        record = self._record(image)
        return None if record is None else unpack(record)

    def made_since(self, image: ImageKey, moment: int) -> bool:
        """Say whether what `get` reads was stored since a moment, in nanoseconds since the epoch."""
        return any(int(path.name.partition("-")[0]) >= moment for path, _ in self._found.get(image, [])[:1])

    def _record(self, image: ImageKey) -> bytes | None:
        candidates = self._found.get(image, [])
        while candidates:
            record = _read_record(*candidates[0])
            if record is not None:
                return record
            candidates.pop(0)
        self._found.pop(image, None)
        return None

    def put(self, image: ImageKey, proposals: Proposals, seconds: float = 0.0) -> None:
        """Store the proposals of an image; boxes and scores are kept as float32.

        An OSError, if the disk is full for example, leaves what was stored before as it is.
        """
        self._write(Entry(image, len(proposals), round(seconds, 4)), pack(proposals))

    def put_failure(self, image: ImageKey, reason: str, seconds: float = 0.0) -> None:
        """Note that making the proposals of an image failed, unless that is known already; see `put`."""
        if self._failures.get(image) != reason:
            self._write(Entry(image, 0, round(seconds, 4), reason), b"")

    def _write(self, entry: Entry, record: bytes) -> None:
        # A forked process needs a shard of its own
        if self._shard is None or self._shard_of != os.getpid():
            if not (self.folder / MANIFEST).exists():
                created = datetime.now(UTC).isoformat(timespec="seconds")
                write_json(self.folder / MANIFEST, {**self.manifest, "created": created})
            self._shard, self._shard_of = ShardWriter(self.folder), os.getpid()
            # the processes of a `DataLoader` end without a word to their stores
            Finalize(None, self._shard.close, exitpriority=1)
        try:
            self._take_up(self._shard.index, self._shard.append(entry, record))
        except OSError:
            self.close()  # Half a record may be at its end: what comes next goes into another one.
            raise

    def close(self) -> None:
        """Close the files that are written; the store can still be read, and written again."""
        if self._shard is not None and self._shard_of == os.getpid():
            self._shard.close()
        self._shard = None


class ShardWriter:
    """Appends records to a shard of its own in a folder, which is made if it is missing."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # Sorted by name, shards are in the order of their making.
        name = f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}"
        self.index = folder / f"{name}{INDEX}"
        self._records = (folder / f"{name}{RECORDS}").open("xb", buffering=0)
        self._index = self.index.open("xb", buffering=0)

    def append(self, entry: Entry, record: bytes) -> Entry:
        """Hand a record (empty for a failure) to the operating system, and return the line of the index.

        After an OSError the writer is not to be used any more.
        """
        offset = self._records.tell()
        entry = replace(entry, offset=offset, length=len(record), checksum=zlib.crc32(record))
        text = to_json(asdict(entry))
        line = b"%08x %s\n" % (zlib.crc32(text), text)
        for file, content in ((self._records, record), (self._index, line)):
            if file.write(content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file.name))
        return entry

    def close(self) -> None:
        """Close the files, when all of them is on the disk; harmless when repeated."""
        for file in (self._records, self._index):  # the record before the line that says where it is
            if not file.closed:
                sync(file)
            file.close()
        sync_folder(self.index.parent)


def read_index(path: Path) -> Iterator[Entry]:
    """Yield the sound lines of an index whose records are there in full length; others are passed over."""
    records = path.with_suffix(RECORDS)
    size = records.stat().st_size if records.exists() else 0
    lines = path.read_bytes().split(b"\n")
    # What follows the last line break is a line that was cut off, or nothing.
    for number, line in enumerate(lines[:-1], start=1):
        entry = _entry(line)
        if entry is None or entry.offset + entry.length > size:
            log.warning("Line %d of %s is damaged; its image counts as not stored.", number, path)
        else:
            yield entry


def _entry(line: bytes) -> Entry | None:
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    try:
        # json, because msgspec's own decoder knows no lone surrogates, which ids can have
        return msgspec.convert(json.loads(text), Entry)
    except (ValueError, RecursionError):  # whoever wrote it knew how to make a checksum
        return None


def _read_record(index: Path, entry: Entry) -> bytes | None:
    try:
        # Opened anew each time: a position in an open file would be shared with forked processes.
        with index.with_suffix(RECORDS).open("rb", buffering=0) as file:
            file.seek(entry.offset)
            content = file.read(entry.length)
    except FileNotFoundError:
        return None
    return content if zlib.crc32(content) == entry.checksum and len(content) == entry.length else None


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read what the store in a folder is; a `UserError` if its manifest is missing, damaged or too new."""
    path = folder / MANIFEST
    manifest = decode(path, dict[str, Any], "manifest of stored proposals", _MEND)
    known = {field.name for field in fields(StoreKey)} <= manifest.keys()
    if not known or manifest.get("format") != FORMAT:
        raise UserError(f"'{path}' is not the manifest of stored proposals of format {FORMAT}. {_MEND}")
    return manifest


def find_stores(root: Path, dataset: str, partition: str | None, split: str) -> list[ProposalStore]:
    """Open every store of a split, in the order of their names; a `UserError` if a manifest is damaged."""
    found = sorted((root / split_folder(dataset, partition, split)).glob(f"*/{MANIFEST}"))
    return [ProposalStore.at(path.parent) for path in found]


def default_root() -> Path:
    """Return the folder of all stores: ``$GL_RIS_STORE``, else ``proposals`` in the cache folder."""
    named = os.environ.get("GL_RIS_STORE")
    return Path(named).expanduser() if named else cache_folder() / "proposals"
