"""Supervised models on concepts that they have not seen: ``python -m experiments.unseen_domain``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar

from experiments.cli.command import Command, run
from experiments.grid.cells import ZERO_SHOT_CELL, Cell, Results
from experiments.grid.settings import Comparison, Place, name_of_data
from gl_ris.errors import UserError, unknown_name

COMMAND = Command.documented("unseen_domain")


_FEW_SHOT = "experiments.fewshot, since here models learn from all refs"


@dataclass
class UnseenSettings(Comparison):
    """A comparison on a data set with concepts that supervised models, who learn from data, have not seen.

    Args:
        unseen: The data set with unseen concepts, as data; null takes that of pairs.
        unseen_split: The split of it to evaluate on.
        pairs: For data sets to learn from, the one with unseen concepts; * stands for anything.
        seed: Of the training.
        weights: For baselines that are trained already, the file with their weights.
    """

    reserved: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("baseline", "model.baseline"), "baselines=[...]"),
        "data": "data=NAME and unseen=NAME",
        "data.split": "split=NAME and unseen_split=NAME",
        **dict.fromkeys(("methods", "model.methods"), "methods=[...]"),
        **dict.fromkeys(("k", "training.k", "manifest"), _FEW_SHOT),
        "training.seed": "seed=N",
        "model.weights": "weights={BASELINE: FILE}",
    }

    data: dict[str, Any] | str = "refshapes"
    unseen: dict[str, Any] | str | None = None
    unseen_split: str = "test"
    pairs: dict[str, str] | None = None
    seed: int = 0
    weights: dict[str, str] | None = None

    def names(self) -> list[str]:
        """Return the baselines; a `UserError` also for weights of another."""
        names = super().names()
        for name in self.weights or {}:
            if name not in names:
                raise unknown_name("baseline in weights", name, names)
        return names

    def cells(self) -> list[Cell]:
        """Return all cells: the zero-shot ones, then for each model the two data sets."""
        from experiments.reporting.unseen_report import SEEN, UNSEEN, cell_name

        self.check()
        places = {SEEN: (self.data, self.split), UNSEEN: (self._unseen(), self.unseen_split)}
        cells = [
            self.zero_shot_cell(cell_name(ZERO_SHOT_CELL, where), f"zero-shot on {_words(place)}", place)
            for where, place in places.items()
        ]
        models = [(name, where) for name in self.names() for where in places]
        return cells + [self._model_cell(name, where, places[where]) for name, where in models]

    def _unseen(self) -> dict[str, Any] | str:
        if self.unseen is not None:
            return self.unseen
        name = name_of_data(self.data)
        found = [other for pattern, other in (self.pairs or {}).items() if fnmatchcase(name, pattern)]
        if not found:
            raise UserError(f"pairs has no data set with unseen concepts for {name}; name it by unseen=NAME.")
        return found[0]

    def _model_cell(self, baseline: str, where: str, place: Place) -> Cell:
        """Return a cell of a model, which is trained in its cell on the seen set unless it brings weights."""
        from experiments.reporting.unseen_report import SEEN, UNSEEN, cell_name

        own, after = ["k=all", f"seed={self.seed}"], None
        if baseline in (self.weights or {}):
            own = [f"weights={Path((self.weights or {})[baseline]).expanduser().absolute()}"]
        elif where == UNSEEN:
            own, after = [], cell_name(baseline, SEEN)
        label = f"{baseline} on {_words(place)}"
        return self.supervised_cell(cell_name(baseline, where), label, baseline, place, own, after)

    def write(self, folder: Path, results: Mapping[str, Results]) -> str:
        """Write document, CSV and figure, and return the tables."""
        from experiments.reporting.unseen_report import UnseenCells, report, write_all

        return report(write_all(folder, UnseenCells(self.names(), results), asdict(self)))


def _words(place: Place) -> str:
    return f"{name_of_data(place[0])} {place[1]}"


def main() -> None:
    """Make the comparison that the command line describes."""
    from experiments.grid.runner import carry_out

    carry_out(COMMAND, UnseenSettings)


if __name__ == "__main__":
    run(COMMAND, main)
