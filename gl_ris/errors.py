"""Errors that a user can cause, told in one sentence with the fix."""

import difflib
import operator
import re
from collections.abc import Iterable, Mapping
from typing import Any

_BOUNDS = {
    "at least": operator.ge,
    "from": operator.ge,
    "above": operator.gt,
    "below": operator.lt,
    "to": operator.le,
}
_NEAR = 0.6  # from which likeness on, of at most 1, one name may be meant by another


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

    Example:
        >>> in_short(KeyError()), in_short(ValueError("bad value\n here"), typed=True)
        ('KeyError', 'ValueError: bad value here')
    """
    text, name = " ".join(str(error).split()), type(error).__name__
    text = text if len(text) <= length else f"{text[:length]} ..."
    return f"{name}: {text}" if typed and text else text or name


def unknown_name(kind: str, name: object, available: Iterable[object]) -> UserError:
    """Build the error for a ``name`` that is none of those ``available``, with the nearest one.

    Example:
        >>> print(unknown_name("split", "vall", ["val", "testA"]))
        Unknown split 'vall'. Did you mean 'val'? Available: testA, val.
    """
    names, told = sorted(str(item) for item in available), str(name)
    told = told if len(told) <= 100 else f"{told[:100]} ..."
    hint = did_you_mean(told, names)
    return UserError(f"Unknown {kind} '{told}'.{hint} Available: {', '.join(names) or 'none'}.")


def did_you_mean(name: object, available: Iterable[object]) -> str:
    """Return a sentence, after a blank, with the available name that ``name`` is most like; "" if none is.

    Case and what stands between words do not count. Of names about as near, one that has the same words and
    numbers (size, patch) comes first, then the shorter one.

    Example:
        >>> did_you_mean("vit-b/32", ["ViT-S-32", "ViT-B-32", "ViT-B-16"])
        " Did you mean 'ViT-B-32'?"
    """
    wanted = str(name).lower()
    likeness = {str(item): _likeness(wanted, str(item).lower()) for item in available}
    best = max(likeness, key=lambda item: (likeness[item], -len(item), item), default="")
    return f" Did you mean '{best}'?" if likeness.get(best, (0.0,))[0] else ""


def _likeness(wanted: str, other: str) -> tuple[float, int, float]:
    """Measure how alike names are: about (0: not at all), by the words that both have, and exactly."""
    own, theirs = (re.findall(r"[a-z]+|\d+|[^\W\da-z_]+", text) for text in (wanted, other))
    ratio = max(_ratio(wanted, other), _ratio("".join(own), "".join(theirs)))
    return round(ratio, 1) if ratio >= _NEAR else 0.0, len(set(own) & set(theirs)), ratio


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, other, one).ratio()


def check_ranges(owner: str, values: Mapping[str, Any], ranges: Mapping[str, str]) -> None:
    """Check settings (numbers or None) against ranges -> names that are said in words, as messages are.

    A range has bounds ("at least 1", "above 0 and up to 1", "from 0 to below 1"), and says "or null" where
    None is fine. ``owner`` stands before a name in the message. NaN is in no range.

    Example:
        >>> check_ranges("SAM: ", {"max_iou": 1.5}, {"from 0 to 1": "max_iou"})
        Traceback (most recent call last):
        gl_ris.errors.UserError: SAM: max_iou is 1.5, it must be from 0 to 1.
    """
    for wanted, names in ranges.items():
        bounds = re.findall(rf"({'|'.join(_BOUNDS)}) (\d+)", wanted)
        for name in names.split():
            value = values[name]
            fits = value is not None and all(_BOUNDS[word](value, int(bound)) for word, bound in bounds)
            if not fits and not (value is None and "null" in wanted):
                raise UserError(f"{owner}{name} is {value}, it must be {wanted}.")
