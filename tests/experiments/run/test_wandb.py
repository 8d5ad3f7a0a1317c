from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments.run import wandb
from experiments.run.wandb import log_folder, log_run, summary_of, table_of
from gl_ris.signals import Ended

DOCUMENT = {
    "experiment": "zero_shot",
    "dataset": "toy",
    "split": "val",
    "config": {"model": {"alpha": 0.5}},
    "methods": {
        "Global-Local": {"oIoU": 12.5, "mIoU": 10.0, "Pr@0.5": 0.0},
        "Random": {"oIoU": 1.0, "mIoU": None},
    },
    "upper_bound": {"oIoU": 90.0, "mIoU": 80.0},
    "seconds": {"total": 1.5},
    "n_images": 2,
    "n_expressions_evaluated": 7,
    "failures": {"no proposals": 3, "image file is missing": 1},
}


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    (tmp_path / "results.json").write_text(json.dumps(DOCUMENT))
    return tmp_path


REPORT = {
    "experiment": "proposal_report",
    "n_images": 3,
    "n_objects": 9,
    "rows": [
        {"league": "unsupervised", "generator": "slic", "images": 3, "oIoU": 90.5, "s/image": 0.2},
        {"league": "ground truth", "generator": "ground truth", "images": 3, "oIoU": 100.0, "s/image": None},
    ],
    "config": {"limit": 3},
}
FILLED = {
    "schema": 1,
    "split": "val",
    "n_images": 3,
    "images": {"generated": 2, "failed": 1},
    "n_proposals": 8,
    "seconds": 1.5,
    "failures": {"RuntimeError: not a square": 1},
    "config": {"limit": 3},
}


def test_the_report_is_a_row_per_generator_and_its_numbers() -> None:
    columns, rows = table_of(REPORT)
    assert columns == ["league", "generator", "images", "oIoU", "s/image"]
    assert rows[1] == ["ground truth", "ground truth", 3, 100.0, None]
    summary = summary_of(REPORT)
    assert (summary["slic/oIoU"], summary["ground truth/oIoU"], summary["n_objects"]) == (90.5, 100.0, 9)
    assert not {"ground truth/s/image", "slic/league", "config/limit", "limit"} & set(summary)


def test_a_filled_store_is_its_numbers_and_what_became_of_the_images() -> None:
    columns, rows = table_of(FILLED)
    assert columns == ["of", "what", "count"]
    assert rows == [
        ["images", "generated", 2],
        ["images", "failed", 1],
        ["failures", "RuntimeError: not a square", 1],
    ]
    assert summary_of(FILLED) == {
        "images/generated": 2,
        "images/failed": 1,
        "n_images": 3,
        "n_proposals": 8,
        "seconds": 1.5,
        "n_failures": 1,
    }


def test_table_and_summary_hold_every_figure() -> None:
    columns, rows = table_of(DOCUMENT)
    assert columns == ["method", "oIoU", "mIoU", "Pr@0.5"]
    assert rows == [
        ["Global-Local", 12.5, 10.0, 0.0],
        ["Random", 1.0, None, None],
        ["Upper bound", 90.0, 80.0, None],
    ]
    summary = summary_of(DOCUMENT)
    assert summary["Global-Local/oIoU"] == 12.5
    assert summary["upper_bound/mIoU"] == 80.0
    assert summary["n_failures"] == 4
    assert summary["seconds/total"] == 1.5


def test_subsets_have_rows_and_metrics_of_their_own() -> None:
    part = {
        "label": "Unseen (names)",
        "n_images": 2,
        "n_expressions_expected": 3,
        "n_expressions_evaluated": 3,
        "failures": {"no proposals": 1},
        "methods": {"Global-Local": {"oIoU": 8.5}, "Random": {"oIoU": None}},
        "upper_bound": {"oIoU": 70.0, "mIoU": 60.0},
    }
    document = {**DOCUMENT, "subsets": {"unseen_names": part}}
    columns, rows = table_of(document)
    assert columns == ["subset", "method", "oIoU", "mIoU", "Pr@0.5"]
    assert [row[:3] for row in rows[2:5]] == [
        ["All", "Upper bound", 90.0],
        ["Unseen (names)", "Global-Local", 8.5],
        ["Unseen (names)", "Random", None],
    ]
    summary = summary_of(document)
    assert summary["Global-Local/oIoU"] == 12.5
    assert summary["unseen_names/Global-Local/oIoU"] == 8.5
    assert summary["unseen_names/upper_bound/mIoU"] == 60.0
    assert (summary["unseen_names/n_expressions_evaluated"], summary["unseen_names/n_failures"]) == (3, 1)


