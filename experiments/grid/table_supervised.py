"""Supervised models in a table: trained once per data set on all of its train split, then evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from experiments.cli.command import CONFIGS
from experiments.cli.overrides import normalise
from experiments.grid.child_runs import Cell
from experiments.grid.programs import SUPERVISED
from experiments.grid.table_settings import Entry, TableSettings
from experiments.reporting.table_layout import Column

_SHARED = ("limit", "recipe", "trainer", "data", "wandb")
_TRAINING = "training"


def cells(spec: TableSettings) -> list[Cell]:
    """Return the runs of the supervised models: on the first split with training, on others with its weights.

    Args:
        spec: The table.
    """
    options = [option for option in spec.options if _head(option) in (*_SHARED, _TRAINING)]
    found = []
    for name, data, _ in spec.data_options():
        for baseline in spec.supervised:
            first, *others = spec.splits_of(name)
            # What the settings of a baseline say of its training is for few refs.
            own = [data, f"baseline={baseline}", "k=all", *options]
            trained = f"{name}-{baseline}-{first}"
            label = f"{name} {first}, {baseline} trained on all refs"
            found.append(Cell(label, [*own, f"data.split={first}"], trained, SUPERVISED, baseline))
            found += [
                Cell(
                    f"{name} {split}, {baseline}",
                    [*own, f"data.split={split}"],
                    f"{name}-{baseline}-{split}",
                    SUPERVISED,
                    baseline,
                    after=trained,
                )
                for split in others
            ]
    return found


def entries(documents: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """Return a line for each model that the results of `cells` are of."""
    titles = dict.fromkeys(_title(document) for document in documents)
    return [Entry(title, "", "", title, None, None) for title in titles]


def joined(columns: Sequence[Column], documents: Iterable[Mapping[str, Any]]) -> list[Column]:
    """Put the figures of supervised models beside those of zero-shot methods on the same data and split."""
    found = list(columns)
    for document in documents:
        place = _place(document)
        found = [_with(column, document) if _place(column.document) == place else column for column in found]
    return found


def _with(column: Column, document: Mapping[str, Any]) -> Column:
    whole = _beside(column.document, document, document)
    subsets = {
        name: _beside(part, document["subsets"][name], document)
        for name, part in column.document.get("subsets", {}).items()
    }
    return replace(column, document={**whole, **({"subsets": subsets} if subsets else {})})


def _beside(part: Mapping[str, Any], own: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    (figures,) = own["methods"].values()
    return {**part, "methods": {**part["methods"], _title(document): figures}}


def _place(document: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(document[key] for key in ("dataset", "partition", "split"))


def _title(document: Mapping[str, Any]) -> str:
    (method,) = document["methods"]
    return str(method).removesuffix(" k=all")


def _head(option: str) -> str:
    (token,) = normalise([option], {}, {}, CONFIGS)
    return token.removeprefix("--").partition("=")[0].partition(".")[0].rstrip("+")
