"""The result document of a run: what was evaluated, with what, and the figures."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from gl_ris.files import plain, write_json
from gl_ris.predictions import (
    Prediction,
    PredictionWriter,
    count_failures,
    merge_predictions,
    read_predictions,
)
from gl_ris.result_table import format_table, write_table_csv

__all__ = [
    "SCHEMA",
    "STAGES",
    "SUBSET_KEYS",
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
SUBSET_KEYS = (
    "label",
    "n_images",
    "n_expressions_expected",
    "n_expressions_evaluated",
    "failures",
    "methods",
    "upper_bound",
)
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
    subsets: Mapping[str, Mapping[str, Any]] | None = None,
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
        subsets: For each subset of the expressions (see `gl_ris.subsets`) the `SUBSET_KEYS`, which mean what
            they mean above; ``label`` is its name in tables. Without any, the document lacks the key.
        proposal_store: How proposals were come by: the store's name and of how many images they were read,
            generated, and failed; None if the data brought them.

    Returns:
        A dict that strict JSON can hold.

    Raises:
        ValueError: If ``seconds`` has other keys than `STAGES`, an ``upper_bound`` lacks a figure, or a
            subset has other keys or methods than it should, or more expressions than there are.
    """
    if set(seconds) != set(STAGES):
        raise ValueError(f"seconds must have exactly the keys {', '.join(STAGES)}; got {', '.join(seconds)}.")
    document: dict[str, Any] = {
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
        "upper_bound": _bound(upper_bound),
        **({"subsets": {}} if subsets else {}),
        "seconds": {stage: round(float(seconds[stage]), 3) for stage in STAGES},
        "config": config,
        "versions": versions(),
        "git_commit": git_commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    for name, subset in (subsets or {}).items():
        document["subsets"][name] = _subset(name, subset, document)
    return plain(document)


def _bound(figures: Mapping[str, float], place: str = "") -> dict[str, float]:
    if not {"oIoU", "mIoU"} <= set(figures):
        got = ", ".join(figures) or "nothing"
        raise ValueError(f"{place}upper_bound must have oIoU and mIoU; got {got}.")
    return {name: figures[name] for name in ("oIoU", "mIoU")}


def _subset(name: str, subset: Mapping[str, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
    """Check and order one subset; see `result_document`."""
    if set(subset) != set(SUBSET_KEYS):
        raise ValueError(f"Subset '{name}' must have exactly the keys {', '.join(SUBSET_KEYS)}.")
    if list(subset["methods"]) != list(whole["methods"]):
        raise ValueError(f"Subset '{name}' must have the methods {', '.join(whole['methods'])}.")
    for key in SUBSET_KEYS[1:4]:
        if not 0 <= subset[key] <= whole[key]:
            raise ValueError(f"Subset '{name}' has {key}={subset[key]}, of {whole[key]} in all.")
    bound = _bound(subset["upper_bound"], f"Subset '{name}': ")
    return {key: subset[key] for key in SUBSET_KEYS} | {"upper_bound": bound}


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
