"""What is made of the small jobs, told beforehand; and a real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments.grid import job_benchmark as jobs
from experiments.grid.job_benchmark import Job
from gl_ris.errors import UserError


class Told:
    """Stands for `run_job`: takes the seconds from a list, and remembers what was asked for."""

    def __init__(self, *stages: float) -> None:
        self.stages = list(stages)
        self.asked: list[tuple[Any, ...]] = []

    def __call__(self, *words: str, store: Any, imports: bool = False) -> Job:
        assert Path(store).is_dir()
        new = not any(Path(store).iterdir())
        (Path(store) / "x").touch()
        self.asked.append((*words, "cold" if new else "warm"))
        stages = self.stages.pop(0)
        return Job(stages + 5, stages + 3, stages, 900.0, {"torch": 1.5, "others": 0.5} if imports else {})


def test_threads_are_measured_in_turns_and_cold() -> None:
    told = Told(2.0, 4.0, 3.0, 3.0)
    found = jobs.measure_pair("threads", 24, 2, told)
    assert told.asked == [("limit=24", "cold"), ("limit=24", "data.num_workers=0", "cold")] * 2
    assert found == {
        "default_to_one_thread": 1.5,
        "images": 24,
        "seconds": {"default": [2.0, 3.0], "one_thread": [4.0, 3.0]},
    }


def test_two_processes_are_measured_against_one() -> None:
    told = Told(2.0, 4.0)
    found = jobs.measure_pair("processes", 10, 1, told)
    assert [[w for w in asked if "devices" in w] for asked in told.asked] == [
        ["trainer.devices=2"],
        ["trainer.devices=1"],
    ]
    assert all("data.num_workers=0" in asked for asked in told.asked)
    assert found["two_to_one"] == 2.0


def test_flat_is_told_by_image() -> None:
    found = jobs.measure_flat(Told(5.0, 10.0, 40.0))
    assert found == {
        "ms_per_image": {"50": 100.0, "200": 50.0, "1000": 40.0},
        "rss_mb": dict.fromkeys(("50", "200", "1000"), 900.0),
    }


def test_start_up_is_that_of_a_warm_job_by_part() -> None:
    told = Told(9.0, 0.5, 0.7)
    found = jobs.measure_start_up(told)
    assert [asked[1] for asked in told.asked] == ["cold", "warm", "warm"]
    parts = found["parts"]
    assert found["seconds_to_first_result"] == 3.5
    assert parts["imports"] == 2.0
    assert parts["after the first result"] == 2.0
    assert parts["interpreter"] + parts["settings, models, data, first image"] == pytest.approx(1.7)


def test_imports_are_added_up_by_package() -> None:
    lines = [f"import time:  {1000 * n:>7} | {9000 * n:>7} | {'  ' * n}package{n}.part" for n in range(1, 12)]
    lines += [
        "import time:    500000 |    600000 |   gl_ris.masks",
        "import time:    500000 | 1 | datamodules",
    ]
    found = jobs._imports("import time: self [us] | cumulative | imported package\n" + "\n".join(lines))
    assert found["gl-ris"] == 1.0
    assert [*found] == ["gl-ris", *(f"package{n}" for n in range(11, 4, -1)), "others"]
    assert found["others"] == pytest.approx(0.01)
    assert sum(found.values()) == pytest.approx(1.066)


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_refshapes")
def test_a_real_job_is_watched_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    found = jobs.run_job("limit=2", "data.num_workers=0", store=tmp_path / "store", imports=True)
    assert 0 < found.stages < found.seconds
    assert 0 < found.first <= found.seconds
    assert 100 < found.rss_mb < 10_000
    assert "torch" in found.imports
    assert sum(found.imports.values()) < found.first
    with pytest.raises(UserError, match=r"A job of the benchmark failed: .*limit"):
        jobs.run_job("limit=-1")
    assert not list(tmp_path.glob("gl-ris-benchmark-*"))
