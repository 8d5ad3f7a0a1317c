"""What a few-shot comparison is made of, as the command line and ``configs/fewshot.yaml`` say it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from experiments.grid.baselines import baselines_for
from experiments.grid.cell_options import check_options, check_sweep
from experiments.grid.child_runs import Cell
from experiments.grid.machine import usual_jobs
from experiments.grid.programs import SUPERVISED, ZERO_SHOT
from experiments.grid.table_settings import name_of_data
from experiments.reporting.fewshot_report import Shot
from experiments.reporting.frame import ZERO_SHOT_CELL
from gl_ris.errors import UserError

FEW = 16
# Options of a cell that the sweep sets itself, and what to use in their place.
_RESERVED = {
    "baseline": "baselines=[...]",
    "data": "data=NAME",
    "data.split": "split=NAME",
    "manifest": "k and seeds, which choose the refs",
    "model.baseline": "baselines=[...]",
    "model.methods": "methods=[...]",
    "model.weights": "experiments.unseen_domain or experiments.supervised, since here every model is trained",
    "seed": "seeds=[...]",
    "seed_everything": "seeds=[...]",
    "training.k": "k=[...]",
    "training.seed": "seeds=[...]",
    "training.manifest": "k and seeds, which choose the refs",
    "weights": "experiments.unseen_domain or experiments.supervised, since here every model is trained",
}


class FewShotSettings:
    """A few-shot comparison on one split of one data set.

    Args:
        data: The data set: the name of a file in configs/data, or a mapping with class_path and init_args.
        split: The split to evaluate on.
        k: How many refs of each class a model learns from: a number, all, or a list of such.
        seeds: Each seed chooses other refs: a list for every k, or a mapping from k to lists, in which "*"
            stands for the others. Null takes 0, 1 and 2 for every k up to 16 of a curve (few refs make a
            matter of luck of which they are), and 0 for larger ones or a single k.
        baselines: Supervised models: names of files in configs/baseline, or a mapping from data sets to such
            lists, in which * stands for anything.
        methods: Zero-shot methods, each a horizontal line.
        jobs: How many cells side by side: up to as many as there are GPUs, or cores. Null takes one per GPU,
            or two where there is none; and one if trainer.devices is given.
        options: Options for all cells, e.g. [limit=20].
        zero_shot: Options for the zero-shot run, e.g. [model.alpha=0.85].
        supervised: Options for the supervised cells, e.g. [training.epochs=10]. Options on the command line
            that are not of the sweep are added to one of the three.
        wandb: As everywhere; a sweep is a group of runs.
    """

    def __init__(
        self,
        data: dict[str, Any] | str = "refshapesg",
        split: str = "val",
        k: list[int | str] | int | str = 4,
        seeds: dict[str, list[int]] | list[int] | int | None = None,
        baselines: dict[str, list[str]] | list[str] | str = "lavt-tiny",
        methods: list[str] | str = "global_local",
        jobs: int | None = None,
        options: list[str] | None = None,
        zero_shot: list[str] | None = None,
        supervised: list[str] | None = None,
        wandb: Literal["auto", "online", "offline", "disabled"] = "auto",
    ) -> None:
        self.data, self.split, self.k, self.seeds = data, split, k, seeds
        self.baselines, self.wandb = baselines, wandb
        self.methods = [methods] if isinstance(methods, str) else methods
        self.options, self.zero_shot, self.supervised = options or [], zero_shot or [], supervised or []
        self.jobs = usual_jobs(self.options) if jobs is None else jobs

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return name_of_data(self.data)

    def shots(self) -> list[Shot]:
        """Return the supervised cells: smallest k first, then by baseline, then by seed.

        Raises:
            UserError: A setting is wrong.
        """
        names = baselines_for(self.dataset, self.baselines)
        wanted = in_order(self.k)
        return [
            Shot(name, k, seed) for k in wanted for name in names for seed in seeds_of(k, self.seeds, wanted)
        ]

    def cells(self) -> list[Cell]:
        """Return all cells, the zero-shot run first.

        Raises:
            UserError: A setting is wrong or out of place.
        """
        check_sweep(self.jobs, self.methods)
        check_options([*self.options, *self.zero_shot, *self.supervised], _RESERVED)
        shots = self.shots()
        data = self.data if isinstance(self.data, str) else json.dumps(self.data)
        common = [f"wandb={self.wandb}", *self.options]
        line = [f"data={data}", f"data.split={self.split}", f"methods={json.dumps(self.methods)}"]
        zero_shot = [*line, *common, *self.zero_shot]
        first = Cell(ZERO_SHOT_CELL, zero_shot, ZERO_SHOT_CELL, ZERO_SHOT, models=ZERO_SHOT_CELL)
        return [first, *(self._cell(shot, data, common) for shot in shots)]

    def _cell(self, shot: Shot, data: str, common: Sequence[str]) -> Cell:
        own = [f"baseline={shot.baseline}", f"data={data}", f"split={self.split}"]
        chosen = [f"k={shot.k}", f"seed={shot.seed}"]
        arguments = [*own, *chosen, *common, *self.supervised]
        return Cell(shot.label, arguments, shot.name, SUPERVISED, models=shot.baseline)


def in_order(k: Sequence[int | str] | int | str) -> list[int | str]:
    """Return what ``k`` asks for, each once, the smallest first and ``"all"`` last.

    Raises:
        UserError: It asks for nothing, or for something that is no number of refs.

    Example:
        >>> in_order([16, "all", "4", 4])
        [4, 16, 'all']
    """
    given = [k] if isinstance(k, int | str) else list(k)
    if not given:
        raise UserError("k=[] must name one number of refs or more, e.g. k=[1,4,16].")
    return sorted({_count(item) for item in given}, key=lambda item: (item == "all", item))


def _count(item: int | str) -> int | str:
    if item == "all":
        return "all"
    text = str(item)
    if isinstance(item, bool) or not text.isdecimal() or int(text) < 1:
        raise UserError(f"k={item} is not a number of refs; give a whole number from 1 on, all, or a list.")
    return int(text)


def seeds_of(
    k: int | str, seeds: Mapping[str, Sequence[int]] | Sequence[int] | int | None, wanted: Sequence[int | str]
) -> list[int]:
    """Return the seeds of one k.

    Args:
        k: The k.
        seeds: As in `FewShotSettings`.
        wanted: All that is asked for, for the message.

    Raises:
        UserError: There are none.
    """
    chosen: Sequence[int] | int = []
    if seeds is None:
        return [0, 1, 2] if len(wanted) > 1 and isinstance(k, int) and k <= FEW else [0]
    if isinstance(seeds, Mapping):
        by_text = {str(key): value for key, value in seeds.items()}
        chosen = by_text.get(str(k), by_text.get("*", []))
    else:
        chosen = seeds
    found = [chosen] if isinstance(chosen, int) else list(dict.fromkeys(chosen))
    if not found:
        fix = f"{{{k}: [0,1,2], ...}}" if isinstance(seeds, Mapping) and len(wanted) > 1 else "[0,1,2]"
        raise UserError(f"seeds has none for k={k}; give one or more, e.g. seeds={fix}.")
    if min(found) < 0:
        raise UserError(f"seeds={found} must be whole numbers from 0 on.")
    return found
