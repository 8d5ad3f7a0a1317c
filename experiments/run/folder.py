"""The folder of a run: everything that the run writes is in it."""

import errno
import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from experiments.run.lock import LOCKS, RunLock, refuse_if_live, wait_for_others
from gl_ris.errors import UserError
from gl_ris.files import read_table

RUNS = Path("runs")
_FILES: list[str] = read_table(Path(__file__).with_name("folder.yaml"))
_DRAFTS = (LOCKS, ".*.tmp")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ANSWERS = "segmentations"  # of several images or expressions, a folder of each
OVERLAYS, PROGRESS = "overlays", "progress"  # pictures, and what a run that goes on has counted so far
UNFINISHED, STATE = "training", "last.ckpt"  # a training that is under way, and the state to go on from


class RunFolder:
    """The folder of one run, which is new, empty, or one that the run may go on in.

    Making one only chooses and checks the path; `create` makes the folder, which then belongs to this process
    until `close`, or until it ends. `UserError` if it is in use, or is no folder.

    Without a ``path`` it is ``runs/<experiment>/<time>`` in the working folder. A run that is in the folder
    is replaced if ``overwrite``, or goes on if ``resume``. ``program``, of a command that goes on with what
    it finds in a folder of its own, is what starts it, as the first line of its ``config.yaml`` says.
    """

    def __init__(
        self,
        experiment: str,
        path: str | Path | None = None,
        overwrite: bool = False,
        program: str | None = None,
        resume: bool = False,
        resumable: bool = True,
    ) -> None:
        self.experiment, self.resumable = experiment, resumable
        self.given = None if path is None else Path(path).expanduser()
        self.overwrite, self.program, self.resume = overwrite, program, resume
        self._made: list[Path] = []
        self._lock: RunLock | None = None
        self._begun = False
        self._path = self.given
        if self.given is not None:
            self._check(self.given)

    @property
    def path(self) -> Path:
        """Where the folder is; `RuntimeError` before `create` if it has no name yet."""
        if self._path is None:
            raise RuntimeError("The run folder has not been created.")
        return self._path

    def create(self) -> Path:
        """Make the folder and take its lock; it is empty of an earlier run unless this one goes on with it.

        `UserError` if it cannot be made, or came into use since.
        """
        with _told_of(self._path or RUNS):
            if self.given is None:
                self._path = self._new()
            else:
                self._make(self.given)
            lock = RunLock(self.path)
            lock.take()
        self._lock = lock
        if self.given is not None:
            self._check(self.given)
        wait_for_others(self.path)
        if self.program is None and not self.resume:
            self._clear()
        self._begun = True  # before, what lies in it may be of another
        return self.path

    def close(self) -> None:
        """Give the folder free."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def discard_if_empty(self) -> bool:
        """Remove what this run made, unless something in it is of use; give it free; say if nothing is left.

        Of use are predictions, a trained model, and a training that can go on.
        """
        if self._path is None or not self._path.is_dir():
            return True
        made = [*self.path.glob("predictions*.jsonl"), *self.path.glob(f"{PROGRESS}/rank*.jsonl")]
        made += [*self.path.glob("segmentations.jsonl"), *self.path.glob("weights.pt")]
        made += [*self.path.glob(f"{UNFINISHED}/{STATE}")]
        if self._begun and (self.resume or any(path.stat().st_size for path in made)):
            self.close()
            return False
        if self._begun:
            self._clear()
        self.close()
        for folder in reversed(self._made):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        return True

    def _check(self, path: Path) -> None:
        with _told_of(path):
            if path.exists() and not path.is_dir():
                raise UserError(f"The run folder '{path}' is a file; name another one by run_dir=FOLDER.")
            if self._lock is None:
                refuse_if_live(path)
            if self.overwrite or not in_use(path):
                return
        mark = path / "config.yaml"
        if self.resume and mark.is_file():
            return
        if self.program is None:
            again = ", or go on with its run by resume=true" if self.resumable else ""
            fix = f"name another one{again}, or replace it by overwrite=true."
            raise UserError(f"The run folder '{path}' is not empty; {fix}")
        if not mark.is_file() or not mark.read_bytes().startswith(f"# {self.program} ".encode()):
            what = f"holds something else than what {self.program} writes"
            raise UserError(f"The run folder '{path}' {what}; name another one.")

    def _new(self) -> Path:
        """Make a folder named by the time; the second one within a second gets a number."""
        base = RUNS / self.experiment
        self._make(base)
        name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        while True:
            with suppress(FileExistsError):
                (path := base / next(names)).mkdir()
                self._made.append(path)
                return path

    def _make(self, path: Path) -> None:
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        self._made += reversed(missing)

    def _clear(self) -> None:
        # the files of a run and nothing else: the folder may be any folder
        for folder in (OVERLAYS, ANSWERS, PROGRESS, f".{PROGRESS}.tmp", UNFINISHED):
            shutil.rmtree(self.path / folder, ignore_errors=True)
        for pattern in (*_FILES, ".*.tmp", f"{LOCKS}?"):
            for path in self.path.glob(pattern):
                path.unlink(missing_ok=True)


def in_use(path: Path) -> bool:
    """Say whether there is anything in a folder but locks and drafts of dead processes."""
    return path.is_dir() and any(
        not any(file.match(pattern) for pattern in _DRAFTS) for file in path.iterdir()
    )


@contextmanager
def room_needed(folder: Path) -> Iterator[None]:
    """Say in a sentence that there is no room for what is written into a run folder: a `UserError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise UserError(
            f"There is no room for what the run writes into '{folder}' ({error.strerror}); what is finished "
            f"is kept: make room, and go on by the same command with run_dir={folder} resume=true."
        ) from error


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Say what to do where a folder cannot be made, or cannot have its name."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"The run folder '{path}' cannot be made ({error.strerror}); name another one by run_dir=FOLDER."
        ) from error
