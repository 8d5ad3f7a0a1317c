"""What docs/data.md promises."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from datamodules import check, download
from datamodules.checking.problems import ERRORS, NOTES
from datamodules.fetching.catalogue import find_item, read_catalogue

PAGE = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    python -m datamodules\.(\w+) (.*?)(?:\s+#.*)?$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("command", "arguments"), COMMANDS)
def test_the_commands_of_the_page_can_be_given(command: str, arguments: str) -> None:
    parsers = {"download": download.parser, "check": check.parser}
    found = parsers[command]().read(arguments.split())
    if command == "download":
        assert [find_item(name).name for name in found.names] == found.names
    assert found.names or found.list


def test_the_page_names_everything_that_can_be_fetched_and_where_it_goes() -> None:
    for item in read_catalogue().values():
        assert f"`{item.name}`" in PAGE or f" {item.name}" in PAGE
        for made in item.makes:
            assert made.path.split("/")[-1] in PAGE
            assert f"`data/{item.hub.into}/`" in PAGE if item.hub and made.files else True


def test_the_table_of_findings_leaves_out_no_kind() -> None:
    table = PAGE[PAGE.index("| finding |") : PAGE.index("Exit code 0")]
    rows = [line for line in table.splitlines() if line.endswith(("| yes |", "| with `--strict` |"))]
    assert len(rows) == 7
    assert len(ERRORS) + len(NOTES) == 18  # a new kind needs a word in the table
