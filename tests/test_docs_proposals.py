"""What docs/proposals.md promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gl_ris.proposals import GENERATORS, COCOResults

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "proposals.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_file_of_the_page_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(BLOCKS[0], {})
    proposals = COCOResults("masks.json").for_image(581857, torch.zeros(3, 480, 640, dtype=torch.uint8))
    assert proposals.boxes.tolist() == [[200, 100, 400, 300]]
    assert proposals.scores.tolist() == pytest.approx([0.9])


def test_every_ready_made_setting_is_on_the_page_with_its_model() -> None:
    for path in (ROOT / "configs" / "proposals").glob("*.yaml"):
        models = re.findall(r"model: (\S+/\S+)", path.read_text())
        assert f"`{path.stem}`" in PAGE
        assert all(f"`{model}`" in PAGE for model in models)


def test_the_leagues_of_the_page_are_those_of_the_generators() -> None:
    rows = (line.split("|") for line in PAGE.splitlines())
    leagues = {cells[1].strip(): cells for cells in rows if len(cells) > 3}
    for generator in GENERATORS.values():
        if generator.league != "not stated":
            assert f"`{generator.name}`" in leagues[generator.league][3]


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_refshapes")
def test_the_generator_of_the_page_runs_from_the_users_own_folder(tmp_path: Path) -> None:
    (tmp_path / "my_masks.py").write_text(BLOCKS[1])
    commands = re.findall(r"^    python -m (experiments\.zero_shot .*my_masks.*)$", PAGE, re.MULTILINE)
    answer = subprocess.run(
        [sys.executable, "-m", *commands[0].split(), "limit=2", "run_dir=run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert "proposals: quarters" in answer.stdout
