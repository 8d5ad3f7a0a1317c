"""What a run has predicted, in the forms of other tools: ``python -m experiments.export RUN``."""

import sys
from collections.abc import Sequence
from pathlib import Path

from gl_ris.command_line import Arguments, leave, show

_DESCRIPTION = (
    "Write what a finished run has predicted for other tools, into RUN/export: COCO results with their\n"
    "ground truth, a picture of each mask, or a row of Markdown for a leaderboard (docs/predictions.md)."
)
_EXAMPLES = """examples:
  python -m experiments.export runs/zero_shot/<time> format=coco
  python -m experiments.export runs/zero_shot/<time> format=masks method=Global-Local out=runs/masks
  python -m experiments.export runs/zero_shot/<time> format=leaderboard"""


def main(tokens: Sequence[str] | None = None) -> None:
    """Write what the command line asks for."""
    made = Arguments("python -m experiments.export", _DESCRIPTION, _EXAMPLES)
    made.add_argument("run", type=Path, help="the folder of a run")
    made.add_argument("--format", default="coco", help="coco, masks or leaderboard [coco]")
    made.add_argument("--method", help="which method, where the run has several")
    made.add_argument("--out", type=Path, help="another folder than RUN/export")
    given = made.read(sys.argv[1:] if tokens is None else tokens)
    from experiments.reporting.export import export

    run = given.run.expanduser()
    for line in export(run, given.format, given.method, given.out or run / "export"):
        show(line)


if __name__ == "__main__":
    leave(main)
