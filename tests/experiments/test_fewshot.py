"""The command line of few-shot comparisons, in this process: nothing is run, or it fails before any work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments import fewshot
from experiments.cli.command import SHORTHAND, Command
from experiments.fewshot import FewShotSettings, in_order, seeds_of
from experiments.grid import settings
from experiments.grid.settings import baselines_for
from finished_cells import Workshop
from gl_ris.errors import UserError

KNOWN = ["cris", "cris-tiny", "lavt", "lavt-tiny"]


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "known_baselines", lambda: KNOWN)


def settings_of(*arguments: str) -> FewShotSettings:
    return FewShotSettings.parse(fewshot.COMMAND, arguments)[0]


def test_by_default_the_curve_of_both_small_models() -> None:
    cells = settings_of().cells()
    names = [cell.name for cell in cells]
    assert names[:4] == ["zero-shot", "lavt-tiny_k1_seed0", "lavt-tiny_k1_seed1", "lavt-tiny_k1_seed2"]
    assert names[4] == "cris-tiny_k1_seed0"
    assert names[-2:] == ["lavt-tiny_k256_seed0", "cris-tiny_k256_seed0"]
    assert len(names) == len(set(names)) == 1 + 2 * (3 + 3 + 3 + 3 + 1)
    assert cells[0].arguments[:3] == ["data=refshapesg", "data.split=val", 'methods=["global_local"]']
    assert cells[1].arguments[:5] == [
        *("baseline=lavt-tiny", "data=refshapesg", "split=val"),
        *("k=1", "seed=0"),
    ]
    assert [cell.program for cell in cells[:2]] == ["experiments.zero_shot", "experiments.supervised"]


def test_real_data_take_the_models_of_the_paper() -> None:
    names = [cell.name for cell in settings_of("data=refcocog", "k=64").cells()]
    assert names == ["zero-shot", "lavt_k64_seed0", "cris_k64_seed0"]


def test_short_forms_of_zero_shot_options_go_to_its_cells() -> None:
    supervised = Command.documented("supervised").shorthand
    own = {name for name in SHORTHAND if name not in supervised}
    assert own >= {"alpha", "masked_blocks", "rerank"}
    assert {FewShotSettings.group_of(name) for name in own} == {"zero_shot"}


def test_options_go_to_the_cells_that_know_them() -> None:
    given = settings_of(
        *("k=all", "seeds=[3]", "limit=20", "data.root=there", "--trainer.devices", "2", "recipe=published"),
        *("training.epochs=1", "trainer.precision=bf16-mixed", "proposals=slic", "masked_blocks=2"),
        *("zero_shot=[model.beta=1]", "baselines=cris-tiny", "methods=[random]", "wandb=disabled"),
    )
    zero_shot, trained = (cell.arguments for cell in given.cells())
    common = ["wandb=disabled", "limit=20", "data.root=there", "trainer.devices=2", "recipe=published"]
    assert [item for item in zero_shot if item in trained] == ["data=refshapesg", *common]
    assert zero_shot[-3:] == ["model.beta=1", "proposals=slic", "masked_blocks=2"]
    assert trained[-2:] == ["training.epochs=1", "trainer.precision=bf16-mixed"]
    assert trained[3:5] == ["k=all", "seed=3"]


@pytest.mark.parametrize(
    ("given", "k", "expected"),
    [
        ("seeds=[4,2,4]", 1, [4, 2]),
        ("seeds=7", "all", [7]),
        ("seeds={1: [0,1], all: [5]}", 1, [0, 1]),
        ("seeds={1: [0,1], all: [5]}", "all", [5]),
        ('seeds={"1": [0,1], "*": [5]}', 16, [5]),
    ],
)
def test_seeds(given: str, k: int | str, expected: list[int]) -> None:
    assert seeds_of(k, settings_of(given).seeds, [1]) == expected


@pytest.mark.parametrize(
    ("dataset", "given", "expected"),
    [
        ("refshapes+", {"refshapes*": ["lavt-tiny"], "refshapes+": ["cris-tiny"]}, ["cris-tiny"]),
        ("refcoco+", {"refcoco": ["lavt"], "refcoco*": ["cris", "cris"]}, ["cris"]),
        ("anything", ["lavt", "cris"], ["lavt", "cris"]),
        ("anything", "lavt", ["lavt"]),
    ],
)
def test_baselines_of_a_data_set(dataset: str, given: Any, expected: list[str]) -> None:
    assert baselines_for(dataset, given) == expected


def test_the_order_of_k() -> None:
    assert in_order(["all", 256, "4", 16, 4]) == [4, 16, 256, "all"]
    with pytest.raises(UserError, match="k=True is not a number of refs"):
        in_order([True])


def test_data_of_a_sweep_are_its_own_and_their_options_are_not() -> None:
    assert FewShotSettings.sort_out(["data=refcocog", "data.root=x"]) == [
        "--data=refcocog",
        '--options+=["data.root=x"]',
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["k=0"], "k=0 is not a number of refs; give a whole number from 1 on, all, or a list."),
        (["k=abc"], "k=abc is not a number of refs"),
        (["k=[1,-4]"], "k=-4 is not a number of refs"),
        (["k=[]"], "k=[] must name one number of refs or more"),
        (["k=1.5"], "k"),
        (["seeds=[]"], "seeds has none for k=1; give one or more, e.g. seeds=[0,1,2]."),
        (
            ["k=[1,4]", "seeds={1: [0]}"],
            "seeds has none for k=4; give one or more, e.g. seeds={4: [0,1,2], ...",
        ),
        (["seeds=[-1]"], "seeds=[-1] must be whole numbers from 0 on"),
        (["seeds=abc"], "seeds"),
        (["baselines=[crise]"], "Unknown baseline 'crise'. Did you mean 'cris'? Available: cris, cris-tiny,"),
        (["baselines=[]"], "baselines has none for refshapesg; name them, e.g. baselines=[lavt,cris]."),
        (["data=refcocog", "baselines={refshapes*: [lavt]}"], "baselines has none for refcocog"),
        (["methods=[]"], "methods=[] must name one zero-shot method or more"),
        (["jobs=0"], "jobs=0 must be 1 or more."),
        (["seed=1"], "'seed' is set for each cell; use seeds=[...]."),
        (["baseline=lavt"], "'baseline' is set for each cell; use baselines=[...]."),
        (["weights=a.pt"], "'weights' is set for each cell; use experiments.unseen_domain"),
        (["data.split=testA"], "use split=NAME"),
        (["data={dataset: toy}"], "lacks class_path"),
        (["run_dir=used"], "The run folder 'used' holds something else than what"),
        (["run_dir=used/file"], "is a file"),
        (["config=nowhere.yaml"], "The configuration file 'nowhere.yaml' cannot be read"),
    ],
)
def test_mistakes_get_one_line_before_any_work(
    arguments: list[str],
    said: str,
    refusal: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    Workshop(tmp_path / "store").install(monkeypatch)
    (tmp_path / "here" / "used").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    Path("used/file").touch()
    assert said in refusal(fewshot, *arguments)


@pytest.mark.parametrize(
    ("k", "wanted", "expected"),
    [
        (4, [4], [0]),
        (4, [1, 4, 256], [0, 1, 2]),
        (64, [1, 64], [0, 1, 2]),
        (65, [1, 65], [0]),
        ("all", [1, "all"], [0]),
    ],
)
def test_seeds_when_none_are_named(k: int | str, wanted: list[int | str], expected: list[int]) -> None:
    assert seeds_of(k, None, wanted) == expected
