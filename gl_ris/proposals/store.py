"""Proposals on disk, made once: per data set, split, generator, its full settings and its weights.

Why files of our own and no library: the work is written by many processes, killed at any moment, and read by
image. SQLite does that on one machine, but its write-ahead log is not for network file systems, where the
stores of a cluster lie. LMDB has the same limit and wants its final size in advance. Zarr and HDF5 hold
arrays of one shape; masks of every count and size, a few hundred bytes each, would be a file or a chunk per
image, and HDF5 has one writer, whose death can leave the file unreadable. WebDataset's tar files are read in
sequence. What is needed beyond ``open`` and ``json`` is small: files with one writer each and an index with
checksums (`gl_ris.proposals.shards`), safe on any file system that keeps what one process appends.

A store is a folder ``<data set>-<partition>-<split>/<generator>-<hash>`` with ``manifest.json``, which says
in clear what the hash is made of, and the shards. Opening it reads the index (some 200 bytes per image),
asking for an image its own record. What other processes write is seen after `ProposalStore.refresh`.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from gl_ris.errors import UserError
from gl_ris.files import cache_folder, plain, write_json
from gl_ris.proposals.base import ProposalGenerator, Proposals
from gl_ris.proposals.record import ImageKey, pack, unpack
from gl_ris.proposals.shards import Entry, ShardWriter, read_index, read_record, shards

FORMAT = 1
"""Raised whenever older stores cannot be read any more."""

MANIFEST = "manifest.json"
_MEND = "Bring it back, or remove its folder to have them made anew."


@dataclass(frozen=True)
class StoreKey:
    """What must be equal for proposals to be the same.

    Attributes:
        dataset: Name of the data set.
        partition: Who split it, or None.
        split: Name of the split.
        generator: Name of the generator.
        generator_class: Its class, so that two of one name are kept apart.
        version: Its `ProposalGenerator.version`.
        settings: All of its settings.
        weights: Hash of its weights, or None.
    """

    dataset: str
    partition: str | None
    split: str
    generator: str
    generator_class: str
    version: int
    settings: Mapping[str, Any]
    weights: str | None

    @classmethod
    def of(cls, generator: ProposalGenerator, dataset: str, partition: str | None, split: str) -> StoreKey:
        """Make the key of a generator's proposals for a split."""
        kind = type(generator)
        return cls(
            dataset,
            partition,
            split,
            generator.name,
            f"{kind.__module__}.{kind.__qualname__}",
            generator.version,
            plain(generator.settings()),
            generator.weights_hash(),
        )

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of the canonical JSON: sorted keys, 2.0 written as 2."""
        text = json.dumps(_canonical({"format": FORMAT, **asdict(self)}), sort_keys=True, ensure_ascii=True)
        return sha256(text.encode("ascii")).hexdigest()[:12]

    @property
    def path(self) -> Path:
        """The folder below the root of all stores."""
        return split_folder(self.dataset, self.partition, self.split) / f"{_safe(self.generator)}-{self.hash}"


def split_folder(dataset: str, partition: str | None, split: str) -> Path:
    """Return the folder, below the root, of all stores of a split.

    Example:
        >>> str(split_folder("refcoco", "unc", "val"))
        'refcoco-unc-val'
    """
    return Path("-".join(_safe(part) for part in (dataset, partition, split) if part is not None))


def _safe(name: str) -> str:
    """Keep a name within its folder; names that become equal are still told apart by the hash."""
    return re.sub(r"[^\w+-]", "_", name)


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and math.isfinite(value) and value.is_integer() else value


class ProposalStore:
    """The stored proposals of one generator for one split.

    Making one reads the index, if there is one, and writes nothing; the folder is made when there is
    something to keep.

    Args:
        root: Folder of all stores.
        key: What the proposals are of.
        league: The generator's, for reports.

    Attributes:
        folder: Where it is.
        manifest: What it is, as ``manifest.json`` says.
        image_ids: Ids of the images whose proposals are stored, if only that there are none.

    Raises:
        UserError: The folder holds something else or its manifest is damaged.
    """

    def __init__(self, root: Path | str, key: StoreKey, league: str = "not stated") -> None:
        self.folder = Path(root) / key.path
        self.manifest: dict[str, Any] = plain({"format": FORMAT, **asdict(key), "league": league})
        if (self.folder / MANIFEST).exists():
            found = read_manifest(self.folder)
            if any(_canonical(found.get(name)) != _canonical(self.manifest[name]) for name in asdict(key)):
                raise UserError(
                    f"The manifest in '{self.folder}' is of other proposals than its name says; remove the "
                    "folder to have them made anew."
                )
        self._open()

    @classmethod
    def at(cls, folder: Path) -> ProposalStore:
        """Open the store in a folder, whoever made it, to read.

        Raises:
            UserError: There is none, or its manifest is damaged.
        """
        store = cls.__new__(cls)
        store.folder, store.manifest = folder, read_manifest(folder)
        store._open()
        return store

    def _open(self) -> None:
        self._shard: ShardWriter | None = None
        self._shard_of = 0
        self.refresh()

    def refresh(self) -> None:
        """Take up what other processes have written since."""
        self._found: defaultdict[ImageKey, list[tuple[Path, Entry]]] = defaultdict(list)
        self._failures: dict[ImageKey, str] = {}
        self.image_ids: set[int | str] = set()
        for path in shards(self.folder):
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

    def _record(self, image: ImageKey) -> bytes | None:
        candidates = self._found.get(image, [])
        while candidates:
            record = read_record(*candidates[0])
            if record is not None:
                return record
            candidates.pop(0)
        self._found.pop(image, None)
        return None

    def put(self, image: ImageKey, proposals: Proposals, seconds: float = 0.0) -> None:
        """Store the proposals of an image.

        Args:
            image: The image.
            proposals: Any number of the image's size; boxes and scores are kept as float32.
            seconds: How long making them took.

        Raises:
            OSError: The disk is full, for example. What was stored before stays.
        """
        record = pack(proposals)
        self._write(lambda shard: shard.append(image, record, len(proposals), round(seconds, 4)))

    def put_failure(self, image: ImageKey, reason: str, seconds: float = 0.0) -> None:
        """Note that making the proposals of an image failed; a repetition of what is known is not noted.

        Raises:
            OSError: See `put`.
        """
        if self._failures.get(image) != reason:
            self._write(lambda shard: shard.append_failure(image, reason, round(seconds, 4)))

    def _write(self, work: Callable[[ShardWriter], Entry]) -> None:
        """Write to the shard of this process: a forked one needs a shard of its own."""
        if self._shard is None or self._shard_of != os.getpid():
            if not (self.folder / MANIFEST).exists():
                created = datetime.now(UTC).isoformat(timespec="seconds")
                write_json(self.folder / MANIFEST, {**self.manifest, "created": created})
            self._shard, self._shard_of = ShardWriter(self.folder), os.getpid()
        try:
            self._take_up(self._shard.index, work(self._shard))
        except OSError:
            # Half a record may be at its end: what comes next goes into another one.
            self.close()
            raise

    def close(self) -> None:
        """Close the files that are written; the store can still be read, and written again."""
        if self._shard is not None and self._shard_of == os.getpid():
            self._shard.close()
        self._shard = None


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read what the store in a folder is.

    Raises:
        UserError: There is no manifest, it is damaged, or it is of a format not known here.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        known = isinstance(manifest, dict) and {field.name for field in fields(StoreKey)} <= manifest.keys()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise UserError(
            f"The manifest '{path}' of stored proposals cannot be read: {reason}. {_MEND}"
        ) from error
    if not known or manifest.get("format") != FORMAT:
        raise UserError(f"'{path}' is not the manifest of stored proposals of format {FORMAT}. {_MEND}")
    return manifest


def find_stores(root: Path, dataset: str, partition: str | None, split: str) -> list[ProposalStore]:
    """Open every store of a split, in the order of their names.

    Raises:
        UserError: A manifest is damaged.
    """
    found = sorted((root / split_folder(dataset, partition, split)).glob(f"*/{MANIFEST}"))
    return [ProposalStore.at(path.parent) for path in found]


def default_root() -> Path:
    """Return the folder of all stores: ``$GL_RIS_STORE``, else ``proposals`` in the cache folder."""
    named = os.environ.get("GL_RIS_STORE")
    return Path(named).expanduser() if named else cache_folder() / "proposals"
