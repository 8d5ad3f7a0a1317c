"""Each command line of the documents and helps, driven to its made parts: nothing is fetched, trained or run.

Data are tiny and in the real form and places; networks have the published measures on the meta device, or
random weights; files of weights are only looked for.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from documented import Line, documented_lines
from documented_world import make_world, small
from experiments.cli import script
from experiments.cli.command import CONFIGS
from gl_ris.errors import UserError

# Lines that are not driven, by how they begin, and why.
NOT_DRIVEN = {
    "pip ": "needs package registries; .ci/run installs",
    "pre-commit ": "writes into the checkout's hooks",
    "pytest": "is what runs this test",
    "ruff ": "the main check of the continuous integration",
    "mypy": "the main check of the continuous integration",
    "hf download": "fetches from the hub",
    "python -m spacy": "a command of spaCy, on what tests/tools/parser makes",
    "spacy ": "a command of spaCy",
    "python -m tools.parser": "on files that are not in the repository; tests/tools/parser drives each",
    "python -m tools.results": "runs all that the pages state; tests/tools/test_results.py reads its lines",
    "python -m tests.fuzz": "takes a minute; test_fuzz.py runs cases of every target",
    "python -m experiments.benchmark": "measures for minutes; its test reads each line",
    "python -m experiments.segment 'rerank={rerank}'": "is made of a command; its test takes it apart",
    "python -m experiments.wandb_log": "wants a finished run; test_wandb_media.py starts it on one",
    "python -m experiments.NAME": "stands for any command; test_house.py asks each for its help",
    "python -m experiments.zero_shot KIND=NAME": "stands for any ready-made setting; all are below",
    "python -m experiments.zero_shot 'methods=[NAME]'": "stands for a method of one's own",
    "python -m experiments.zero_shot data=NAME": "stands for any data set; all are below",
    "python -m experiments.proposals proposals=NAME": "stands for any generator; all are below",
    "python -m experiments.supervised baseline=NAME-tiny": "stands for any baseline; all are below",
    "python -m experiments.proposals --model.proposals.help=SAM": "is answered by jsonargparse, as --help",
}
# what starts processes of a command: after its own options comes the command
LAUNCHERS = {"torchrun": ("--nnodes", "--nproc_per_node", "--rdzv_backend", "--rdzv_endpoint"), "srun": ()}
# what placeholders of the lines stand for here
PLACEHOLDERS = {
    "{folder}/model": str(CONFIGS.parent / "gl_ris" / "assets" / "refshapes-vit"),
    "{folder}": "runs/zero_shot/<time>",
    "{alpha}": "0.5",
    "{beta}": "0.5",
    "{masked_blocks}": "1",
    "DIR/weights.pt": "weights.pt",
    "=FILE": "=weights.pt",
    "DIR": "data/mine",
    "FOLDER": "data",
    "NAME": "refcoco",
}
# lines that are names of commands, or want what is not here, and what is said then
REFUSED = {
    r"experiments.*proposals=cutler": "CutLER needs detectron2, which is not installed",
    r"experiments\.tables$": "There is no method to compare; choose a table",
    r"experiments\.evaluate_predictions$": "There are no predictions",
    r"(experiments\.|gl-ris )segment$": "Give an image and what to look for",
    r"datamodules\.check$": "Say what to check",
    r"abstain=runs/thresholds": "No file of thresholds at 'runs/thresholds/thresholds.json'",
    r"datamodules\.download$": "Say what to fetch",
}
SUBSET = re.compile(r"k=(\d+|all)$|seed=\d+$")
LINES = documented_lines()
DATA = sorted(file.stem for file in (CONFIGS / "data").glob("*.yaml"))


def reason_not_to(line: Line) -> str | None:
    return next((why for begin, why in NOT_DRIVEN.items() if line.text.startswith(begin)), None)


GRIDS = {"tables": "TableSettings", "fewshot": "FewShotSettings", "unseen_domain": "UnseenSettings"}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("world")
    make_world(made)
    return made


@pytest.fixture
def here(world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in the world, with networks that cost nothing and no hub."""
    import open_clip

    from gl_ris.proposals import network
    from gl_ris.supervised import module, segmenter
    from gl_ris.supervised.cris import recipe as cris
    from gl_ris.supervised.lavt import recipe as lavt

    monkeypatch.chdir(world)
    monkeypatch.syspath_prepend(world)
    monkeypatch.setenv("GL_RIS_CACHE", str(world / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    small(monkeypatch)
    make = open_clip.create_model

    @functools.cache
    def without_weights(name: str) -> Any:
        return make(name, None, device=torch.device("meta"), require_pretrained=False)

    def on_meta(name: str, pretrained: Any = None, **options: Any) -> Any:
        shipped = name.startswith("local-dir:")
        return make(name, pretrained, **options) if shipped else without_weights(name)

    # random values that nothing is computed with would be half of the time
    for name in ("uniform_", "normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_"):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)
    monkeypatch.setattr("open_clip.create_model", on_meta)
    monkeypatch.setattr(open_clip.factory, "create_model", on_meta)
    families = {"sam-vit": "sam", "sam2": "sam2", "sam-hq": "sam_hq", "EdgeTAM": "edgetam"}
    monkeypatch.setattr(
        "gl_ris.proposals.sam.find_model",
        lambda name: world / "sams" / next(own for part, own in families.items() if part in name),
    )
    for kind in (lavt.LAVTBaseline, cris.CRISBaseline):
        monkeypatch.setattr(kind, "make", made_on_meta(kind.make))
    monkeypatch.setattr(lavt, "load_classifier", lambda *_: None)
    monkeypatch.setattr(lavt, "load_bert", lambda *_: None)
    tokenizer = lavt.load_tokenizer
    monkeypatch.setattr(lavt, "load_tokenizer", lambda _: tokenizer("refshapes-rn"))
    monkeypatch.setattr(module, "read_weights", lambda path, *_: looked_for(path))
    monkeypatch.setattr(segmenter.Segmenter, "load_weights", lambda *_: None)
    for kind in (lavt.LAVTSegmenter, cris.CRISSegmenter):
        monkeypatch.setattr(kind, "load_weights", lambda *_: None)
    freesolo = import_module("gl_ris.proposals.freesolo")
    for place in (network, freesolo):
        monkeypatch.setattr(place, "read_weights", lambda path, *_: looked_for(path), raising=False)
    monkeypatch.setattr(freesolo.FreeSOLO, "load_detectron2_state_dict", lambda *_: None)
    monkeypatch.setattr(network.NetworkGenerator, "weights_hash", lambda _: "0" * 64)
    return world


def looked_for(path: str | Path) -> dict[str, Any]:
    assert Path(path).is_file(), f"no {path}"
    return {}


def made_on_meta(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def made(self: Any) -> Any:
        if getattr(self, "side", 0) == 64 or self.learning_rate > 1e-4:
            return make(self)  # a tiny one
        with torch.device("meta"):
            return make(self)

    return made


def launched(words: Sequence[str]) -> list[str]:
    """Return the command that a launcher starts, which `experiments/test_launchers.py` has it do for real."""
    if words[0] == "gl-ris":
        return ["python", "-m", script.commands()[words[1]], *words[2:]]
    if words[0] not in LAUNCHERS:
        return list(words)
    start = words.index("-m")
    own = [word for word in words[1:start] if word != "python"]
    assert {word.partition("=")[0] for word in own} <= set(LAUNCHERS[words[0]])
    return ["python", *words[start:]]


def drive(words: Sequence[str]) -> None:
    """Take a line as far as it goes: a UserError or another exception if it goes wrong."""
    words = launched(words)
    assert words[:2] == ["python", "-m"] or tuple(words[:2]) == ("python", "-m")
    module, arguments = import_module(words[2]), list(words[3:])
    name = words[2].partition(".")[2]
    if words[2].startswith("datamodules."):
        drive_data(module, arguments)
    elif {"--help", "-h"} & set(arguments):
        assert module.COMMAND.help()
    elif name == "cache":
        module.main(arguments)  # a look at the cache of this test's world
    elif name == "segment":
        from experiments.cli.photo_words import apart, images_in, read_settings

        asked, options = apart(arguments)
        assert images_in(asked)
        assert read_settings(module.COMMAND, options)[0].models
    elif name == "demo":
        models, server = module.read(arguments)
        assert models.generators()
        assert server.host
    elif name == "export":
        drive_export(module, arguments)
    elif name == "report":
        drive_report(module, arguments)
    elif name == "compare":
        with pytest.raises(UserError, match=r"'RUN' is not the folder of a finished|Name each run once: RUN"):
            module.main(arguments)
    elif name in GRIDS:
        from experiments.grid.cells import plan

        grid, *_ = getattr(module, GRIDS[name]).parse(module.COMMAND, arguments)
        # of trainings that differ in nothing but how much and what they learn from, one
        alike = {
            tuple(word for word in cell.arguments if not SUBSET.match(word)): cell for cell in grid.cells()
        }
        assert plan([*alike.values()], None, False)
    else:
        check_parts(name, module, arguments)


def check_parts(name: str, module: Any, arguments: list[str]) -> None:
    from experiments.run import evaluate

    cli = parts(name, module, arguments)
    if name == "train_refshapes_clip":
        # a line that says 0 measures only; every other one trains
        assert (cli.trainer.max_steps > 0) == ("trainer.max_steps=0" not in " ".join(arguments))
        return
    if name == "proposals" and arguments[:1] == ["report"]:
        with pytest.MonkeyPatch.context() as patch:  # nothing is stored here, and need not be
            patch.setattr(type(cli.model), "open_stores", lambda *_: [None])
            evaluate.check(cli)
        return
    evaluate.check(cli)
    assert cli.datamodule.n_expressions > 0


def parts(name: str, module: Any, arguments: list[str]) -> Any:
    from experiments.cli.parts import ExperimentCLI, parts_of
    from experiments.run.contrastive import ContrastiveCLIP
    from experiments.run.effects import RecipeEffects
    from experiments.run.proposal_jobs import ProposalReport, StoreFiller
    from gl_ris.calibration import Calibration
    from gl_ris.sweep import Sweep

    if hasattr(module, "parts"):
        return module.parts(arguments)
    if name == "train_refshapes_clip":
        from datamodules.captioned_shapes import CaptionedShapes

        return ExperimentCLI(module.COMMAND, ContrastiveCLIP, CaptionedShapes, args=arguments)
    if arguments[:1] == ["report"]:
        return parts_of(module.REPORT, ProposalReport, arguments[1:])
    models: dict[str, Any] = {"sweep": Sweep, "recipe_effects": RecipeEffects, "proposals": StoreFiller}
    models["calibrate"] = Calibration
    return parts_of(module.COMMAND, models[name], arguments)


def drive_data(module: Any, arguments: list[str]) -> None:
    """Check data for real, or say what would be fetched."""
    if module.__name__.endswith("download"):
        module.main([*arguments, *([] if "--list" in arguments else ["--dry-run"])])
        return
    if not arguments:
        module.main([])
    cache = Path("cache")
    (drawn,) = (path.name for path in cache.glob("refshapes-v*testA*"))
    own = [word.replace(f"~/.cache/gl-ris/{drawn}", str(cache / drawn)) for word in arguments]
    own = [word.replace("--workers=8", "--workers=0") for word in own]
    # the counts are not those of the whole data set, which is code 1
    code: Any = 0
    try:
        module.main([*own, "--quiet"])
    except SystemExit as done:
        code = done.code
    assert code == (0 if own[0].startswith(("cache", "folder", "data/")) else 1)


def drive_report(module: Any, arguments: list[str]) -> None:
    from experiments.reporting import run_report

    given: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_report, "write_report", lambda *options: given.extend(options) or [])
        if arguments.count("RUN") > 1:
            arguments = [*arguments, "OTHER"]
            arguments.remove("RUN")
        module.main(arguments)
    paths, folder, pictures, *_ = given
    assert len(paths) >= 1
    assert isinstance(folder, Path)
    assert pictures is None or pictures >= 0


def drive_export(module: Any, arguments: list[str]) -> None:
    from experiments.reporting import export

    given: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "export", lambda *options: given.extend(options) or [])
        module.main(arguments)
    run, form, method, _ = given
    assert run.is_dir()
    assert form in export.FORMS
    assert method in (None, "Global-Local")


