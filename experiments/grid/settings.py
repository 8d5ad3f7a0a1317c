"""What grids of runs have in common on the command line: options, baselines, names of data and of cells."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from experiments.cli.command import CONFIGS, Command
from experiments.cli.overrides import normalise
from experiments.grid.cells import SUPERVISED, ZERO_SHOT, Cell, Results
from gl_ris.errors import UserError, unknown_name

Place = tuple[dict[str, Any] | str, str]
# Options that all cells of a comparison know, and those of zero-shot ones; others are for supervised ones.
_OF_ALL = (
    *("data", "intervals", "limit", "recipe"),
    *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.enable_progress_bar"),
)
_OF_ZERO_SHOT = (
    *("abstain", "alpha", "beta", "clip", "masked_blocks", "post", "proposals"),
    *("rerank", "row", "store", "top", "union"),
)
_EVERYWHERE = ("run_dir", "overwrite", "resume", "config", "print_config", "help")


class Grid:
    """A grid of runs, declared: the dataclass of a command's options says which cells they make, and more."""

    # jsonargparse reads these annotations in the module of a subclass, which must import their names too.
    # Options of cells that the grid sets for each of them, with what to use in their place; short names.
    reserved: ClassVar[Mapping[str, str]] = {}
    shorthand: ClassVar[Mapping[str, str]] = {}
    jobs: int | None  # how many cells side by side; None takes as many as suit the machine
    wandb: str | None  # mode of logging the grid, in one group with its cells; None leaves it out

    def cells(self) -> list[Cell]:
        """Return the cells in the order in which they are run; a `UserError` if a setting is wrong."""
        raise NotImplementedError

    def write(self, folder: Path, results: Mapping[str, Results]) -> str:
        """Write all that the finished cells, in their order, amount to; return what to print about it."""
        raise NotImplementedError

    @staticmethod
    def group_of(name: str) -> str:
        """Return the option that one of another name, which is for cells, is added to."""
        return "options"

    @classmethod
    def parse(cls, command: Command, arguments: Sequence[str]) -> tuple[Self, str | None, bool]:
        """Read a command line: the grid; its folder, or None; whether to run everything anew."""
        from experiments.cli.parts import parse_settings

        settings, run_dir, overwrite = parse_settings(command, cls, cls.sort_out(arguments))
        grid = cls(**settings)
        if grid.jobs is not None and grid.jobs < 1:
            raise UserError(f"jobs={grid.jobs} must be 1 or more.")
        return grid, run_dir, overwrite

    @classmethod
    def sort_out(cls, arguments: Sequence[str]) -> list[str]:
        """Keep the options of the grid itself, and put all others into those for its cells, last."""
        kept: list[str] = []
        others: dict[str, list[str]] = {}
        own = {field.name for field in fields(cls)} | {*_EVERYWHERE}  # type: ignore[arg-type]
        for token in normalise(arguments, {}, {}, CONFIGS):
            name = option_name(token)
            head, dot, _ = name.partition(".")
            # data=NAME is the grid's, data.root=DIR is for every cell
            if not token.startswith("--") or (head in own and not (head == "data" and dot)):
                kept.append(token)
            else:
                others.setdefault(cls.group_of(name), []).append(token.removeprefix("--"))
        return [*kept, *(f"--{group}+={json.dumps(given)}" for group, given in others.items())]

    def check_options(self, options: Sequence[str]) -> None:
        """Check options for cells; a `UserError` if one is reserved."""
        for token in normalise(options, self.shorthand, {}, CONFIGS):
            name = option_name(token)
            if name in self.reserved:
                raise UserError(f"'{name}' is set for each cell; use {self.reserved[name]}.")


