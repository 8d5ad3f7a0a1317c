"""Writes down the run of a supervised model: what any evaluation leaves, and how the model was trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.run.recorder import Recorder


class SupervisedRecorder(Recorder):
    """Adds ``training`` to the result document.

    Args:
        path: The run folder, as rank 0 knows it.
        experiment: Name of the experiment.
        settings: The resolved configuration.
        training: See `experiments.run.training.Training.record`; None if nothing was trained.
    """

    def __init__(
        self, path: Path | None, experiment: str, settings: dict[str, Any], training: Mapping[str, Any] | None
    ) -> None:
        super().__init__(path, experiment, settings)
        self.training = training

    def more(self) -> dict[str, Any]:
        """Return how the model was trained."""
        return {"training": self.training}
