"""The result document of a run: what was evaluated, with what, and the figures; and its table."""

from __future__ import annotations

import csv
import io
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from gl_ris.files import atomic_file, plain, write_json
from gl_ris.predictions import (
    Prediction,
    PredictionWriter,
    count_failures,
    merge_predictions,
    read_predictions,
)

__all__ = [
    "SCHEMA",
    "STAGES",
    "Prediction",
    "PredictionWriter",
    "count_failures",
    "format_table",
    "git_commit",
    "merge_predictions",
    "read_predictions",
    "result_document",
    "versions",
    "write_json",
    "write_table_csv",
]

SCHEMA = 1
STAGES = ("data", "proposals", "image", "text", "score", "metrics", "total")
_LIBRARIES = (
    "gl-ris",
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "open_clip_torch",
    "transformers",
    "spacy",
    "scikit-image",
    "pycocotools",
    "numpy",
    "pillow",
)


def result_document(
    *,
    experiment: str,
    dataset: str,
    split: str,
    partition: str | None,
    proposals: str,
    n_images: int,
    n_expressions_expected: int,
    n_expressions_evaluated: int,
    methods: Mapping[str, Mapping[str, float]],
    upper_bound: Mapping[str, float],
    seconds: Mapping[str, float],
    config: Mapping[str, Any],
    failures: Mapping[str, int] | None = None,
    proposal_store: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Build the content of ``results.json``, schema 1.

    Args:
        experiment: Name of the experiment, e.g. "zero_shot".
        dataset: Name of the data set.
        split: Name of the split.
        partition: Who split the data set ("unc", "umd", "google"), or None.
        proposals: Name of the proposals.
        n_images: Images of the split that were evaluated.
        n_expressions_expected: Expressions in the split.
        n_expressions_evaluated: Expressions behind the figures, misses for want of a proposal included.
        methods: For each method its figures in percent (`gl_ris.metrics.RISMetrics.compute`); NaN becomes
            None.
        upper_bound: oIoU and mIoU, in percent, of choosing the best proposal each time; others are left out.
        seconds: Wall time of exactly the `STAGES`.
        config: The resolved configuration.
        failures: How many expressions count as misses without a choice, by reason (`count_failures`).
        proposal_store: How proposals were come by: the store's name and of how many images they were read,
            generated, and failed; None if the data brought them.

    Returns:
        A dict that strict JSON can hold.

    Raises:
        ValueError: If ``seconds`` has other keys than `STAGES`, or ``upper_bound`` lacks a figure.
    """
    if set(seconds) != set(STAGES):
        raise ValueError(f"seconds must have exactly the keys {', '.join(STAGES)}; got {', '.join(seconds)}.")
    if not {"oIoU", "mIoU"} <= set(upper_bound):
        raise ValueError(f"upper_bound must have oIoU and mIoU; got {', '.join(upper_bound) or 'nothing'}.")
    document = {
        "schema": SCHEMA,
        "experiment": experiment,
        "dataset": dataset,
        "split": split,
        "partition": partition,
        "proposals": proposals,
        "proposal_store": proposal_store,
        "n_images": n_images,
        "n_expressions_expected": n_expressions_expected,
        "n_expressions_evaluated": n_expressions_evaluated,
        "failures": failures or {},
        "methods": methods,
        "upper_bound": {name: upper_bound[name] for name in ("oIoU", "mIoU")},
        "seconds": {stage: round(float(seconds[stage]), 3) for stage in STAGES},
        "config": config,
        "versions": versions(),
        "git_commit": git_commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return plain(document)


def versions() -> dict[str, str | None]:
    """Look up the versions of Python and of the libraries that can change a figure; None if not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            found[library] = None
    return found


def git_commit(folder: Path | None = None) -> str | None:
    """Find the commit of the checkout that a package is run from.

    Args:
        folder: A folder of the checkout; by default the one of this package.

    Returns:
        The full hash, or None if this file's folder is not under version control (an installed package, even
        one inside some other checkout) or git is not there. Never raises.
    """
    folder = folder or Path(__file__).resolve().parent
    # "." is known to git only if a file in it is tracked: not so for site-packages inside another project
    if not _git(folder, "ls-files", "--", "."):
        return None
    return _git(folder, "rev-parse", "--verify", "HEAD")


def _git(folder: Path, *arguments: str) -> str | None:
    # inside a git hook GIT_DIR and others point to the hook's repository
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *arguments]
    try:
        answer = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return None
    return answer.stdout.strip() or None


def format_table(document: Mapping[str, Any]) -> str:
    """Lay out a result document as a plain text table, with counts and times under it.

    Args:
        document: As `result_document` builds it, or as read back from ``results.json``.

    Returns:
        Lines without a final newline. Figures in percent with two decimals; "-" where there is none.
    """
    columns, rows = _table(document)
    cells = [["Method", *columns]]
    cells += [[name, *("-" if value is None else f"{value:.2f}" for value in row)] for name, row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(_aligned(row, widths)) for row in cells]
    rule = "-" * len(lines[0])
    bound = len(document["methods"]) + 1
    body = [lines[0], rule, *lines[1:bound], rule, *lines[bound:]]
    return "\n".join([_heading(document), "", *body, "", _counts(document), _times(document)])


def write_table_csv(path: Path | str, document: Mapping[str, Any]) -> None:
    """Write the table as CSV, one row per method and one for the upper bound, atomically.

    Every row says what it was measured on, so files of several runs can be joined. Figures in percent at full
    precision, empty where there is none.
    """
    columns, rows = _table(document)
    setting = ("experiment", "dataset", "split", "partition", "proposals", "n_expressions_evaluated")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*setting, "method", *columns])
    for name, row in rows:
        writer.writerow([*(document[key] for key in setting), name, *row])
    with atomic_file(path) as file:
        file.write(text.getvalue().encode("utf-8", "backslashreplace"))


def _table(document: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, list[float | None]]]]:
    """Columns (every figure that any method has, in order) and rows (methods, then the upper bound)."""
    figures = [*document["methods"].items(), ("Upper bound", document["upper_bound"])]
    columns = list(dict.fromkeys(["oIoU", "mIoU", *(name for _, row in figures for name in row)]))
    return columns, [(method, [row.get(name) for name in columns]) for method, row in figures]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    name, *figures = row
    return [
        name.ljust(widths[0]),
        *(cell.rjust(width) for cell, width in zip(figures, widths[1:], strict=True)),
    ]


def _heading(document: Mapping[str, Any]) -> str:
    partition = f" ({document['partition']})" if document["partition"] else ""
    return f"{document['dataset']} {document['split']}{partition}, proposals: {document['proposals']}"


def _counts(document: Mapping[str, Any]) -> str:
    expected, evaluated = document["n_expressions_expected"], document["n_expressions_evaluated"]
    missing = f" ({expected - evaluated:,} MISSING)" if evaluated != expected else ""
    failures = document.get("failures") or {}
    reasons = "; ".join(f"{reason}: {count:,}" for reason, count in failures.items()) or "none"
    return (
        f"Images       {document['n_images']:,}\n"
        f"Expressions  {evaluated:,} evaluated of {expected:,} expected{missing}\n"
        f"Failures     {reasons}" + (" (counted as misses)" if failures and not missing else "")
    )


def _times(document: Mapping[str, Any]) -> str:
    return "Seconds      " + ", ".join(f"{stage} {value:.1f}" for stage, value in document["seconds"].items())