@dataclass
class Comparison(Grid):
    """Supervised models beside zero-shot methods: the options that such comparisons share.

    Args:
        data: The data set: the name of a file in configs/data, or a mapping with class_path and init_args.
        split: The split of it to evaluate on.
        baselines: Supervised models: names of files in configs/baseline, or a mapping from data sets to such
            lists, in which * stands for anything.
        methods: Zero-shot methods.
        jobs: How many cells side by side: up to as many as there are GPUs, or cores. Null takes one per GPU,
            or two where there is none; and one if trainer.devices is given.
        options: Options for all cells, e.g. [limit=20].
        zero_shot: Options for zero-shot cells, e.g. [model.alpha=0.85].
        supervised: Options for supervised cells, e.g. [training.epochs=10]. Options on the command line that
            are not of this command are added to one of the three.
        wandb: As everywhere; the cells are a group of runs.
    """

    data: dict[str, Any] | str = "refshapesg"
    split: str = "val"
    baselines: dict[str, list[str]] | list[str] | str = "lavt-tiny"
    methods: list[str] | str = "global_local"
    jobs: int | None = None
    options: list[str] | None = None
    zero_shot: list[str] | None = None
    supervised: list[str] | None = None
    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"

    def names(self) -> list[str]:
        """Return the baselines; see `baselines_for`."""
        return baselines_for(name_of_data(self.data), self.baselines)

    @staticmethod
    def group_of(name: str) -> str:
        """Return which cells an option is for: all (``options``), or those of one kind."""
        if any(name == known or name.startswith(f"{known}.") for known in _OF_ALL):
            return "options"
        return "zero_shot" if name.partition(".")[0] in _OF_ZERO_SHOT else "supervised"

    def check(self) -> None:
        """Check methods and the options for cells."""
        if not self.methods:
            raise UserError("methods=[] must name one zero-shot method or more, e.g. methods=[global_local].")
        self.check_options([*(self.options or []), *(self.zero_shot or []), *(self.supervised or [])])

    def zero_shot_cell(self, name: str, label: str, place: Place) -> Cell:
        """Return the cell of all zero-shot methods on data and split."""
        methods = [self.methods] if isinstance(self.methods, str) else self.methods
        line = [f"data={written(place[0])}", f"data.split={place[1]}", f"methods={json.dumps(methods)}"]
        arguments = [*line, f"wandb={self.wandb}", *(self.options or []), *(self.zero_shot or [])]
        # Its models are its own: the settings of each data set may name another CLIP.
        return Cell(label, arguments, name, ZERO_SHOT, models=name)

    def supervised_cell(
        self, name: str, label: str, baseline: str, place: Place, own: Sequence[str], after: str | None = None
    ) -> Cell:
        """Return the cell of a baseline on data and split, with options of its own; see `Cell`."""
        line = [f"baseline={baseline}", f"data={written(place[0])}", f"split={place[1]}", *own]
        arguments = [*line, f"wandb={self.wandb}", *(self.options or []), *(self.supervised or [])]
        return Cell(label, arguments, name, SUPERVISED, models=baseline, after=after)


def known_baselines() -> list[str]:
    """Return the names of the files in ``configs/baseline``."""
    return sorted(file.stem for file in (CONFIGS / "baseline").glob("*.yaml"))


def baselines_for(dataset: str, baselines: Mapping[str, Sequence[str]] | Sequence[str] | str) -> list[str]:
    """Return the baselines of a data set, each once; a `UserError` if there are none or one is unknown.

    In the names of data sets of a mapping, ``*`` stands for anything; an exact one counts, else the first.
    """
    if isinstance(baselines, Mapping):
        fitting = [names for pattern, names in baselines.items() if fnmatchcase(dataset, pattern)]
        baselines = baselines.get(dataset, next(iter(fitting), []))
    names = [baselines] if isinstance(baselines, str) else list(dict.fromkeys(baselines))
    if not names:
        raise UserError(f"baselines has none for {dataset}; name them, e.g. baselines=[lavt,cris].")
    for name in names:
        if name not in known_baselines():
            raise unknown_name("baseline", name, known_baselines())
    return names


def name_of_data(data: str | Mapping[str, Any]) -> str:
    """Return the name of a data set: its settings' file, its ``dataset``, or its class."""
    if isinstance(data, str):
        return data
    if "class_path" not in data:
        raise UserError(f"The data set {dict(data)} lacks class_path, e.g. class_path: datamodules.RefCOCO.")
    return str((data.get("init_args") or {}).get("dataset") or str(data["class_path"]).rpartition(".")[2])


def written(data: str | Mapping[str, Any]) -> str:
    """Write a data set as the command line takes it."""
    return data if isinstance(data, str) else json.dumps(data)


def option_name(token: str) -> str:
    """Return the name in a normalised option.

    Example:
        >>> option_name("--training.k+=[4]")
        'training.k'
    """
    return token.removeprefix("--").partition("=")[0].rstrip("+")
