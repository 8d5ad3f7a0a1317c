"""Turns, ratios, verdicts, and counts of work against formulas written out."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from experiments.run import measuring
from experiments.run.measuring import Control, Timed
from gl_ris.clip.kernels import Layers, kernels_here
from gl_ris.cores import cores

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("before", "after", "drift", "figure"),
    [
        ({"a": 100.0}, {"a": 100.0}, 0.0, 5.5),
        ({"a": 100.0}, {"a": 86.0}, 0.14, 5.5),
        ({"a": 86.0}, {"a": 100.0}, 0.14, 5.5),
        ({"a": 100.0}, {"a": 84.0}, 0.16, None),
        ({"a": 84.0}, {"a": 100.0}, 0.16, None),
        # the best way counts, whichever it is
        ({"a": 10.0, "b": 100.0}, {"a": 99.0, "b": 20.0}, 0.01, 5.5),
        ({"a": 50.0, "b": 100.0}, {"a": 50.0, "b": 60.0}, 0.4, None),
    ],
)
def test_a_machine_that_drifts_gets_no_verdict(
    before: dict[str, float], after: dict[str, float], drift: float, figure: float | None
) -> None:
    control = Control(before, after)
    assert control.drift == pytest.approx(drift)
    assert control.verdict(5.5) == figure
    assert control.document() == {
        "before": before,
        "after": after,
        "best": 100.0,
        "drift": control.drift,
        "steady": figure is not None,
    }


def test_works_are_done_in_turns_and_compared_in_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def say(word: str) -> str:
        said.append(word)
        return word

    clock = iter([0, 2, 10, 13, 20, 21, 30, 36])
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    works = {"A": [partial(say, "A1"), partial(say, "A2")], "B": [partial(say, "B1"), partial(say, "B2")]}
    found = measuring.in_turns(works, CPU, "both")
    assert said == ["A1", "B1", "A2", "B2"]
    assert found == {"A": Timed(["A1", "A2"], [2.0, 1.0]), "B": Timed(["B1", "B2"], [3.0, 6.0])}
    assert measuring.times_as_fast(found["A"].seconds, found["B"].seconds) == 3.75


CONV = 2 * 8 * (5 * 5) * (3 * 3 * 3)
# four projections of two rows of five tokens of width 8, and their attention
ATTENTION = 2 * 4 * 10 * 8 * 8 + 2 * 2 * 2 * 5 * 5 * 8


def convolved(plus: bool) -> torch.Tensor:
    layer, inputs = nn.Conv2d(3, 8, 3, bias=False), torch.ones(1, 3, 7, 7)
    norm = nn.BatchNorm2d(8).eval()
    return Layers().convolution(inputs, layer, norm, plus=torch.ones(1, 8, 5, 5) if plus else None)


def mlp() -> torch.Tensor:
    layers = nn.Sequential(nn.Linear(12, 7), nn.GELU(), nn.Linear(7, 12))
    return Layers().mlp(torch.ones(6, 12), layers, torch.ones(6, 12))


@pytest.mark.parametrize(
    ("work", "count"),
    [
        (lambda: F.linear(torch.ones(6, 12), torch.ones(7, 12)), 2 * 6 * 12 * 7),
        (lambda: Layers().linear(torch.ones(6, 12), torch.ones(7, 12), None), 2 * 6 * 12 * 7),
        (lambda: F.conv2d(torch.ones(1, 3, 7, 7), torch.ones(8, 3, 3, 3)), CONV),
        (lambda: convolved(False), CONV),
        (lambda: convolved(True), CONV),
        (mlp, 2 * 2 * 6 * 12 * 7),
        (lambda: nn.MultiheadAttention(8, 2, batch_first=True).eval()(*[torch.ones(2, 5, 8)] * 3), ATTENTION),
        (lambda: F.scaled_dot_product_attention(*[torch.ones(2, 1, 5, 8)] * 3), 2 * 2 * 2 * 5 * 5 * 8),
        (lambda: torch.ones(9) + 1, 0),
    ],
    ids=["linear", "packed", "convolution", "fused", "added", "mlp", "attention layer", "attention", "none"],
)
def test_work_is_counted_whatever_kernel_does_it(work: Any, count: int) -> None:
    before = kernels_here(torch.float32)
    with torch.no_grad():
        assert measuring.gigaflops(work) == pytest.approx(count / 1e9)
    assert kernels_here(torch.float32) == before


def test_what_is_no_matrix_work_is_named_by_size() -> None:
    values, weight = torch.rand(400, 400), torch.rand(400, 400)

    def work() -> None:
        for _ in range(5):
            (values @ weight).sort(dim=1)

    found = measuring.not_matrix_work(work, CPU)
    assert 1 <= len(found) <= 5
    assert "aten::sort" in {item["name"] for item in found}
    assert not any("mm" in item["name"] for item in found)
    assert [item["ms"] for item in found] == sorted((item["ms"] for item in found), reverse=True)
    assert all(0 <= item["share"] <= 1 for item in found)


def test_rates_are_measured_in_each_way_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "SHAPES", ((8, 16, 16), (32, 32, 32)))
    monkeypatch.setattr(measuring, "_PATIENCE", 0.01)
    rates = measuring.matrix_rates(CPU, torch.float32)
    assert "F.linear" in rates
    assert ("oneDNN packed" in rates) == torch.backends.mkldnn.is_available()
    assert min(rates.values()) > 0


def fail_on_one_thread() -> None:
    with measuring.one_thread():
        raise ZeroDivisionError if (torch.get_num_threads(), cores()) == (1, 1) else AssertionError


def test_one_thread_gives_the_threads_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setenv("GL_RIS_CORES", "5")
    try:
        with pytest.raises(ZeroDivisionError):
            fail_on_one_thread()
        assert (torch.get_num_threads(), cores()) == (2, 5)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("capabilities", "has"), [({"avx512_bf16": True}, True), ({"avx512_f": True}, False)]
)
def test_bf16_is_asked_of_the_processor(
    capabilities: dict[str, bool], has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert measuring.has_bf16(CPU) == has
