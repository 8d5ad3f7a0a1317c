"""The folder of a run: everything that the run writes is in it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from gl_ris.errors import UserError

RUNS = Path("runs")
_FILES = (
    *("results.json", "config.yaml", "table.csv", "table.txt"),
    *("predictions.jsonl", "predictions_rank*.jsonl"),
    *("sweep.csv", "sweep.json", "sweep_k*.png"),
    *("recipe_effects.csv", "recipe_effects.json", "recipe_effects.md"),
    *("learning_curve.csv", "manifest.json", "weights.pt"),
    *("proposals.json", "report.csv", "report.json", "report.md", "curve.csv", "curve.png"),
    *("unseen_domain.csv", "figure4_*.png"),
)
_OVERLAYS = "overlays"


class RunFolder:
    """The folder of one run, which is new, empty, or one that the run may go on in.

    Making one only chooses and checks the path; `create` makes the folder.

    Args:
        experiment: Name of the experiment.
        path: The folder, or None for ``runs/<experiment>/<time>`` in the working folder.
        overwrite: Whether a run that is in the folder is to be replaced.
        program: Of a command that goes on with what it finds in a folder of its own: what starts it, as the
            first line of its ``config.yaml`` says.

    Raises:
        UserError: The folder is in use, or is no folder.
    """

    def __init__(
        self,
        experiment: str,
        path: str | Path | None = None,
        overwrite: bool = False,
        program: str | None = None,
    ) -> None:
        self.experiment = experiment
        self.given = None if path is None else Path(path).expanduser()
        self.overwrite, self.program = overwrite, program
        self._made: list[Path] = []
        self._path = self.given
        if self.given is not None:
            self._check(self.given)

    @property
    def path(self) -> Path:
        """Where the folder is.

        Raises:
            RuntimeError: It has no name before `create`.
        """
        if self._path is None:
            raise RuntimeError("The run folder has not been created.")
        return self._path

    def create(self) -> Path:
        """Make the folder, empty of an earlier run unless this one goes on with it.

        Raises:
            UserError: The folder cannot be made, or came into use since.
        """
        with _told_of(self._path or RUNS):
            if self.given is None:
                self._path = self._new()
            else:
                self._check(self.given)
                self._make(self.given)
        if self.program is None:
            self._clear()
        return self.path

    def discard_if_empty(self) -> bool:
        """Remove what `create` made unless there are predictions in it.

        Returns:
            Whether there is nothing left.
        """
        if self._path is None or not self._path.is_dir():
            return True
        if any(path.stat().st_size for path in self._path.glob("predictions*.jsonl")):
            return False
        self._clear()
        for folder in reversed(self._made):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        return True

    def _check(self, path: Path) -> None:
        with _told_of(path):
            if path.exists() and not path.is_dir():
                raise UserError(f"The run folder '{path}' is a file; name another one by run_dir=FOLDER.")
            if self.overwrite or not path.is_dir() or not any(path.iterdir()):
                return
        mark = path / "config.yaml"
        if self.program is None:
            fix = "name another one, or replace the run in it by overwrite=true."
            raise UserError(f"The run folder '{path}' is not empty; {fix}")
        if not mark.is_file() or not mark.read_bytes().startswith(f"# {self.program} ".encode()):
            what = f"holds something else than what {self.program} writes"
            raise UserError(f"The run folder '{path}' {what}; name another one.")

    def _new(self) -> Path:
        """Make a folder named by the time; the second one within a second gets a number."""
        base = RUNS / self.experiment
        self._make(base)
        name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        for suffix in ("", *(f"-{number}" for number in range(2, 1000))):
            path = base / f"{name}{suffix}"
            try:
                path.mkdir()
            except FileExistsError:
                continue
            self._made.append(path)
            return path
        time.sleep(1)
        return self._new()

    def _make(self, path: Path) -> None:
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        self._made += reversed(missing)

    def _clear(self) -> None:
        # the files of a run and nothing else: the folder may be any folder
        for pattern in _FILES:
            for path in self.path.glob(pattern):
                path.unlink(missing_ok=True)
        shutil.rmtree(self.path / _OVERLAYS, ignore_errors=True)


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Say what to do where a folder cannot be made, or cannot have its name."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"The run folder '{path}' cannot be made ({error.strerror}); name another one by run_dir=FOLDER."
        ) from error
