"""The tables of the paper: ``python -m experiments.tables table=1``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.cli.command import CONFIGS, Command, run
from experiments.cli.overrides import normalise
from gl_ris.errors import unknown_name

COMMAND = Command(
    name="tables",
    summary=(
        "The tables of the paper on any list of data sets: table=1 has every method, table=2 ground-truth "
        "proposals, table=3 visual by textual context, and table=FILE rows of one's own. One pass over the "
        "images of a data set serves all methods of a table. "
        "Writes table.md, table.csv, table.json and table.tex, and the folder of each run beside them. "
        "Options that are not named here are those of experiments.zero_shot, for all runs: limit, proposals, "
        "recipe, model.*, data.*, trainer.*, wandb."
    ),
    examples=(
        ("table=1", "all methods on the three registers of RefShapes, with both small CLIPs"),
        (
            "table=3 data=[refshapesg] splits=[val,testA] limit=20",
            "one data set, two splits, twenty images each",
        ),
        (
            "table=1 run_dir=DIR",
            "into a folder of one's own; once more, and it goes on with what is unfinished",
        ),
        ("table=2 encoders.vit=ViT-B-32-quickgelu/openai", "another encoder"),
        (
            "table=my_table.yaml --trainer.devices=2",
            "rows of one's own, as in configs/tables/1.yaml; two processes",
        ),
    ),
    explained=(("", "experiments/grid/table_settings.py", "TableSettings"),),
)

_OWN = {
    *(
        "title",
        "heading",
        "rows",
        "figures",
        "paper",
        "data",
        "splits",
        "encoders",
        "supervised",
        "alphas",
        "options",
    ),
    *("run_dir", "overwrite", "config", "print_config", "help"),
}


def main() -> None:
    """Make the table that the command line describes."""
    make_table(*parse(sys.argv[1:]))


def parse(arguments: Sequence[str]) -> tuple[dict[str, Any], str | None, bool]:
    """Read a command line.

    Returns:
        The settings of the table, as plain values; its folder, or None; whether to run everything anew.

    Raises:
        UserError: An option is wrong.
    """
    from experiments.cli.settings_parser import parse_settings
    from experiments.grid.table_settings import TableSettings

    return parse_settings(COMMAND, TableSettings, sort_out(arguments))


def sort_out(arguments: Sequence[str]) -> list[str]:
    """Keep the table's own options, and put all others into its ``options``, last.

    Raises:
        UserError: There is no table of that name.

    Example:
        >>> sort_out(["limit=4", "data=[refshapes]", "data.limit=4"])
        ['--data=[refshapes]', '--options+=["limit=4", "data.limit=4"]']
    """
    own, others = [], []
    for token in normalise(arguments, {}, {}, CONFIGS):
        name, _, value = token.removeprefix("--").partition("=")
        head, dot, _ = name.rstrip("+").partition(".")
        if name == "table":
            own.append(f"--config={_table_file(value)}")
        elif (head in _OWN and not (head == "data" and dot)) or not token.startswith("--"):
            own.append(token)
        else:
            others.append(token.removeprefix("--"))
    return [*own, *([f"--options+={json.dumps(others)}"] if others else [])]


def _table_file(value: str) -> Path:
    known = {file.stem: file for file in (CONFIGS / "tables").glob("*.yaml")}
    if value not in known and not Path(value).suffix:
        raise unknown_name("table", value, known)
    return known.get(value, Path(value))


def make_table(settings: dict[str, Any], run_dir: str | None = None, overwrite: bool = False) -> Path:
    """Run what is not finished yet, and write and print the table.

    Args:
        settings: Arguments of `experiments.grid.table_settings.TableSettings`.
        run_dir: The folder; None makes ``runs/tables/<time>``.
        overwrite: Run everything anew.

    Returns:
        The folder.

    Raises:
        UserError: A setting, file or model is wrong; nothing has been run then.
        EvaluationError: A run failed; what was finished before stays.
    """
    from experiments.grid.child_runs import Cell, Crew, plan
    from experiments.grid.table_settings import TableSettings
    from experiments.grid.table_supervised import cells as supervised_cells
    from experiments.grid.table_supervised import entries as supervised_entries
    from experiments.grid.table_supervised import joined
    from experiments.reporting.table_report import Table, paper_table, runs_of, write_all
    from experiments.run.folder import checked_folder, made_folder
    from experiments.run.recorder import write_config

    spec = TableSettings(**settings)
    entries = spec.entries()
    needed = [entry.paper for entry in entries if entry.paper]
    paper = paper_table(spec.paper, needed) if spec.paper else None
    given = None if run_dir is None else checked_folder(COMMAND, run_dir, overwrite)
    zero_shot = [Cell(label, arguments) for label, arguments in spec.runs()]
    runs = plan([*zero_shot, *supervised_cells(spec)], given, overwrite)
    folder = made_folder(COMMAND, given)
    write_config(folder / "config.yaml", settings, COMMAND.program)
    found: dict[str, Any] = {}
    Crew(folder).perform(runs, lambda run, results, _: found.update({run.name: results}))
    trained = [found[run.name] for run in runs[len(zero_shot) :]]
    names = [run.name for run in runs[: len(zero_shot)]]
    documents = joined([found[name] for name in names], trained)
    columns = [row for name, made in zip(names, documents, strict=True) for row in runs_of(made, name)]
    entries += supervised_entries(trained)
    table = Table(spec.title, spec.heading, spec.figures, entries, columns, paper)
    print(f"\n{write_all(folder, table, settings)}\nRun folder   {folder}")
    return folder


if __name__ == "__main__":
    run(COMMAND, main)
