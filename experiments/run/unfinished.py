"""A training that was cut off: what of it lies in a run folder, and whether a command can go on with it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gl_ris.files import atomic_file

FOLDER = "training"
_PARTS = ("model", "data", "training")
_TRAINER = ("precision", "accumulate_grad_batches", "gradient_clip_val", "sync_batchnorm")


class Unfinished:
    """The folder ``training`` inside a run folder: there while a training is under way.

    Args:
        run_folder: The run folder.
        settings: Of the run that would go on.
    """

    def __init__(self, run_folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = run_folder / FOLDER
        self.essence = {name: settings.get(name) for name in _PARTS} | {
            "trainer": {name: settings.get("trainer", {}).get(name) for name in _TRAINER}
        }

    @property
    def checkpoint(self) -> Path:
        """The last state that was saved."""
        return self.folder / "last.ckpt"

    @property
    def curve(self) -> Path:
        """The learning curve so far."""
        return self.folder / "learning_curve.csv"

    @property
    def resumable(self) -> bool:
        """Whether there is a state of a training of the same settings."""
        return self.checkpoint.is_file() and self._known() == self.essence

    def begin(self) -> None:
        """Make the folder, without what an earlier training of other settings left in it."""
        if not self.resumable:
            shutil.rmtree(self.folder, ignore_errors=True)
        with atomic_file(self._settings) as file:
            file.write(yaml.safe_dump(self.essence, sort_keys=False).encode())

    def discard_unless_resumable(self) -> None:
        """Remove the folder if nothing can be gone on with."""
        if not self.resumable:
            shutil.rmtree(self.folder, ignore_errors=True)

    def finish(self) -> None:
        """Keep the learning curve in the run folder, and remove the rest."""
        self.curve.replace(self.folder.parent / self.curve.name)
        shutil.rmtree(self.folder)

    @property
    def _settings(self) -> Path:
        return self.folder / "settings.yaml"

    def _known(self) -> Any:
        try:
            return yaml.safe_load(self._settings.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            return None
