"""Log a finished run folder to wandb: ``python -m experiments.wandb_log RUN_FOLDER``."""

import argparse
import sys
from pathlib import Path

from experiments.run.wandb import DOCUMENTS, MODES, document_of, log_folder
from gl_ris.command_line import add_version, as_typed
from gl_ris.errors import in_short
from gl_ris.processes import end_with_starter


def main() -> None:
    """Log the run folder that the command line names."""
    end_with_starter()
    program = as_typed("python -m experiments.wandb_log")
    parser = argparse.ArgumentParser(
        program, description="Log a finished run folder to wandb.", allow_abbrev=False
    )
    add_version(parser)
    parser.add_argument("folder", type=Path, help="the run folder")
    parser.add_argument(
        "--mode", choices=MODES, default="auto", help="see the option wandb of the experiments"
    )
    options = parser.parse_args()
    if document_of(options.folder) is None:
        names = ", ".join(DOCUMENTS)
        parser.error(f"'{options.folder}' is not the folder of a finished run: it has none of {names}.")
    try:
        print(
            "disabled" if options.mode == "disabled" else log_folder(options.folder.resolve(), options.mode)
        )
    except Exception as error:
        sys.exit(in_short(error, typed=True))


if __name__ == "__main__":
    main()
