"""The Hugging Face hub, as its own libraries reach it, and what is said where they cannot."""

import functools
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from gl_ris.errors import in_short

PATIENCE = 5.0  # Seconds to wait for an answer, before only the cache is used.


@contextmanager
def reaching_hub(needed: bool = True) -> Iterator[None]:
    """Let libraries fetch from the hub inside; where it does not answer, they use its cache at once.

    Left alone they ask again for most of a minute, and say so in dozens of lines. Here it takes `PATIENCE` at
    most and one line on stderr, once a minute. ``HF_HUB_OFFLINE=1`` asks nobody. If it is not ``needed``, for
    what is on this machine, nothing changes. `ConnectionError` if the hub cannot be reached, or must not be,
    and its cache lacks what is asked for.
    """
    if not needed:
        yield
        return
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    trouble = "HF_HUB_OFFLINE is set" if before else _trouble(int(time.monotonic() // 60))
    constants.HF_HUB_OFFLINE = bool(trouble)
    try:
        yield
    except Exception as error:
        if trouble and _is_about_the_cache(error):
            # what the trouble is was said in full; errors carry this in their brackets
            why = "HF_HUB_OFFLINE is set" if before else f"{constants.ENDPOINT} cannot be reached"
            raise ConnectionError(f"{why}, and its cache {constants.HF_HUB_CACHE} lacks it") from error
        raise
    finally:
        constants.HF_HUB_OFFLINE = before


@functools.lru_cache(maxsize=1)
def _trouble(minute: int) -> str:
    """Say why the hub cannot be reached; empty if it answers, whatever it answers."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE)
    except Exception as error:  # of the HTTP library below, which changes with versions
        trouble = f"{constants.ENDPOINT} cannot be reached ({in_short(error, 80)})"
        print(f"{trouble}: only what is in the cache is used.", file=sys.stderr)
        return trouble
    return ""


def _is_about_the_cache(error: BaseException | None) -> bool:
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    while error is not None:
        if isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled):
            return True
        error = error.__cause__ or error.__context__
    return False
