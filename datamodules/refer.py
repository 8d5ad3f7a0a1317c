"""The file format of RefCOCO, RefCOCO+ and RefCOCOg: ``refs(<split_by>).p`` beside ``instances.json``.

The refs are a list of dicts in a pickle, the instances are those of COCO. Both are checked as they are read,
as far as they are used here; segmentations stay JSON until their mask is asked for, so that a damaged one
costs its image and not the run.
"""

import logging
import pickle
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar, cast

import msgspec
from lightning.pytorch.utilities import rank_zero_only

from datamodules.annotated import Annotation, Columns
from datamodules.files import (
    FETCH_AGAIN,
    Id,
    Sized,
    clean_text,
    compact_json,
    convert,
    read_mapped,
    write_bytes,
)
from datamodules.pickles import read_plain_pickle
from datamodules.records import ImageRecord, Key, Referent, sort_key
from gl_ris.errors import UserError, unknown_name

MAX_SENTENCE = 10_000  # characters; more are taken for damage: RefCOCOg's longest has a few hundred

log = logging.getLogger(__name__)


class Sentence(msgspec.Struct, gc=False):
    """An expression: cleaned by the data set (``sent``), and as it was typed (``raw``, where it is known)."""

    sent_id: Id
    sent: Annotated[str, msgspec.Meta(max_length=MAX_SENTENCE)]
    raw: Any = None


class BareRef(msgspec.Struct):
    """A ref that stands beside its image and annotation."""

    ref_id: Id
    ann_id: Id
    split: str
    sentences: list[Sentence]


class Ref(BareRef):
    """A ref of a refs file."""

    image_id: Id
    category_id: Id

    @property
    def ann_ids(self) -> tuple[Key, ...]:
        """The annotations that are meant; in other formats there may be several, or none."""
        return (self.ann_id,)

    def target(self, annotated: Columns) -> dict[str, Any]:
        """Return what a `Referent` knows of the target, given the image's annotations."""
        return {"segmentations": annotated.outlines([annotated.rows[self.ann_id]]), "ann_id": self.ann_id}

    @property
    def category(self) -> Key | None:
        """Id of the category of what is meant."""
        return self.category_id


class Image(Sized, gc=False):
    """An image of COCO."""

    id: Id
    file_name: str


class Category(msgspec.Struct, gc=False):
    """A class of COCO."""

    id: Id
    name: str


