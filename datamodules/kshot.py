"""Which refs a model may learn from when it may learn from k of each class (paper, Figure 4).

An instance is a ref with all its sentences. Within a class refs stand in the order of a hash of their ids, so
that a subset depends on nothing but seed, data set and ids, and for one seed k refs are among any more.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from datamodules.records import Key, sort_key
from gl_ris.errors import UserError
from gl_ris.files import write_json

Shots = int | Literal["all"]


@dataclass(frozen=True, slots=True)
class RefKey:
    """What is asked of a ref to choose it.

    Attributes:
        ref_id: Its id.
        ann_id: Id of the annotation that it refers to; two refs of one annotation are one instance.
        category: Its class.
        image_id: Its image.
        sentences: How many sentences it has.
    """

    ref_id: Key
    ann_id: Key
    category: Key
    image_id: Key
    sentences: int


@dataclass(frozen=True)
class Subset:
    """k refs of each class.

    Attributes:
        refs: Those chosen, by class and rank.
        available: For each class, how many instances there are; classes without any have 0.
        taken: For each class, how many were taken.
        manifest: All that tells the subset from others, as JSON values.
    """

    refs: tuple[RefKey, ...]
    available: Mapping[Key, int]
    taken: Mapping[Key, int]
    manifest: Mapping[str, Any]

    @property
    def shortfall(self) -> dict[Key, int]:
        """Classes that have fewer than k instances, and how many are lacking."""
        k = self.manifest["k"]
        lacking = {} if k == "all" else {name: k - count for name, count in self.taken.items()}
        return {name: count for name, count in lacking.items() if count > 0}


def choose_refs(
    refs: Iterable[RefKey],
    k: Shots,
    seed: int,
    *,
    dataset: str,
    split_by: str,
    split: str,
    categories: Iterable[Key] = (),
) -> Subset:
    """Choose k instances of each class.

    A class with fewer gives all it has; nothing is drawn twice or from another class instead.

    Args:
        refs: The universe, in any order.
        k: Instances of each class, at least 1, or ``"all"``.
        seed: Of the order within the classes.
        dataset: Name of the data set, part of what is hashed.
        split_by: Partition, likewise.
        split: Split of the universe, for the manifest.
        categories: All classes, so that those without refs are recorded too.

    Raises:
        UserError: ``k`` is not a count, or there are no refs.
    """
    if k != "all" and (not isinstance(k, int) or isinstance(k, bool) or k < 1):
        raise UserError(f"k={k!r} is not a number of refs; give a whole number from 1 on, or all.")
    universe = sorted(refs, key=lambda ref: sort_key(ref.ref_id))
    if not universe:
        raise UserError(f"{dataset} ({split_by}) {split} has no refs to learn from.")
    by_class: dict[Key, list[RefKey]] = defaultdict(list, {name: [] for name in categories})
    for ref in _instances(universe, lambda ref: _rank(ref, seed, dataset, split_by)):
        by_class[ref.category].append(ref)
    ordered = {name: by_class[name] for name in sorted(by_class, key=sort_key)}
    chosen = {name: members if k == "all" else members[:k] for name, members in ordered.items()}
    flat = tuple(ref for members in chosen.values() for ref in members)
    available = {name: len(members) for name, members in ordered.items()}
    taken = {name: len(members) for name, members in chosen.items()}
    where = {"dataset": dataset, "split_by": split_by, "split": split, "seed": seed, "k": k}
    return Subset(flat, available, taken, where | _describe(flat, universe, available, taken))


def _rank(ref: RefKey, seed: int, dataset: str, split_by: str) -> str:
    return hashlib.sha256(f"{seed}|{dataset}|{split_by}|{ref.ref_id}".encode()).hexdigest()


def _instances(universe: Sequence[RefKey], rank: Any) -> list[RefKey]:
    """Return the refs by rank, of those of one annotation the first, with the sentences of all."""
    first: dict[Key, RefKey] = {}
    for ref in sorted(universe, key=rank):
        known = first.get(ref.ann_id)
        if known is not None:
            ref = RefKey(
                known.ref_id, ref.ann_id, known.category, known.image_id, known.sentences + ref.sentences
            )
        first[ref.ann_id] = ref
    return list(first.values())


def _describe(
    chosen: Sequence[RefKey],
    universe: Sequence[RefKey],
    available: Mapping[Key, int],
    taken: Mapping[Key, int],
) -> dict[str, Any]:
    ids = [ref.ref_id for ref in chosen]
    return {
        "n_refs": len(ids),
        "n_sentences": sum(ref.sentences for ref in chosen),
        "n_images": len({ref.image_id for ref in chosen}),
        "share": len(ids) / len(universe),
        "per_class": {str(name): [available[name], taken[name]] for name in available},
        "ref_ids": ids,
        "ref_ids_sha256": digest(ids),
        "universe_sha256": digest([ref.ref_id for ref in universe]),
    }


def digest(ids: Sequence[Key]) -> str:
    """Return the SHA-256 of ids joined by commas.

    Example:
        >>> digest([1, 2])[:8]
        '17f8af97'
    """
    return hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()


def write_manifest(path: Path, subset: Subset) -> None:
    """Write the manifest of a subset, to be read by `read_manifest`."""
    write_json(path, dict(subset.manifest))


def read_manifest(path: Path, refs: Iterable[RefKey]) -> Subset:
    """Bring an earlier subset back.

    Args:
        path: What `write_manifest` wrote.
        refs: The universe.

    Raises:
        UserError: The file is missing or damaged, or was made from another universe of refs.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        ids, known, universe = (manifest[key] for key in ("ref_ids", "ref_ids_sha256", "universe_sha256"))
        counts = {name: tuple(map(int, pair)) for name, pair in manifest["per_class"].items()}
        available, taken = ({name: pair[place] for name, pair in counts.items()} for place in (0, 1))
        lacking = manifest["k"] == "all" or int(manifest["k"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"The manifest '{path}' cannot be read ({error}).") from error
    present = {ref.ref_id: ref for ref in refs}
    if digest(sorted(present, key=sort_key)) != universe:
        raise UserError(f"The manifest '{path}' was made from other refs than the {len(present):,} here.")
    if digest(ids) != known or not set(ids) <= set(present) or not lacking:
        raise UserError(f"The manifest '{path}' is damaged: its refs are not those it was written with.")
    return Subset(tuple(present[ref_id] for ref_id in ids), available, taken, manifest)
