"""What reports read of a finished run."""

from pathlib import Path

from experiments.run.folder import PROGRESS
from gl_ris.errors import UserError
from gl_ris.expression_ids import Key
from gl_ris.predictions import Prediction, each_prediction

Methods = dict[str, dict[Key, Prediction]]  # by method the records of its expressions, in their order


def require_finished(run: Path) -> None:
    """Raise a `UserError` unless there is a finished run in a folder."""
    if (run / PROGRESS).exists() or (not (run / "results.json").exists() and (run / "config.yaml").exists()):
        raise UserError(f"There is no finished run in '{run}'; go on with it by run_dir={run} resume=true.")
    if not (run / "results.json").is_file():
        raise UserError(f"'{run}' is not the folder of a finished run: it has no results.json.")


def read_methods(run: Path) -> Methods:
    """Read what a run has predicted; a `UserError` if it is not finished, or has an expression twice."""
    require_finished(run)
    methods: Methods = {}
    for record in each_prediction(run / "predictions.jsonl"):
        if methods.setdefault(record.method, {}).setdefault(record.key, record) is not record:
            raise UserError(
                f"Expression {named(record.key)} is there twice in '{run / 'predictions.jsonl'}'."
            )
    return methods


def named(key: Key) -> str:
    """Name an expression for messages."""
    return f"{key[2]} (image {key[0]}, ref {key[1]})"
