"""Several result documents of one split as one: the methods of all of them side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gl_ris.errors import EvaluationError

SAME = ("dataset", "split", "partition", "n_images", "n_expressions_expected")


def check_same_test(documents: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Check that results are of the same images and expressions.

    Raises:
        EvaluationError: They are not; they do not compare.
    """
    for document, name in zip(documents, names, strict=True):
        for key in SAME:
            if document[key] != documents[0][key]:
                raise EvaluationError(
                    f"The cells '{names[0]}' and '{name}' do not compare: {key} is {documents[0][key]} in "
                    f"one and {document[key]} in the other."
                )


def merged(
    documents: Sequence[Mapping[str, Any]],
    methods: Mapping[str, Mapping[str, float | None]],
    *,
    experiment: str,
    config: Mapping[str, Any],
    subsets: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Build one result document of several.

    Args:
        documents: Those of the cells, the first one that whose proposals, counts and upper bound count.
        methods: The figures of all methods.
        experiment: Name of the experiment.
        config: Its settings.
        subsets: As in `gl_ris.results.result_document`.

    Returns:
        The document: its seconds are the sums over the cells, its failures the most that a cell had.
    """
    from gl_ris.results import STAGES, result_document

    first = documents[0]
    reasons = dict.fromkeys(reason for one in documents for reason in one["failures"])
    return result_document(
        experiment=experiment,
        dataset=first["dataset"],
        split=first["split"],
        partition=first["partition"],
        proposals=first["proposals"],
        n_images=first["n_images"],
        n_expressions_expected=first["n_expressions_expected"],
        n_expressions_evaluated=min(one["n_expressions_evaluated"] for one in documents),
        methods=methods,  # type: ignore[arg-type]  # a figure of no expression is None here
        upper_bound=first["upper_bound"],
        seconds={stage: sum(one["seconds"].get(stage, 0.0) for one in documents) for stage in STAGES},
        config=config,
        failures={reason: max(one["failures"].get(reason, 0) for one in documents) for reason in reasons},
        subsets=subsets,
    )


def limit_of(document: Mapping[str, Any]) -> int | None:
    """Return to how many images the evaluation of a cell was limited; None if it was not."""
    return (document["config"]["data"].get("init_args") or {}).get("limit")


def heading(what: str, document: Mapping[str, Any], limit: int | None) -> str:
    """Return a title: what is shown, on which data, and what a reader must know of them.

    Example:
        >>> heading("Few-shot", {"dataset": "refshapesg", "split": "val"}, None)
        'Few-shot on refshapesg val (RefShapes, synthetic scenes)'
    """
    where = f"{what} on {document['dataset']} {document['split']}"
    notes = ["RefShapes, synthetic scenes"] if document["dataset"].startswith("refshapes") else []
    notes += [f"first {limit:,} images only"] if limit is not None else []
    return f"{where} ({'; '.join(notes)})" if notes else where
