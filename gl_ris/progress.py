"""Bars that say what a long step does and what is left of it, on a terminal only."""

import os
from collections.abc import Iterable
from typing import Any

_DELAY = 1.0  # seconds; what is over before needs no bar
_state = {"shown": True}


def show_bars(shown: bool) -> None:
    """Let later bars of this process be shown on a terminal, or not at all."""
    _state["shown"] = shown


def bar(
    title: str,
    unit: str,
    things: Iterable[Any] | None = None,
    total: int | None = None,
    delay: float = _DELAY,
) -> Any:
    """Return tqdm's bar over things, or over a total that ``update`` counts to; it goes once it is full.

    It is on stderr, in the first process of a run, and only after ``delay`` seconds.
    """
    from tqdm import tqdm

    quiet = not _state["shown"] or int(os.environ.get("LOCAL_RANK", "0")) > 0
    more: dict[str, Any] = {"delay": delay, "leave": False, "disable": True if quiet else None}
    return tqdm(things, title, total, unit=unit, **more)
