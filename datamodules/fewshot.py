"""Which refs a model may learn from when it may learn from k of each class (paper, Figure 4).

An instance is a ref with all its sentences. Within a class refs stand in the order of a hash of their ids, so
that a subset depends on nothing but seed, data set and ids, and for one seed k refs are among any more.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from datamodules.records import ImageRecord, Key, sort_key
from gl_ris.errors import UserError
from gl_ris.files import decode, write_json

Shots = int | Literal["all"]


@dataclass(frozen=True, slots=True)
class RefKey:
    """What is asked of a ref to choose it; two refs of one annotation are one instance."""

    ref_id: Key
    ann_id: Key
    category: Key
    image_id: Key
    sentences: int  # How many it has.


class Manifest(msgspec.Struct, frozen=True):
    """All that tells a subset from others; ``manifest.json`` of a run."""

    # the universe of refs
    dataset: str
    split_by: str
    split: str
    # what was asked for
    seed: int
    k: Shots
    # what was chosen, and its share of the refs of the universe
    n_refs: int
    n_sentences: int
    n_images: int
    share: float
    # of each class, how many instances there are and how many were taken
    per_class: dict[str, tuple[int, int]]
    ref_ids: list[Key]  # those chosen, by class and rank
    # `digest` of them, and of all refs in the order of their ids
    ref_ids_sha256: str
    universe_sha256: str


@dataclass(frozen=True)
class Subset:
    """k refs of each class, by class and rank, and what describes them."""

    refs: tuple[RefKey, ...]
    manifest: Manifest

    @property
    def shortfall(self) -> dict[str, int]:
        """Classes that have fewer than k instances, and how many are lacking."""
        k = self.manifest.k
        taken = {name: count for name, (_, count) in self.manifest.per_class.items()}
        return {} if k == "all" else {name: k - count for name, count in taken.items() if count < k}


def universe(
    records: Sequence[ImageRecord], where: str, classes: bool = True
) -> tuple[list[RefKey], dict[Key, list[tuple[int, int]]]]:
    """List a key per ref, and the places (image, row) of the refs of each annotation.

    A ref without a target is left out: there is nothing to learn from. `UserError` if the data, called
    ``where``, lack the class of a ref, and ``classes`` are asked for.
    """
    keys: list[RefKey] = []
    places: dict[Key, list[tuple[int, int]]] = defaultdict(list)
    for image, record in enumerate(records):
        for row, ref in enumerate(record.referents):
            if not ref.targeted:
                continue
            if ref.category is None and classes:
                raise UserError(
                    f"{where} does not tell the class of ref {ref.ref_id!r}, so there are no k refs of each "
                    "class to choose; use k=all, or the REFER files (data=refcoco, refcoco+, refcocog)."
                )
            # data that do not name annotations have one per ref
            ann = ref.ref_id if ref.ann_id is None else ref.ann_id
            category = ref.category or "unknown"
            keys.append(RefKey(ref.ref_id, ann, category, record.image_id, len(ref.sentences)))
            places[ann].append((image, row))
    return keys, places


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
    """Choose k instances of each class from refs in any order; ``categories`` may name classes without refs.

    A class with fewer gives all it has; nothing is drawn twice or from another class instead.
    `UserError` if ``k`` is not a count, or there are no refs.
    """
    if k != "all" and (not isinstance(k, int) or isinstance(k, bool) or k < 1):
        raise UserError(f"k={k!r} is not a number of refs; give a whole number from 1 on, or all.")
    everything = sorted(refs, key=lambda ref: sort_key(ref.ref_id))
    if not everything:
        raise UserError(f"{dataset} ({split_by}) {split} has no refs to learn from.")

    def rank(ref: RefKey) -> str:
        return hashlib.sha256(f"{seed}|{dataset}|{split_by}|{ref.ref_id}".encode()).hexdigest()

    by_class: dict[Key, list[RefKey]] = defaultdict(list, {name: [] for name in categories})
    for ref in _instances(everything, rank):
        by_class[ref.category].append(ref)
    ordered = {name: by_class[name] for name in sorted(by_class, key=sort_key)}
    chosen = {name: members if k == "all" else members[:k] for name, members in ordered.items()}
    flat = tuple(ref for members in chosen.values() for ref in members)
    ids = [ref.ref_id for ref in flat]
    manifest = Manifest(
        dataset,
        split_by,
        split,
        seed,
        k,
        n_refs=len(ids),
        n_sentences=sum(ref.sentences for ref in flat),
        n_images=len({ref.image_id for ref in flat}),
        share=len(ids) / len(everything),
        per_class={str(name): (len(ordered[name]), len(chosen[name])) for name in ordered},
        ref_ids=ids,
        ref_ids_sha256=digest(ids),
        universe_sha256=digest([ref.ref_id for ref in everything]),
    )
    return Subset(flat, manifest)


def _instances(refs: Sequence[RefKey], rank: Callable[[RefKey], str]) -> list[RefKey]:
    """Return the refs by rank, of those of one annotation the first, with the sentences of all."""
    first: dict[Key, RefKey] = {}
    for ref in sorted(refs, key=rank):
        known = first.get(ref.ann_id)
        first[ref.ann_id] = (
            ref if known is None else replace(known, sentences=known.sentences + ref.sentences)
        )
    return list(first.values())


def digest(ids: Sequence[Key]) -> str:
    """Return the SHA-256 of ids joined by commas."""
    return hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()


def write_manifest(path: Path, subset: Subset) -> None:
    """Write the manifest of a subset, to be read by `read_manifest`."""
    write_json(path, msgspec.structs.asdict(subset.manifest))


def read_manifest(path: Path, refs: Iterable[RefKey]) -> Subset:
    """Bring an earlier subset of the universe ``refs`` back; `UserError` if the file is not of it."""
    manifest = decode(path, Manifest, "manifest", "Take that of another run, or leave it out.")
    present = {ref.ref_id: ref for ref in refs}
    if digest(sorted(present, key=sort_key)) != manifest.universe_sha256:
        raise UserError(f"The manifest '{path}' was made from other refs than the {len(present):,} here.")
    if digest(manifest.ref_ids) != manifest.ref_ids_sha256 or not set(manifest.ref_ids) <= set(present):
        raise UserError(f"The manifest '{path}' is damaged: its refs are not those it was written with.")
    return Subset(tuple(present[ref_id] for ref_id in manifest.ref_ids), manifest)
