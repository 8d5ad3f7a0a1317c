"""One record per expression and method, written as a run goes and merged over its processes."""

import itertools
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from gl_ris.errors import UserError
from gl_ris.files import atomic_file, sync, sync_folder, to_json

Key = tuple[int | str, int | str, int | str, str]  # What a record is about: image, ref, expression, method.
# reasons of a failure that is the lack of anything to choose from
NO_PROPOSALS, SKIPPED = "no proposals", "skipped, no proposals"
_NAME = "predictions.jsonl"
_RANK = re.compile(r"predictions_rank(\d+)\.jsonl")
_BLOCK = 1 << 20  # bytes of predictions that are there twice while files are merged, at most about
_LARGEST = sys.float_info.max
_Count = Annotated[int, Meta(ge=0)]
_Score = Annotated[float, Meta(ge=-_LARGEST, le=_LARGEST)]
_Pixels = Annotated[int, Meta(ge=0, le=1 << 40)]
# keys that a line has only where they say something, and what they hold otherwise
_OPTIONAL = (
    *(
        (name, None)
        for name in ("subsets", "parsed", "target", "chosen", "image", "overlaps", "area", "ranked")
    ),
    *((name, False) for name in ("tied", "abstained")),
)


class AnnotatedObject(msgspec.Struct, frozen=True):
    """An object that the data set outlines in an image."""

    category: str | None  # None where the data do not name it
    area: _Pixels


class UnitedObjects(msgspec.Struct, frozen=True):
    """Several objects that are one target: their union, which is no sum where they overlap."""

    objects: tuple[_Count, ...]
    area: _Pixels
    overlaps: tuple[_Pixels, ...]  # with each proposal


class ImageFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What proposals and annotated objects of an image have in common, in pixels."""

    size: tuple[_Pixels, _Pixels]  # height and width
    areas: tuple[_Pixels, ...]  # of each proposal
    objects: tuple[AnnotatedObject, ...]
    overlaps: tuple[tuple[_Pixels, ...], ...]  # by object, with each proposal
    united: tuple[UnitedObjects, ...] = ()  # targets of several objects

    def __post_init__(self) -> None:
        """Check that every object and every target has an overlap with each proposal."""
        rows = [*self.overlaps, *(one.overlaps for one in self.united)]
        if len(self.overlaps) != len(self.objects) or any(len(row) != len(self.areas) for row in rows):
            raise ValueError("overlaps must have a row for each object, and in it a number for each proposal")
        if any(place >= len(self.objects) for one in self.united for place in one.objects):
            raise ValueError("united names an object that is not there")


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """What one method chose for one expression: a line of ``predictions.jsonl``."""

    # the data set's own id of the image; ``ref_id`` and ``sent_id``, of referent and expression
    image_id: int | str
    ref_id: int | str
    sent_id: int | str
    expression: str  # the expression as the data set has it
    noun_phrase: str | None  # its target noun phrase, or None where no method asked for it
    method: str  # The method's name, e.g. "Global-Local".
    choice: _Count | None  # index of the chosen proposal, or None if there was nothing to choose from
    score: _Score | None  # the method's, of the choice; NaN is written as null
    # intersection over union in [0, 1]; 0 where the union is empty. It and both areas are None where the data
    # have no target for the expression.
    iou: Annotated[float, Meta(ge=0, le=1)] | None
    intersection: _Count | None  # pixels that the choice and the target share
    union: _Count | None  # pixels that they cover together
    # the chosen mask as compressed COCO RLE (`gl_ris.masks.encode_rle`), or None
    segmentation: dict[str, Any] | None
    # Why the expression counts as a miss without a choice (e.g. "no proposals"), or None.
    failure: str | None = None
    index: int = 0  # position of the image in the split: the order of the lines
    # the data set's subsets that the expression is in; None, and no key in the line, where the data set
    # has no subsets
    subsets: tuple[str, ...] | None = None
    # whether another proposal has the score of the chosen one, too; no key in the line where it is not so
    tied: bool = False
    # what the expression says (`gl_ris.Parsed.said`); None, and no key in the line, where nothing parsed it
    parsed: dict[str, Any] | None = None
    # which of the image's objects are meant together, none where the data say that nothing is; no key in the
    # line where they do not say
    target: tuple[_Count, ...] | None = None
    # all proposals that were chosen, where they are several, ``choice`` the best of them; else no key
    chosen: tuple[_Count, ...] | None = None
    # whether nothing was chosen because the best score was too low; no key in the line where it is not so
    abstained: bool = False
    ranked: tuple[tuple[_Count, _Score], ...] | None = None  # the few best proposals and their scores
    image: ImageFacts | None = None  # in the first record of each image alone
    # of a mask that is no proposal: the pixels that it shares with each of the image's objects, and its own
    overlaps: tuple[_Pixels, ...] | None = None
    area: _Pixels | None = None

    def __post_init__(self) -> None:
        """Check that a record has been measured as a whole or not at all."""
        if len({value is None for value in (self.iou, self.intersection, self.union)}) > 1:
            raise ValueError("of iou, intersection and union, either all are null or none is")
        if (self.overlaps is None) != (self.area is None):
            raise ValueError("of overlaps and area, both are there or none is")

    @property
    def key(self) -> tuple[int | str, int | str, int | str]:
        """The expression that it is about."""
        return self.image_id, self.ref_id, self.sent_id

    def fits(self, image: ImageFacts) -> bool:
        """Say whether it speaks of proposals and objects that its image has."""
        rows = [*(self.chosen or ()), *(() if self.choice is None else (self.choice,))]
        rows += [row for row, _ in self.ranked or ()]
        known = all(place < len(image.objects) for place in self.target or ())
        alike = self.overlaps is None or len(self.overlaps) == len(image.objects)
        whole = len(self.target or ()) < 2 or self.target in [one.objects for one in image.united]
        return known and alike and whole and all(row < len(image.areas) for row in rows)

    def line(self) -> bytes:
        """Return the record as a line of strict JSON."""
        content = msgspec.to_builtins(self)
        for name, usual in _OPTIONAL:
            if content[name] is usual:
                del content[name]
        return to_json(content) + b"\n"


class PredictionWriter(AbstractContextManager["PredictionWriter"]):
    """Writes one process's records to ``predictions_rank{rank}.jsonl``, there from the start.

    After every `append` they are with the operating system, so that a kill loses none; after `close` they are
    on the disk. A file of that name from an earlier run is replaced. Usable as a context manager.
    """

    def __init__(self, run_dir: Path | str, rank: int = 0) -> None:
        self.path = _rank_path(Path(run_dir), rank)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("wb")

    def append(self, records: Iterable[Prediction]) -> None:
        """Write the records of one image, in the order that the merged file shall have within the image."""
        self._file.write(b"".join(record.line() for record in records))
        self._file.flush()

    def close(self) -> None:
        """Close the file; further `append` calls raise ValueError."""
        if not self._file.closed:
            sync(self._file)
        self._file.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def merge_predictions(run_dir: Path | str, world_size: int | None = None) -> Path:
    """Merge the files of all processes into ``predictions.jsonl``, remove them, and return its path.

    Lines are ordered by ``index``, and within an image as they were appended, so the file has the same bytes
    for any number of processes. Call it in one process, after every writer is closed. A `UserError`, and no
    file changed, if a file is missing or damaged, or two processes wrote the same image.

    There is never a second copy of the predictions: there must be room for a few megabytes. Whatever ends it,
    a kill or a full disk, every record is still in one of the files, and `keep_images` makes them whole.
    """
    run_dir = Path(run_dir)
    present = _rank_files(run_dir)
    wanted = present if world_size is None else [_rank_path(run_dir, rank) for rank in range(world_size)]
    # given the number of processes, files of higher ranks are left from an earlier run, and only removed
    missing = [path.name for path in wanted if not path.is_file()]
    if missing or not wanted:
        raise UserError(f"No predictions to merge in {run_dir}: {', '.join(missing) or 'no file'} there.")
    parts = {path: _whole_parts(path) for path in wanted}
    _check_one_writer(parts)
    for path in {*present} - {*wanted}:
        path.unlink()
    os.replace(_joined(run_dir, {path: _sort(path, own) for path, own in parts.items()}), run_dir / _NAME)
    for path in wanted:
        path.unlink(missing_ok=True)
    sync_folder(run_dir)
    return run_dir / _NAME


def keep_images(run_dir: Path | str, wanted: Mapping[int, Sequence[Key]], first_rank: int) -> None:
    """Drop from the files of a run that was cut off what is not wanted, and let new processes begin theirs.

    What stays (``wanted``, by index of the image the keys of its records: `whole_images` has said that they
    are there) is in files of ``first_rank`` and higher ranks; lower ones are of the processes that are going
    to write. No process writes into the folder now.
    """
    run_dir, kept = Path(run_dir), set[int]()
    for path in _written(run_dir):
        own = {part.image: part for part in _parts(path) if wanted.get(part.image) == part.keys}
        _keep(path, [part for image, part in own.items() if image not in kept])
        kept |= own.keys()
    higher = (_rank_path(run_dir, rank) for rank in itertools.count(first_rank))
    for path in [run_dir / _NAME, *(_rank_path(run_dir, rank) for rank in range(first_rank))]:
        if path.is_file():
            path.rename(next(free for free in higher if not free.exists()))
    sync_folder(run_dir)


def whole_images(run_dir: Path | str) -> Iterator[tuple[int, list[Key]]]:
    """Yield index and keys of every stretch of sound lines on one image that a cut-off run has left."""
    for path in _written(Path(run_dir)):
        yield from ((part.image, part.keys) for part in _parts(path))


class _Part(NamedTuple):
    """Successive records of one image in a file."""

    image: int
    keys: list[Key]
    # first byte, and the one behind the last
    start: int
    end: int


def _parts(path: Path, strict: bool = False) -> Iterator[_Part]:
    """Find the images in a file; damaged lines end one, or are a `UserError` if strict."""
    part: _Part | None = None
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            record = _record(path, number, line, strict)
            if part is not None and (record is None or record.index != part.image):
                yield part
                part = None
            if record is not None:
                part = part or _Part(record.index, [], offset, offset)
                part.keys.append((*record.key, record.method))
                part = part._replace(end=offset + len(line))
            offset += len(line)
    if part is not None:
        yield part


def _whole_parts(path: Path) -> list[_Part]:
    return list(_parts(path, strict=True))


def _check_one_writer(parts: Mapping[Path, Sequence[_Part]]) -> None:
    writer: dict[int, Path] = {}
    for path, own in parts.items():
        for part in own:
            if writer.setdefault(part.image, path) != path:
                raise UserError(
                    f"Image {part.keys[0][0]} (index {part.image}) was evaluated twice: it is in "
                    f"{writer[part.image].name} and in {path.name}."
                )


def _sort(path: Path, parts: Sequence[_Part]) -> list[_Part]:
    """Bring the images of a file into their order, which is seldom needed: a process writes in this order."""
    ordered = sorted(parts, key=lambda part: part.image)
    if ordered == parts:
        return ordered
    _rewrite(path, [(path, part) for part in ordered])
    return _whole_parts(path)


def _joined(run_dir: Path, parts: dict[Path, list[_Part]]) -> Path:
    """Bring the images of sorted files into one, and return it.

    From behind: what comes last is copied into a file of its own and cut off where it was, until one file is
    left; then these are appended to it. So there is a second copy of one block at most.
    """
    blocks: list[Path] = []
    while len(left := [path for path, own in parts.items() if own]) > 1:
        taken = _last_block(parts, left)
        rank = max(int(_RANK.fullmatch(path.name)[1]) for path in _rank_files(run_dir)) + 1  # type: ignore[index]
        blocks.append(_rewrite(_rank_path(run_dir, rank), taken))
        for path in left:
            _truncate(path, parts[path][-1].end if parts[path] else 0)
    base = left[0] if left else blocks.pop() if blocks else next(iter(parts))
    with base.open("ab") as file:
        for block in reversed(blocks):
            file.write(block.read_bytes())
            sync(file)
            block.unlink()
        sync(file)
    return base


def _last_block(parts: Mapping[Path, list[_Part]], left: Sequence[Path]) -> list[tuple[Path, _Part]]:
    """Take the last images, a block of bytes, off the lists; in their order."""
    taken: list[tuple[Path, _Part]] = []
    size = 0
    while size < _BLOCK and sum(bool(parts[path]) for path in left) > 1:
        path = max((path for path in left if parts[path]), key=lambda path: parts[path][-1].image)
        taken.append((path, parts[path].pop()))
        size += taken[-1][1].end - taken[-1][1].start
    return taken[::-1]


def _rewrite(path: Path, parts: Sequence[tuple[Path, _Part]]) -> Path:
    """Copy parts of files into a new one, in place of what is there."""
    with ExitStack() as stack, atomic_file(path) as copy:
        files = {source: stack.enter_context(source.open("rb")) for source, _ in parts}
        for source, part in parts:
            files[source].seek(part.start)
            copy.write(files[source].read(part.end - part.start))
    return path


def _keep(path: Path, parts: Sequence[_Part]) -> None:
    """Leave nothing but some parts in a file; without copying if they are its beginning, as after a kill."""
    size = sum(part.end - part.start for part in parts)
    if not parts:
        path.unlink()
    elif parts[-1].end == size:
        _truncate(path, size)
    else:
        _rewrite(path, [(path, part) for part in parts])


def _truncate(path: Path, size: int) -> None:
    with path.open("rb+") as file:
        file.truncate(size)
        sync(file)


def areas_of(record: Prediction) -> tuple[int | None, int | None]:
    """Return intersection and union as oIoU and mIoU count them: None of what is known to have no target."""
    return (None, None) if record.target == () else (record.intersection, record.union)


def read_predictions(path: Path | str) -> list[Prediction]:
    """Read a ``predictions.jsonl`` in the order of its lines; see `each_prediction`."""
    return list(each_prediction(path))


def each_prediction(path: Path | str) -> Iterator[Prediction]:
    """Yield the records of a ``predictions.jsonl``, one line in memory; a `UserError` names a damaged line.

    Lines may lack ``failure``, ``index`` and what comes behind it; other keys are ignored.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no file of predictions at {path}.")
    image: Prediction | None = None  # the last record that tells of its image
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            record = _record(path, number, line)
            assert record is not None
            image = image if record.image is None else record
            if image and image.image and image.index == record.index and not record.fits(image.image):
                raise UserError(
                    f"Damaged record in {path}, line {number}: it speaks of proposals or objects that its "
                    "image does not have."
                )
            yield record


def _rank_path(run_dir: Path, rank: int) -> Path:
    return run_dir / f"predictions_rank{rank}.jsonl"


def _rank_files(run_dir: Path) -> list[Path]:
    found = (path for path in run_dir.glob("predictions_rank*.jsonl") if _RANK.fullmatch(path.name))
    return sorted(found, key=lambda path: (len(path.name), path.name))


def _written(run_dir: Path) -> list[Path]:
    """Return all files of predictions of a run, the merged one first."""
    merged = run_dir / _NAME
    return [*([merged] if merged.is_file() else []), *_rank_files(run_dir)]


def _record(path: Path, number: int, line: bytes, strict: bool = True) -> Prediction | None:
    try:
        if not line.endswith(b"\n"):
            raise ValueError("the line is cut off.")
        # json, because msgspec's own decoder knows no lone surrogates, which expressions can have
        content = json.loads(line, parse_constant=_refuse_constant)
        return msgspec.convert(content, Prediction)
    # as are faults of JSON, UTF-8 and msgspec
    except (ValueError, RecursionError) as error:
        if not strict:
            return None
        raise UserError(f"Damaged record in {path}, line {number}: {error}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON.")