class Instances(msgspec.Struct):
    """A file of COCO instances: ``instances.json`` of RefCOCO, or COCO's own ``instances_train2014.json``."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]


_Record = TypeVar("_Record", Image, Annotation)


class Form(NamedTuple):
    """A format of refs that stand beside ``instances.json``."""

    name: str  # of the file with the refs of partition {}
    kind: type  # of its refs: `Ref` or the like
    load: Callable[[Path], list[Any]]  # reads it; `UserError` if it cannot
    dump: Callable[[Sequence[Mapping[str, Any]]], bytes]  # writes it

    def path(self, folder: Path, split_by: str) -> Path:
        """Return where the refs of partition ``split_by`` lie."""
        return folder / self.name.format(split_by)

    def partitions(self, folder: Path) -> list[str]:
        """Return the partitions that ``folder`` has refs of, e.g. ``["google", "umd"]``."""
        begin, _, end = self.name.partition("{}")
        return sorted(path.name[len(begin) : -len(end)] for path in folder.glob(self.name.format("*")))

    def require(self, folder: Path, split_by: str) -> Path:
        """Return the file with the refs of one partition; `UserError` if it or its folder is not there."""
        if not folder.is_dir():
            name = self.name.format("<split_by>")
            raise UserError(f"No folder '{folder}': it should hold {name} and instances.json.")
        path = self.path(folder, split_by)
        if not path.is_file():
            raise unknown_name(f"partition (data.split_by) of '{folder}'", split_by, self.partitions(folder))
        return path


def load_refs(path: Path) -> list[Ref]:
    """Read a file of refs, `UserError` if it is missing or damaged; ids may be there twice."""
    plain = read_plain_pickle(path)
    # a pickle may name one list again and again, so that a small file stands for billions of sentences
    dicts = [ref for ref in plain if isinstance(ref, dict)] if isinstance(plain, list) else []
    lists = [ref["sentences"] for ref in dicts if isinstance(ref.get("sentences"), Collection)]
    if sum(map(len, lists)) > path.stat().st_size:
        raise UserError(f"'{path}': there are more sentences than fit into the file. {FETCH_AGAIN}")
    sentences = (sentence for some in lists for sentence in some if isinstance(sentence, dict))
    texts = (sentence.get(key) for sentence in sentences for key in ("sent", "raw"))
    # true ones share a text now and then, so that they may have a few more characters than the file has bytes
    if sum(len(text) for text in texts if isinstance(text, str)) > 16 * path.stat().st_size:
        raise UserError(f"'{path}': there are more characters than fit into the file. {FETCH_AGAIN}")
    return convert(plain, list[Ref], f"'{path}'")


def _pickled(refs: Sequence[Mapping[str, Any]]) -> bytes:
    return pickle.dumps(list(refs), protocol=2)


REFER = Form("refs({}).p", Ref, load_refs, _pickled)
"""The format of RefCOCO: each ref means one annotation."""


def read_refs(folder: Path, split_by: str, form: Form = REFER) -> list[Any]:
    """Read the refs of one partition; `UserError` as `load_refs`, and if two of them have one id."""
    path = form.require(folder, split_by)
    refs = form.load(path)
    _require_own_ids(refs, path)
    return refs


def _require_own_ids(refs: Sequence[Ref], path: Path) -> None:
    seen: dict[Key, int] = {}
    for number, ref in enumerate(refs):
        first = seen.setdefault(ref.ref_id, number)
        if first != number:
            raise UserError(f"'{path}': ref {number} has the 'ref_id' of ref {first}, {ref.ref_id!r:.60}.")


def read_split(
    folder: Path,
    split_by: str,
    split: str,
    all_instances: bool = False,
    *,
    instances: Path | None = None,
    crowds: bool = False,
    form: Form = REFER,
) -> list[ImageRecord]:
    """Read one split, grouped by image.

    An image of a partition by object (RefCOCOg ``google``) may stand in several splits; here it comes with
    the refs of ``split`` alone. Refs without any sentence are left out, since nothing is asked of them; a
    line says how many. Each record has all objects of its image that the data set outlines, crowds, too.
    ``all_instances`` gives it every instance in ``instances`` (None for the data set's own), crowds only if
    they are wanted, to serve as ground-truth proposals. Records are ordered by image id, the refs of each by
    ref id. `UserError` if a file is missing or damaged, the split is unknown, the two files do not belong
    together, or ``instances`` lacks an image.
    """
    by_image: dict[Key, list[Ref]] = defaultdict(list)
    for ref in _asked(folder, split_by, split, form):
        by_image[ref.image_id].append(ref)
    path = folder / "instances.json"
    found, file = read_mapped(path, Instances)
    images = _by_id((image for image in found.images if image.id in by_image), f"'{path}': image")
    _require_targets(found, by_image, images.keys(), f"'{form.path(folder, split_by)}' and '{path}'", path)
    categories = {category.id: clean_text(category.name) for category in found.categories}
    targets = [number for refs in by_image.values() for ref in refs for number in ref.ann_ids]
    objects = others = Columns(found.annotations, file, images.keys(), targets)
    if all_instances:
        if instances is not None:
            found, file = read_mapped(instances, Instances)
            others = Columns(found.annotations, file, images.keys())
        _require_proposals(found, images, instances or path)
    del found  # see `Columns`
    names = [None if kind is None else categories.get(kind) for kind in objects.categories]
    return [
        ImageRecord(
            key,
            clean_text(images[key].file_name),
            images[key].height,
            images[key].width,
            tuple(_referent(ref, objects, categories) for ref in by_image[key]),
            objects.outlines(objects.images[key]),
            tuple(names[row] for row in objects.images[key]),
            others.outlines(others.images[key], crowds) if all_instances else (),
        )
        for key in sorted(by_image, key=sort_key)
    ]


def _asked(folder: Path, split_by: str, split: str, form: Form) -> list[Ref]:
    refs = read_refs(folder, split_by, form)
    own = [ref for ref in refs if clean_text(ref.split) == split]
    if not own:
        present = {" ".join(clean_text(ref.split).split())[:60] for ref in refs}
        raise unknown_name(f"split of {folder.name} ({split_by})", split, sorted(present)[:20])
    asked = sorted((ref for ref in own if ref.sentences), key=lambda ref: sort_key(ref.ref_id))
    if silent := len(own) - len(asked):
        place = f"'{form.path(folder, split_by)}' {split}"
        rank_zero_only(log.warning)("%d refs of %s have no sentence and are left out.", silent, place)
    del refs, own
    for sentence in (sentence for ref in asked for sentence in ref.sentences):
        sentence.raw = sentence.raw if isinstance(sentence.raw, str) else None
    # in memory of their own: where they are, each of them keeps a page of what was read with it
    try:
        packed = msgspec.msgpack.encode(asked)
        unpack = msgspec.msgpack.Decoder(cast("Any", list)[form.kind]).decode
    except UnicodeEncodeError:  # bytes of Python 2 that are not UTF-8
        packed, unpack = pickle.dumps(asked), pickle.loads
    del asked
    return unpack(packed)


def _by_id(records: Iterable[_Record], what: str) -> dict[Key, _Record]:
    """Return records by their id; one that is there twice, and alike, counts once."""
    known: dict[Key, _Record] = {}
    for record in records:
        if known.setdefault(record.id, record) != record:
            raise UserError(f"{what} {record.id!r:.60} is there twice, and not alike. {FETCH_AGAIN}")
    return known


def _require_targets(
    found: Instances, by_image: Mapping[Key, Sequence[Ref]], images: Set[Key], files: str, path: Path
) -> None:
    """Check that the annotations that refs name are there, each of the image that its ref names."""
    refs = [ref for own in by_image.values() for ref in own]
    wanted = {number for ref in refs for number in ref.ann_ids}
    targets = _by_id((item for item in found.annotations if item.id in wanted), f"'{path}': annotation")
    if lost := by_image.keys() - images:
        fault = f"{len(lost)} images that the refs name are not in the instances (ids {_some(lost)})"
    elif lost := wanted - targets.keys():
        fault = f"{len(lost)} annotations that the refs name are not in the instances (ids {_some(lost)})"
    elif lost := {ref.ref_id for ref in refs if {targets[n].image_id for n in ref.ann_ids} - {ref.image_id}}:
        fault = f"{len(lost)} refs name an annotation of another image than their own (ids {_some(lost)})"
    else:
        return
    raise UserError(f"{files} do not belong together: {fault}. Use both files of one download.")


def _require_proposals(found: Instances, images: Mapping[Key, Image], path: Path) -> None:
    """Check that the instances are of all images in their sizes, and that none stands there in two forms."""
    listed = _by_id((image for image in found.images if image.id in images), f"'{path}': image")
    if missing := [key for key in images if key not in listed]:
        raise UserError(
            f"'{path}' lacks {len(missing)} of the {len(images)} images (ids {_some(missing)}), so they have "
            "no ground-truth proposals. Use the instances of COCO train2014, or the data set's own."
        )
    sizes = {key: (image.height, image.width) for key, image in listed.items()}
    if other := [key for key, image in images.items() if sizes[key] != (image.height, image.width)]:
        raise UserError(f"'{path}' has {len(other)} of the images in another size (ids {_some(other)}).")
    _by_id((one for one in found.annotations if one.image_id in images), f"'{path}': annotation")


def _some(keys: Collection[Key]) -> str:
    first = sorted(keys, key=sort_key)[:3]
    return ", ".join(f"{key!r:.60}" for key in first) + (", ..." if len(keys) > 3 else "")


def _referent(ref: Ref, annotated: Columns, categories: Mapping[Key, str]) -> Referent:
    return Referent(
        ref_id=ref.ref_id,
        sentences=tuple(clean_text(sentence.sent) for sentence in ref.sentences),
        sent_ids=tuple(sentence.sent_id for sentence in ref.sentences),
        category=None if ref.category is None else categories.get(ref.category),
        raw=raw_sentences(ref.sentences),
        **ref.target(annotated),
    )


def raw_sentences(sentences: Sequence[Sentence]) -> tuple[str, ...]:
    """Return a ref's sentences as they were typed; none if one lacks them or they are as ``sent``.

    Example:
        >>> raw_sentences([Sentence(7, "left dog", "Left dog!")])
        ('Left dog!',)
    """
    found = [sentence.raw for sentence in sentences]
    usable = all(isinstance(text, str) and len(text) <= MAX_SENTENCE for text in found)
    if not usable or found == [sentence.sent for sentence in sentences]:
        return ()
    return tuple(clean_text(text) for text in found)


def write_refer(
    folder: Path | str,
    split_by: str,
    refs: Sequence[Mapping[str, Any]],
    instances: Mapping[str, Any],
    form: Form = REFER,
) -> None:
    """Write a data set in the format of RefCOCO, or a like one; `read_split` is the inverse.

    Each file appears complete or not at all: first ``instances.json``, then the refs, so that refs never
    stand without the instances they name; `UserError` if they lack a field.

    Refs are dicts with ``ref_id, ann_id, image_id, category_id, split, file_name, sent_ids`` and
    ``sentences``, a list of dicts with ``sent_id, sent, raw, tokens``. Instances have ``images`` (``id,
    file_name, height, width``), ``annotations`` (``id, image_id, category_id, segmentation, area, bbox,
    iscrowd``) and ``categories`` (``id, name``).
    """
    refs_file, instances_file = form.path(Path(folder), split_by), Path(folder) / "instances.json"
    plain = [dict(ref) for ref in refs]
    _require_own_ids(convert(plain, cast("Any", list)[form.kind], f"'{refs_file}'"), refs_file)
    write_bytes(instances_file, compact_json(dict(instances), Instances, f"'{instances_file}'"))
    write_bytes(refs_file, form.dump(plain))
