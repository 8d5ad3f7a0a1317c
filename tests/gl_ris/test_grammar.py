"""The rules on units by themselves; what they make of expressions is in test_parsing.py."""

from __future__ import annotations

import re

import pytest

from gl_ris.grammar import _FUNCTIONS, Unit, grammar, rewritten


def test_every_rule_of_the_grammar_makes_letters_that_there_are() -> None:
    """A function's name that is written wrong would be taken for a letter."""
    rules = grammar()["rules"]
    assert all(made in _FUNCTIONS or len(made.split()[0]) == 1 for _, made, *_ in rules)
    assert {made for _, made, *_ in rules} >= _FUNCTIONS.keys()
    for pattern, *_ in rules:
        re.compile(pattern)
        assert "{" not in pattern


@pytest.mark.parametrize(
    ("units", "wanted"),
    [
        # far left bed; the second left bed; bed nearest the sign; right next to; one on the left
        ("U=farthest S=left n", "U=leftmost n"),
        ("U=closest S=left n", "U=closest S=left n"),
        ("d O=2 U=biggest n", "d O=2 K=biggest n"),
        ("n U=closest d n", "n R=near d n"),
        ("n S=right R=near d n", "n R=near d n"),
        ("n R=on S=right R=inside d n", "n S=right | R=inside d n"),
        ("N=1 R=on d S=left", "n S=left |"),
        ("n R=on S=top o d n", "n R=on d n"),
        ("N=2 n S=middle o N=2 n", "N=2 n R=between N=2 n"),
    ],
)
def test_rules_on_units(units: str, wanted: str) -> None:
    made = [Unit(*(one + "=").split("=")[:2], (i,)) for i, one in enumerate(units.split())]  # type: ignore[call-arg, arg-type]
    found = [f"{one.letter}={one.value}".rstrip("=") for one in rewritten(made)]
    assert " ".join(one[0] if one[0] == "n" else one for one in found) == wanted
