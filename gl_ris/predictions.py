"""One record per expression and method, written as a run goes and merged over its processes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec

from gl_ris.errors import UserError
from gl_ris.files import atomic_file, to_json

_NAME = "predictions.jsonl"


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """What one method chose for one expression: a line of ``predictions.jsonl``."""

    # the data set's own id of the image; ``ref_id`` and ``sent_id``, of referent and expression
    image_id: int | str
    ref_id: int | str
    sent_id: int | str
    # the expression as the data set has it
    expression: str
    # its target noun phrase, or None where no method asked for it
    noun_phrase: str | None
    # The method's name, e.g. "Global-Local".
    method: str
    # index of the chosen proposal, or None if there was nothing to choose from
    choice: int | None
    # the method's score of the choice, or None; NaN is written as null
    score: float | None
    # intersection over union in [0, 1]; 0 where the union is empty
    iou: float
    # pixels that the choice and the target share
    intersection: int
    # pixels that they cover together
    union: int
    # the chosen mask as compressed COCO RLE (`gl_ris.masks.encode_rle`), or None
    segmentation: dict[str, Any] | None
    # Why the expression counts as a miss without a choice (e.g. "no proposals"), or None.
    failure: str | None = None
    # position of the image in the split: the order of the lines
    index: int = 0
    # the data set's subsets that the expression is in; None, and no key in the line, where the data set
    # has no subsets
    subsets: tuple[str, ...] | None = None
    # whether another proposal has the score of the chosen one, too; no key in the line where it is not so
    tied: bool = False

    def line(self) -> bytes:
        """Return the record as a line of strict JSON."""
        content = msgspec.structs.asdict(self)
        for name, usual in (("subsets", None), ("tied", False)):
            if content[name] is usual:
                del content[name]
        return to_json(content) + b"\n"


class PredictionWriter(AbstractContextManager["PredictionWriter"]):
    """Writes one process's records to ``predictions_rank{rank}.jsonl``, on disk after every `append`.

    A file of that name from an earlier run is replaced. Usable as a context manager.
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
        self._file.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def merge_predictions(run_dir: Path | str, world_size: int | None = None) -> Path:
    """Merge the files of all processes into ``predictions.jsonl``, remove them, and return its path.

    Lines are ordered by ``index``, and within an image as they were appended, so the file has the same bytes
    for any number of processes. Call it in one process, after every writer is closed. A `UserError`, and no
    file changed, if a file is missing or damaged, or two processes wrote the same image.
    """
    run_dir = Path(run_dir)
    present = sorted(run_dir.glob("predictions_rank*.jsonl"), key=lambda path: (len(path.name), path.name))
    wanted = present if world_size is None else [_rank_path(run_dir, rank) for rank in range(world_size)]
    # given the number of processes, files of higher ranks are left from an earlier run, and only removed
    missing = [path.name for path in wanted if not path.is_file()]
    if missing or not wanted:
        raise UserError(f"No predictions to merge in {run_dir}: {', '.join(missing) or 'no file'} there.")
    with atomic_file(run_dir / _NAME) as merged:
        merged.writelines(_in_order(wanted))
    for path in present:
        path.unlink(missing_ok=True)
    return run_dir / _NAME


def _in_order(paths: list[Path]) -> list[bytes]:
    lines: list[tuple[int, bytes]] = []
    writer: dict[int, Path] = {}
    for path in paths:
        for record, line in _records(path):
            if writer.setdefault(record.index, path) != path:
                raise UserError(
                    f"Image {record.image_id} (index {record.index}) was evaluated twice: it is in "
                    f"{writer[record.index].name} and in {path.name}."
                )
            lines.append((record.index, line))
    return [line for _, line in sorted(lines, key=lambda item: item[0])]


def read_predictions(path: Path | str) -> list[Prediction]:
    """Read a ``predictions.jsonl`` in the order of its lines; a `UserError` names file and damaged line.

    Lines may lack ``failure``, ``index``, ``subsets`` and ``tied``; other keys than ours are ignored.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no file of predictions at {path}.")
    return [record for record, _ in _records(path)]


def _rank_path(run_dir: Path, rank: int) -> Path:
    return run_dir / f"predictions_rank{rank}.jsonl"


def _records(path: Path) -> Iterator[tuple[Prediction, bytes]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                if not line.endswith(b"\n"):
                    raise ValueError("the line is cut off.")
                # json, because msgspec's own decoder knows no lone surrogates, which expressions can have
                content = json.loads(line, parse_constant=_refuse_constant)
                yield msgspec.convert(content, Prediction), line
            # as are faults of JSON, UTF-8 and msgspec
            except ValueError as error:
                raise UserError(f"Damaged record in {path}, line {number}: {error}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON.")