def answer(monkeypatch: pytest.MonkeyPatch, *outcomes: object) -> list[str]:
    """Let the logging process end in these ways, one after the other; gives the modes it was started with."""
    modes, left = [], list(outcomes)

    def fake(command: list[str], **_: object) -> object:
        modes.append(command[-1].partition("=")[2])
        outcome = left.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(wandb.subprocess, "run", fake)
    return modes


def ended(code: int, output: str) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], code, stdout=output, stderr=output)


@pytest.mark.parametrize(
    ("mode", "outcomes", "modes", "said"),
    [
        pytest.param("disabled", [], [], "", id="disabled"),
        pytest.param(
            "offline",
            [ended(0, "noise\noffline; upload with: wandb sync X\n")],
            ["offline"],
            "offline; upload with: wandb sync X",
            id="offline",
        ),
        pytest.param("online", [ended(0, "https://site/run\n")], ["online"], "https://site/run", id="online"),
        pytest.param(
            "online",
            [subprocess.TimeoutExpired("x", 1), ended(0, "offline; upload with: wandb sync X\n")],
            ["online", "offline"],
            "Logging offline instead",
            id="server-does-not-answer",
        ),
        pytest.param(
            "online",
            [ended(1, "Traceback\nCommError: no route\n"), ended(0, "offline; upload with: wandb sync X\n")],
            ["online", "offline"],
            "CommError: no route",
            id="server-refuses",
        ),
        pytest.param(
            "offline",
            [ended(1, "ModuleNotFoundError: wandb\n")],
            ["offline"],
            "The results are complete without it",
            id="wandb-broken",
        ),
        pytest.param("auto", [ended(0, "https://site/run\n")], ["auto"], "https://site/run", id="auto"),
        pytest.param(
            "auto",
            [ended(1, "AuthenticationError: no\n"), ended(0, "offline; upload with: wandb sync X\n")],
            ["auto", "offline"],
            "Logging offline instead",
            id="auto-with-a-wrong-key",
        ),
        pytest.param("offline", [OSError(12, "no memory")], ["offline"], "no memory", id="no-process"),
    ],
)
def test_logging_never_fails(
    mode: str,
    outcomes: list[object],
    modes: list[str],
    said: str,
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    started = answer(monkeypatch, *outcomes)
    log_run(run_folder, mode)
    assert started == modes
    assert said in capsys.readouterr().out


def test_a_signal_while_logging_leaves_complete_results(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cause = Ended.by(signal.SIGINT)
    monkeypatch.setattr("gl_ris.signals._state.ended", cause)
    answer(monkeypatch, cause)
    monkeypatch.delenv("WANDB_MODE")
    with pytest.raises(Ended, match=r"SIGINT; the results in .* are complete, only wandb has not got them"):
        log_run(run_folder, "offline")


@pytest.mark.parametrize(("mode", "started"), [("auto", []), ("offline", ["offline"])])
def test_no_process_is_started_where_the_environment_says_disabled(
    mode: str, started: list[str], run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = answer(monkeypatch, ended(0, "done\n"))
    log_run(run_folder, mode)
    assert modes == started


def test_the_table_is_out_before_wandb_is_waited_for(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="utf-8"))
    monkeypatch.setattr(wandb, "_in_process_of_its_own", lambda *_: (out.getvalue() == b"table\n", "told"))
    print("table")
    log_run(run_folder, "offline")
    assert out.getvalue() == b"table\nwandb        told\n"


@pytest.mark.slow
def test_an_unreachable_server_leaves_an_offline_run_in_the_folder(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(wandb, "LIMIT_SECONDS", 40)
    (run_folder / "overlays").mkdir()
    log_run(run_folder, "online")
    output = capsys.readouterr().out
    assert "Logging offline instead" in output
    (offline,) = (run_folder / "wandb").glob("offline-run-*")
    assert f"wandb sync {offline}" in output
    assert list(offline.glob("*.wandb"))


class Recorder:
    """Stands in for wandb and for its run: keeps what it is told."""

    def __init__(self, folder: Path) -> None:
        self.logged: list[dict[str, Any]] = []
        self.metrics: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.summary: dict[str, Any] = {}
        self.dir = str(folder / "wandb" / "run" / "files")
        self.url = "https://site/run"
        self.key = False
        self.offline = self.disabled = False
        self.mode: str | None = None

    def login(self, **options: Any) -> bool:
        assert options == {"prompt": False, "verify": False}
        return self.key

    def init(self, mode: str | None, **_: Any) -> Recorder:
        self.mode, self.offline, self.disabled = mode, mode == "offline", mode == "disabled"
        return self

    def Settings(self, **_: Any) -> None:
        return None

    def Image(self, path: str, caption: str | None = None) -> str:
        return Path(path).name

    def Table(self, columns: list[str], data: list[Any]) -> list[Any]:
        return data

    def Artifact(self, name: str, **_: Any) -> Recorder:
        self.artifact = name, list[str]()
        return self

    def add_file(self, path: str, **_: Any) -> None:
        self.artifact[1].append(Path(path).name)

    def log_artifact(self, made: Recorder) -> None:
        assert made.artifact[1] == ["results.json"]

    def define_metric(self, *names: Any, **options: Any) -> None:
        self.metrics.append((names, options))

    def log(self, values: dict[str, Any]) -> None:
        self.logged.append(values)

    def finish(self) -> None:
        self.logged.append({"finished": True})


def test_curves_are_logged_by_step_and_figures_as_images(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(run_folder)
    monkeypatch.setitem(sys.modules, "wandb", recorder)  # type: ignore[arg-type]
    curve = "epoch,step,loss,learning_rate_0\n0,2,0.5,0.001\n1,4,0.25,\n"
    (run_folder / "learning_curve.csv").write_text(curve)
    for name in ("figure4_right.png", "figure4_left.png", "sweep_k3.png", "other.png"):
        (run_folder / name).touch()
    log_folder(run_folder, "offline")
    rate = {"training/learning_rate_0": 0.001}
    assert recorder.logged[:2] == [
        {"training/epoch": 0.0, "training/step": 2.0, "training/loss": 0.5, **rate},
        {"training/epoch": 1.0, "training/step": 4.0, "training/loss": 0.25},
    ]
    assert recorder.metrics == [
        (("training/step",), {}),
        (("training/*",), {"step_metric": "training/step"}),
    ]
    results = recorder.logged[2]
    assert {name for name in results if name != "results"} == {*("figure4_right", "figure4_left", "sweep_k3")}
    assert recorder.summary["Global-Local/oIoU"] == 12.5


@pytest.mark.parametrize(
    ("mode", "environment", "key", "chosen", "said"),
    [
        ("auto", None, False, "offline", "offline; upload with: wandb sync"),
        ("auto", None, True, "online", "https://site/run"),
        ("auto", "offline", True, None, "https://site/run"),
        ("online", "offline", False, "online", "https://site/run"),
        ("offline", None, True, "offline", "offline; upload with: wandb sync"),
        ("disabled", None, True, "disabled", "disabled"),
    ],
    ids=["no key", "key", "wandb reads its own mode", "option beats all", "offline", "disabled"],
)
def test_modes(
    mode: str,
    environment: str | None,
    key: bool,
    chosen: str | None,
    said: str,
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder = Recorder(run_folder)
    recorder.key = key
    monkeypatch.setitem(sys.modules, "wandb", recorder)  # type: ignore[arg-type]
    monkeypatch.delenv("WANDB_MODE")
    if environment is not None:
        monkeypatch.setenv("WANDB_MODE", environment)
    assert said in log_folder(run_folder, mode)
    assert recorder.mode == chosen


def test_runs_without_training_have_no_curve(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(run_folder)
    monkeypatch.setitem(sys.modules, "wandb", recorder)  # type: ignore[arg-type]
    log_folder(run_folder, "offline")
    assert recorder.metrics == []
    assert [set(values) for values in recorder.logged] == [{"results"}, {"finished"}]


@pytest.mark.parametrize(
    ("group", "before", "expected"),
    [("sweep", None, "sweep"), (None, None, None), (None, "outer", "outer")],
)
def test_a_group_is_handed_on(
    group: str | None,
    before: str | None,
    expected: str | None,
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("WANDB_RUN_GROUP", raising=False)
    if before is not None:
        monkeypatch.setenv("WANDB_RUN_GROUP", before)
    seen = []

    def fake(command: list[str], env: dict[str, str], **_: object) -> object:
        seen.append(env.get("WANDB_RUN_GROUP"))
        return ended(0, "done")

    monkeypatch.setattr(wandb.subprocess, "run", fake)
    log_run(run_folder, "offline", group)
    assert seen == [expected]


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    answer = subprocess.run(
        [sys.executable, "-m", "experiments.wandb_log", str(tmp_path)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 2
    assert "has none of results.json, sweep.json, report.json" in answer.stderr
