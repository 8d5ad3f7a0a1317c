"""What signals do to a command, with real processes."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from gl_ris.signals import Ended
from processes import SOON, start, until

# A command that has half a second to leave in good order.
COMMAND = """
import pathlib, sys, time
from gl_ris import signals
from gl_ris.command_line import leave

def main():
    with signals.kept_if_ended(lambda: "half is kept", 0.5):
        pathlib.Path("ready").touch()
        {work}

leave(main)
"""
SLEEPS = "time.sleep(600)"
# A library that holds the main thread, as one that waits for other processes: no handler of Python's runs.
IS_HELD = "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"
SWALLOWS = """
        while True:
            try:
                time.sleep(600)
            except BaseException:
                pass"""
FAILS = """
        try:
            time.sleep(600)
        finally:
            raise RuntimeError("a worker is gone")"""


@pytest.mark.parametrize(
    ("work", "number", "code"),
    [
        (SLEEPS, signal.SIGTERM, 143),
        (SLEEPS, signal.SIGINT, 130),
        (SLEEPS, signal.SIGHUP, 129),
        (IS_HELD, signal.SIGTERM, 143),
        (SWALLOWS, signal.SIGINT, 130),
        (FAILS, signal.SIGTERM, 143),
    ],
    ids=["term", "int", "hup", "held-by-a-library", "swallowed", "another-error-meanwhile"],
)
def test_a_signal_ends_a_command_in_a_sentence(
    work: str, number: signal.Signals, code: int, tmp_path: Path
) -> None:
    process = start(["-c", COMMAND.format(work=work)], tmp_path)
    until((tmp_path / "ready").exists, process)
    process.send_signal(number)
    _, error = process.communicate(timeout=SOON)
    assert (process.returncode, error) == (code, f"ended by {number.name}; half is kept.\n")


def test_what_is_to_be_ignored_stays_ignored(tmp_path: Path) -> None:
    code = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + COMMAND.format(
        work="signals.signal.raise_signal(1); print('went on')"
    )
    output, error = start(["-c", code], tmp_path).communicate(timeout=SOON)
    assert (output, error) == ("went on\n", "")


@pytest.mark.parametrize(
    ("code", "expected"),
    [(143, 143), (-15, 143), (130, 130), (129, 129), (-9, 1), (-11, 1), (2, 2), (1, 1)],
)
def test_what_the_end_of_a_child_is_to_its_parent(code: int, expected: int) -> None:
    assert Ended.with_child("process 1", code).code == expected
