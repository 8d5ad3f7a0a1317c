"""Runs of other commands as cells of a grid: checked before any is started, kept where they are finished.

Each is carried out in a process of its own (`experiments.grid.runner`): so it can have processes of its own
(``--trainer.devices=2``), and a finished one stays whole when a later one fails.
"""

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from experiments.cli.overrides import current_paths
from experiments.run.folder import PROGRESS
from gl_ris.errors import UserError
from gl_ris.files import plain

RESULTS, WEIGHTS, MANIFEST = "results.json", "weights.pt", "manifest.json"
Results = Mapping[str, Any]
ZERO_SHOT_CELL = "zero-shot"  # What comparisons call their zero-shot run, and the folder that it has.
ZERO_SHOT, SUPERVISED = "experiments.zero_shot", "experiments.supervised"
_NOWHERE = ("wandb", "intervals", "trainer.enable_progress_bar")  # Settings that cannot change a figure.
_IGNORED = {
    ZERO_SHOT: (*_NOWHERE, "trainer.devices", "trainer.num_nodes", "trainer.strategy", "model.store"),
    # A training on several devices sees other batches. The others are options of old runs that were not used.
    SUPERVISED: (*_NOWHERE, "model.clip", "model.pretrained", "model.alpha", "model.proposals"),
}


