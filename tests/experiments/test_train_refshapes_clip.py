from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from experiments import train_refshapes_clip
from experiments.train_refshapes_clip import join_curves

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = [
    "data.families=8", "data.held_out=2", "data.captions=2", "data.batch_size=8", "data.image_size=160",
    "trainer.val_check_interval=2", "trainer.log_every_n_steps=1", "trainer.enable_progress_bar=false",
]  # fmt: skip


# the text tower of configs/tower with another vocabulary
FEWER_WORDS = {"context_length": 40, "vocab_size": 500, "width": 128, "heads": 4, "layers": 3}

Run = Callable[..., tuple[int, str, str]]


def test_training_leaves_a_model_and_goes_on_where_it_stopped(
    run_command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gl_ris.clip import load_clip

    monkeypatch.setattr(train_refshapes_clip, "EVERY_STEPS", 1)
    monkeypatch.setenv("GL_RIS_CACHE", str(tmp_path / "cache"))
    folder, said = tmp_path / "0", ""
    for times, steps in enumerate((2, 4, 6)):
        # each time under another name, as if the folder had been moved
        folder = folder.rename(tmp_path / str(times)) if times else folder
        settings = ["tower=vit", f"run_dir={folder}", f"trainer.max_steps={steps}"]
        code, said, error = run_command(train_refshapes_clip, *SMALL, *settings)
        assert code == 0, error
        assert ("Drawing captioned shapes" in error) == (times == 0)
        curve = folder / "curve" / f"version_{times}" / "metrics.csv"
        own = [int(row["step"]) for row in csv.DictReader(curve.open()) if row["train/loss"]]
        assert own == [steps - 2, steps - 1]
    rows = list(csv.DictReader((folder / "model" / "training.csv").open()))
    assert [int(row["step"]) for row in rows if row["train/loss"]] == [*range(6)]
    assert any(row["val/caption_retrieval@1"] for row in rows)
    assert f"experiments.zero_shot clip=local-dir:{folder}/model" in said
    assert load_clip(f"local-dir:{folder / 'model'}").encode_texts(["a red star"]).shape == (1, 128)


def test_a_swin_is_trained_for_lavt_tiny_to_start_from(
    run_command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml
    from safetensors.torch import load_file

    from gl_ris.supervised.lavt.network import LAVT, LAVTSize
    from gl_ris.supervised.starting import load_classifier

    monkeypatch.setenv("GL_RIS_CACHE", str(tmp_path))
    code, said, error = run_command(
        train_refshapes_clip,
        *SMALL,
        "tower=swin",
        "model.teacher=refshapes-rn",
        f"run_dir={tmp_path / 'run'}",
        "trainer.max_steps=2",
    )
    assert code == 0, error
    settings = yaml.safe_load((CONFIGS / "baseline" / "lavt-tiny.yaml").read_text())
    network = LAVT(LAVTSize(**settings["model"]["baseline"]["init_args"]["size"]))
    file = tmp_path / "run" / "model" / "swin.safetensors"
    assert f"baseline=lavt-tiny baseline.swin={file}" in " ".join(said.split())
    load_classifier(network.visual, str(file))
    for name, tensor in load_file(file).items():
        assert network.visual.state_dict()[name].equal(tensor)


def test_a_training_starts_from_another_model_whose_texts_stay_as_long_as_asked(
    run_command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    from gl_ris.clip.loading import ASSETS

    monkeypatch.setenv("GL_RIS_CACHE", str(tmp_path / "cache"))
    given, folders = load_file(ASSETS / "refshapes-rn" / "open_clip_model.safetensors"), {}
    for locked in (2, 1):
        folders[locked] = tmp_path / str(locked)
        settings = ["model.start=refshapes-rn", f"model.locked_steps={locked}", "trainer.max_steps=2"]
        code, said, error = run_command(
            train_refshapes_clip, *SMALL, "tower=vit", f"run_dir={folders[locked]}", *settings
        )
        assert code == 0, error
        assert "0 of 80 tensors of the image tower of refshapes-rn, 42 of 42 others" in " ".join(said.split())
        state = load_file(folders[locked] / "model" / "open_clip_model.safetensors")
        texts = [name for name in state if not name.startswith("visual.") and name != "logit_scale"]
        assert len(texts) > 40
        assert all(state[name].equal(given[name]) for name in texts) == (locked == 2)
        tokenizer = folders[locked] / "model" / "tokenizer.json"
        assert tokenizer.read_bytes() == (ASSETS / "refshapes-rn" / "tokenizer.json").read_bytes()


def test_what_a_training_starts_from_is_measured_first(
    run_command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    from gl_ris.clip.loading import ASSETS

    monkeypatch.setenv("GL_RIS_CACHE", str(tmp_path / "cache"))
    settings = ["tower=rn", "model.start=refshapes-rn", "trainer.max_steps=0", f"run_dir={tmp_path / 'run'}"]
    code, said, error = run_command(train_refshapes_clip, *SMALL, *settings)
    assert code == 0, error
    assert "val/parts/relations_turned" in said
    (row,) = csv.DictReader((tmp_path / "run" / "model" / "training.csv").open())
    assert row["step"] == "0"
    assert float(row["val/parts/words_replaced"]) > 0.5
    # no step was made: the weights are those that were given
    state = load_file(tmp_path / "run" / "model" / "open_clip_model.safetensors")
    given = load_file(ASSETS / "refshapes-rn" / "open_clip_model.safetensors")
    assert all(state[name].equal(tensor) for name, tensor in given.items())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["model.windows=-1"], "model.windows=-1 must be 0 or more"),
        (["model.locked_steps=5"], "model.locked_steps=5 keeps the texts as they are, which are random"),
        (
            ["model.teacher=refshapes-rn", "model.model_cfg.embed_dim=64"],
            "model.teacher=refshapes-rn has features of 128 numbers, and model.model_cfg.embed_dim is 64",
        ),
        (
            ["model.start=refshapes-rn", f"model.model_cfg.text_cfg={json.dumps(FEWER_WORDS)}"],
            "The small CLIP refshapes-rn has 641 tokens; model.model_cfg.text_cfg.vocab_size=500 goes with",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_named(
    settings: list[str], words: str, run_command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GL_RIS_CACHE", str(tmp_path / "cache"))
    arguments = [*SMALL, "tower=vit", f"run_dir={tmp_path / 'run'}", *settings]
    code, _, error = run_command(train_refshapes_clip, *arguments)
    assert code == 2
    assert words in " ".join(error.split())


def test_a_start_without_a_tokenizer_is_an_error_before_training(
    run_command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from gl_ris.clip.loading import ASSETS

    monkeypatch.setenv("GL_RIS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "start"
    shutil.copytree(ASSETS / "refshapes-rn", folder, ignore=shutil.ignore_patterns("tokenizer*"))
    settings = [f"model.start=local-dir:{folder}", f"run_dir={tmp_path / 'run'}"]
    code, _, error = run_command(train_refshapes_clip, *SMALL, "tower=vit", *settings)
    assert code == 2
    assert "has no tokenizer.json" in " ".join(error.split())


def test_a_start_that_is_not_one_is_an_error_before_training(
    run_command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    monkeypatch.setenv("GL_RIS_CACHE", str(tmp_path / "cache"))
    damaged, other = tmp_path / "damaged", tmp_path / "other"
    for folder in (damaged, other):
        folder.mkdir()
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).write_text("{}")
    (damaged / "open_clip_model.safetensors").write_bytes(b"\x08")
    save_file({"visual.proj": torch.zeros(3)}, other / "open_clip_model.safetensors")
    reasons = {"no/folder": "cannot be read", damaged: "cannot be read", other: "has no weight of a name"}
    for number, (start, reason) in enumerate(reasons.items()):
        settings = ["tower=rn", f"run_dir={tmp_path / f'run{number}'}", f"model.start=local-dir:{start}"]
        code, _, error = run_command(train_refshapes_clip, *SMALL, *settings)
        assert code == 2
        words = " ".join(error.split())
        assert f"The small CLIP local-dir:{start}" in words
        assert reason in words
        assert "Name refshapes-vit or refshapes-rn, or local-dir:FOLDER" in words
    (other / "open_clip_config.json").write_text('{"model_cfg": {}}')
    code, _, error = run_command(train_refshapes_clip, *SMALL, "tower=rn", f"model.teacher=local-dir:{other}")
    assert code == 2
    assert "says no image tower" in " ".join(error.split())
    (damaged / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": "mine.Tokenizer"}}')
    coded = ["tower=rn", f"run_dir={tmp_path / 'coded'}", f"model.start=local-dir:{damaged}"]
    code, _, error = run_command(train_refshapes_clip, *SMALL, *coded)
    assert code == 2
    assert "auto_map" in error
    code, _, error = run_command(
        train_refshapes_clip, *SMALL, "tower=rn", "model.teacher=local-dir:no/folder"
    )
    assert code == 2
    assert "The small CLIP local-dir:no/folder cannot be read" in " ".join(error.split())


def write_curve(folder: Path, version: int, text: str) -> None:
    (folder / f"version_{version}").mkdir()
    (folder / f"version_{version}" / "metrics.csv").write_text(text)


def test_a_later_row_for_a_step_counts(tmp_path: Path) -> None:
    # the tenth comes after the ninth
    write_curve(tmp_path, 9, "epoch,step,train/loss\n0,9,4.0\n0,19,3.0\n")
    write_curve(tmp_path, 10, "epoch,step,train/loss,val/loss\n0,19,2.5,\n0,19,,3.5\n")
    join_curves(tmp_path, tmp_path / "all.csv")
    assert (tmp_path / "all.csv").read_text().splitlines() == [
        "epoch,step,train/loss,val/loss",
        "0,9,4.0,",
        "0,19,2.5,",
        "0,19,,3.5",
    ]


def test_a_training_that_was_too_short_for_a_log_has_an_empty_curve(tmp_path: Path) -> None:
    join_curves(tmp_path, tmp_path / "all.csv")
    assert list(csv.DictReader((tmp_path / "all.csv").open())) == []
    write_curve(tmp_path, 0, "step,val/loss\n3,2.0\n")
    join_curves(tmp_path, tmp_path / "all.csv")
    assert list(csv.DictReader((tmp_path / "all.csv").open())) == [
        {"step": "3", "val/loss": "2.0", "train/loss": ""}
    ]
