"""Options of a sweep that are not its own: which of its cells they go to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from experiments.cli.command import CONFIGS
from experiments.cli.overrides import normalise
from gl_ris.errors import UserError

_TO_ALL = (
    *("data", "limit", "recipe"),
    *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.enable_progress_bar"),
)
_TO_ZERO_SHOT = ("alpha", "beta", "clip", "post", "proposals", "row", "store")
_EVERYWHERE = ("run_dir", "overwrite", "config", "print_config", "help")


def sort_out(arguments: Sequence[str], own: Iterable[str]) -> list[str]:
    """Keep the options of a sweep itself, and put all others into those for its cells, last.

    Args:
        arguments: The command line.
        own: Names of the sweep's own options.

    Returns:
        Arguments of the form ``--name=value``; ``options`` are for all cells, ``zero_shot`` and
        ``supervised`` for some.

    Example:
        >>> sort_out(["k=4", "limit=20", "proposals=slic", "training.epochs=1"], ["k"])[1:]
        ['--options+=["limit=20"]', '--zero_shot+=["proposals=slic"]', '--supervised+=["training.epochs=1"]']
    """
    kept: list[str] = []
    others: dict[str, list[str]] = {"options": [], "zero_shot": [], "supervised": []}
    own = {*own, *_EVERYWHERE}
    for token in normalise(arguments, {}, {}, CONFIGS):
        name = token.removeprefix("--").partition("=")[0].rstrip("+")
        head, dot, _ = name.partition(".")
        if not token.startswith("--") or (head in own and not (head == "data" and dot)):
            kept.append(token)
        else:
            others[_cells_of(name)].append(token.removeprefix("--"))
    return [*kept, *(f"--{kind}+={json.dumps(given)}" for kind, given in others.items() if given)]


def _cells_of(name: str) -> str:
    if any(name == known or name.startswith(f"{known}.") for known in _TO_ALL):
        return "options"
    return "zero_shot" if name.partition(".")[0] in _TO_ZERO_SHOT else "supervised"


def check_sweep(jobs: int, methods: Sequence[str]) -> None:
    """Check what all sweeps have.

    Raises:
        UserError: There is no job, or no zero-shot method.
    """
    if jobs < 1:
        raise UserError(f"jobs={jobs} must be 1 or more.")
    if not methods:
        raise UserError("methods=[] must name one zero-shot method or more, e.g. methods=[global_local].")


def check_options(options: Iterable[str], reserved: dict[str, str]) -> None:
    """Check that options for cells are not those that the sweep sets for each of them.

    Args:
        options: As given.
        reserved: Names of options, and what to use in their place.

    Raises:
        UserError: One is.
    """
    for token in normalise(list(options), {}, {}, CONFIGS):
        name = token.removeprefix("--").partition("=")[0].rstrip("+")
        if name in reserved:
            raise UserError(f"'{name}' is set for each cell; use {reserved[name]}.")
