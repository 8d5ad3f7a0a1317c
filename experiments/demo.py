"""A page in the browser that shows what a sentence refers to in a picture: ``python -m experiments.demo``."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.cli.command import Command, run

if TYPE_CHECKING:
    from experiments.run.demo_answers import Models
    from experiments.run.demo_page import Server

COMMAND = Command.documented("demo")
EXAMPLES = 4


def drawn_examples(folder: Path) -> list[list[str]]:
    """Draw pictures of RefShapes into a folder; return pairs of a file and a sentence about it."""
    from datamodules.shapes.scenes import make_picture

    examples = []
    for number in range(EXAMPLES):
        file = folder / f"example{number + 1}.png"
        # whole sentences: the shipped CLIP reads attributes and relations, but no ordinals
        texts = make_picture(f"demo {number}", "val", file).utterances["refshapesg"]
        examples.append([str(file), next(one.text for own in texts.values() for one in own)])
    return examples


def read(arguments: Sequence[str]) -> tuple[Models, Server]:
    """Read a command line: what answers, and where the page is; a `UserError` for what cannot be."""
    from experiments.cli.parts import settings_parser
    from experiments.cli.photo_words import refuse_true_masks
    from experiments.run.demo_answers import Models
    from experiments.run.demo_page import Server

    refuse_true_masks(arguments)
    parser = settings_parser(COMMAND, Models, "model")
    parser.add_class_arguments(Server, "server")
    made = parser.instantiate_classes(parser.parse_args(list(arguments)))
    return made.model, made.server


def main() -> None:
    """Serve the page until the process is ended."""
    from experiments.run.demo_answers import Asked, Desk
    from experiments.run.demo_page import make_page, require_gradio
    from gl_ris.command_line import show
    from gl_ris.progress import QUIET
    from gl_ris.signals import kept_if_ended

    models, server = read(sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="gl-ris-demo-") as folder:
        require_gradio(Path(folder) / "uploads")
        models.segmenter(Asked()).load()
        os.environ[QUIET] = "1"  # no bar for every sentence
        address = server.serve(make_page(Desk(models), drawn_examples(Path(folder))))
        show(f"Page         {address}\nEnd          Ctrl-C; uploads are deleted then")
        with kept_if_ended(lambda: "the page is closed and uploads are deleted"):
            threading.Event().wait()


if __name__ == "__main__":
    run(COMMAND, main)