def test_each_line_is_driven_or_has_its_reason() -> None:
    driven = [line for line in LINES if reason_not_to(line) is None]
    assert len(driven) > 150
    assert all(
        line.words[:2] == ("python", "-m") or line.words[0] in (*LAUNCHERS, "gl-ris") for line in driven
    )
    begun = [begin for begin in NOT_DRIVEN if not any(line.text.startswith(begin) for line in LINES)]
    assert begun == [], "reasons for lines that are nowhere"


@pytest.mark.parametrize(
    "line", [line for line in LINES if reason_not_to(line) is None], ids=lambda line: line.text[10:90]
)
@pytest.mark.usefixtures("here")
def test_a_documented_line_goes_as_far_as_made_parts(line: Line) -> None:
    words = list(line.words)
    for placeholder, meant in PLACEHOLDERS.items():
        words = [word.replace(placeholder, meant) if "<" not in word else word for word in words]
    shown = [word for word in words if not word.removeprefix("--").startswith(("run_dir=", "resume="))]
    refusal = next((said for part, said in REFUSED.items() if re.search(part, line.text)), None)
    with pytest.raises(UserError, match=refusal) if refusal else nullcontext():
        drive(shown)


def table() -> Iterator[tuple[str, ...]]:
    """Give every command with every data set, and with every other ready-made setting."""
    kinds = ("baseline", "proposals", "row")
    names = {kind: sorted(file.stem for file in (CONFIGS / kind).glob("*.yaml")) for kind in kinds}
    own = ["data.root=data/mine"]
    for data in DATA:
        more, split, splits = (own, ["split=all"], ["splits=all"]) if data == "folder" else ([], [], [])
        for command in ("zero_shot", "sweep", "recipe_effects", "proposals", "proposals report"):
            yield (*f"experiments.{command}".split(), f"data={data}", *more)
        for baseline in names["baseline"]:
            yield ("experiments.supervised", f"baseline={baseline}", f"data={data}", "k=all", *more)
        yield ("experiments.tables", "table=1", f"data=[{data}]", *splits, *more)
        yield ("experiments.tables", "table=1", f"data=[{data}]", "supervised=[cris-tiny]", *splits, *more)
        yield ("experiments.fewshot", f"data={data}", "k=all", "baselines=[lavt,cris]", *split, *more)
    for data in (name for name in DATA if name.startswith("ref") and name.split("-")[-1] in (name, "google")):
        yield ("experiments.unseen_domain", f"data={data}", "baselines=[lavt,cris]")
    for row in names["row"]:
        yield ("experiments.zero_shot", "data=phrasecut", f"row={row}")
    for proposals in set(names["proposals"]) - {"coco_results", "cutler"}:
        for command in ("zero_shot", "sweep", "recipe_effects"):
            yield (f"experiments.{command}", f"proposals={proposals}")
        if proposals != "ground_truth":
            yield ("experiments.proposals", f"proposals={proposals}")


# data without a split to learn from, on which whatever trains says so
NO_TRAIN = ("-benchmark", "refcoco-m", "refshapes-phrasecut", "folder")
TRAINS = ("experiments.supervised", "experiments.fewshot", "supervised=[cris-tiny]")


@pytest.mark.slow
@pytest.mark.parametrize("words", sorted(set(table())), ids=" ".join)
@pytest.mark.usefixtures("here")
def test_every_command_takes_every_ready_made_setting(words: tuple[str, ...]) -> None:
    data = next((word.strip("[]") for word in words if word.startswith("data=")), "")
    refused = data.endswith(NO_TRAIN) and set(words) & set(TRAINS)
    with pytest.raises(UserError, match=r"Unknown split of .* 'train'") if refused else nullcontext():
        drive(["python", "-m", *words])
