"""Log a finished run folder to wandb: ``python -m experiments.wandb_log RUN_FOLDER``.

Logging is a process of its own with a time limit, so whatever wandb does (ask for a key, retry for hours,
break), the evaluation is neither delayed nor undone. If the server cannot be reached, the run is logged
offline.
"""

from __future__ import annotations

import argparse
import csv
import json
import netrc
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlparse

from experiments.cli.command import ROOT
from experiments.run.wandb_content import CONTENT

MODES = ("auto", "online", "offline", "disabled")
SERVER = "https://api.wandb.ai"
PROJECT = "gl-ris"
FIGURES = ("sweep_k*.png", "curve.png", "figure4_*.png")
CURVE, STEP = "learning_curve.csv", "training/step"
_INIT_SECONDS = 20
_LIMIT_SECONDS = {"online": 180, "offline": 180}


def resolve_mode(mode: str, environment: Mapping[str, str] | None = None) -> str:
    """Turn ``auto`` into a mode of wandb: what ``WANDB_MODE`` says; else online with a key, offline without.

    Args:
        mode: One of `MODES`; all but ``auto`` stay as they are.
        environment: Stands in for ``os.environ``.
    """
    environment = os.environ if environment is None else environment
    if mode != "auto":
        return mode
    wanted = {"dryrun": "offline", "run": "online"}.get(
        environment.get("WANDB_MODE", ""), environment.get("WANDB_MODE", "")
    )
    if environment.get("WANDB_DISABLED", "").lower() in ("1", "true", "yes"):
        return "disabled"
    if wanted in MODES[1:]:
        return wanted
    return "online" if environment.get("WANDB_API_KEY") or _key_in_netrc(environment) else "offline"


def log_run(folder: Path, mode: str, group: str | None = None) -> None:
    """Log a finished run, and say in a line where; never raises and never waits longer than its limit.

    Args:
        folder: The run folder.
        mode: One of `MODES`.
        group: Group of runs that it is one of; None leaves that to ``WANDB_RUN_GROUP``.
    """
    resolved = resolve_mode(mode)
    if resolved == "disabled":
        return
    try:
        done, line = _in_process_of_its_own(folder, resolved, group)
        if not done and resolved == "online":
            print(f"wandb        {line} Logging offline instead.", flush=True)
            done, line = _in_process_of_its_own(folder, "offline", group)
        print(f"wandb        {line}" + ("" if done else " The results are complete without it."), flush=True)
    except KeyboardInterrupt:
        print("wandb        interrupted; the results are complete without it.", flush=True)


def _in_process_of_its_own(folder: Path, mode: str, group: str | None) -> tuple[bool, str]:
    """Run this file on ``folder``; return whether it worked, and a line about it."""
    command = [sys.executable, "-m", "experiments.wandb_log", str(folder.resolve()), f"--mode={mode}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment.pop("WANDB_MODE", None)
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
            timeout=_LIMIT_SECONDS[mode],
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"Not done after {_LIMIT_SECONDS[mode]} seconds ({mode})."
    except OSError as error:
        return False, f"Logging failed ({error.strerror})."
    lines = [
        line for line in (answer.stdout if answer.returncode == 0 else answer.stderr).splitlines() if line
    ]
    last = lines[-1].strip() if lines else f"exit code {answer.returncode}"
    return answer.returncode == 0, last if answer.returncode == 0 else f"Logging {mode} failed ({last})."


def _key_in_netrc(environment: Mapping[str, str]) -> bool:
    host = urlparse(environment.get("WANDB_BASE_URL", SERVER)).hostname or ""
    path = Path(environment.get("NETRC") or Path.home() / ".netrc")
    try:
        return netrc.netrc(str(path)).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def log_folder(folder: Path, mode: str) -> str:
    """Log a run folder from this process.

    Args:
        folder: With one of the documents of `CONTENT`, and perhaps pictures.
        mode: ``online`` or ``offline``.

    Returns:
        A line that says where the run is.
    """
    import wandb

    path = _document(folder)
    document = json.loads(path.read_text(encoding="utf-8"))
    settings = wandb.Settings(init_timeout=_INIT_SECONDS, silent=True, console="off")
    run: Any = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        name=os.environ.get("WANDB_NAME", f"{document['dataset']}-{document['split']}-{folder.name}"),
        job_type=document["experiment"],
        dir=folder,
        mode=cast("Any", mode),
        config=document["config"],
        settings=settings,
    )
    _log_curve(run, folder)
    overlays = sorted((folder / "overlays").glob("*.png"))
    charts = [file for pattern in FIGURES for file in sorted(folder.glob(pattern))]
    singles = [*charts, *(file for file in overlays if file.stem == "contact_sheet")]
    rest = [wandb.Image(str(file), caption=file.stem) for file in overlays if file not in singles]
    pictures = {file.stem: wandb.Image(str(file)) for file in singles} | ({"overlays": rest} if rest else {})
    table_of, summary_of = CONTENT[path.name]
    columns, rows = table_of(document)
    run.log({"results": wandb.Table(columns=[*columns], data=rows), **pictures})
    run.summary.update(summary_of(document))
    where = run.url if mode == "online" else f"offline; upload with: wandb sync {Path(run.dir).parent}"
    run.finish()
    return str(where)


def _log_curve(run: Any, folder: Path) -> None:
    """Log the learning curve of a run that has one: loss and learning rate by step."""
    rows = curve_of(folder / CURVE)
    if rows:
        run.define_metric(STEP)
        run.define_metric("training/*", step_metric=STEP)
    for row in rows:
        run.log(row)


def curve_of(path: Path) -> list[dict[str, float]]:
    """Read a learning curve: for each line its step, loss and learning rate, and what else is a number.

    Returns:
        The lines, with ``training/`` before each name; none if there is no such file.
    """
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{f"training/{name}": float(value) for name, value in row.items() if value} for row in rows]


def _document(folder: Path) -> Path:
    """Return the path of the folder's document; that of a results.json where there is none."""
    paths = [folder / name for name in CONTENT]
    return next((path for path in paths if path.is_file()), paths[0])


def main() -> None:
    """Log the run folder that the command line names."""
    parser = argparse.ArgumentParser(description="Log a finished run folder to wandb.", allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="the run folder")
    parser.add_argument(
        "--mode", choices=MODES, default="auto", help="see the option wandb of the experiments"
    )
    options = parser.parse_args()
    if not _document(options.folder).is_file():
        parser.error(
            f"'{options.folder}' is not the folder of a finished run: it has none of {', '.join(CONTENT)}."
        )
    mode = resolve_mode(options.mode)
    try:
        print("disabled" if mode == "disabled" else log_folder(options.folder.resolve(), mode))
    except Exception as error:
        first = str(error).partition("\n")[0]
        sys.exit(f"{type(error).__name__}: {first}")


if __name__ == "__main__":
    main()
