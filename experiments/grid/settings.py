"""What grids of runs have in common on the command line: options, baselines, names of data and of cells."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeVar

from experiments.cli.command import CONFIGS, Command
from experiments.cli.overrides import normalise
from experiments.grid.cells import SUPERVISED, ZERO_SHOT, Cell
from gl_ris.errors import UserError, unknown_name

_Grid = TypeVar("_Grid")
# Options that all cells know, and those of zero-shot ones; all others are for supervised ones.
_OF_ALL = (
    *("data", "limit", "recipe"),
    *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.enable_progress_bar"),
)
_OF_ZERO_SHOT = ("alpha", "beta", "clip", "post", "proposals", "row", "store")
_EVERYWHERE = ("run_dir", "overwrite", "config", "print_config", "help")


@dataclass
class Comparison:
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
        """Return the baselines, each once.

        Raises:
            UserError: There is none for the data set, or one is unknown.
        """
        return baselines_for(name_of_data(self.data), self.baselines)

    def check(self, reserved: Mapping[str, str]) -> None:
        """Check the options that all comparisons have.

        Args:
            reserved: Options that the comparison sets for each cell itself, and what to use in their place.

        Raises:
            UserError: There is no job or no zero-shot method, or an option for cells is reserved.
        """
        if self.jobs is not None and self.jobs < 1:
            raise UserError(f"jobs={self.jobs} must be 1 or more.")
        if not self.methods:
            raise UserError("methods=[] must name one zero-shot method or more, e.g. methods=[global_local].")
        check_reserved(self._given(self.zero_shot, self.supervised), reserved, {})

    def zero_shot_cell(self, name: str, label: str, data: dict[str, Any] | str, split: str) -> Cell:
        """Return the cell of all zero-shot methods on a split.

        Its models are its own: the settings of each data set may name another CLIP.
        """
        methods = [self.methods] if isinstance(self.methods, str) else self.methods
        line = [f"data={written(data)}", f"data.split={split}", f"methods={json.dumps(methods)}"]
        arguments = [*line, f"wandb={self.wandb}", *self._given(self.zero_shot)]
        return Cell(label, arguments, name, ZERO_SHOT, models=name)

    def supervised_cell(
        self,
        name: str,
        label: str,
        baseline: str,
        place: tuple[dict[str, Any] | str, str],
        own: Sequence[str],
        after: str | None = None,
    ) -> Cell:
        """Return a cell of a supervised model.

        Args:
            name: Of its folder.
            label: For messages.
            baseline: Name of the model's settings.
            place: Data and split.
            own: Options that are its own.
            after: Name of the cell whose weights it evaluates, if it does.
        """
        line = [f"baseline={baseline}", f"data={written(place[0])}", f"split={place[1]}", *own]
        arguments = [*line, f"wandb={self.wandb}", *self._given(self.supervised)]
        return Cell(label, arguments, name, SUPERVISED, models=baseline, after=after)

    def _given(self, *groups: list[str] | None) -> list[str]:
        return [option for group in (self.options, *groups) for option in group or []]


def known_baselines() -> list[str]:
    """Return the names of the files in ``configs/baseline``."""
    return sorted(file.stem for file in (CONFIGS / "baseline").glob("*.yaml"))


def baselines_for(dataset: str, baselines: Mapping[str, Sequence[str]] | Sequence[str] | str) -> list[str]:
    """Return the baselines of a data set, each once.

    Args:
        dataset: Its name.
        baselines: Names; or a mapping from names of data sets to names. ``*`` in a data set's name stands for
            anything; of several that fit, an exact one counts, else the first.

    Raises:
        UserError: There is none for the data set, or one is unknown.

    Example:
        >>> baselines_for("refcocog", {"refshapes*": ["lavt-tiny"]})
        Traceback (most recent call last):
        ...
        gl_ris.errors.UserError: baselines has none for refcocog; name them, e.g. baselines=[lavt,cris].
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


def check_reserved(options: Sequence[str], reserved: Mapping[str, str], shorthand: Mapping[str, str]) -> None:
    """Check that options for cells are not those that the grid sets for each of them.

    Args:
        options: As given.
        reserved: Full names of options, and what to use in their place.
        shorthand: Short names of options.

    Raises:
        UserError: One is.
    """
    for token in normalise(options, shorthand, {}, CONFIGS):
        name = option_name(token)
        if name in reserved:
            raise UserError(f"'{name}' is set for each cell; use {reserved[name]}.")


def option_name(token: str) -> str:
    """Return the name in a normalised option.

    Example:
        >>> option_name("--training.k+=[4]")
        'training.k'
    """
    return token.removeprefix("--").partition("=")[0].rstrip("+")


def group_of(name: str) -> str:
    """Say which cells of a comparison an option is for: all (``options``), or those of one kind."""
    if any(name == known or name.startswith(f"{known}.") for known in _OF_ALL):
        return "options"
    return "zero_shot" if name.partition(".")[0] in _OF_ZERO_SHOT else "supervised"


def sort_out(
    arguments: Sequence[str], own: Iterable[str], group_of: Callable[[str], str] = group_of
) -> list[str]:
    """Keep the options of a grid itself, and put all others into those for its cells, last.

    Args:
        arguments: The command line.
        own: Names of the grid's own options.
        group_of: Gives the one of these that an option of another name is added to.

    Returns:
        Arguments of the form ``--name=value``.

    Example:
        >>> sort_out(["k=4", "limit=20", "proposals=slic", "training.epochs=1"], ["k"])[1:]
        ['--options+=["limit=20"]', '--zero_shot+=["proposals=slic"]', '--supervised+=["training.epochs=1"]']
    """
    kept: list[str] = []
    others: dict[str, list[str]] = {"options": [], "zero_shot": [], "supervised": []}
    own = {*own, *_EVERYWHERE}
    for token in normalise(arguments, {}, {}, CONFIGS):
        name = option_name(token)
        head, dot, _ = name.partition(".")
        # data=NAME is the grid's, data.root=DIR is for every cell
        if not token.startswith("--") or (head in own and not (head == "data" and dot)):
            kept.append(token)
        else:
            others[group_of(name)].append(token.removeprefix("--"))
    return [*kept, *(f"--{group}+={json.dumps(given)}" for group, given in others.items() if given)]


def parse_grid(
    command: Command, kind: type[_Grid], arguments: Sequence[str], group_of: Callable[[str], str] = group_of
) -> tuple[_Grid, str | None, bool]:
    """Read the command line of a grid.

    Args:
        command: The command.
        kind: The dataclass of its settings.
        arguments: The command line.
        group_of: See `sort_out`.

    Returns:
        The settings; the folder, or None; whether to run everything anew.

    Raises:
        UserError: An option is wrong.
    """
    from experiments.cli.settings_parser import parse_settings

    own = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    settings, run_dir, overwrite = parse_settings(command, kind, sort_out(arguments, own, group_of))
    return kind(**settings), run_dir, overwrite
