"""The target noun phrase of an expression (paper, Sec. 3.4): what the local text feature (Eq. 7) is made of.

The noun phrase is the noun chunk that holds the root of spaCy's dependency parse: "a dark brown leather
sofa behind a foot stool" gives "a dark brown leather sofa".  `noun_phrase` states the rule for one parsed
document, `noun_phrases` parses many texts and applies it. The parser is the shipped pipeline of spaCy, an
installed one, or a folder.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gl_ris.errors import UserError, in_short, unknown_name
from gl_ris.hashes import check_shipped
from gl_ris.parser_folder import UNUSED, unused_components
from gl_ris.progress import bar

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Span, Token

SHIPPED = Path(__file__).parent / "assets" / "parser"
PACKAGES = ("en_core_web_sm", "en_core_web_md", "en_core_web_lg", "en_core_web_trf")
# How spaCy names the pipelines that it can download.
_RELEASED = re.compile(r"[a-z]{2,3}_\w+_(sm|md|lg|trf)")
BATCH_SIZE = 256
# An apostrophe that a tokeniser set apart from the end of its word: "player ' s", "isn ' t"; but not "' s '",
# a letter in quotes. What follows is joined to it, so that a parser sees the ending that it knows.
_SET_APART = re.compile(
    r"(?<=\w)(?:\s+['\u2019]\s*|['\u2019]\s+)(s|re|ve|ll|d|m|t)\b(?!\s*['\u2019])", re.IGNORECASE
)


def load_parser(name_or_path: str | Path | None = None) -> Language:
    """Load a spaCy pipeline that gives dependency trees and parts of speech.

    Nothing is ever downloaded, and no code of a folder runs.  A pipeline is loaded once per process.

    Args:
        name_or_path: None for the pipeline shipped with gl-ris, the name of an installed one (such as
            ``en_core_web_trf``; the paper's code uses ``en_core_web_lg``), or a pipeline's folder.

    Returns:
        The pipeline, without its named-entity recogniser, lemmatisers and sentence recogniser.

    Raises:
        UserError: The package is not installed or no pipeline, the folder is missing, damaged or asks for
            parts from elsewhere, the name is unknown, or the pipeline gives no noun chunks.
    """
    if name_or_path is None:
        return _load(str(SHIPPED), "reinstall gl-ris to get it back")
    name = str(name_or_path)
    if isinstance(name_or_path, str) and _is_installed(name):
        return _load(name, f"reinstall it with `python -m spacy download {name}`", installed=True)
    if not Path(name).is_dir():
        raise _missing(name, isinstance(name_or_path, Path) or "/" in name or "\\" in name)
    return _load(str(Path(name).resolve()), "give the folder of a spaCy pipeline, or leave it out")


def _is_installed(name: str) -> bool:
    """Say whether a name is that of an installed pipeline; `UserError` for another installed package."""
    import spacy.util

    # what is no name of a module would be looked up as a path
    if not name.isidentifier() or not spacy.util.is_package(name):
        return False
    place = importlib.util.find_spec(name)
    if place is None or not place.origin or not Path(place.origin).with_name("meta.json").is_file():
        raise UserError(f"The package '{name}' is installed, but it is no spaCy pipeline; {_choices()}.")
    return True


def _missing(name: str, is_path: bool) -> UserError:
    if is_path:
        return UserError(f"No parser folder at '{name}'; give a spaCy pipeline's folder, or leave it out.")
    if _RELEASED.fullmatch(name):
        return UserError(
            f"The parser '{name}' is not installed; install it with `python -m spacy download {name}`, "
            "or leave the parser out to use the one shipped with gl-ris."
        )
    return unknown_name("parser", name, {*PACKAGES, *_installed(), "a pipeline's folder"})


def _installed() -> list[str]:
    import spacy.util

    return sorted(spacy.util.get_installed_models())


def _choices() -> str:
    known = ", ".join(_installed()) or "none yet"
    return f"installed pipelines: {known}; leave the parser out to use the one shipped with gl-ris"


@functools.cache
def _load(source: str, fix: str, installed: bool = False) -> Language:
    import spacy

    if not installed and not Path(source).is_dir():
        raise UserError(f"The parser is missing at '{source}'; {fix}.")
    if source == str(SHIPPED):
        check_shipped(SHIPPED)
    try:
        with warnings.catch_warnings():
            # W095: written by another patch version of spaCy.  Loading still fails if it does not fit.
            warnings.filterwarnings("ignore", message=r"\[W095\]")
            exclude = UNUSED if installed else unused_components(Path(source))
            pipeline = spacy.load(source if installed else Path(source), exclude=exclude)
            probe = pipeline("a red star above a blue square")
    except UserError:
        raise
    except Exception as error:  # whatever msgpack, numpy or spaCy raise on damaged bytes
        what = "does not load" if installed else "is damaged"
        raise UserError(f"The parser '{source}' {what} ({in_short(error, typed=True)}); {fix}.") from error
    for annotation, component in (("DEP", "parser"), ("POS", "tagger and attribute_ruler")):
        if not probe.has_annotation(annotation):
            raise UserError(f"The parser '{source}' has no {component}, which noun phrases need; {fix}.")
    if pipeline.Defaults.syntax_iterators.get("noun_chunks") is None:
        raise UserError(f"spaCy finds no noun chunks in the language '{pipeline.lang}' of parser '{source}'.")
    return pipeline


def noun_phrase(doc: Doc, *, published: bool = False) -> str:
    """The noun chunk that holds the root of a parsed text.

    The published rule: the chunk with the root in it (the last root if the parser saw several
    sentences); if the root is in no chunk, the chunk with the root's first child in it; if that is in
    none either, the whole text. By default a chunk that is only a pronoun ("it", "I") gives way to another,
    that of the first root that has one, else of a root's child, else the first in the text.

    Args:
        doc: A document with heads, dependency labels and parts of speech.
        published: Take pronouns, too.

    Returns:
        A substring of the document's text; the whole text for a document without tokens.
    """
    roots = [token for token in doc if token.dep_ == "ROOT"]
    if not roots:
        return doc.text
    # Noun chunks never overlap, so a token is in one chunk at most.
    chunk_of = {token.i: chunk for chunk in doc.noun_chunks for token in chunk}
    chosen = _first_chunk([roots[-1], *list(roots[-1].children)[:1]], chunk_of)
    if chosen is None:
        return doc.text
    if not published and _is_pronoun(chosen):
        named = {i: chunk for i, chunk in chunk_of.items() if not _is_pronoun(chunk)}
        children = [child for root in roots for child in root.children]
        chosen = _first_chunk([*roots, *children, *doc], named) or chosen
    return chosen.text


def _first_chunk(tokens: Sequence[Token], chunk_of: Mapping[int, Span]) -> Span | None:
    return next((chunk_of[token.i] for token in tokens if token.i in chunk_of), None)


def _is_pronoun(chunk: Span) -> bool:
    """Say whether a chunk names nothing: "it", "this"; but "someone" (tag NN) is a person."""
    return all(token.pos_ in ("PRON", "DET") and not token.tag_.startswith("NN") for token in chunk)


def join_apostrophes(text: str) -> str:
    """Join an ending to its apostrophe where a tokeniser wrote them apart.

    Example:
        >>> join_apostrophes("another player ' s hand that isn ' t his")
        "another player 's hand that isn't his"
    """
    return _SET_APART.sub(lambda end: f"'{end[1]}" if end[1] in "tT" else f" '{end[1]}", text)


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
        published: As the published code does: parse `published_texts(texts)` (lower case, tokens joined by
            single blanks, so ``"the man 's hat"``) and take pronouns, too. Otherwise texts are parsed as they
            are but for apostrophes (`join_apostrophes`), and a pronoun is taken only where nothing else is.
        batch_size: Texts parsed together; no influence on the result.

    Returns:
        One phrase per text, in order.  A text that is empty or blank comes back as it is.

    Raises:
        UserError: The parser cannot be loaded.

    Example:
        >>> noun_phrases(["a cat is lying on the seat of the scooter"])
        ['a cat']
    """
    written, docs = documents(texts, parser, published=published, batch_size=batch_size)
    phrases = {text: noun_phrase(doc, published=published) for text, doc in docs}
    return [phrases.get(text, text) for text in written]


def documents(
    texts: Sequence[str],
    parser: str | Path | Language | None = None,
    *,
    published: bool = False,
    batch_size: int = BATCH_SIZE,
) -> tuple[list[str], Iterator[tuple[str, Doc]]]:
    """Write texts as they are parsed, and parse each distinct one once; options as in `noun_phrases`.

    Returns:
        The texts as written, in order, and pairs of such a text and its document; blank ones have none.
    """
    pipeline = _pipeline(parser)
    written = published_texts(texts, pipeline) if published else [join_apostrophes(text) for text in texts]
    # Sorted, so that the batches depend on the set of texts alone.
    distinct = sorted({text for text in written if text.strip()})
    shown = bar("parsing expressions", "text", distinct)
    return written, zip(distinct, pipeline.pipe(shown, batch_size=batch_size), strict=True)


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
