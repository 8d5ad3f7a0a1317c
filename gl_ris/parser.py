"""Loading the spaCy pipeline that finds noun phrases: the shipped one, an installed one, or a folder."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from gl_ris.errors import UserError, unknown_name

if TYPE_CHECKING:
    from spacy.language import Language

SHIPPED = Path(__file__).parent / "assets" / "parser"
PACKAGES = ("en_core_web_sm", "en_core_web_md", "en_core_web_lg")
# Noun chunks need heads, labels and parts of speech; the rest of a released pipeline only costs time.
UNUSED = ["ner", "lemmatizer", "senter"]


def load_parser(name_or_path: str | Path | None = None) -> Language:
    """Load a spaCy pipeline that gives dependency trees and parts of speech.

    Nothing is ever downloaded.  A pipeline is loaded once per process and shared.

    Args:
        name_or_path: None for the pipeline shipped with gl-ris, the name of an installed package
            (``en_core_web_sm``, ``_md`` or ``_lg``; the paper's code uses ``en_core_web_lg``), or a
            pipeline's folder.

    Returns:
        The pipeline, without its named-entity recogniser, lemmatiser and sentence recogniser.

    Raises:
        UserError: The package is not installed, the folder is missing or damaged, the name is unknown, or the
            pipeline has no tagger or parser.
    """
    if name_or_path is None:
        return _load(str(SHIPPED), "reinstall gl-ris to get it back")
    name = str(name_or_path)
    if name in PACKAGES:
        _require_package(name)
        return _load(name, f"reinstall it with `python -m spacy download {name}`")
    if not Path(name).is_dir():
        if isinstance(name_or_path, Path) or "/" in name or "\\" in name:
            raise UserError(f"No parser folder at '{name}'; give a spaCy pipeline's folder, or leave it out.")
        raise unknown_name("parser", name, [*PACKAGES, "a pipeline's folder"])
    return _load(str(Path(name).resolve()), "give the folder of a spaCy pipeline, or leave it out")


def _require_package(name: str) -> None:
    import spacy.util

    if not spacy.util.is_package(name):
        raise UserError(
            f"The parser '{name}' is not installed; install it with `python -m spacy download {name}`, "
            "or leave the parser out to use the one shipped with gl-ris."
        )


@functools.cache
def _load(source: str, fix: str) -> Language:
    import spacy

    if source not in PACKAGES and not Path(source).is_dir():
        raise UserError(f"The parser is missing at '{source}'; {fix}.")
    try:
        with warnings.catch_warnings():
            # W095: written by another patch version of spaCy.  Loading still fails if it does not fit.
            warnings.filterwarnings("ignore", message=r"\[W095\]")
            pipeline = spacy.load(source, exclude=UNUSED)
            probe = pipeline("a red star above a blue square")
    except Exception as error:  # whatever msgpack, numpy or spaCy raise on damaged bytes
        raise UserError(f"The parser '{source}' is damaged ({type(error).__name__}); {fix}.") from error
    for annotation, component in (("DEP", "parser"), ("POS", "tagger and attribute_ruler")):
        if not probe.has_annotation(annotation):
            raise UserError(f"The parser '{source}' has no {component}, which noun phrases need; {fix}.")
    return pipeline
