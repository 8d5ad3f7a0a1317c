from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from experiments.cli.command import CONFIGS as ROOT_CONFIGS
from experiments.cli.overrides import normalise
from gl_ris.errors import UserError

SHORT = {"limit": "data.limit", "proposals": "model.proposals"}
GROUPS = {"data": ["refshapes", "refshapes+"], "proposals": ["ground_truth"]}
CONFIGS = Path("configs")


def rewrite(*args: str) -> list[str]:
    return normalise(args, SHORT, GROUPS, CONFIGS, lambda option: ["RefCOCO"] if option == "data" else [])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param("k=64", "--k=64", id="plain"),
        pytest.param("--k=64", "--k=64", id="native"),
        pytest.param("--k 64", "--k=64", id="two-words"),
        pytest.param(
            "model.alpha=0.5 --trainer.devices=4", "--model.alpha=0.5 --trainer.devices=4", id="mixed"
        ),
        pytest.param("model.methods+=cropping", "--model.methods+=cropping", id="append"),
        pytest.param("--expression a=b k=1", "--expression=a=b --k=1", id="value-with-equals-sign"),
        pytest.param("--x -1", "--x=-1", id="negative-value"),
        pytest.param("--print_config k=4", "--print_config --k=4", id="flag-takes-no-value"),
        pytest.param(
            "k=4 --print_config=skip_default", "--k=4 --print_config=skip_default", id="flag-with-value"
        ),
        pytest.param("--data.help RefCOCO", "--data.help RefCOCO", id="class-help"),
        pytest.param("--help_all", "--help", id="full-help"),
        pytest.param("limit=20", "--data.limit=20", id="short-spelling"),
        pytest.param("--limit 20", "--data.limit=20", id="short-spelling-two-words"),
        pytest.param("proposals.scale=3", "--model.proposals.scale=3", id="below-a-short-spelling"),
        pytest.param("data=refshapes", "--config=configs/data/refshapes.yaml", id="group"),
        pytest.param("--data refshapes+", "--config=configs/data/refshapes+.yaml", id="group-with-plus"),
        pytest.param(
            "proposals=ground_truth", "--config=configs/proposals/ground_truth.yaml", id="group-first"
        ),
        pytest.param("data=RefCOCO", "--data=RefCOCO", id="class-name"),
        pytest.param("data=pkg.Mine", "--data=pkg.Mine", id="class-path"),
        pytest.param("proposals=null", "--model.proposals=null", id="null"),
        pytest.param('data={"class_path":"X"}', '--data={"class_path":"X"}', id="yaml-value"),
        pytest.param("-c a.yaml k=1", "--config=a.yaml --k=1", id="short-config"),
        pytest.param("foo", "foo", id="left-for-the-parser-to-refuse"),
        pytest.param("--k", "--k", id="value-missing"),
    ],
)
def test_every_spelling_becomes_a_native_option(given: str, expected: str) -> None:
    assert rewrite(*given.split(" ")) == expected.split(" ")


def test_options_keep_their_order_and_change_ready_made_settings_wherever_they_stand() -> None:
    given = ["model.alpha=0.1", "proposals=ground_truth", "data=refshapes", "--model.alpha", "0.2", "limit=3"]
    assert rewrite(*given) == [
        "--config=configs/data/refshapes.yaml",
        "--config=configs/proposals/ground_truth.yaml",
        "--model.alpha=0.1",
        "--model.alpha=0.2",
        "--data.limit=3",
    ]


def test_a_file_of_settings_keeps_its_place() -> None:
    given = ["alpha=0.1", "data=refshapes", "--config", "own.yaml", "limit=3", "data=refshapes+"]
    assert rewrite(*given) == [
        "--config=configs/data/refshapes.yaml",
        "--alpha=0.1",
        "--config=own.yaml",
        "--config=configs/data/refshapes+.yaml",
        "--data.limit=3",
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "data=refshape",
            r"Unknown data 'refshape'\. Did you mean 'refshapes'\? Available: RefCOCO, refshapes, ",
        ),
        ("proposals=groundtruth", r"Did you mean 'ground_truth'\? Available: ground_truth\."),
        ("data=", r"Unknown data ''"),
    ],
)
def test_unknown_ready_made_settings_say_what_there_is(given: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        rewrite(given)


def test_what_is_made_anew_is_cleared_only_where_there_is_such_an_option() -> None:
    given = [["data=refcoco"], SHORT, {"data": ["refcoco"]}, ROOT_CONFIGS, lambda _: ()]
    file = f"--config={ROOT_CONFIGS / 'data' / 'refcoco.yaml'}"
    assert normalise(*given, ["model.proposals"]) == ["--model.proposals=null", file]
    assert normalise(*given, ["model.recipe"]) == [file]


@pytest.mark.parametrize(
    ("given", "cleared"),
    [
        ("clip=refshapes-vit", True),
        ("--model.clip local-dir:/somewhere", True),
        ("clip=hf-hub:org/repo alpha=0.5", True),
        ("clip=RN50-quickgelu", False),
        ("clip=refshapes-vit model.pretrained=openai", False),  # a contradiction of one's own, which is told
        ("alpha=0.5", False),
    ],
)
def test_a_model_with_weights_of_its_own_clears_those_that_a_data_setting_brought(
    given: str, cleared: bool
) -> None:
    short = {"clip": "model.clip", "alpha": "model.alpha"}
    options = ["model.clip", "model.pretrained", "model.alpha"]
    words = normalise(
        ["data=refcoco", *given.split(" ")], short, {"data": ["refcoco"]}, ROOT_CONFIGS, options=options
    )
    assert words[0].endswith("refcoco.yaml")
    assert (words[1] == "--model.pretrained=null") is cleared


@pytest.mark.parametrize(("more", "cleared"), [({}, True), ({"pretrained": None}, False)])
def test_so_does_one_in_a_file_of_settings(tmp_path: Path, more: dict[str, object], cleared: bool) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump({"model": {"clip": "refshapes-vit", **more}}))
    words = normalise([f"--config={file}"], {}, {}, ROOT_CONFIGS, options=["model.clip", "model.pretrained"])
    assert words == [*["--model.pretrained=null"] * cleared, f"--config={file}"]
