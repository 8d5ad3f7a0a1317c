from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import spacy

from gl_ris import text as parser_module
from gl_ris.errors import UserError
from gl_ris.text import SHIPPED, load_parser, noun_phrases


def test_shipped_parser_is_small() -> None:
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*") if file.is_file()) <= 8_000_000


def test_shipped_parser_is_loaded_once() -> None:
    assert load_parser() is load_parser()


@pytest.mark.parametrize("name", ["en_core_web_sm", "en_core_web_lg", "en_core_web_trf", "de_dep_news_trf"])
def test_package_that_is_not_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spacy.util, "is_package", lambda _: False)
    with pytest.raises(UserError, match=rf"'{name}' is not installed.*`python -m spacy download {name}`"):
        load_parser(name)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Lay out the shipped pipeline, or what a hook makes of it, as an installed package of some name."""

    def install(name: str, change: Callable[[Path], object] = lambda _: None, meta: bool = True) -> str:
        package = tmp_path / "site" / name
        shutil.copytree(SHIPPED, package / "en_core_test-1.0")
        change(package / "en_core_test-1.0")
        said = json.loads((SHIPPED / "meta.json").read_text()) | {"name": "core_test", "version": "1.0"}
        if meta:
            (package / "meta.json").write_text(json.dumps(said))
        code = "from spacy.util import load_model_from_init_py\n"
        code += "def load(**overrides):\n    return load_model_from_init_py(__file__, **overrides)\n"
        (package / "__init__.py").write_text(code)
        record = package.with_name(f"{name}-1.0.dist-info")
        record.mkdir()
        (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        monkeypatch.syspath_prepend(str(tmp_path / "site"))
        return name

    return install


def test_any_installed_pipeline_is_taken(install: Callable[..., str]) -> None:
    name = install("xx_pipeline_of_mine")
    assert noun_phrases(["woman in red on right"], name) == ["woman"]


def test_an_installed_package_that_is_no_pipeline_is_told_without_importing_it(
    install: Callable[..., str], tmp_path: Path
) -> None:
    name = install("some_other_package", meta=False)
    (tmp_path / "site" / name / "__init__.py").write_text("raise SystemError('imported')")
    with pytest.raises(UserError, match=r"'some_other_package' is installed, but it is no spaCy pipeline"):
        load_parser(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("pipeline = [", 'pipeline = ["odd",', '[components.odd]\nfactory = "curated_odd"\n'),
            "curated_odd",
        ),
        (('lang = "en"', 'lang = "zh"', ""), "zh"),
    ],
    ids=["a part of a package that is not there", "no noun chunks in this language"],
)
def test_an_installed_pipeline_that_does_not_do(
    install: Callable[..., str], change: tuple[str, str, str], message: str
) -> None:
    old, new, more = change

    def edit(folder: Path) -> None:
        config = (folder / "config.cfg").read_text()
        (folder / "config.cfg").write_text(config.replace(old, new) + more)

    with pytest.raises(UserError, match=message) as caught:
        load_parser(install(f"xx_{message}", edit))
    assert "\n" not in str(caught.value)


def test_unknown_name() -> None:
    with pytest.raises(
        UserError, match=r"Unknown parser 'en_core_web_smm'\. Did you mean 'en_core_web_sm'\?"
    ):
        load_parser("en_core_web_smm")


@pytest.mark.parametrize("kind", [str, Path])
def test_missing_folder(kind: type, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No parser folder at '.*nowhere'"):
        load_parser(kind(tmp_path / "nowhere"))


def test_missing_shipped_parser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(parser_module, "SHIPPED", tmp_path / "gone")
    with pytest.raises(UserError, match=r"missing at '.*gone'; reinstall gl-ris"):
        load_parser()


@pytest.mark.parametrize(
    "damage",
    [
        "tok2vec/model",
        "parser/model",
        "parser/moves",
        "vocab/strings.json",
        "meta.json",
        "config.cfg",
        "tokenizer",
    ],
)
def test_damaged_shipped_parser(damage: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    copy = tmp_path / "parser"
    shutil.copytree(SHIPPED, copy)
    file = copy / damage
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    monkeypatch.setattr(parser_module, "SHIPPED", copy)
    with pytest.raises(UserError, match=r"is not as it was released .*; reinstall gl-ris") as caught:
        load_parser()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dropped", ["parser", "attribute_ruler"])
def test_pipeline_that_cannot_give_noun_chunks(dropped: str, tmp_path: Path) -> None:
    pipeline = spacy.load(SHIPPED, exclude=[dropped])
    pipeline.to_disk(tmp_path / "partial")
    with pytest.raises(UserError, match=f"has no .*{dropped}"):
        load_parser(tmp_path / "partial")


def test_pipeline_of_another_spacy_version_loads_without_noise(tmp_path: Path) -> None:
    copy = tmp_path / "parser"
    shutil.copytree(SHIPPED, copy)
    meta = (copy / "meta.json").read_text(encoding="utf-8")
    older = spacy.util.load_meta(copy / "meta.json")["spacy_version"]
    (copy / "meta.json").write_text(meta.replace(older, ">=3.4.0,<3.5.0"), encoding="utf-8")
    with pytest.warns(UserWarning, match="W095"):
        spacy.load(copy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert noun_phrases(["woman in red on right"], copy) == ["woman"]


def test_spacy_is_imported_late() -> None:
    code = "import sys, gl_ris.text; assert 'spacy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=SHIPPED.parents[2])
