"""The command line of tables, in this process: nothing is run, or it fails before any work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments import tables
from experiments.cli.command import CONFIGS
from experiments.reporting.paper import paper_table
from experiments.tables import TableSettings
from gl_ris.errors import UserError
from gl_ris.scorers import available_scorers

OWN = {
    "rows": [{"method": "random"}, {"method": "cropping", "encoder": "vit"}],
    "encoders": {"vit": "refshapes-vit"},
}


def settings_of(*arguments: str) -> TableSettings:
    return TableSettings.parse(tables.COMMAND, arguments)[0]


def runs_of(settings: TableSettings) -> list[tuple[str, list[str]]]:
    """Label and arguments of each cell."""
    return [(cell.label, cell.arguments) for cell in settings.cells()]


@pytest.fixture
def own_table(tmp_path: Path) -> str:
    """A table of methods that are in the package for sure."""
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(OWN))
    return f"table={tmp_path / 'own.yaml'}"


def option(arguments: list[str], name: str) -> Any:
    (value,) = [item.partition("=")[2] for item in arguments if item.startswith(f"{name}=")]
    return yaml.safe_load(value)


def test_every_table_has_the_rows_and_numbers_of_the_paper() -> None:
    for number in ("1", "2", "3", "frontier"):
        rows = yaml.safe_load((CONFIGS / "tables" / f"{number}.yaml").read_text())["rows"]
        named = [row["paper"] for row in rows if "paper" in row]
        assert sorted(named) == sorted(paper_table(number).rows)


def test_defaults_are_the_three_registers_and_both_small_clips(own_table: str) -> None:
    runs = runs_of(settings_of(own_table, "encoders={vit: refshapes-vit, rn: refshapes-rn}"))
    assert [label for label, _ in runs] == ["refshapes val", "refshapes+ val", "refshapesg val"]
    first = runs[0][1]
    assert first[:2] == ["data=refshapes", "data.split=val"]
    # encoder and proposals of a data set are its own settings' affair, unless a table says otherwise
    assert not [option for option in first if option.startswith(("proposals=", "recipe="))]
    assert not any(argument.startswith(("recipe", "model.recipe")) for argument in first)
    assert option(first, "model.methods") == [
        {"method": "random", "title": "Random"},
        {"method": "cropping", "title": "Cropping (vit)", "clip": "refshapes-vit", "pretrained": None},
    ]
    assert (option(first, "model.clip"), option(first, "model.pretrained")) == ("refshapes-vit", None)


def test_table_3_is_nine_variants_of_one_model() -> None:
    runs = runs_of(settings_of("table=3"))
    assert len(runs) == 3
    variants = option(runs[2][1], "model.methods")
    assert len({variant["title"] for variant in variants}) == 9
    assert {(variant["method"], variant["clip"]) for variant in variants} == {
        ("global_local", "refshapes-vit")
    }
    assert [(variant.get("alpha"), variant.get("beta")) for variant in variants] == [
        (alpha, beta) for alpha in (1.0, 0.0, None) for beta in (1.0, 0.0, None)
    ]


def test_the_real_thing_is_one_command(own_table: str) -> None:
    runs = runs_of(
        settings_of(
            own_table,
            "data=[refcoco,refcocog,refcocog-google]",
            "splits={refcoco: [val, testA], refcocog: [test]}",
            "encoders={vit: ViT-B-32-quickgelu/openai}",
            "--trainer.devices=2",
        )
    )
    assert [label for label, _ in runs] == [
        "refcoco val",
        "refcoco testA",
        "refcocog test",
        "refcocog-google val",
    ]
    assert [option(arguments, "model.alpha") for _, arguments in runs] == [0.95, 0.95, 0.85, 0.85]
    last = runs[-1][1]
    assert not any("recipe" in argument for argument in last)  # that of the data's own settings
    assert "trainer.devices=2" in last
    assert option(last, "model.methods")[1]["pretrained"] == "openai"


@pytest.mark.parametrize(
    ("encoder", "clip", "pretrained"),
    [
        ("refshapes-rn", "refshapes-rn", None),
        ("RN50-quickgelu/openai", "RN50-quickgelu", "openai"),
        ("RN50//weights/own.pt", "RN50", "/weights/own.pt"),
        ("local-dir:/a/b", "local-dir:/a/b", None),
        ("hf-hub:org/repo", "hf-hub:org/repo", None),
    ],
)
def test_encoders(encoder: str, clip: str, pretrained: str | None) -> None:
    settings = TableSettings(rows=OWN["rows"], encoders={"vit": encoder})
    (_, entry) = settings.entries()
    assert entry.variant is not None
    assert (entry.encoder, entry.variant["clip"], entry.variant["pretrained"]) == (encoder, clip, pretrained)


def test_data_by_class_and_shares_by_name(own_table: str) -> None:
    data = {"class_path": "datamodules.RefCOCO", "init_args": {"dataset": "toy", "root": "somewhere"}}
    runs = runs_of(
        settings_of(
            own_table,
            f"data=[refshapes, {json.dumps(data)}]",
            "shares.toy={alpha: 0.5, masked_blocks: 2}",
            "limit=4",
        )
    )
    assert [label for label, _ in runs] == ["refshapes val", "toy val"]
    assert option(runs[1][1], "data") == data
    assert option(runs[1][1], "model.alpha") == 0.5
    assert option(runs[1][1], "model.masked_blocks") == 2
    assert [option(runs[0][1], f"model.{name}") for name in ("alpha", "beta")] == [0.4, 0.75]
    assert "limit=4" in runs[1][1]


def test_a_printed_configuration_means_the_same(
    own_table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (own_table, "data=refshapes", "model.recipe={antialias: false}", "splits.refshapes=[testA]")
    with pytest.raises(SystemExit, match="0"):
        TableSettings.parse(tables.COMMAND, [*arguments, "--print_config"])
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    again = settings_of("--config", str(tmp_path / "printed.yaml"))
    assert runs_of(again) == runs_of(settings_of(*arguments))
    assert "model.recipe={antialias: false}" in runs_of(again)[0][1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "There is no method to compare; choose a table, 1, 2, 3, frontier, rerank: table=1."),
        (["table=4"], "Unknown table '4'. Available: 1, 2, 3, frontier, rerank."),
        (["table=nowhere.yaml"], "The configuration file 'nowhere.yaml' cannot be read"),
        (["OWN", "data=[refshape]"], "Unknown data 'refshape'. Did you mean 'refshapes'?"),
        (["OWN", "data=[]"], "data=[] must name one data set or more."),
        (["OWN", "data=[{dataset: toy}]"], "lacks class_path"),
        (["OWN", "data=[refshapes,refshapes]"], "refshapes val is there twice"),
        (["OWN", "splits=[vall]"], "Unknown split of RefShapes 'vall'. Did you mean 'val'?"),
        (["OWN", "splits={refshape: [val]}"], "Unknown data set in splits 'refshape'"),
        (["OWN", "shares.refcocoo={alpha: 1}"], "Unknown data set in shares 'refcocoo'"),
        (["OWN", "shares.refshapes.alpha=2"], "alpha=2.0 is out of range"),
        (
            ["OWN", "data=refshapes", "limit=1", "encoders.vit=refshapes-vitt"],
            "Did you mean 'refshapes-vit'?",
        ),
        (["OWN", "rows=[{method: croping}]"], "Did you mean 'cropping'?"),
        (["OWN", "rows=[{method: cropping, encoder: rn50}]"], "encoder of row"),
        (["OWN", "rows=[{metod: cropping}]"], "Did you mean 'method'?"),
        (["OWN", "rows=[{label: A}]"], "needs a method"),
        (["OWN", "rows=[{method: random}, {method: random}]"], "'Random' is there 2 times"),
        (["OWN", "paper=7"], "Unknown table of the paper '7'"),
        (["OWN", "paper=2", "rows=[{method: random, paper: Randm}]"], "Unknown row of the paper's table 2"),
        (["OWN", "splits=[]"], "must name one split or more"),
        (["OWN", "jobs=0"], "jobs=0 must be 1 or more."),
        (["OWN", "figures=[oIoX]"], "figures"),
        (["OWN", "split=testA"], "use splits=[...]"),
        (["OWN", "methods=[random]"], "use rows=[...]"),
        (["OWN", "clip=refshapes-rn"], "use encoders={...}"),
        (["OWN", "limt=4"], "Did you mean"),
        (["OWN", "data.limit=0"], "limit is 0"),
        (
            ["OWN", "data=refshapes", "limit=1", "trainer.devices=2"],
            "1 images cannot be spread over 2 processes",
        ),
        (["OWN", "run_dir=used"], "The run folder 'used' holds something else than what"),
        (["OWN", "run_dir=used/file"], "is a file"),
    ],
)
@pytest.mark.usefixtures("drawn_refshapes")
def test_mistakes_get_one_line_before_any_work(
    arguments: list[str],
    said: str,
    refusal: Callable[..., str],
    own_table: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "here" / "used").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    Path("used/file").touch()
    assert said in refusal(tables, *[own_table if item == "OWN" else item for item in arguments])


def test_tables_ask_for_methods_by_names_that_exist() -> None:
    """A method that is not in the package yet must be refused by name, not run as another."""
    known = available_scorers()
    for number in ("1", "2", "3", "frontier", "rerank"):
        settings = settings_of(f"table={number}")
        assert settings.rows
        missing = {row["method"] for row in settings.rows if "method" in row} - {*known, "upper_bound"}
        if missing:
            with pytest.raises(UserError, match="Unknown method"):
                settings.entries()
        else:
            assert settings.entries()
