from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
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


@pytest.mark.parametrize("name", ["en_core_web_sm", "en_core_web_md", "en_core_web_lg"])
def test_package_that_is_not_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spacy.util, "is_package", lambda _: False)
    with pytest.raises(UserError, match=rf"'{name}' is not installed.*`python -m spacy download {name}`"):
        load_parser(name)


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
    with pytest.raises(UserError, match=r"is damaged \(.*\); reinstall gl-ris") as caught:
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
