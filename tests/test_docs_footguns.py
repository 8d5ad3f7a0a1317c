"""What docs/footguns.md says that the program prints, offers and has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "footguns.md").read_text(encoding="utf-8")
HERE = re.findall(r"^\*Here:\* (.*)$", TEXT, re.MULTILINE)
TRAPS = re.findall(r"^\*\*(.*?)\*\* .*\n\*Here:\*", TEXT, re.MULTILINE)
FOLDERS = ("gl_ris", "datamodules", "experiments", "configs")
FILES = [
    path for folder in FOLDERS for ending in ("py", "yaml") for path in (ROOT / folder).rglob(f"*.{ending}")
]
# texts that are parted over lines stand in one
SOURCE = re.sub(r'"\s*\n\s*f?"', "", "\n".join(path.read_text(encoding="utf-8") for path in FILES))
QUOTED = re.findall(r'"([^"]+)"', "\n".join(HERE))
NAMED = re.findall(r"`(?:data\.)?([a-z_]+)=?[\w.]*`", "\n".join(HERE))


def test_every_trap_has_its_answer() -> None:
    assert len(TRAPS) == len(HERE) == TEXT.count("\n**") > 15


@pytest.mark.parametrize("quoted", QUOTED)
def test_what_is_quoted_is_printed(quoted: str) -> None:
    assert quoted in SOURCE or quoted == "right"


@pytest.mark.parametrize("named", sorted(set(NAMED)))
def test_options_and_keys_exist(named: str) -> None:
    assert re.search(rf"\b{named}\b", SOURCE)
