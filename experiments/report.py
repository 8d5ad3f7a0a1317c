"""Finished runs as one page to look at and to send: ``python -m experiments.report RUN [RUN ...]``."""

import sys
from collections.abc import Sequence
from pathlib import Path

from gl_ris.command_line import Arguments, leave, show
from gl_ris.errors import UserError
from gl_ris.files import read_table

_DESCRIPTION, _EXAMPLES = read_table(Path(__file__).with_suffix(".yaml")).values()
_SAID = ("true", "false")


def main(tokens: Sequence[str] | None = None) -> None:
    """Write the page of what the command line names, and say how large it is."""
    made = Arguments("python -m experiments.report", _DESCRIPTION, _EXAMPLES)
    made.add_argument("runs", nargs="+", metavar="RUN", help="folders of finished runs")
    made.add_argument("--pictures", type=int, metavar="N", help="images in the file [as many as 25 MB hold]")
    made.add_argument("--heat", default="false", choices=_SAID, help="compute heat maps anew [false]")
    made.add_argument("--common", default="false", choices=_SAID, help="expressions that all have [false]")
    made.add_argument("--run_dir", metavar="DIR", help="where to write [the first RUN]")
    given = made.read(sys.argv[1:] if tokens is None else tokens)
    if given.pictures is not None and given.pictures < 0:
        raise UserError(f"pictures={given.pictures} must be 0 or more; leave it out for what 25 MB hold.")
    paths = [Path(run).expanduser() for run in given.runs]
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError(f"Name each run once: {', '.join(given.runs)}.")
    from experiments.reporting.run_report import write_report

    folder = paths[0] if given.run_dir is None else Path(given.run_dir).expanduser()
    told = write_report(paths, folder, given.pictures, given.heat == "true", given.common == "true")
    for line in told:
        show(line)


if __name__ == "__main__":
    leave(main)
