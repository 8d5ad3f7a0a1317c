"""The folder of a run: everything that the run writes is in it."""

from __future__ import annotations

import shutil
import time
from datetime import datetime
from pathlib import Path

from experiments.cli.command import Command
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


def check_is_no_file(path: Path) -> None:
    """Check that there is a folder at ``path``, or nothing.

    Raises:
        UserError: There is a file, or there can be nothing of such a name.
    """
    try:
        file = path.exists() and not path.is_dir()
    except OSError as error:
        raise cannot_be_made(path, error) from error
    if file:
        raise UserError(f"The run folder '{path}' is a file; name another one by run_dir=FOLDER.")


def cannot_be_made(path: Path, error: OSError) -> UserError:
    """Build the error for a folder that cannot be made, for the caller to raise."""
    return UserError(
        f"The run folder '{path}' cannot be made ({error.strerror}); name another one by run_dir=FOLDER."
    )


def checked_folder(command: Command, run_dir: str, overwrite: bool) -> Path:
    """Check that the folder of a command which goes on is new, empty, or one of its own.

    Raises:
        UserError: It holds something else, or is no folder.
    """
    path = Path(run_dir).expanduser()
    check_is_no_file(path)
    mark = path / "config.yaml"
    used = path.is_dir() and any(path.iterdir())
    own = mark.is_file() and mark.read_bytes().startswith(f"# {command.program} ".encode())
    if used and not overwrite and not own:
        raise UserError(
            f"The run folder '{path}' holds something else than what {command.program} writes; name another "
            "one."
        )
    return path


def made_folder(command: Command, given: Path | None) -> Path:
    """Make the folder of a command which goes on; None makes ``runs/<command>/<time>``.

    Raises:
        UserError: It cannot be made.
    """
    if given is None:
        return RunFolder(command.name).create()
    try:
        given.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_be_made(given, error) from error
    return given


class RunFolder:
    """A new folder for one run.

    Making one only chooses and checks the path; `create` makes the folder.

    Args:
        experiment: Name of the experiment.
        path: The folder, or None for ``runs/<experiment>/<time>`` in the working folder.
        overwrite: Whether a run that is in the folder is to be replaced.

    Raises:
        UserError: The folder is in use, or is no folder.
    """

    def __init__(self, experiment: str, path: str | Path | None = None, overwrite: bool = False) -> None:
        self.experiment = experiment
        self.given = None if path is None else Path(path).expanduser()
        self.overwrite = overwrite
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
        """Make the folder, empty of an earlier run.

        Raises:
            UserError: The folder cannot be made, or came into use since.
        """
        try:
            if self.given is None:
                self._path = self._new()
            else:
                self._check(self.given)
                self._make(self.given)
                self._clear()
        except OSError as error:
            raise cannot_be_made(self._path or RUNS, error) from error
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
        check_is_no_file(path)
        if not self.overwrite and path.is_dir() and any(path.iterdir()):
            raise UserError(
                f"The run folder '{path}' is not empty; name another one, or replace the run in it by "
                "overwrite=true."
            )

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
        """Remove the files of a run, and nothing else: the folder may be any folder."""
        for pattern in _FILES:
            for path in self.path.glob(pattern):
                path.unlink(missing_ok=True)
        shutil.rmtree(self.path / _OVERLAYS, ignore_errors=True)
