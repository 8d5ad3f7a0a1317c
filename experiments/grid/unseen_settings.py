"""What a comparison on an unseen domain is made of, as the command line and its configuration say it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from experiments.grid.baselines import baselines_for
from experiments.grid.cell_options import check_options, check_sweep
from experiments.grid.child_runs import Cell
from experiments.grid.machine import usual_jobs
from experiments.grid.programs import SUPERVISED, ZERO_SHOT
from experiments.grid.table_settings import name_of_data
from experiments.reporting.frame import ZERO_SHOT_CELL
from experiments.reporting.unseen_report import SEEN, UNSEEN, cell_name
from gl_ris.errors import UserError, unknown_name

# Options of a cell that the command sets itself, and what to use in their place.
_RESERVED = {
    "baseline": "baselines=[...]",
    "data": "data=NAME and unseen=NAME",
    "data.split": "split=NAME and unseen_split=NAME",
    "k": "experiments.fewshot, since here models learn from all refs",
    "methods": "methods=[...]",
    "manifest": "experiments.fewshot, since here models learn from all refs",
    "model.baseline": "baselines=[...]",
    "model.methods": "methods=[...]",
    "training.k": "experiments.fewshot, since here models learn from all refs",
    "training.seed": "seed=N",
    "model.weights": "weights={BASELINE: FILE}",
}


class UnseenSettings:
    """A comparison on a data set with concepts that supervised models have not seen.

    Args:
        data: The data set that models learn from and are evaluated on first: the name of a file in
            configs/data, or a mapping with class_path and init_args.
        split: The split of it to evaluate on.
        unseen: The data set with unseen concepts, as data; null takes that of pairs.
        unseen_split: The split of it to evaluate on.
        pairs: For data sets to learn from, the one with unseen concepts; * stands for anything.
        seed: Of the training.
        baselines: Supervised models: names of files in configs/baseline, or a mapping from data sets to such
            lists, in which * stands for anything.
        weights: For baselines that are trained already, the file with their weights.
        methods: Zero-shot methods.
        jobs: How many cells side by side: up to as many as there are GPUs, or cores. Null takes one per GPU,
            or two where there is none; and one if trainer.devices is given.
        options: Options for all cells, e.g. [limit=20].
        zero_shot: Options for the zero-shot runs, e.g. [model.alpha=0.85].
        supervised: Options for the supervised cells, e.g. [training.epochs=10]. Options on the command line
            that are not of this command are added to one of the three.
        wandb: As everywhere; the cells are a group of runs.
    """

    def __init__(
        self,
        data: dict[str, Any] | str = "refshapes",
        split: str = "val",
        unseen: dict[str, Any] | str | None = None,
        unseen_split: str = "test",
        pairs: dict[str, str] | None = None,
        seed: int = 0,
        baselines: dict[str, list[str]] | list[str] | str = "lavt-tiny",
        weights: dict[str, str] | None = None,
        methods: list[str] | str = "global_local",
        jobs: int | None = None,
        options: list[str] | None = None,
        zero_shot: list[str] | None = None,
        supervised: list[str] | None = None,
        wandb: Literal["auto", "online", "offline", "disabled"] = "auto",
    ) -> None:
        self.data, self.split, self.unseen_split, self.seed = data, split, unseen_split, seed
        self.unseen, self.pairs, self.weights = unseen, pairs or {}, weights or {}
        self.baselines, self.wandb = baselines, wandb
        self.methods = [methods] if isinstance(methods, str) else methods
        self.options, self.zero_shot, self.supervised = options or [], zero_shot or [], supervised or []
        self.jobs = usual_jobs(self.options) if jobs is None else jobs

    def names(self) -> list[str]:
        """Return the baselines.

        Raises:
            UserError: There are none, one is unknown, or weights are given for another.
        """
        names = baselines_for(name_of_data(self.data), self.baselines)
        for name in self.weights:
            if name not in names:
                raise unknown_name("baseline in weights", name, names)
        return names

    def cells(self) -> list[Cell]:
        """Return all cells: the zero-shot ones, then for each model the two data sets.

        Raises:
            UserError: A setting is wrong or out of place.
        """
        check_sweep(self.jobs, self.methods)
        check_options([*self.options, *self.zero_shot, *self.supervised], _RESERVED)
        unseen = self._unseen()
        places = {SEEN: (self.data, self.split), UNSEEN: (unseen, self.unseen_split)}
        cells = [self._zero_shot(where, *place) for where, place in places.items()]
        for name in self.names():
            cells += [self._supervised(name, where, *place) for where, place in places.items()]
        return cells

    def _unseen(self) -> dict[str, Any] | str:
        if self.unseen is not None:
            return self.unseen
        from fnmatch import fnmatchcase

        name = name_of_data(self.data)
        found = [other for pattern, other in self.pairs.items() if fnmatchcase(name, pattern)]
        if not found:
            raise UserError(f"pairs has no data set with unseen concepts for {name}; name it by unseen=NAME.")
        return found[0]

    def _zero_shot(self, where: str, data: Mapping[str, Any] | str, split: str) -> Cell:
        line = [f"data={_written(data)}", f"data.split={split}", f"methods={json.dumps(self.methods)}"]
        label = f"zero-shot on {name_of_data(data)} {split}"
        arguments = [*line, *self._common(), *self.zero_shot]
        # The settings of each data set may name another model.
        name = cell_name(ZERO_SHOT_CELL, where)
        return Cell(label, arguments, name, ZERO_SHOT, models=name)

    def _supervised(self, baseline: str, where: str, data: Mapping[str, Any] | str, split: str) -> Cell:
        given = self.weights.get(baseline)
        model = [] if given is None else [f"weights={Path(given).expanduser().absolute()}"]
        if given is None and where == SEEN:
            model = ["k=all", f"seed={self.seed}"]
        line = [f"baseline={baseline}", f"data={_written(data)}", f"split={split}"]
        return Cell(
            f"{baseline} on {name_of_data(data)} {split}",
            [*line, *model, *self._common(), *self.supervised],
            cell_name(baseline, where),
            SUPERVISED,
            models=baseline,
            after=cell_name(baseline, SEEN) if given is None and where == UNSEEN else None,
        )

    def _common(self) -> Sequence[str]:
        return [f"wandb={self.wandb}", *self.options]


def _written(data: Mapping[str, Any] | str) -> str:
    return data if isinstance(data, str) else json.dumps(data)
