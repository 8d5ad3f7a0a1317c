from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from datamodules import download
from datamodules.fetching import catalogue
from gl_ris.command_line import exit_code

ROOT = Path(__file__).parents[3]


def run(*arguments: str) -> int:
    try:
        return exit_code(lambda: download.main(arguments))
    except SystemExit as done:
        return int(done.code or 0)


@pytest.fixture
def toys(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalogue of one file that is there and one that is not."""
    text = """
{name}:
  title: a toy
  terms: none
  facts: [none]
  needs: [good]
  makes: [{{path: {name}.bin}}]
  downloads: [{{file: {name}.bin, magic: any, size: 4, place: {{"": {name}.bin}}, urls: ["{url}"]}}]
"""
    path = tmp_path / "catalogue.yaml"
    entries = [("good", server.serve("/good", b"1234")), ("gone", server.url("/gone"))]
    path.write_text("".join(text.format(name=name, url=url) for name, url in entries))
    items = catalogue.read_catalogue(path)
    monkeypatch.setattr(catalogue, "read_catalogue", lambda: items)
    return tmp_path / "data"


def test_one_that_fails_does_not_keep_the_others_away(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("gone", "good", f"--root={toys}") == 1
    output, errors = capsys.readouterr()
    assert (toys / "good.bin").read_bytes() == b"1234"
    assert "about 8.00B of disk" in output
    assert "good: a toy" in output
    assert "gone could not be fetched" in errors
    assert "404 Not Found" in errors
    assert errors.endswith("not fetched: gone\n")
    assert run("good", f"root={toys}") == 0
    assert capsys.readouterr().out.startswith("good: already there\n  done; checked: ")


def test_a_dry_run_touches_nothing(toys: Path, server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("gone", "good", f"--root={toys}", "--dry-run") == 0
    output = capsys.readouterr().out
    assert "state   to be fetched" in output
    assert "disk: about 8.00B at most while fetching" in output
    assert server.seen == []
    assert not toys.exists()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ([], "error: Say what to fetch, e.g. refcoco; --list shows the names."),
        (["refcco"], "error: Unknown name to fetch 'refcco'. Did you mean 'refcoco'?"),
        (["refcoco", "--rot=x"], "error: Unknown option '--rot'. Did you mean '--root'?"),
        (["refcoco", "--stall=long"], "error: Argument --stall: invalid float value: 'long'."),
        (["refcoco", "--attempts=0"], "error: --stall must be more than 0 and --attempts at least 1."),
    ],
)
def test_wrong_usage_is_one_sentence_and_code_2(
    arguments: list[str], match: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(match)
    assert errors.count("\n") == 1


@pytest.mark.parametrize("module", ["download", "check"])
def test_help_comes_at_once(module: str) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['x', '--help']\n"
        "try:\n"
        f"    runpy.run_module('datamodules.{module}', run_name='__main__')\n"
        "except SystemExit as done:\n"
        "    print('code', done.code, sorted({'torch', 'numpy', 'requests'} & set(sys.modules)))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.startswith(f"usage: python -m datamodules.{module}")
    assert "examples:" in answer.stdout
    assert answer.stdout.endswith("code 0 []\n")


def test_the_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--list") == 0
    output = capsys.readouterr().out
    assert all(f"{name} " in output for name in catalogue.read_catalogue())
    assert "13.5GB  data/train2014" in output
