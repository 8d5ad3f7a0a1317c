"""Cells of sweeps as their runs leave them, and commands that put them into place."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from datamodules.filtering import Filter
from experiments.grid import cells
from experiments.grid.cells import Cell
from gl_ris.files import write_json
from gl_ris.results import STAGES, Results

AVAILABLE = {"1": 30, "2": 10, "3": 0}


def zero_shot_results(oiou: float | None = 50.0, **changes: Any) -> dict[str, Any]:
    """The results of a zero-shot run."""
    methods = {"Global-Local": {"oIoU": oiou, "mIoU": 40.0, "Pr@0.5": 30.0}}
    return {**_results("zero_shot", methods, {"oIoU": 90.0, "mIoU": 80.0}), **changes}


def trained_results(
    model: str, k: int | str, seed: int, oiou: float | None, *, seconds: float = 10.0, **changes: Any
) -> dict[str, Any]:
    """The results of a supervised cell on three classes, of which one has no refs."""
    n_refs = sum(count if isinstance(k, str) else min(k, count) for count in AVAILABLE.values())
    short = {} if isinstance(k, str) else {name: k - n for name, n in AVAILABLE.items() if n < k}
    methods = {f"{model} k={k}": {"oIoU": oiou, "mIoU": 20.0 + seed, "Pr@0.5": 10.0}}
    training = {
        "model": model,
        "dataset": "refshapesg",
        "split_by": "shapes",
        "split": "train",
        "k": k,
        "seed": seed,
        "n_refs": n_refs,
        "n_sentences": 3 * n_refs,
        "n_images": n_refs,
        "share": n_refs / 40,
        "shortfall": short,
        "epochs": 40,
        "steps": 80,
        "batch_size": 16,
        "schedule": "official_epochs",
        "weights": None,
        "parameters": 1_000_000,
        "trained_parameters": 1_000_000,
        "seconds": seconds,
        "unusable_visits": 0,
    }
    return {**_results("supervised", methods, {"oIoU": None, "mIoU": None}), "training": training, **changes}


def _results(experiment: str, methods: dict[str, Any], bound: dict[str, Any]) -> dict[str, Any]:
    return Results.new(
        experiment=experiment,
        dataset="refshapesg",
        split="val",
        partition="shapes",
        proposals="felzenszwalb" if experiment == "zero_shot" else "none",
        n_images=10,
        n_expressions_expected=100,
        n_expressions_evaluated=100,
        methods=methods,
        upper_bound=bound,
        seconds=dict.fromkeys(STAGES, 1.5),
        config={"model": {}, "data": {"init_args": {"limit": None}}},
    ).document()


def subset(label: str, methods: Mapping[str, Any], expected: int = 20) -> dict[str, Any]:
    """One of a document's subsets."""
    return {
        "label": label,
        "n_images": 5,
        "n_expressions_expected": expected,
        "n_expressions_evaluated": expected,
        "failures": {},
        "methods": dict(methods),
        "upper_bound": {"oIoU": None, "mIoU": None},
    }


class Nothing:
    """A model, or data, that is made of no file."""

    filter = Filter(None, None)

    def input_files(self, *_: Any) -> dict[str, Any]:
        """Give no file."""
        return {}


@dataclass
class Parts:
    """What stands in for the parts of a run: its settings are its arguments."""

    arguments: list[str]
    datamodule: ClassVar[Nothing] = Nothing()
    model: ClassVar[Nothing] = Nothing()

    def settings(self) -> dict[str, Any]:
        """Give the settings."""
        parts: dict[str, Any] = {
            "model": {
                "baseline": {"init_args": {"epochs": 2, "batch_size": 4}},
                "methods": ["global_local"],
            },
            "data": {"init_args": {"limit": None}},
        }
        if any(argument.startswith("baseline=") for argument in self.arguments):
            parts["training"] = {"schedule": "official_epochs"}
        return {**parts, "wandb": "disabled", "arguments": sorted(self.arguments)}


@dataclass
class Workshop:
    """Cells that are ready to be put into place.

    Attributes:
        store: Where they wait.
        checked: Arguments and models flag of every check so far.
        started: Arguments of every cell that was started.
    """

    store: Path
    checked: list[tuple[list[str], bool]] = field(default_factory=list)
    started: list[list[str]] = field(default_factory=list)

    def add(self, name: str, results: Mapping[str, Any]) -> None:
        """Make a cell ready."""
        per_class = {key: [count, count] for key, count in AVAILABLE.items()}
        write_json(self.store / name / "results.json", results)
        if "training" in results:
            write_json(self.store / name / "manifest.json", {"per_class": per_class})

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let cells be put into place in place of being run."""
        monkeypatch.setattr(cells, "parts_of", lambda cell: Parts(cell.arguments))
        monkeypatch.setattr(
            cells, "check_parts", lambda _, parts, models: self.checked.append((parts.arguments, models))
        )
        own = Cell.command

        def command(cell: Cell, folder: Path) -> list[str]:
            self.started.append(own(cell, folder)[3:])
            return self._placing(cell, folder)

        monkeypatch.setattr(Cell, "command", command)

    def _placing(self, run: Cell, folder: Path) -> list[str]:
        """Give the command that puts a cell into place; one that is not ready fails as a run does."""
        script = (
            "import json, pathlib, shutil, sys\n"
            "source, target, settings = sys.argv[1:4]\n"
            "if not pathlib.Path(source).is_dir(): sys.exit('error: it could not be done')\n"
            "print('at work')\n"
            "shutil.copytree(source, target, dirs_exist_ok=True)\n"
            "path = pathlib.Path(target, 'results.json')\n"
            "results = json.loads(path.read_text())\n"
            "results['config'] = json.loads(settings)\n"
            "path.write_text(json.dumps(results))\n"
        )
        source, target = self.store / run.name, folder / run.name
        return [sys.executable, "-c", script, str(source), str(target), json.dumps(run.settings)]

    def remove(self, name: str) -> None:
        """Let a cell fail."""
        shutil.rmtree(self.store / name)
