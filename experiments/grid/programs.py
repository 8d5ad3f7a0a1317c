"""The commands whose runs other commands start: how their arguments are read and checked beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.reporting.finished_results import check_methods, check_training

# Settings that cannot change a figure, however different they are.
_INDIFFERENT: dict[str, tuple[str, ...] | None] = {
    "wandb": None,
    "trainer": ("devices", "num_nodes", "strategy", "enable_progress_bar"),
    "model": ("store",),
}


@dataclass(frozen=True)
class Program:
    """A command that runs can be of.

    Attributes:
        module: What ``python -m`` takes.
        parts: Makes the parts that arguments describe; gives an `experiments.cli.parts.ExperimentCLI`.
        check: Checks parts before any work; ``models=False`` leaves out the models.
        complete: Checks that the results of a run, with these settings and in this file, are all there.
        indifferent: Settings that cannot change a figure: those of a group, or None for all of it.
    """

    module: str
    parts: Callable[[list[str]], Any]
    check: Callable[..., None]
    complete: Callable[[Mapping[str, Any], Mapping[str, Any], Path], None]
    indifferent: Mapping[str, tuple[str, ...] | None]

    def essence(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Leave out what cannot change a figure."""
        kept = {name: value for name, value in settings.items() if self.indifferent.get(name, ()) is not None}
        for name, without in self.indifferent.items():
            if without and isinstance(kept.get(name), Mapping):
                kept[name] = {key: value for key, value in kept[name].items() if key not in without}
        return kept


def _zero_shot_parts(arguments: list[str]) -> Any:
    from experiments.cli.parts import parts_of
    from experiments.zero_shot import COMMAND
    from gl_ris.zero_shot import ZeroShotRIS

    return parts_of(COMMAND, ZeroShotRIS, arguments)


def _zero_shot_check(cli: Any, *, models: bool = True) -> None:
    from experiments.run.evaluate import check

    check(cli, models=models)


def _zero_shot_complete(document: Mapping[str, Any], settings: Mapping[str, Any], path: Path) -> None:
    check_methods(document, map(_title_of, settings["model"]["methods"]), path)


def _title_of(method: Mapping[str, Any] | str) -> str:
    """Return what results call a method, which has a title of its own or that of its class."""
    from gl_ris.scorers import load_scorer

    given = {"method": method} if isinstance(method, str) else method
    return given.get("title") or load_scorer(given["method"]).title


ZERO_SHOT = Program(
    "experiments.zero_shot", _zero_shot_parts, _zero_shot_check, _zero_shot_complete, _INDIFFERENT
)


def _supervised_parts(arguments: list[str]) -> Any:
    from experiments.run.training import supervised_parts
    from experiments.supervised import COMMAND

    return supervised_parts(COMMAND, arguments)


def _supervised_check(cli: Any, *, models: bool = True) -> None:
    from experiments.run.evaluate import check

    # The training is made of the model: what is left to check without it are the settings.
    if models:
        check(cli)


def _supervised_complete(document: Mapping[str, Any], settings: Mapping[str, Any], path: Path) -> None:
    check_training(document, path)


SUPERVISED = Program(
    "experiments.supervised",
    _supervised_parts,
    _supervised_check,
    _supervised_complete,
    # A training on several devices sees other batches.
    {"wandb": None, "trainer": ("enable_progress_bar",)},
)
