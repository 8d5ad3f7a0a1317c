"""The target noun phrase of an expression (paper, Sec. 3.4): what the local text feature (Eq. 7) is made of.

The noun phrase is the noun chunk that holds the root of spaCy's dependency parse: "a dark brown leather
sofa behind a foot stool" gives "a dark brown leather sofa".  `noun_phrase` states the rule for one parsed
document, `noun_phrases` parses many texts and applies it. The parser is the shipped pipeline of spaCy, an
installed one, or a folder.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gl_ris.errors import UserError, unknown_name

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

SHIPPED = Path(__file__).parent / "assets" / "parser"
PACKAGES = ("en_core_web_sm", "en_core_web_md", "en_core_web_lg")
# Noun chunks need heads, labels and parts of speech; the rest of a released pipeline only costs time.
UNUSED = ["ner", "lemmatizer", "senter"]
BATCH_SIZE = 256


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


def noun_phrase(doc: Doc) -> str:
    """The noun chunk that holds the root of a parsed text.

    The published rule: the chunk with the root in it (the last root if the parser saw several
    sentences); if the root is in no chunk, the chunk with the root's first child in it; if that is in
    none either, the whole text.

    Args:
        doc: A document with heads, dependency labels and parts of speech.

    Returns:
        A substring of the document's text; the whole text for a document without tokens.
    """
    roots = [token for token in doc if token.dep_ == "ROOT"]
    if not roots:
        return doc.text
    # Noun chunks never overlap, so a token is in one chunk at most.
    chunk_of = {token.i: chunk for chunk in doc.noun_chunks for token in chunk}
    first_child = next(iter(roots[-1].children), None)
    for token in (roots[-1], first_child):
        if token is not None and token.i in chunk_of:
            return chunk_of[token.i].text
    return doc.text


def noun_phrases(
    texts: Sequence[str],
    parser: str | Path | Language | None = None,
    *,
    published: bool = False,
    batch_size: int = BATCH_SIZE,
) -> list[str]:
    """Find the target noun phrase of each expression.

    Each distinct text is parsed once.  A phrase depends on its own text alone, not on the texts around it, so
    shards and processes agree.

    Args:
        texts: Expressions, any mix of repeats.
        parser: A loaded pipeline, or what `load_parser` takes; None is the shipped pipeline.
        published: Parse `published_texts(texts)` (lower case, tokens joined by single blanks, so
            ``"the man 's hat"``) as the published code does, instead of the texts as they are.
        batch_size: Texts parsed together; no influence on the result.

    Returns:
        One phrase per text, in order.  A text that is empty or blank comes back as it is.

    Raises:
        UserError: The parser cannot be loaded.

    Example:
        >>> noun_phrases(["a cat is lying on the seat of the scooter"])
        ['a cat']
    """
    pipeline = _pipeline(parser)
    if published:
        texts = published_texts(texts, pipeline)
    # Sorted, so that the batches depend on the set of texts alone.
    distinct = sorted({text for text in texts if text.strip()})
    phrases = dict(
        zip(distinct, map(noun_phrase, pipeline.pipe(distinct, batch_size=batch_size)), strict=True)
    )
    return [phrases.get(text, text) for text in texts]


def published_texts(texts: Sequence[str], parser: str | Path | Language | None = None) -> list[str]:
    """Write expressions the way the published code feeds them to CLIP.

    Args:
        texts: Expressions.
        parser: As in `noun_phrases`; only its tokeniser is used.

    Returns:
        Per text: lower case, tokenised, tokens joined by single blanks (``"Man's hat."`` gives
        ``"man 's hat ."``).
        An empty or blank text gives an empty one.

    Raises:
        UserError: The parser cannot be loaded.
    """
    tokenizer = _pipeline(parser).tokenizer
    return [" ".join(token.text for token in tokenizer(text.lower()) if not token.is_space) for text in texts]


def _pipeline(parser: str | Path | Language | None) -> Language:
    return load_parser(parser) if parser is None or isinstance(parser, str | Path) else parser
