"""Going on with a run that was cut off: what its folder keeps while it goes, and what is taken over of it."""

import json
import shutil
import socket
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from experiments.cli.config_file import read_config
from experiments.cli.overrides import current_paths
from experiments.run.folder import PROGRESS, in_use, room_needed
from experiments.run.lock import RunLock
from experiments.run.wandb import document_of
from gl_ris.errors import UserError
from gl_ris.files import atomic_file, decode, plain, sync, to_json, write_json
from gl_ris.predictions import Key, keep_images, whole_images
from gl_ris.results import METHODS_VERSION
from gl_ris.tally import gather_objects

Image = dict[str, Any]
Inputs = Mapping[str, Mapping[str, str | None]]

_BEGUN, _BEFORE = "run.json", "before.jsonl"


def is_finished(folder: Path) -> bool:
    """Say whether there is a run in a folder for which nothing is left to do."""
    return document_of(folder) is not None and not (folder / PROGRESS).exists()


def settings_of(folder: Path, program: str) -> Any:
    """Return the settings that the run in a folder began with; None if there is none.

    `UserError` if it is not one of the command that ``program`` starts.
    """
    if not in_use(folder):
        return None
    path = folder / "config.yaml"
    try:
        text = path.read_text(encoding="utf-8")
        before = read_config(path)
    except (OSError, ValueError, UserError) as error:
        raise UserError(
            f"There is no run to go on with in '{folder}', whose config.yaml is missing or damaged; name "
            "another folder by run_dir=FOLDER."
        ) from error
    if not text.startswith(f"# {program} "):
        of = text.partition(" --config")[0].removeprefix("# ")
        raise UserError(f"The run in '{folder}' is not one of {program} but of '{of:.100}'; go on with that.")
    return before


def settings_to_go_on(folder: Path, program: str, now: Mapping[str, Any], harmless: Collection[str]) -> Any:
    """Return what `settings_of` does; `UserError`, too, if the settings asked for ``now`` are others.

    Those that are ``harmless`` may differ.
    """
    before = settings_of(folder, program)
    if before is not None and (change := first_change(current_paths(before), plain(now), harmless)):
        name, was, is_now = change[0], *map(_written, change[1:])
        option = name.replace(".init_args", "")
        raise UserError(
            f"The run in '{folder}' has {option}={was}, but {is_now} is asked for; give {option}={was} to go "
            "on with it, or begin anew by overwrite=true in place of resume=true."
        )
    return before


def first_change(
    before: Any, now: Any, ignored: Collection[str] = (), name: str = ""
) -> tuple[str, Any, Any] | None:
    """Name the first setting that differs and is not ignored, with both values; None if there is none.

    Example:
        >>> first_change({"model": {"alpha": 0.5}}, {"model": {"alpha": 0.9}})
        ('model.alpha', 0.5, 0.9)
    """
    if name in ignored or before == now:
        return None
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = dict.fromkeys([*before, *now])
        parts = ((before.get(key), now.get(key), f"{name}.{key}".lstrip(".")) for key in keys)
        found = (first_change(was, is_now, ignored, full) for was, is_now, full in parts)
        return next(filter(None, found), None)
    return name, before, now


def in_brief(value: Any) -> str:
    """Cut a long value off."""
    text = str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _written(value: Any) -> str:
    """Write a value as the command line takes it."""
    return in_brief(value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False))


def changed_since(before: Mapping[str, Any], inputs: Inputs) -> str:
    """Say why what was computed before would come out otherwise now; empty if nothing says so.

    ``before`` is a document of results, or what `how_it_began` returns of a run; ``inputs`` are those of now,
    see `gl_ris.inputs.inputs_of`, with None for a hash that is not known.
    """
    if (version := before.get("methods_version", 1)) != METHODS_VERSION:
        return f"its figures are of version {version} of the methods, which is {METHODS_VERSION} now"
    known = before.get("inputs") or {}
    for what, files in inputs.items():
        for name, was in known.get(what, {}).items():
            if was is not None and files.get(name, "") not in (was, None):
                return f"{name} of its {what} has changed"
    return ""


def how_it_began(folder: Path) -> dict[str, Any]:
    """Return what `begin` has noted of a run that was cut off."""
    path = folder / PROGRESS / _BEGUN
    return decode(path, dict[str, Any], "note of a run") if path.is_file() else {}


def refuse_changes(folder: Path, inputs: Inputs) -> None:
    """Raise a `UserError` if what a run that was cut off has computed would come out otherwise now."""
    if (folder / PROGRESS).is_dir() and (change := changed_since(how_it_began(folder), inputs)):
        raise UserError(
            f"The run in '{folder}' cannot go on: {change}; begin it anew by overwrite=true in place of "
            "resume=true."
        )


