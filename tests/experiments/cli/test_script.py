"""``gl-ris``: every command by its name."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

from experiments.cli import script
from experiments.cli.command import closing_words
from gl_ris.command_line import as_typed

ROOT = Path(__file__).parents[3]
START = "from experiments.cli.script import main; main()"


def gl_ris(*words: str, code: str = START) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", code, *words]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=1000, check=False)


def test_every_command_is_listed_with_a_line() -> None:
    lines = dict(re.findall(r"^  (\w+) +(\S.*)$", script.overview(), re.MULTILINE))
    there = {file.stem for file in (ROOT / "experiments").glob("[a-z]*.py")} | {"check", "download"}
    assert set(lines) == there
    assert lines["zero_shot"] == "Zero-shot referring image segmentation"
    assert all(len(line) > 12 for line in lines.values())
    for module in script.commands().values():
        assert ROOT.joinpath(*module.split(".")).with_suffix(".py").is_file()


def test_the_list_imports_nothing_heavy() -> None:
    code = f"try:\n    {START}\nfinally:\n    import sys\n    print(*sys.modules)"
    modules = gl_ris(code=code).stdout.split("version.")[-1].split()
    assert "gl_ris" in modules
    assert not {"torch", "lightning", "jsonargparse", "numpy", "spacy", "PIL"} & set(modules)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--version"], 0, r"^gl-ris [\d.]+\n$"),
        (["zero_sho"], 2, r"^error: Unknown command 'zero_sho'\. Did you mean 'zero_shot'\?"),
        (["zero-shot", "--help"], 0, r"^usage: gl-ris zero_shot \["),
        (["proposals", "report", "--help"], 0, r"^usage: gl-ris proposals report \["),
        (["check", "--help"], 0, r"^usage: gl-ris check .*  gl-ris check refcocog "),
        (["check"], 2, r"^error: Say what to check"),
    ],
)
def test_a_word_leads_to_its_command(
    words: list[str],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/gl-ris", *words])
    monkeypatch.setattr(sys, "path", list(sys.path))
    # what a command sets for its process is undone behind it
    with mock.patch.dict(os.environ), pytest.raises(SystemExit) as left:
        script.main()
    output, error = capfd.readouterr()
    assert left.value.code == code
    assert re.search(said, output if code == 0 else error, re.DOTALL)
    assert "python -m experiments" not in output + error


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("python -m experiments.zero_shot k=1", "gl-ris zero_shot k=1"),
        ("see `python -m datamodules.check a`", "see `gl-ris check a`"),
        ("python -m spacy download x", "python -m spacy download x"),
        ("python -m tools.parser.ship", "python -m tools.parser.ship"),
    ],
)
def test_commands_are_written_as_the_user_has_typed(
    text: str, typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(script.SCRIPT, raising=False)
    assert as_typed(text) == text
    monkeypatch.setenv(script.SCRIPT, "gl-ris")
    assert as_typed(text) == typed


def test_the_end_names_what_was_written_and_what_is_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "overlays").mkdir()
    (tmp_path / "results.json").touch()
    (tmp_path / ".lock").touch()
    closing_words("sweep", tmp_path, alpha=0.4, beta=1, masked_blocks=1)
    assert capsys.readouterr().out == (
        f"Run folder   {tmp_path}\nWritten      results.json, overlays/\n"
        "Next         python -m experiments.zero_shot alpha=0.4 beta=1 masked_blocks=1\n"
    )


@pytest.mark.ddp
@pytest.mark.slow
def test_processes_of_a_run_are_started_as_by_python(toy: list[str], tmp_path: Path) -> None:
    began = time.time()
    answer = gl_ris("zero_shot", *toy, "trainer.devices=2", "trainer.accelerator=cpu", f"run_dir={tmp_path}")
    assert answer.returncode == 0, answer.stderr
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["n_expressions_evaluated"] == found["n_expressions_expected"] > 0
    assert found["failures"] == {}
    assert (tmp_path / "results.json").stat().st_mtime >= began
    assert (tmp_path / "config.yaml").read_text().startswith("# python -m experiments.zero_shot --config ")
    assert "Next         gl-ris zero_shot --config" in answer.stdout
