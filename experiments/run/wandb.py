"""Logging a finished run folder to wandb.

Logging is a process of its own with a time limit, so whatever wandb does (ask for a key, retry for hours,
break), the evaluation is neither delayed nor undone. If the server cannot be reached, the run is logged
offline.
"""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.cli.command import ROOT
from experiments.run.wandb_media import artifact, pictures, tables_of, with_ends
from gl_ris.signals import kept_if_ended

MODES = ("auto", "online", "offline", "disabled")
PROJECT = "gl-ris"
DOCUMENTS = ("results.json", "sweep.json", "report.json", "proposals.json")
CURVE, STEP = "learning_curve.csv", "training/step"
LIMIT_SECONDS = 180
_INIT_SECONDS = 20

Document = Mapping[str, Any]


def log_run(folder: Path, mode: str, group: str | None = None) -> None:
    """Log a finished run, and say in a line where; never raises and never waits longer than its limit.

    The mode ``auto`` is what ``WANDB_MODE`` says, else online with a key, offline without. A group of None
    leaves that to ``WANDB_RUN_GROUP``.
    """
    if mode == "disabled" or (mode == "auto" and os.environ.get("WANDB_MODE") == "disabled"):
        return
    sys.stdout.flush()  # whoever reads the output need not wait for this
    with kept_if_ended(lambda: f"the results in {folder} are complete, only wandb has not got them"):
        done, line = _in_process_of_its_own(folder, mode, group)
        if not done and mode != "offline":
            print(f"wandb        {line} Logging offline instead.", flush=True)
            done, line = _in_process_of_its_own(folder, "offline", group)
    print(f"wandb        {line}" + ("" if done else " The results are complete without it."), flush=True)


def _in_process_of_its_own(folder: Path, mode: str, group: str | None) -> tuple[bool, str]:
    """Run ``experiments.wandb_log`` on ``folder``; return whether it worked, and a line about it."""
    command = [sys.executable, "-m", "experiments.wandb_log", str(folder.resolve()), f"--mode={mode}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment |= {"PYTHONIOENCODING": "utf-8"}
    environment |= {"WANDB_RUN_GROUP": group} if group else {}
    try:
        # From inside the folder, so that whatever wandb writes beside its own folder is in there as well.
        answer = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=LIMIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"Not done after {LIMIT_SECONDS} seconds ({mode})."
    except OSError as error:
        return False, f"Logging failed ({error.strerror})."
    done = answer.returncode == 0
    lines = (answer.stdout if done else answer.stderr).strip().splitlines()
    last = lines[-1].strip() if lines else f"exit code {answer.returncode}"
    return done, last if done else f"Logging failed ({last})."


def document_of(folder: Path) -> Path | None:
    """Return the path of a run folder's document; None if the run has none, or is not finished."""
    return next((folder / name for name in DOCUMENTS if (folder / name).is_file()), None)


def log_folder(folder: Path, mode: str) -> str:
    """Log a run folder from this process, which has one of `DOCUMENTS`; return where it is."""
    import wandb

    path = document_of(folder)
    assert path is not None
    document = json.loads(path.read_text(encoding="utf-8"))
    if mode == "auto" and "WANDB_MODE" not in os.environ:
        mode = "online" if wandb.login(prompt=False, verify=False) else "offline"
    name = f"{document['dataset']}-{document['split']}-{folder.name}"
    run: Any = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        name=os.environ.get("WANDB_NAME", name),
        job_type=document["experiment"],
        dir=folder,
        mode=None if mode == "auto" else mode,  # type: ignore[arg-type]
        config=document["config"],
        settings=wandb.Settings(init_timeout=_INIT_SECONDS, silent=True, console="off"),
    )
    rows = curve_of(folder / CURVE)
    if rows:
        run.define_metric(STEP)
        run.define_metric("training/*", step_metric=STEP)
    for row in rows:
        run.log(row)
    tables = {"results": table_of(document), **tables_of(document)}
    made = {name: wandb.Table(columns=[*columns], data=lines) for name, (columns, lines) in tables.items()}
    run.log({**made, **pictures(folder)})
    run.summary.update(summary_of(document))
    run.log_artifact(artifact(folder, name))
    place = f"offline; upload with: wandb sync {Path(run.dir).parent}" if run.offline else run.url
    run.finish()
    return str("disabled" if run.disabled else place)


def curve_of(path: Path) -> list[dict[str, float]]:
    """Read a learning curve: numbers by line, with ``training/`` before their names; [] if none."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{f"training/{name}": float(value) for name, value in row.items() if value} for row in rows]


def table_of(document: Document) -> tuple[list[str], list[list[Any]]]:
    """Return columns and rows of a document.

    Those of methods have the upper bound last, and the subsets below, named in the first column; those of a
    report on proposals have a row per generator; those of a filled store say what became of its images.
    """
    if "rows" in document:
        columns = list(document["rows"][0])
        return columns, [[row[name] for name in columns] for row in document["rows"]]
    if "methods" not in document:
        counts = [[of, *item] for of in ("images", "failures") for item in document[of].items()]
        return ["of", "what", "count"], counts
    subsets = document.get("subsets", {})
    parts = [("All", document), *((part["label"], part) for part in subsets.values())]
    figures = [(label, {**_sure(part), "Upper bound": part["upper_bound"]}) for label, part in parts]
    names = list(dict.fromkeys(name for _, rows in figures for row in rows.values() for name in row))
    label = ["subset"] if subsets else []
    lines = [
        [*([of] if subsets else []), method, *map(row.get, names)]
        for of, rows in figures
        for method, row in rows.items()
    ]
    return [*label, "method", *names], lines


def _sure(part: Document) -> dict[str, dict[str, Any]]:
    ends = part.get("intervals", {})
    return {name: with_ends(row, {"intervals": ends.get(name, {})}) for name, row in part["methods"].items()}


def summary_of(document: Document) -> dict[str, float]:
    """Return every number of a document under a name such as ``<method>/<figure>``, and its counts.

    Subsets come first in the name, as in ``<subset>/<method>/<figure>``; numbers of a report on proposals
    begin with the generator.

    Example:
        >>> summary_of({"methods": {"Random": {"oIoU": 1.5, "mIoU": None}}, "n_images": 1, "upper_bound": {}})
        {'Random/oIoU': 1.5, 'n_images': 1}
    """
    if "rows" in document:
        return dict(_numbers({row["generator"]: row for row in document["rows"]} | _counts(document)))
    if "methods" not in document:
        return dict(_numbers({"images": document["images"], **_counts(document)}))
    subsets = {name: _figures(part) for name, part in document.get("subsets", {}).items()}
    more = {name: document.get(name, {}) for name in ("errors", "headroom", "seconds")}
    return dict(_numbers({**_figures(document), **more, **subsets}))


def _figures(part: Document) -> dict[str, Any]:
    # beside the figures only where it differs
    every_miss = {"every_miss": part["every_miss"]} if part.get("n_expressions_skipped") else {}
    return {**_sure(part), "upper_bound": part["upper_bound"], **every_miss, **_counts(part)}


def _counts(part: Document) -> dict[str, Any]:
    """Return the numbers beside the figures, the failures added up."""
    failures = {"n_failures": sum(part["failures"].values())} if "failures" in part else {}
    return {k: v for k, v in part.items() if k != "schema" and not isinstance(v, Mapping)} | failures


def _numbers(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{before}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield before + name, value
