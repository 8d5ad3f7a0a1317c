"""Finished runs, or methods of one, against each other: ``python -m experiments.compare RUN RUN``."""

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.cli.command import closing_words
from experiments.run.folder import RunFolder
from gl_ris.command_line import Arguments, leave, show
from gl_ris.errors import UserError
from gl_ris.files import read_table

_DESCRIPTION, _EXAMPLES = read_table(Path(__file__).with_suffix(".yaml")).values()
_SAID = ("true", "false")


def main(tokens: Sequence[str] | None = None) -> None:
    """Compare what the command line names, print the table, and leave it in a folder."""
    made = Arguments("python -m experiments.compare", _DESCRIPTION, _EXAMPLES)
    made.add_argument("runs", nargs="+", metavar="RUN", help="folders of finished runs")
    made.add_argument("--common", default="false", choices=_SAID, help="expressions that all have [false]")
    made.add_argument("--run_dir", metavar="DIR", help="where to write [runs/compare/<time>]")
    made.add_argument("--overwrite", default="false", choices=_SAID, help="replace what is there [false]")
    given = made.read(sys.argv[1:] if tokens is None else tokens)
    from experiments.reporting.comparison import compare, read_run, report, write_all

    paths = [Path(run).expanduser() for run in given.runs]
    places = [path.resolve() for path in paths]
    if len(set(places)) < len(places):
        raise UserError(f"Name each run once: {', '.join(given.runs)}.")
    if given.run_dir and Path(given.run_dir).expanduser().resolve() in places:
        raise UserError(f"run_dir={given.run_dir} is one of the runs to compare; name another folder.")
    folder = RunFolder("compare", given.run_dir, given.overwrite == "true")
    found = compare([read_run(path) for path in paths], given.common == "true")
    write_all(folder.create(), found)
    folder.close()
    show(f"{report(found.document)}\n")
    closing_words("compare", folder.path)


if __name__ == "__main__":
    leave(main)
