"""Supervised models on k refs of each class beside zero-shot: ``python -m experiments.fewshot k=64``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from experiments.cli.command import Command, run
from experiments.grid.cells import ZERO_SHOT_CELL, Cell, Results
from experiments.grid.settings import Comparison
from gl_ris.errors import UserError

if TYPE_CHECKING:
    from experiments.reporting.fewshot_report import Shot

COMMAND = Command.documented("fewshot")

FEW = 64
_TRAINED = "experiments.unseen_domain or experiments.supervised, since here every model is trained"


@dataclass
class FewShotSettings(Comparison):
    """A few-shot comparison on one split of one data set.

    Args:
        k: How many refs of each class a model learns from: a number, all, or a list of such.
        seeds: Each seed chooses other refs: a list for every k, or a mapping from k to lists, in which "*"
            stands for the others. Null takes 0, 1 and 2 for every k up to 64 of a curve (few refs make a
            matter of luck of which they are), and 0 for larger ones or a single k.
    """

    reserved: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("baseline", "model.baseline"), "baselines=[...]"),
        "data": "data=NAME",
        "data.split": "split=NAME",
        "model.methods": "methods=[...]",
        **dict.fromkeys(("manifest", "training.manifest"), "k and seeds, which choose the refs"),
        **dict.fromkeys(("weights", "model.weights"), _TRAINED),
        **dict.fromkeys(("seed", "seed_everything", "training.seed"), "seeds=[...]"),
        "training.k": "k=[...]",
    }

    k: list[int | str] | int | str = 4
    seeds: dict[str, list[int]] | list[int] | int | None = None

    def shots(self) -> list[Shot]:
        """Return the supervised cells: smallest k first, then by baseline, then by seed."""
        from experiments.reporting.fewshot_report import Shot

        names, wanted = self.names(), in_order(self.k)
        return [
            Shot(name, k, seed) for k in wanted for name in names for seed in seeds_of(k, self.seeds, wanted)
        ]

    def cells(self) -> list[Cell]:
        """Return all cells, the zero-shot run first."""
        self.check()
        place = self.data, self.split
        cells = [self.zero_shot_cell(ZERO_SHOT_CELL, ZERO_SHOT_CELL, place)]
        for shot in self.shots():
            own = [f"k={shot.k}", f"seed={shot.seed}"]
            label = f"{shot.baseline} k={shot.k} seed={shot.seed}"
            cells.append(self.supervised_cell(shot.name, label, shot.baseline, place, own))
        return cells

    def write(self, folder: Path, results: Mapping[str, Results]) -> str:
        """Write document, CSV and figure, and return the table with the sentences about crossings."""
        from experiments.reporting.fewshot_report import FewShotCells, read_available, report, write_all

        shots = self.shots()
        trained = [shot.name for shot in shots if shot.name in results]
        available = read_available(folder / trained[0]) if trained else []
        return report(write_all(folder, FewShotCells(shots, results, available), asdict(self)))


def in_order(k: Sequence[int | str] | int | str) -> list[int | str]:
    """Return what ``k`` asks for, each once, the smallest first and ``"all"`` last; a `UserError` for others.

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
    """Return the ``seeds`` (see `FewShotSettings`) of one of the ``wanted`` k; a `UserError` for none."""
    if seeds is None:
        return [0, 1, 2] if len(wanted) > 1 and isinstance(k, int) and k <= FEW else [0]
    # YAML reads the keys of {1: [0]} as numbers
    by_text = {
        str(key): value for key, value in (seeds if isinstance(seeds, Mapping) else {"*": seeds}).items()
    }
    chosen = by_text.get(str(k), by_text.get("*", []))
    found = [chosen] if isinstance(chosen, int) else list(dict.fromkeys(chosen))
    if not found:
        fix = f"{{{k}: [0,1,2], ...}}" if isinstance(seeds, Mapping) and len(wanted) > 1 else "[0,1,2]"
        raise UserError(f"seeds has none for k={k}; give one or more, e.g. seeds={fix}.")
    if min(found) < 0:
        raise UserError(f"seeds={found} must be whole numbers from 0 on.")
    return found


def main() -> None:
    """Make the comparison that the command line describes."""
    from experiments.grid.runner import carry_out

    carry_out(COMMAND, FewShotSettings)


if __name__ == "__main__":
    run(COMMAND, main)
