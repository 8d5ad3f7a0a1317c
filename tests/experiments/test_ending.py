"""Whatever ends one process of a run ends all of them, with a folder to go on in; with real runs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from processes import ROOT, SOON, is_gone, numbers, start, until

# A method that stays with its second image in one of the processes, while the others wait for that one.
METHODS = """
import os, pathlib, time
from gl_ris.scorers.floors import LargestProposal

class Waits(LargestProposal):
    name, title, calls = "waits", "Waits", 0

    def score(self, context, expressions, noun_phrases):
        Waits.calls += 1
        if Waits.calls == 2:
            rank = os.environ.get("LOCAL_RANK", "0")
            pathlib.Path(f"rank-{rank}").write_text(str(os.getpid()))
            if rank == os.environ["WAITS"]:
                time.sleep(600)
        return super().score(context, expressions, noun_phrases)
"""


@pytest.mark.ddp
@pytest.mark.parametrize(
    ("number", "to", "waits", "code", "said"),
    [
        pytest.param(
            *(signal.SIGTERM, "rank-1", "1", 143, "ended by SIGTERM; what is done is kept in run"),
            marks=pytest.mark.slow,
        ),
        pytest.param(signal.SIGKILL, "rank-0", "1", -signal.SIGKILL, "", marks=pytest.mark.slow),
        (
            signal.SIGKILL,
            "rank-1",
            "0",
            1,
            "process 1 of the run was killed by SIGKILL; what is done is kept",
        ),
        pytest.param(signal.SIGINT, "group", "0", 130, "ended by SIGINT; what is", marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, "rank-0", "1", 129, "ended by SIGHUP; what is", marks=pytest.mark.slow),
    ],
)
def test_what_ends_one_process_ends_the_run(
    number: signal.Signals, to: str, waits: str, code: int, said: str, toy: list[str], tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(METHODS)
    words = ["-m", "experiments.zero_shot", *toy, "methods=[mine.Waits]", "trainer.devices=2", "run_dir=run"]
    process = start(words, tmp_path, WAITS=waits, PYTHONPATH=os.pathsep.join([str(ROOT), str(tmp_path)]))
    ranks = numbers(process, tmp_path / "rank-0", tmp_path / "rank-1")
    if to == "group":
        os.killpg(process.pid, number)
    else:
        os.kill(ranks[int(to[-1])], number)
    _, error = process.communicate(timeout=SOON)
    until(lambda: all(map(is_gone, ranks)))
    assert process.returncode == code
    assert error.startswith(said)
    assert error.count("\n") == (1 if said else 0)
    assert [path.stat().st_size > 0 for path in (tmp_path / "run").glob("predictions_rank*.jsonl")] == [
        True
    ] * 2


def test_a_terminal_without_the_characters_of_a_run_is_no_obstacle(toy: list[str], tmp_path: Path) -> None:
    words = ["-m", "experiments.zero_shot", *toy, "methods=[random]", "limit=2", "run_dir=läufe"]
    process = start(words, tmp_path, LC_ALL="C", PYTHONIOENCODING="ascii")
    output, error = process.communicate(timeout=10 * SOON)
    assert process.returncode == 0, error
    assert r"Run folder   l\xe4ufe" in output
    assert (tmp_path / "läufe" / "overlays" / "contact_sheet.png").is_file()