@dataclass(frozen=True)
class Cell:
    """A run as it is wanted, and, once `plan` has checked it, what it comes to."""

    label: str  # for messages
    arguments: list[str]  # for its command
    name: str = ""  # of its folder; empty until `plan` names it by data set, partition and split
    program: str = ZERO_SHOT  # module of its command
    models: str = ""  # names its models: of cells with the same ones, the first is checked with them
    after: str | None = None  # an earlier cell whose ``weights.pt`` it evaluates; not checked beforehand
    # by `plan`: all settings that the arguments lead to; results that are there already, of the same
    # settings; whether to go on with a run that was cut off; why what is in its folder is of no use
    settings: Mapping[str, Any] = field(default_factory=dict)
    done: Results | None = None
    goes_on: bool = False
    anew: str = ""

    def line(self, folder: Path) -> list[str]:
        """Return its arguments with those that say where it and what it hangs on are."""
        weights = [] if self.after is None else [f"weights={folder / self.after / WEIGHTS}"]
        return [*self.arguments, *weights, f"run_dir={folder / self.name}"]

    def command(self, folder: Path) -> list[str]:
        """Return what to start; a run or a training in its folder that was cut off goes on."""
        how = "resume=true" if self.goes_on else "overwrite=true"
        return [sys.executable, "-m", self.program, *self.line(folder), how]

    def steps(self, refs_per_class: Sequence[int]) -> int:
        """Return how many steps its training has, of so many refs of each class; 0 if it has none."""
        if "training" not in self.settings or self.after or self.settings["model"].get("weights"):
            return 0
        from experiments.run.training import TrainingSettings

        training = TrainingSettings(**self.settings["training"])
        own = self.settings["model"]["baseline"]["init_args"]
        refs = sum(n if training.k == "all" else min(training.k, n) for n in refs_per_class)
        # no subset is smaller than its batch
        per_epoch = max(1, refs // max(1, min(training.batch_size or own["batch_size"], refs)))
        return per_epoch * training.length(per_epoch, own["epochs"])


def plan(cells: Sequence[Cell], folder: Path | None, overwrite: bool) -> list[Cell]:
    """Check everything that cells need, before any of them is started; a `UserError` if something is wrong.

    Returns them with name, settings, and what they can use of the folder, if it is known and not everything
    is to be run anew: results of those that are finished, and runs that were cut off.
    """
    planned: dict[str, Cell] = {}
    checked: set[str] = set()
    for wanted in cells:
        data = (cli := parts_of(wanted)).datamodule
        name = wanted.name or f"{data.dataset_name}-{data.partition}-{data.split}".replace(os.sep, "_")
        cell = replace(wanted, name=name, settings=cli.settings())
        if cell.name in planned:
            raise UserError(f"{cell.label} is there twice ({cell.name}); name each data set and split once.")
        if folder is not None and not overwrite:
            cell = _with_what_is_there(cell, cli, folder, planned)
        if cell.done is None and cell.after is None:
            check_parts(cell, cli, cell.models not in checked)
            checked.add(cell.models)
        planned[cell.name] = cell
    return list(planned.values())


def parts_of(cell: Cell) -> Any:
    """Make the parts that the arguments of a cell describe, an `experiments.cli.parts.ExperimentCLI`."""
    return import_module(cell.program).parts(list(cell.arguments))


def check_parts(cell: Cell, cli: Any, models: bool) -> None:
    """Check the parts of a cell, with or without its models; a `UserError` if something is wrong."""
    from experiments.run.evaluate import check

    # A training is made of the model: what is left to check without it are the settings.
    if models or cell.program == ZERO_SHOT:
        check(cli, models=models)


def _with_what_is_there(cell: Cell, cli: Any, folder: Path, planned: Mapping[str, Cell]) -> Cell:
    """Add to a cell what it can use of its folder, or why that is of no use."""
    path = folder / cell.name
    cut_off = (path / PROGRESS).is_dir()
    if cell.after is not None and cell.after in planned and planned[cell.after].done is None:
        # New weights make what was found with the old ones worthless.
        there = cut_off or (path / RESULTS).is_file()
        return replace(cell, anew="the weights that it evaluates are made anew" if there else "")
    if found := _finished(path, cell):
        change = _changed_since(found, parts_of(_in_folder(cell, folder)) if cell.after else cli)
        return replace(cell, done=None if change else found, anew=change)
    return _going_on(cell, folder) if cut_off else cell


def _going_on(cell: Cell, folder: Path) -> Cell:
    """Let a cell go on with the run in its folder that was cut off, or say why it cannot."""
    from experiments.run.resuming import how_it_began, settings_of

    path, cli = folder / cell.name, parts_of(_in_folder(cell, folder, "resume=true"))
    try:
        before, began = settings_of(path, cli.command.program), how_it_began(path)
    except UserError as error:
        return replace(cell, anew=f"what was cut off cannot go on: {error}".rstrip("."))
    if difference := first_difference(current_paths(before), plain(cli.settings()), cli.harmless):
        return replace(cell, anew=f"what was cut off had other settings ({difference})")
    change = _changed_since(began, cli)
    return replace(cell, goes_on=not change, anew=change)


def _in_folder(cell: Cell, folder: Path, *more: str) -> Cell:
    return replace(cell, arguments=[*cell.line(folder), *more])


def _changed_since(before: Results, cli: Any) -> str:
    """Say what has changed since a run began; inputs that are not there are no matter of what is finished."""
    from experiments.run.resuming import changed_since
    from gl_ris.inputs import inputs_of

    try:
        inputs = inputs_of(cli.model, cli.datamodule)
    except (OSError, UserError):
        inputs = {}
    return changed_since(before, inputs)


def _finished(path: Path, cell: Cell) -> Results | None:
    """Return the results in the folder of a cell, None if there are none; a `UserError` if of another one."""
    if not (path / RESULTS).is_file():
        return None
    found = read_results(path / RESULTS)
    # The classes of an old run may have moved since, and the weights of another cell with the folder.
    before, now = _with_all_fields(current_paths(found["config"])), plain(cell.settings)
    ignored = (*_IGNORED[cell.program], *([] if cell.after is None else ["model.weights"]))
    if difference := first_difference(before, now, ignored):
        raise UserError(
            f"The finished run in '{path}' had other settings ({difference}); name another run_dir, or run "
            "everything anew by overwrite=true."
        )
    if lacking := _lacking(found, cell):
        raise UserError(
            f"The results in '{path / RESULTS}' cannot be read ({lacking}); delete them to run it again."
        )
    return found


def _with_all_fields(settings: dict[str, Any]) -> dict[str, Any]:
    """Give what a run of before spelled out the settings that are new since, as it went by them."""
    from gl_ris.recipe import Recipe

    model = settings.get("model")
    if isinstance(model, dict) and isinstance(recipe := model.get("recipe"), dict):
        new = {"rerank": "none", "top": None, "abstain": None, "union": None} if "methods" in model else {}
        return {**settings, "model": {**new, **model, "recipe": {**plain(asdict(Recipe())), **recipe}}}
    return settings


def _lacking(results: Results, cell: Cell) -> str:
    """Say what a cell's results, which may have been edited since, lack; empty if nothing."""
    if cell.program == SUPERVISED:
        whole = len(results["methods"]) == 1 and "training" in results
        return "" if whole else "they are not those of one model, with what it learnt from"
    from gl_ris.scorers import load_scorer

    given = [{"method": one} if isinstance(one, str) else one for one in cell.settings["model"]["methods"]]
    # a method has a title of its own or that of its class
    titles = [one.get("title") or load_scorer(one["method"]).title for one in given]
    lacking = [title for title in titles if title not in results["methods"]]
    return f"they lack the method '{lacking[0]}'" if lacking else ""


def read_results(path: Path) -> Results:
    """Read the results of a cell; see `gl_ris.results.Results.read`."""
    from gl_ris import results

    return results.Results.read(path).document()


def first_difference(before: Any, now: Any, ignored: Collection[str] = ()) -> str:
    """Say what `first_change` has found; empty if nothing.

    Example:
        >>> first_difference({"model": {"alpha": 0.5}}, {"model": {"alpha": 0.9}})
        'model.alpha was 0.5 and is 0.9'
    """
    from experiments.run.resuming import first_change, in_brief

    change = first_change(before, now, ignored)
    return f"{change[0]} was {in_brief(change[1])} and is {in_brief(change[2])}" if change else ""
