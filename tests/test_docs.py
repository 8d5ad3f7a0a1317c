"""What the pages in docs/ promise."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gl_ris.clip import RegionCLIP, load_clip
from gl_ris.errors import UserError
from gl_ris.scorers import available_scorers, load_scorer
from gl_ris.scorers.global_local import GlobalLocal

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "new_scorer.md").read_text(encoding="utf-8")


def code_of_the_page() -> str:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1
    return blocks[0]


def command_of_the_page() -> list[str]:
    lines = re.findall(r"^    python -m (experiments\.zero_shot .*)$", PAGE, re.MULTILINE)
    assert len(lines) == 1
    return ["-m", *lines[0].split()]


@pytest.fixture(scope="module")
def clip() -> RegionCLIP:
    return load_clip("refshapes-rn")


def test_a_new_scorer_takes_less_than_twenty_lines() -> None:
    assert len(code_of_the_page().strip().splitlines()) < 20


def test_the_scorer_of_the_page_scores_as_it_says(
    clip: RegionCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "methods_of_mine.py").write_text(code_of_the_page())
    monkeypatch.syspath_prepend(tmp_path)
    method = load_scorer("methods_of_mine.CropAndSize")
    assert method not in available_scorers().values()
    image = torch.randint(0, 256, (3, 40, 50), dtype=torch.uint8)
    masks = torch.zeros(2, 40, 50, dtype=torch.bool)
    masks[0, :10, :5], masks[1, 5:30, 10:40] = True, True
    texts, phrases = ["the red star on the left", "a circle"], ["the red star", "a circle"]
    crops = GlobalLocal(clip, alpha=0, recipe="clean")(image, masks, texts, phrases)
    bonus = torch.tensor([50 / 2000, 750 / 2000]) ** 0.5 / 10
    scorer = method(clip, recipe="clean")
    torch.testing.assert_close(scorer(image, masks, texts, phrases), crops + bonus)
    with pytest.raises(UserError, match=r"'CropOrSize'\. Did you mean 'CropAndSize'"):
        load_scorer("methods_of_mine.CropOrSize")


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_refshapes")
def test_the_command_of_the_page_runs_a_class_in_the_users_own_folder(tmp_path: Path) -> None:
    (tmp_path / "my_methods.py").write_text(code_of_the_page())
    answer = subprocess.run(
        [sys.executable, *command_of_the_page(), "limit=2", "run_dir=run", "proposals=ground_truth"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert list(found["methods"]) == ["Crop and size", "Cropping", "Largest"]
    assert found["n_expressions_evaluated"] == found["n_expressions_expected"] > 0
    assert found["failures"] == {}
