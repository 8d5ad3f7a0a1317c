"""Commands with ``resume=true``: what they take over, what comes out, and what they refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from socket import gethostname
from typing import Any

import pytest

from experiments import proposals, recipe_effects, supervised, sweep, zero_shot
from experiments.run import resuming
from experiments.run.resuming import Keeper, first_change
from gl_ris.errors import UserError
from gl_ris.evaluator import Evaluator
from gl_ris.proposals.superpixels import Felzenszwalb
from gl_ris.results import METHODS_VERSION

Run = Callable[..., tuple[int, str, str]]
PROPOSALS = ["proposals=felzenszwalb", "proposals.scale=20"]
TRAINING = ["baseline=cris-tiny", "k=4", "epochs=1", "training.split=val", "schedule=official_epochs"]
# Of each command: module, arguments, and its document.
COMMANDS: dict[str, tuple[Any, list[str], str]] = {
    "zero_shot": (zero_shot, ["methods=[largest,random]", *PROPOSALS], "results.json"),
    "sweep": (sweep, ["alphas=3", "betas=2", *PROPOSALS], "sweep.json"),
    "recipe_effects": (recipe_effects, PROPOSALS, "recipe_effects.json"),
    "supervised": (supervised, TRAINING, "results.json"),
}


class Cut(BaseException):
    """Ends a run in the middle."""


@pytest.fixture
def base(toy: list[str]) -> list[str]:
    return [word for word in toy if not word.startswith(("methods=", "proposals="))]


def outcome(folder: Path, name: str) -> tuple[bytes, Any]:
    """Predictions and document, without time and place."""
    document = json.loads((folder / name).read_text().replace(str(folder), "RUN"))
    for key in ("seconds", "created", "versions"):
        document.pop(key, None)
    document.get("training", {}).pop("seconds", None)
    predictions = folder / "predictions.jsonl"
    return predictions.read_bytes() if predictions.exists() else b"", document


def cut_after(patch: pytest.MonkeyPatch, images: int) -> None:
    """Let a run end after so many images, before the next one is written."""
    write, seen = Keeper.on_predict_batch_end, [0]

    def counted(self: Keeper, *args: Any) -> None:
        if seen[0] == images:
            raise Cut
        seen[0] += 1
        write(self, *args)

    patch.setattr(Keeper, "on_predict_batch_end", counted)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_was_cut_off_goes_on(
    name: str, run_command: Run, base: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, arguments, document = COMMANDS[name]
    if name == "supervised":
        base = [word for word in base if not word.startswith("model.clip")]
    whole, run = tmp_path / "whole", tmp_path / "run"

    def line(folder: Path) -> list[str]:
        store = [] if name == "supervised" else [f"store={folder}/store"]
        return [*base, *arguments, *store, f"run_dir={folder}"]

    code, _, error = run_command(module, *line(whole))
    assert code == 0, error
    with monkeypatch.context() as patch:
        cut_after(patch, 3)
        with pytest.raises(Cut):
            run_command(module, *line(run))
    code, _, error = run_command(module, *line(run))
    assert code == 2
    assert "resume=true" in error
    assert "overwrite=true" in error
    seen: list[int] = []
    with monkeypatch.context() as patch:
        write = Keeper.on_predict_batch_end
        patch.setattr(
            Keeper,
            "on_predict_batch_end",
            lambda self, *args: (seen.append(args[3].index), write(self, *args))[1],
        )
        code, output, error = run_command(module, *line(run), "resume=true")
    assert code == 0, error
    assert "going on: 3 of 5 images are finished" in output
    assert seen == [3, 4]
    assert outcome(run, document) == outcome(whole, document)
    assert {path.name for path in run.iterdir()} == {path.name for path in whole.iterdir()}
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    code, output, _ = run_command(module, *line(run), "resume=true")
    assert (code, "is finished; nothing is left to do" in output) == (0, True)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_trained_model_is_not_trained_again(
    run_command: Run, base: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = [
        *(word for word in base if not word.startswith("model.clip")),
        *TRAINING,
        f"run_dir={tmp_path}/run",
    ]
    with monkeypatch.context() as patch:
        cut_after(patch, 0)
        with pytest.raises(Cut):
            run_command(supervised, *line)
    weights = (tmp_path / "run" / "weights.pt").read_bytes()
    code, output, error = run_command(supervised, *line, "resume=true")
    assert code == 0, error
    assert output.count("training:") == 1, "that of the run that was cut off"
    assert (tmp_path / "run" / "weights.pt").read_bytes() == weights
    assert json.loads((tmp_path / "run" / "results.json").read_text())["training"]["seconds"] > 0


def test_a_store_that_was_half_filled_is_filled(
    run_command: Run, base: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = [word for word in base if not word.startswith("model.clip")]
    line = [*base, *PROPOSALS, f"store={tmp_path}/store", f"run_dir={tmp_path}/run"]
    make, made = Felzenszwalb.__call__, []

    def counted(self: Felzenszwalb, image: Any) -> Any:
        if len(made) == 3:
            made.clear()
            raise Cut
        made.append(image)
        return make(self, image)

    monkeypatch.setattr(Felzenszwalb, "__call__", counted)
    # nothing was written into the run folder yet: it is not left behind
    with pytest.raises(Cut):
        run_command(proposals, *line)
    assert run_command(proposals, *line, "resume=true")[0] == 0
    found = json.loads((tmp_path / "run" / "proposals.json").read_text())["images"]
    assert (len(made), found["generated"] + found["stored before"]) == (2, 5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["alpha=0.3"], "has model.alpha=0.4, but 0.3 is asked for; give model.alpha=0.4 to go on"),
        (["limit=4"], "has data.limit=null, but 4 is asked for; give data.limit=null to go on"),
        (["overwrite=true"], "resume=true goes on with a run and overwrite=true begins it anew"),
        (["run_dir=null"], "resume=true needs run_dir=FOLDER"),
    ],
    ids=["alpha", "limit", "overwrite", "nowhere"],
)
def test_another_run_is_not_gone_on_with(
    change: list[str], said: str, run_command: Run, base: list[str], tmp_path: Path, monkeypatch: Any
) -> None:
    module, arguments, _ = COMMANDS["zero_shot"]
    line = [*base, *arguments, f"run_dir={tmp_path / 'run'}"]
    with monkeypatch.context() as patch:
        cut_after(patch, 2)
        with pytest.raises(Cut):
            run_command(module, *line)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    code, _, error = run_command(module, *line, "resume=true", *change)
    assert (code, "Traceback" in error) == (2, False)
    assert said in error.splitlines()[-1]
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


@pytest.mark.parametrize("what", ["annotations", "version"])
def test_a_run_whose_figures_would_be_others_now_is_not_gone_on_with(
    what: str, run_command: Run, base: list[str], toy_root: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    module, arguments, _ = COMMANDS["zero_shot"]
    shutil.copytree(toy_root, tmp_path / "data")
    run = tmp_path / "run"
    line = [*base, *arguments, f"data.root={tmp_path / 'data'}", f"run_dir={run}"]
    with monkeypatch.context() as patch:
        cut_after(patch, 2)
        with pytest.raises(Cut):
            run_command(module, *line)
    if what == "version":
        old, new = METHODS_VERSION, METHODS_VERSION + 1
        monkeypatch.setattr("experiments.run.resuming.METHODS_VERSION", new)
        said = f"its figures are of version {old} of the methods, which is {new} now"
    else:
        with (tmp_path / "data" / "toy" / "instances.json").open("a") as file:
            file.write(" ")
        said = "instances.json of its annotations has changed"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    code, _, error = run_command(module, *line, "resume=true")
    assert (code, error.splitlines()[-1]) == (
        2,
        f"error: The run in '{run}' cannot go on: {said}; begin it anew by overwrite=true in place of "
        "resume=true.",
    )
    assert error.count("The run was cut off") == 1, "what the run that was cut off had said"
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert run_command(module, *line, "overwrite=true")[0] == 0


def test_folders_without_a_run_of_the_command(run_command: Run, base: list[str], tmp_path: Path) -> None:
    module, arguments, _ = COMMANDS["zero_shot"]
    line = [*base, *arguments, f"run_dir={tmp_path / 'run'}", "resume=true"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").touch()
    assert "There is no run to go on with" in run_command(module, *line)[2]
    (tmp_path / "run" / "config.yaml").write_text("# python -m experiments.sweep --config x\n{}\n")
    assert "not one of python -m experiments.zero_shot but of 'python -m exp" in run_command(module, *line)[2]
    for path in (tmp_path / "run").iterdir():
        path.unlink()
    # an empty folder is where a run begins, so that one line serves for both
    assert run_command(module, *line)[0] == 0


def test_what_cannot_change_a_figure_may_differ(
    run_command: Run, base: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, arguments, document = COMMANDS["zero_shot"]
    line = [*base, *arguments]
    assert run_command(module, *line, f"run_dir={tmp_path / 'whole'}")[0] == 0
    with monkeypatch.context() as patch:
        cut_after(patch, 2)
        with pytest.raises(Cut):
            run_command(module, *line, "store=false", f"run_dir={tmp_path / 'run'}")
    more = ["store=false", "resume=true", "data.num_workers=1", "wandb=offline"]
    assert run_command(module, *line, *more, f"run_dir={tmp_path / 'run'}")[0] == 0
    ours, theirs = outcome(tmp_path / "run", document), outcome(tmp_path / "whole", document)
    assert ours[0] == theirs[0]
    assert ours[1]["config"]["data"]["init_args"]["num_workers"] is None
    assert ours[1]["methods"] == theirs[1]["methods"]


def test_no_room_is_told_and_the_rest_goes_on(
    run_command: Run, base: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on the size of files stands for a full disk: the merged file would be too large."""
    import resource
    import signal

    module, arguments, document = COMMANDS["zero_shot"]
    line = [*base, *arguments, "store=false"]
    assert run_command(module, *line, f"run_dir={tmp_path / 'whole'}")[0] == 0
    size = (tmp_path / "whole" / "predictions.jsonl").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with monkeypatch.context() as patch:
        finish = import_module("experiments.run.evaluate").merge_predictions

        def limited(folder: Path) -> Path:
            # as if two processes had written them
            path = folder / "predictions_rank0.jsonl"
            lines = path.read_bytes().splitlines(keepends=True)
            odd = [json.loads(text)["index"] % 2 for text in lines]
            path.write_bytes(b"".join(text for text, is_odd in zip(lines, odd, strict=True) if not is_odd))
            (folder / "predictions_rank1.jsonl").write_bytes(
                b"".join(text for text, is_odd in zip(lines, odd, strict=True) if is_odd)
            )
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size - 100, before[1]))
            try:
                return finish(folder)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)

        patch.setattr("experiments.run.evaluate.merge_predictions", limited)
        code, _, error = run_command(module, *line, f"run_dir={tmp_path / 'run'}")
    assert code == 2
    assert "error: There is no room for what the run writes into" in error
    assert "Traceback" not in error
    work = Evaluator.counted
    monkeypatch.setattr(
        Evaluator, "counted", lambda self: pytest.fail("an image was run again") or work(self)
    )
    assert run_command(module, *line, "resume=true", f"run_dir={tmp_path / 'run'}")[0] == 0
    assert outcome(tmp_path / "run", document) == outcome(tmp_path / "whole", document)


