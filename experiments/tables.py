"""The tables of the paper: ``python -m experiments.tables table=1``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from experiments.cli.command import CONFIGS, Command, run
from experiments.cli.overrides import normalise
from experiments.grid.cells import SUPERVISED, Cell, Results
from experiments.grid.settings import Grid, name_of_data, option_name, written
from experiments.zero_shot import COMMAND as ZERO_SHOT
from gl_ris.errors import UserError, unknown_name

if TYPE_CHECKING:
    from experiments.reporting.paper import PaperTable
    from experiments.reporting.table_report import Entry

COMMAND = Command.documented("tables")

_VARIANT_FIELDS = ("alpha", "beta", "masked_blocks", "recipe", "rerank", "top", "abstain", "union")
_ROW_FIELDS = ("method", "encoder", "label", "context", "title", "paper", *_VARIANT_FIELDS)
# Options that a supervised model takes of those for all runs.
_SUPERVISED = ("intervals", "limit", "recipe", "trainer", "data", "wandb", "training")


@dataclass
class TableSettings(Grid):
    """A table: methods by data sets and splits.

    Args:
        title: Of the table.
        heading: Of the column that names the lines.
        rows: One mapping per method: method (a name, a class path, or upper_bound), encoder (a key of
            encoders), and where wanted label, context, title, paper, alpha, beta, masked_blocks, recipe,
            rerank, top, abstain and union.
        figures: What the table shows, of oIoU and mIoU; the CSV and JSON files have both.
        paper: Number of the paper's table to compare with.
        data: Data sets, a list: names of files in configs/data, or mappings with class_path and init_args.
        splits: Splits, a list for all data sets or a mapping from their names to lists.
        encoders: CLIP models by the keys that rows use, MODEL or MODEL/WEIGHTS, e.g. RN50-quickgelu/openai.
        supervised: Names of files in configs/baseline, a list: models that are trained on all of each data
            set's train split and evaluated beside the zero-shot methods, e.g. [cris-tiny].
        shares: What alpha, beta and masked_blocks are by name of the data set; elsewhere those of zero_shot.
        jobs: How many data sets and splits side by side: up to as many as there are GPUs, or cores. Null
            takes one per GPU, or two where there is none; and one if trainer.devices is given.
        options: Options of zero_shot for all runs, e.g. [proposals=slic]; those of a training (training.*)
            are for supervised models. Options on the command line that are not of the table are added.
    """

    title: str = ""
    heading: str = "Method"
    rows: list[dict[str, Any]] | None = None
    figures: list[Literal["oIoU", "mIoU"]] | None = None
    paper: str | None = None
    data: list[str | dict[str, Any]] | dict[str, Any] | str = "refshapesg"
    splits: dict[str, list[str]] | list[str] | str = "val"
    encoders: dict[str, str] | None = None
    supervised: list[str] | str | None = None
    shares: dict[str, dict[str, float]] | None = None
    jobs: int | None = None
    options: list[str] | None = None

    reserved: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("data", "data.class_path"), "data=[...]"),
        **dict.fromkeys(("data.split", "data.init_args.split"), "splits=[...]"),
        "model.clip": "encoders={...}",
        "model.pretrained": "encoders={rn: NAME/WEIGHTS}",
        "model.methods": "rows=[...]",
    }
    shorthand = ZERO_SHOT.shorthand
    # only the runs are logged, by an option of theirs
    wandb = None

    @classmethod
    def sort_out(cls, arguments: Sequence[str]) -> list[str]:
        """Read ``table=NAME`` as the settings in a file, and sort out the rest as ever."""
        return super().sort_out([_chosen_table(token) for token in normalise(arguments, {}, {}, CONFIGS)])

    def cells(self) -> list[Cell]:
        """Return all cells, the zero-shot ones first."""
        self._paper()
        return [*self.zero_shot_cells(), *self.supervised_cells()]

    def write(self, folder: Path, results: Mapping[str, Results]) -> str:
        """Write the table, once all cells are finished, and return it."""
        from experiments.reporting.table_report import Table, joined, runs_of, supervised_entries, write_all

        if len(results) < len(self.cells()):
            return ""
        trained = [one for one in results.values() if "training" in one]
        others = {name: one for name, one in results.items() if "training" not in one}
        runs = [row for name, one in others.items() for row in runs_of(joined(one, trained), name)]
        figures, entries = self.figures or ["oIoU", "mIoU"], [*self.entries(), *supervised_entries(trained)]
        table = Table(self.title, self.heading, figures, entries, runs, self._paper())
        return write_all(folder, table, asdict(self))

    def _paper(self) -> PaperTable | None:

        from experiments.reporting.paper import paper_table

        needed = [entry.paper for entry in self.entries() if entry.paper]
        return paper_table(self.paper, needed) if self.paper else None

    def entries(self) -> list[Entry]:
        """Return the methods, line by line; a `UserError` if there is none to run."""
        entries = [self._entry(row) for row in self.rows or []]
        if not any(entry.variant for entry in entries):
            known = sorted(_table_files())
            raise UserError(
                f"There is no method to compare; choose a table, {', '.join(known)}: table={known[0]}."
            )
        return entries

    def zero_shot_cells(self) -> list[Cell]:
        """Return a cell for each data set and split: all zero-shot methods in one pass."""
        options = self.options or []
        self.check_options(options)
        variants = [entry.variant for entry in self.entries() if entry.variant]
        # Methods without an encoder look at the image through whichever model is there.
        own: dict[str, Any] = next((variant for variant in variants if "clip" in variant), {})
        model = [f"model.{key}={own[key] or 'null'}" for key in ("clip", "pretrained") if own]
        common = [option for option in options if _group(option) != "training"]
        common.append(f"model.methods={json.dumps(variants)}")
        cells = []
        for name, data in self._data_sets():
            shares = [f"model.{key}={value:.15g}" for key, value in (self.shares or {}).get(name, {}).items()]
            for split in self._splits_of(name):
                arguments = [f"data={data}", f"data.split={split}", *model, *shares, *common]
                cells.append(Cell(f"{name} {split}", arguments))
        return cells

    def supervised_cells(self) -> list[Cell]:
        """Return the cells of supervised models: trained on the first split, evaluated on the others."""
        options = [option for option in self.options or [] if _group(option) in _SUPERVISED]
        found = []
        for name, data in self._data_sets():
            for baseline in _listed(self.supervised):
                trained = None
                for split in self._splits_of(name):
                    folder = f"{name}-{baseline}-{split}"
                    label = f"{name} {split}, {baseline}" + ("" if trained else " trained on all refs")
                    # What the settings of a baseline say of its training is for few refs.
                    own = [f"data={data}", f"baseline={baseline}", "k=all", *options, f"data.split={split}"]
                    found.append(Cell(label, own, folder, SUPERVISED, baseline, after=trained))
                    trained = trained or folder
        return found

    def _data_sets(self) -> list[tuple[str, str]]:
        """Return name and option of each data set; a `UserError` for shares or splits of another."""
        if not self.data:
            raise UserError("data=[] must name one data set or more.")
        sets = _listed(self.data)
        names = [name_of_data(item) for item in sets]
        # The shares of configs/tables.yaml are there for all data sets.
        for option, known in (("shares", [*names, *ZERO_SHOT.settings()["data"]]), ("splits", names)):
            keys = getattr(self, option)
            for name in keys if isinstance(keys, dict) else ():
                if name not in known:
                    raise unknown_name(f"data set in {option}", name, names)
        return list(zip(names, map(written, sets), strict=True))

    def _splits_of(self, name: str) -> list[str]:
        splits = self.splits.get(name, ["val"]) if isinstance(self.splits, dict) else self.splits
        if not splits:
            raise UserError(f"splits of {name} must name one split or more.")
        return _listed(splits)

    def _entry(self, row: dict[str, Any]) -> Entry:
        from experiments.reporting.table_report import UPPER_BOUND, Entry

        encoders = self.encoders or {}
        for name in row:
            if name not in _ROW_FIELDS:
                raise unknown_name(f"field of row {row}:", name, _ROW_FIELDS)
        method, key, context = row.get("method"), row.get("encoder"), row.get("context", "")
        if key is not None and key not in encoders:
            raise unknown_name(f"encoder of row {row}:", key, encoders)
        if method is None and "paper" not in row:
            raise UserError(f"The row {row} needs a method, e.g. {{method: global_local, encoder: vit}}.")
        if method in (None, "upper_bound"):
            title = UPPER_BOUND if method else None
            label = row.get("label") or title or str(row["paper"])
            return Entry(label, "", context, title, None, row.get("paper"))
        from gl_ris.scorers import load_scorer

        encoder = "" if key is None else encoders[key]
        label = row.get("label") or load_scorer(method).title
        title = row.get("title") or ", ".join(filter(None, (label, context))) + (f" ({key})" if key else "")
        settings = {name: row[name] for name in _VARIANT_FIELDS if name in row}
        variant = {"method": method, "title": title, **_clip(encoder), **settings}
        return Entry(label, encoder, context, title, variant, row.get("paper"))


def _listed(value: Any) -> list[Any]:
    return [value] if isinstance(value, str | dict) else list(value or [])


def _group(option: str) -> str:
    """Return the first part of an option's name."""
    (token,) = normalise([option], {}, {}, CONFIGS)
    return option_name(token).partition(".")[0]


def _clip(encoder: str) -> dict[str, Any]:
    """Split ``MODEL/WEIGHTS``; folders and repositories have slashes of their own and bring their weights."""
    if not encoder:
        return {}
    if encoder.startswith(("local-dir:", "hf-hub:")):
        return {"clip": encoder, "pretrained": None}
    clip, _, pretrained = encoder.partition("/")
    return {"clip": clip, "pretrained": pretrained or None}


def main() -> None:
    """Make the table that the command line describes."""
    from experiments.grid.runner import carry_out

    carry_out(COMMAND, TableSettings)


def _chosen_table(token: str) -> str:
    value = token.removeprefix("--table=")
    if value == token:
        return token
    known = _table_files()
    if value not in known and not Path(value).suffix:
        raise unknown_name("table", value, known)
    return f"--config={known.get(value, Path(value))}"


def _table_files() -> dict[str, Path]:
    return {file.stem: file for file in (CONFIGS / "tables").glob("*.yaml")}


if __name__ == "__main__":
    run(COMMAND, main)
