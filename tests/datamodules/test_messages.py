"""What messages of this package name can be typed: options of a data module with ``data.`` before them."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import datamodules
from datamodules.base import RISDataModule

FILES = sorted(Path(datamodules.__file__).parent.rglob("*.py"))


def options() -> set[str]:
    """The arguments of all data modules whose names are no plain words; those are told by ``NAME=``."""
    classes = [getattr(datamodules, name) for name in datamodules.__all__]
    modules = [cls for cls in classes if issubclass(cls, RISDataModule)] + [RISDataModule]
    return {name for cls in modules for name in inspect.signature(cls.__init__).parameters} - {"self"}


def messages(file: Path) -> list[str]:
    """The texts in the errors that a file makes, with ... for what is filled in."""
    calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    errors = [c for c in calls if getattr(c.func, "id", "") in ("UserError", "unknown_name", "log")]
    found = []
    for text in (argument for call in errors for argument in call.args):
        parts = text.values if isinstance(text, ast.JoinedStr) else [text]
        found.append("".join(str(p.value) if isinstance(p, ast.Constant) else "..." for p in parts))
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_options_are_named_as_they_are_typed(file: Path) -> None:
    compound = "|".join(name for name in options() if "_" in name)
    untyped = (
        rf"(?<![\w.<-])({compound})\b|(?<![\w.<-])({'|'.join(options())})=|[Ss]et ({'|'.join(options())})\b"
    )
    known = ("limit=", "split=", "proposals=")  # short spellings
    said = [(text, found[0]) for text in messages(file) for found in re.finditer(untyped, text)]
    assert [item for item in said if item[1] not in known] == []
