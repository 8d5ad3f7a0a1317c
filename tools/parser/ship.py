"""Put a trained pipeline where `gl_ris.load_parser()` looks for it.

python -m tools.parser.ship RUN/model-best
"""

import argparse
from pathlib import Path

from gl_ris.command_line import add_version
from gl_ris.errors import UserError
from gl_ris.hashes import LIST, list_of
from gl_ris.text import SHIPPED

META = {
    "name": "gl_ris_noun_phrases",
    "version": "1.0.0",
    "description": "Tagger and dependency parser for the noun phrases of referring expressions",
    "license": "CC BY-SA 4.0",
    "notes": "Trained on UD English-EWT text (CC BY-SA 4.0), annotated with en_core_web_sm 2.2.5 (MIT).",
}


def ship(trained: Path, target: Path = SHIPPED) -> None:
    """Copy a pipeline with name and licence in its meta data, without the paths of its training files.

    Other files in ``target`` (the model card) stay. `UserError` if there is no pipeline in ``trained``.
    """
    import spacy

    if not (trained / "meta.json").is_file():
        raise UserError(f"No pipeline in '{trained}'; give the model-best folder of a `spacy train` run.")
    pipeline = spacy.load(trained)
    pipeline.meta.update(META)
    config = pipeline.config.copy()
    config["paths"].update({"train": None, "dev": None})
    pipeline.config = config
    pipeline.to_disk(target)
    # what is loaded is checked against it
    (target.parent / LIST).write_text(list_of(target.parent), encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Put a trained pipeline into gl_ris/assets/parser.")
    add_version(parser)
    parser.add_argument("trained", type=Path, help="the model-best folder of a `spacy train` run")
    ship(parser.parse_args(arguments).trained)


if __name__ == "__main__":
    main()
