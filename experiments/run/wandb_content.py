"""What of a run's document goes to wandb: a table and summary metrics, for each kind of document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Document = Mapping[str, Any]
Table = tuple[list[str], list[list[Any]]]


def table_of(document: Document) -> Table:
    """Return the columns and rows of the table of methods, the upper bound last; then those of each subset.

    The first column names the subset, where there are any.
    """
    subsets = document.get("subsets", {})
    parts = [("All", document), *((part["label"], part) for part in subsets.values())]
    names = list(dict.fromkeys(name for row in _figures(document).values() for name in row))
    rows = [
        [*([label] if subsets else []), method, *map(row.get, names)]
        for label, part in parts
        for method, row in _figures(part).items()
    ]
    return [*(["subset"] if subsets else []), "method", *names], rows


def _figures(part: Document) -> dict[str, Any]:
    return {**part["methods"], "Upper bound": part["upper_bound"]}


def summary_of(document: Document) -> dict[str, Any]:
    """Return the summary metrics: ``<method>/<figure>``, the upper bound, counts and seconds.

    Those of a subset are ``<subset>/<method>/<figure>`` and ``<subset>/<count>``.

    Example:
        >>> empty = {"upper_bound": {}, "seconds": {}, "failures": {}}
        >>> figures = {"methods": {"Random": {"oIoU": 1.5}}, "n_images": 1, "n_expressions_evaluated": 2}
        >>> summary_of({**empty, **figures})
        {'Random/oIoU': 1.5, 'n_images': 1, 'n_expressions_evaluated': 2, 'n_failures': 0}
    """
    summary = _summary(document, {"seconds": document["seconds"]})
    for name, part in document.get("subsets", {}).items():
        summary |= {f"{name}/{key}": value for key, value in _summary(part, {}).items()}
    return summary


def _summary(part: Document, more: Document) -> dict[str, Any]:
    figures = {**part["methods"], "upper_bound": part["upper_bound"], **more}
    summary = {f"{group}/{name}": value for group, row in figures.items() for name, value in row.items()}
    counts = {name: part[name] for name in ("n_images", "n_expressions_evaluated")}
    return {**summary, **counts, "n_failures": sum(part["failures"].values())}


def report_table(document: Document) -> Table:
    """Return the columns and rows of the report on stored proposals, a row per generator."""
    columns = list(document["rows"][0])
    return columns, [[row[name] for name in columns] for row in document["rows"]]


def report_summary(document: Document) -> dict[str, Any]:
    """Return ``<generator>/<figure>`` for each number of the report that is known, and its counts.

    Example:
        >>> row = {"league": "unsupervised", "generator": "slic", "oIoU": 90.5, "s/image": None}
        >>> report_summary({"rows": [row], "n_images": 2, "n_objects": 7})
        {'slic/oIoU': 90.5, 'n_images': 2, 'n_objects': 7}
    """
    figures = {
        f"{row['generator']}/{name}": value
        for row in document["rows"]
        for name, value in row.items()
        if isinstance(value, int | float)
    }
    return {**figures, **{name: document[name] for name in ("n_images", "n_objects")}}


def store_table(document: Document) -> Table:
    """Return what has become of the images of a split whose store was filled, and why some failed."""
    outcome = [["images", what, count] for what, count in document["images"].items()]
    reasons = [["failures", why, count] for why, count in document["failures"].items()]
    return ["of", "what", "count"], [*outcome, *reasons]


def store_summary(document: Document) -> dict[str, Any]:
    """Return the numbers of a filled store: of images, of proposals, its size and the seconds.

    Example:
        >>> store_summary({"images": {"generated": 2}, "n_images": 2, "split": "val", "failures": {"x": 1}})
        {'images/generated': 2, 'n_images': 2, 'n_failures': 1}
    """
    numbers = {name: value for name, value in document.items() if isinstance(value, int | float)}
    numbers.pop("schema", None)
    images = {f"images/{what}": count for what, count in document["images"].items()}
    return {**images, **numbers, "n_failures": sum(document["failures"].values())}


CONTENT: dict[str, tuple[Callable[[Document], Table], Callable[[Document], dict[str, Any]]]] = {
    "results.json": (table_of, summary_of),
    "sweep.json": (table_of, summary_of),
    "report.json": (report_table, report_summary),
    "proposals.json": (store_table, store_summary),
}
"""Table and summary metrics by the file name of the document."""