@pytest.mark.parametrize(
    ("before", "now", "found"),
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": {"b": None}}, {"a": {"b": True}}, ("a.b", None, True)),
        ({"a": {"b": 1}}, {"a": {}}, ("a.b", 1, None)),
        ({"a": {"b": 1, "c": "x"}}, {"a": {"b": 2, "c": "y"}}, ("a.c", "x", "y")),
        (
            {"a": [1] * 90},
            {"a": []},
            ("a", [1] * 90, []),
        ),
    ],
)
def test_the_first_change(before: Any, now: Any, found: Any) -> None:
    assert first_change(before, now, ("a.b",) if found and found[0] == "a.c" else ()) == found


def test_settings_that_repeat_without_end_are_refused(tmp_path: Path) -> None:
    """A few hundred bytes of aliases that stand for a billion values."""
    from experiments.run.resuming import settings_of

    lines = ["# python -m experiments.zero_shot --config x", "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    with pytest.raises(UserError, match="no run to go on with"):
        settings_of(tmp_path, "python -m experiments.zero_shot")


@pytest.mark.parametrize("blind", [(), ("far",), ("far", "farther", "far")])
def test_every_process_must_see_the_run_folder(
    blind: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "progress").mkdir()
    (tmp_path / "progress" / "run.json").touch()
    monkeypatch.setattr(resuming, "gather_objects", lambda own: [own, *blind])
    if not blind:
        resuming._require_seen(tmp_path)
        return
    hosts = ", ".join(sorted(set(blind)))
    with pytest.raises(
        UserError, match=rf"is not seen by the processes on {hosts}; name one on a file system"
    ):
        resuming._require_seen(tmp_path)


def test_a_process_that_does_not_see_the_run_folder_says_where_it_is(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=rf"'{tmp_path}' is not seen by the processes on {gethostname()}; name"
    ):
        resuming._require_seen(tmp_path)
