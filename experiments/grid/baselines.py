"""Which supervised baselines belong beside a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from experiments.cli.command import CONFIGS
from gl_ris.errors import UserError, unknown_name

Baselines = Mapping[str, Sequence[str]] | Sequence[str] | str


def known_baselines() -> list[str]:
    """Return the names of the files in ``configs/baseline``."""
    return sorted(file.stem for file in (CONFIGS / "baseline").glob("*.yaml"))


def baselines_for(dataset: str, baselines: Baselines) -> list[str]:
    """Return the baselines of a data set, each once.

    Args:
        dataset: Its name.
        baselines: Names; or a mapping from names of data sets to names. ``*`` in a data set's name stands for
            anything; of several that fit, an exact one counts, else the first.

    Raises:
        UserError: There is none for the data set, or one is unknown.

    Example:
        >>> baselines_for("refcocog", {"refshapes*": ["lavt-tiny"]})
        Traceback (most recent call last):
        ...
        gl_ris.errors.UserError: baselines has none for refcocog; name them, e.g. baselines=[lavt,cris].
    """
    if isinstance(baselines, Mapping):
        fitting = [names for pattern, names in baselines.items() if fnmatchcase(dataset, pattern)]
        exact = baselines.get(dataset)
        chosen = exact if exact is not None else next(iter(fitting), [])
    else:
        chosen = baselines
    names = [chosen] if isinstance(chosen, str) else list(dict.fromkeys(chosen))
    if not names:
        raise UserError(f"baselines has none for {dataset}; name them, e.g. baselines=[lavt,cris].")
    for name in names:
        if name not in known_baselines():
            raise unknown_name("baseline", name, known_baselines())
    return names
