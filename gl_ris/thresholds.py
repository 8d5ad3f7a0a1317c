"""Thresholds of `gl_ris.choices.Rule` in a file, as ``experiments.calibrate`` finds them on a train split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from gl_ris.choices import Rule
from gl_ris.errors import UserError, unknown_name
from gl_ris.files import decode

Number = Annotated[float, msgspec.Meta(ge=-3.4e38, le=3.4e38)]
Given = float | str | None
"""A threshold, a file of them, or None for none."""


class Fitted(msgspec.Struct, frozen=True, omit_defaults=True):
    """Thresholds of one method, and what they reach where they were found."""

    gIoU: Annotated[float, msgspec.Meta(ge=0, le=100)]
    abstain: Number | None = None
    union: Number | None = None


class OfMethod(msgspec.Struct, frozen=True):
    """What was found for one method: without a rule, for each of its parts alone, and for both together."""

    settings: dict[str, Any]  # of the method, a `gl_ris.variants.Variant` as JSON has it
    none: Fitted
    abstain: Fitted
    union: Fitted
    both: Fitted


class Thresholds(msgspec.Struct, frozen=True):
    """The content of ``thresholds.json``."""

    dataset: str
    split: Literal["train"]
    partition: str | None
    proposals: str
    n_images: int
    n_expressions: int
    methods: dict[str, OfMethod]

    @property
    def place(self) -> str:
        """What they were found on, in words."""
        return f"{self.dataset} {self.split} ({self.n_images:,} images), proposals: {self.proposals}"


def read_thresholds(path: Path) -> Thresholds:
    """Read a file of thresholds; a `UserError` if it is missing, damaged, or not of a train split."""
    fix = "Make one by 'python -m experiments.calibrate'."
    return decode(path, Thresholds, "file of thresholds", fix)


def rule_of(abstain: Given, union: Given, title: str, settings: Mapping[str, Any]) -> Rule:
    """Return the rule of a method, thresholds being numbers or looked up in a file.

    What one file gives for both is what was found for both together. `UserError` if a file does not have the
    method with these ``settings``, or a number is not finite.
    """
    found = {"abstain": abstain, "union": union}
    for name, given in found.items():
        # which compares with no score as one means it, and which results cannot hold
        if isinstance(given, float) and not math.isfinite(given):
            raise UserError(f"{name}={given} is no threshold; give a finite number, or null for none.")
    files = {name: given for name, given in found.items() if isinstance(given, str)}
    which = "both" if len(files) == 2 and abstain == union else None
    for name, file in files.items():
        methods = read_thresholds(Path(file).expanduser()).methods
        if title not in methods:
            raise unknown_name(f"method of '{file}' ({name}):", title, methods)
        own = methods[title].settings
        if changed := [key for key in settings if own.get(key) != settings[key]]:
            raise UserError(
                f"The thresholds of '{title}' in '{file}' were found with {changed[0]}="
                f"{own.get(changed[0])!r:.80}, not {settings[changed[0]]!r:.80}; make them anew by "
                "'python -m experiments.calibrate'."
            )
        found[name] = getattr(getattr(methods[title], which or name), name)
    return Rule(**found)  # type: ignore[arg-type]
