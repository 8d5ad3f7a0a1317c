"""Supervised models in a table: trained once per data set on all of its train split, then evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.cli.command import CONFIGS
from experiments.cli.overrides import normalise
from experiments.grid.child_runs import Cell
from experiments.grid.programs import SUPERVISED
from experiments.grid.table_settings import TableSettings
from experiments.reporting.table_report import Entry

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


def joined(
    documents: Sequence[Mapping[str, Any]], trained: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Put the figures of supervised models beside those of zero-shot methods on the same data and split."""
    found = []
    for document in documents:
        for own in trained:
            document = _with(document, own) if _place(document) == _place(own) else document
        found.append(document)
    return found


def _with(document: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    subsets = {
        name: _beside(part, own["subsets"][name], own) for name, part in document.get("subsets", {}).items()
    }
    return {**_beside(document, own, own), **({"subsets": subsets} if subsets else {})}


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
