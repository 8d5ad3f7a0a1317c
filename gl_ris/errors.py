"""Errors that a user can cause, told in one sentence with the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user can mend: a wrong name, a missing or damaged file, an impossible setting.

    The command line prints it as one sentence, without a traceback, and exits with code 2.
    """


class EvaluationError(RuntimeError):
    """A run whose figures would mean nothing, e.g. because every image failed or a count does not add up.

    The command line prints it as one sentence and exits with code 1.
    """


def in_short(error: BaseException, length: int = 200, typed: bool = False) -> str:
    r"""Return the heart of another library's error on one line, to stand in brackets behind our own words.

    Args:
        error: What was raised.
        length: Most characters of its text; a longer one ends with " ...".
        typed: Whether the name of its class stands before the text.

    Example:
        >>> in_short(KeyError()), in_short(ValueError("bad value\n here"), typed=True)
        ('KeyError', 'ValueError: bad value here')
    """
    text, name = " ".join(str(error).split()), type(error).__name__
    text = text if len(text) <= length else f"{text[:length]} ..."
    return f"{name}: {text}" if typed and text else text or name


def unknown_name(kind: str, name: object, available: Iterable[object]) -> UserError:
    """Build the error for a name that is not in a known set.

    Args:
        kind: What the name should have been, e.g. ``"split"``.
        name: The value that was given.
        available: Every value that would have been accepted.

    Returns:
        The error, for the caller to raise; it suggests the nearest name when one is near.

    Example:
        >>> print(unknown_name("split", "vall", ["val", "testA"]))
        Unknown split 'vall'. Did you mean 'val'? Available: testA, val.
    """
    names = sorted(str(item) for item in available)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return UserError(f"Unknown {kind} '{name}'.{hint} Available: {', '.join(names) or 'none'}.")
