"""What docs/rerank.md shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from gl_ris.parsing import Parsed, Relation
from gl_ris.rerank import Regions, load_reranker
from gl_ris.rerank.full import Full

PAGE = (Path(__file__).parents[1] / "docs" / "rerank.md").read_text(encoding="utf-8")
CODE = dict(
    zip(
        ("my_rules", "my_reranker"),
        re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.M),
        strict=True,
    )
)
REGIONS = Regions(torch.tensor([[0.0, 0, 10, 10], [60, 0, 70, 10], [35, 0, 45, 10]]).double(), (50, 100))


@pytest.fixture(autouse=True)
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, code in CODE.items():
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("name", CODE)
def test_each_takes_less_than_twenty_lines(name: str) -> None:
    assert len(CODE[name].strip().splitlines()) < 20


def test_the_rule_takes_the_place_of_one() -> None:
    kind = load_reranker("my_rules.HardNear")
    parsed = Parsed("", "star", ("circle",), (Relation("near", 0),))
    even, circle = torch.full((3,), 1 / 3).double(), torch.tensor([0.0, 1.0, 0.0]).double()
    # 25 pixels are more than twice 10
    found = kind().rerank(even, torch.stack([even, circle]), parsed, REGIONS)
    assert (found == found[0]).all()
    assert int(Full().rerank(even, torch.stack([even, circle]), parsed, REGIONS).argmax()) == 2


def test_the_reranker_looks_left() -> None:
    reranker = load_reranker("my_reranker.FromTheLeft")()
    sentence = torch.tensor([0.2, 0.5, 0.3]).double()
    (left, plain) = reranker.read(["the left star", "the star"])
    found = reranker.rerank(sentence, sentence[None], left, REGIONS)
    assert found.tolist() == pytest.approx([0.2, 0, 0.3])
    assert reranker.rerank(sentence, sentence[None], plain, REGIONS) is sentence
