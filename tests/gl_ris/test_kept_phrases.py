"""Noun phrases that were found once are found again without the parser, and never those of anything else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gl_ris import parsing, text
from gl_ris.errors import UserError
from gl_ris.parsing import check_parser, kept_noun_phrases
from gl_ris.text import SHIPPED, noun_phrases

TEXTS = ["The man's hat", "it", "стол", "a red star above a blue square", "the MAN 's hat", ""]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GL_RIS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def without_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the parser was loaded")

    monkeypatch.setattr(text, "load_parser", refuse)


@pytest.mark.parametrize("published", [False, True])
def test_what_was_found_once_is_found_again_without_a_parser(
    published: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = noun_phrases(TEXTS, published=published)
    assert kept_noun_phrases(TEXTS, published=published) == wanted
    without_parser(monkeypatch)
    assert kept_noun_phrases(TEXTS, published=published) == wanted
    for other in ({"published": not published}, {"texts": TEXTS[:-1]}, {"texts": TEXTS[::-1]}):
        with pytest.raises(AssertionError, match="was loaded"):
            kept_noun_phrases(**{"texts": TEXTS, "published": published, **other})  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", ["", "[", '["a cat"]', '["a cat", 1]', "{}"])
def test_a_damaged_file_is_made_again(damage: str, cache: Path) -> None:
    wanted = kept_noun_phrases(["a cat on a mat", "it"])
    (file,) = cache.rglob("*.json")
    content = file.read_bytes()
    file.write_text(damage)
    assert kept_noun_phrases(["a cat on a mat", "it"]) == wanted
    assert file.read_bytes() == content


def test_nothing_is_kept_of_other_parsers_nor_where_nothing_can_be(cache: Path, tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, tmp_path / "own")
    assert kept_noun_phrases(["a cat on a mat"], tmp_path / "own") == ["a cat"]
    assert not cache.exists()
    cache.write_text("a file in place of the folder")
    assert kept_noun_phrases(["a cat on a mat"]) == ["a cat"]


def test_a_changed_parser_is_not_taken_for_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_noun_phrases(["a cat on a mat"])
    with monkeypatch.context() as patch:
        without_parser(patch)
        check_parser()
        with pytest.raises(AssertionError, match="was loaded"):
            check_parser("en_core_web_lg")
    shutil.copy(SHIPPED.parent / "SHA256SUMS", tmp_path)
    shutil.copytree(SHIPPED, tmp_path / "parser")
    monkeypatch.setattr(text, "SHIPPED", tmp_path / "parser")
    with (tmp_path / "parser" / "config.cfg").open("a") as file:
        file.write("\n")
    with pytest.raises(UserError, match=r"config.cfg' is not as it was released"):
        check_parser()
    shutil.rmtree(tmp_path / "parser")
    with pytest.raises(UserError, match="The parser is missing"):
        check_parser()


@pytest.mark.parametrize("library", ["spacy", "thinc", "numpy"])
def test_another_version_of_a_library_parses_anew(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_noun_phrases(["a cat on a mat"])
    version = parsing.metadata.version
    monkeypatch.setattr(parsing.metadata, "version", lambda name: "0" if name == library else version(name))
    without_parser(monkeypatch)
    with pytest.raises(AssertionError, match="was loaded"):
        kept_noun_phrases(["a cat on a mat"])
