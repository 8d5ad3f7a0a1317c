"""Bars that say what a long step does and what is left of it, on a terminal only."""

import os
from collections.abc import Iterable
from typing import Any

QUIET = "GL_RIS_QUIET"
"""Variable that is set in a command that shows no bars."""


def bar(
    title: str, unit: str, things: Iterable[Any] | None = None, total: int | None = None, delay: float = 1
) -> Any:
    """Return tqdm's bar over things, or over a total that ``update`` counts to; it goes once it is full.

    It is on stderr, in the first process of a run, and only after ``delay`` seconds.
    """
    from tqdm import tqdm

    quiet = QUIET in os.environ or os.environ.get("LOCAL_RANK", "0") != "0"
    more: dict[str, Any] = {"delay": delay, "leave": False, "disable": True if quiet else None}
    return tqdm(things, title, total, unit=unit, **more)
