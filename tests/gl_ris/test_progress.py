from __future__ import annotations

import io

import pytest

from gl_ris.progress import QUIET, bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("terminal", "environment", "delay", "shown"),
    [
        (True, {}, 0, True),
        (True, {}, 60, False),
        (False, {}, 0, False),
        (True, {QUIET: "1"}, 0, False),
        (True, {"LOCAL_RANK": "1"}, 0, False),
        (True, {"LOCAL_RANK": "0"}, 0, True),
    ],
)
def test_a_bar_is_for_a_person_who_waits(
    terminal: bool,
    environment: dict[str, str],
    delay: float,
    shown: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    for name in (QUIET, "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert list(bar("reading books", "book", range(3), delay=delay)) == [0, 1, 2]
    assert ("reading books" in stream.getvalue() and "/3" in stream.getvalue()) == shown
