"""The names of COCO's classes, and what else their objects are called: from ``coco_names.yaml``."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import yaml

NAMES_FILE = Path(__file__).with_name("coco_names.yaml")


@functools.cache
def coco_names() -> frozenset[str]:
    """Return the 80 names of COCO's classes."""
    return frozenset(_classes())


def coco_class(name: str) -> str | None:
    """Return the class of COCO whose objects a name stands for, or None.

    A name stands for a class if it is the class's own name, one of its synonyms, or the plural of either.
    Case does not count, and hyphens, underscores and runs of blanks are one blank.

    Example:
        >>> [coco_class(name) for name in ("tv", "Women", "bikes", "glass")]
        ['tv', 'person', 'bicycle', None]
    """
    return _lookup().get(" ".join(re.sub(r"[-_]", " ", name).lower().split()))


def plural(name: str) -> str:
    """Return the regular plural of a name: of its last word, or of the word before "of".

    Irregular plurals are not known here; the file lists them.

    Example:
        >>> [plural(name) for name in ("pony", "toy bus", "wine glass", "knife", "slice of pizza")]
        ['ponies', 'toy buses', 'wine glasses', 'knives', 'slices of pizza']
    """
    head, of, rest = name.partition(" of ")
    for ending, plural_ending in _ENDINGS:
        if re.search(ending, head):
            return re.sub(ending, plural_ending, head) + of + rest
    return f"{head}s{of}{rest}"


_ENDINGS = ((r"(?<=[^aeiou])y$", "ies"), (r"fe$", "ves"), (r"(?<=s|x|z)$", "es"), (r"(?<=ch|sh)$", "es"))


@functools.cache
def _classes() -> dict[str, list[str]]:
    return dict(yaml.safe_load(NAMES_FILE.read_text(encoding="utf-8"))["classes"])


@functools.cache
def _lookup() -> dict[str, str]:
    """Return the class of every word: what stands later wins, so that the classes' own names come last."""
    words = [(synonym, name) for name, synonyms in _classes().items() for synonym in synonyms]
    names = [(name, name) for name in _classes()]
    with_plurals = [pair for word, name in words for pair in ((plural(word), name), (word, name))]
    return dict([*with_plurals, *((plural(name), name) for name in _classes()), *names])