def begin(folder: Path, files: Sequence[str], inputs: Inputs) -> None:
    """Note in a run folder that a run begins now, and with what, unless it goes on; make its empty files."""
    if not (path := folder / PROGRESS / _BEGUN).is_file():
        write_json(path, {"began": time.time_ns(), "methods_version": METHODS_VERSION, "inputs": inputs})
    for name in files:
        (folder / name).touch()


def end(folder: Path) -> None:
    """Remove what a run has kept to go on: it is finished."""
    # at once: a part of it would say that images are not finished
    draft = folder / f".{PROGRESS}.tmp"
    shutil.rmtree(draft, ignore_errors=True)
    if (folder / PROGRESS).exists():
        (folder / PROGRESS).rename(draft)
    shutil.rmtree(draft, ignore_errors=True)


def take_over(folder: Path, wanted: Mapping[int, Sequence[Key]], world_size: int) -> list[Image]:
    """Return what was counted of each image that a run has finished; drop from its files what is of others.

    This process has the folder's lock, and ``world_size`` are going to write. ``wanted`` says what records
    of each image are about, by its index; empty for a run without records.
    """
    for draft in folder.rglob(".*.tmp"):
        shutil.rmtree(draft) if draft.is_dir() else draft.unlink()
    progress = folder / PROGRESS
    counted = {image["index"]: image for path in sorted(progress.glob("*.jsonl")) for image in _images(path)}
    written = {index for index, keys in whole_images(folder) if keys == wanted.get(index)}
    found = [counted[index] for index in sorted(counted) if index in written or wanted.get(index) == []]
    keep_images(folder, {image["index"]: wanted[image["index"]] for image in found}, world_size)
    with atomic_file(progress / _BEFORE) as file:
        file.writelines(to_json(image) + b"\n" for image in found)
    for path in progress.glob("rank*.jsonl"):
        path.unlink()
    return found


def _images(path: Path) -> Iterator[Image]:
    """Yield the whole lines of a file of counts."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            image = json.loads(line) if line.endswith(b"\n") else None
        except (ValueError, RecursionError):
            continue
        if isinstance(image, dict) and isinstance(image.get("index"), int):
            yield image


class Beginning(Callback):
    """Tells every process where a run writes, when it began, and what it does not have to do again."""

    per_image = False  # whether finished images are left out

    def __init__(self) -> None:
        self.path: Path | None = None  # the run folder; to be set in rank 0 before the run
        self.taken_over: list[Image] = []  # what `take_over` has found, in rank 0
        self._lock: RunLock | None = None

    def wanted(self, module: Any, data: Any) -> dict[int, list[Key]]:
        """Say for each image whose work is kept what its records are about."""
        return {}

    def file_names(self, world_size: int) -> list[str]:
        """Name the files that are in the run folder from the start."""
        return []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the run folder to every process, and take part in its lock."""
        module, data = cast("Any", pl_module), cast("Any", trainer).datamodule
        finished = [image["index"] for image in self.taken_over]
        path = None if self.path is None else self.path.absolute()  # others may work in another folder
        self.path, finished = trainer.strategy.broadcast((path, finished))
        assert self.path is not None
        _require_seen(self.path)
        if not trainer.is_global_zero:
            self._lock = RunLock(self.path, trainer.global_rank)
            self._lock.take()
        module.began = how_it_began(self.path)["began"]
        if finished:
            module.finished, module.taken_over = frozenset(finished), self.taken_over
            data.leave_out(finished, trainer.world_size)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the lock of a process other than the first back."""
        if self._lock is not None:
            self._lock.release()


def _require_seen(folder: Path) -> None:
    """Raise a `UserError` in every process if one of them does not see what the first has begun."""
    blind = gather_objects(None if (folder / PROGRESS / _BEGUN).is_file() else socket.gethostname())
    if hosts := sorted({host for host in blind if host is not None}):
        raise UserError(
            f"The run folder '{folder}' is not seen by the processes on {', '.join(hosts)}; name one on a "
            "file system that all machines of the run share, by run_dir=FOLDER."
        )


class Keeper(Beginning):
    """Keeps what is counted of each image, so that a run that is cut off can go on behind it."""

    per_image = True
    _file: BinaryIO

    def wanted(self, module: Any, data: Any) -> dict[int, list[Key]]:
        """Say that there are no records, but counts of each image."""
        return {index: [] for index in range(data.n_images)}

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open this process's file of counts."""
        assert self.path is not None
        self._file = (self.path / PROGRESS / f"rank{trainer.global_rank}.jsonl").open("wb")

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Write what was counted of one image."""
        module = cast("Any", pl_module)
        if batch.index in module.finished:
            return
        assert self.path is not None
        with room_needed(self.path):
            self.record(outputs)
            self._file.write(to_json({"index": batch.index, **module.counted()}) + b"\n")
            self._file.flush()

    def record(self, outputs: Any) -> None:
        """Write what comes before the counts: nothing."""

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the file, on the disk."""
        sync(self._file)
        self._file.close()
        super().on_predict_end(trainer, pl_module)
