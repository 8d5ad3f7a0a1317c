"""A spaCy pipeline in a folder is data: what its configuration may ask for.

``config.cfg`` may name only the parts of spaCy that noun phrases need: no component of another package, no
callback, no other pipeline. What spaCy then reads of the folder is JSON, msgpack without objects and numpy
without pickles, of which nothing is run. An installed pipeline is a Python package, and trusted as such.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gl_ris.errors import UserError

# Noun chunks need heads, labels and parts of speech; the rest of a released pipeline only costs time.
UNUSED = ("ner", "lemmatizer", "trainable_lemmatizer", "senter", "sentencizer")
_FACTORIES = ("tok2vec", "tagger", "morphologizer", "attribute_ruler", "parser")
_FUNCTIONS = (
    *("spacy.Tokenizer.v1", "spacy.Vectors.v1", "spacy.Tok2VecListener.v1", "spacy.HashEmbedCNN.v2"),
    *("spacy.Tok2Vec.v2", "spacy.MultiHashEmbed.v2", "spacy.CharacterEmbed.v2", "spacy.Tagger.v2"),
    *("spacy.MaxoutWindowEncoder.v2", "spacy.MishWindowEncoder.v2", "spacy.TransitionBasedParser.v2"),
    *("spacy.tagger_scorer.v1", "spacy.parser_scorer.v1", "spacy.attribute_ruler_scorer.v1"),
    *("spacy.morphologizer_scorer.v1",),
)


def unused_components(folder: Path) -> list[str]:
    """Return the names of the components in a folder that noun phrases do not need.

    `UserError` if one that they need, or the tokeniser, is not spaCy's own.
    """
    from spacy.util import load_config

    config = load_config(folder / "config.cfg")
    unused = [name for name, part in config["components"].items() if part.get("factory") in UNUSED]
    needed = [part for name, part in config["components"].items() if name not in unused]
    # a part without a factory is one that another pipeline brings
    factories = [str(part.get("factory", f"source {part.get('source')}")) for part in needed]
    foreign = [name for name in factories if name not in _FACTORIES]
    parts = {"nlp": config["nlp"], **{str(number): part for number, part in enumerate(needed)}}
    foreign += [name for name in _functions(parts) if name not in _FUNCTIONS]
    if foreign:
        raise UserError(
            f"The parser folder '{folder}' asks for '{foreign[0]}' in config.cfg, and a folder may only use "
            "the parts of spaCy that noun phrases need; install the pipeline as a package and give its name."
        )
    return unused


def _functions(value: Any) -> Iterator[str]:
    """Yield the names of registered functions (``@architectures = "..."``) at every depth."""
    if isinstance(value, Mapping):
        yield from (str(name) for key, name in value.items() if key.startswith("@"))
    for part in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _functions(part)
