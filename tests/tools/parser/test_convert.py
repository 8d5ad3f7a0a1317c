from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import spacy
from spacy.tokens import DocBin

from gl_ris.errors import UserError
from tools.parser.convert import Tree, consistent, main, read_trees, text_of


def tree(text: str, heads: list[int], deps: str, tags: str) -> Tree:
    words = text.split()
    spaces = [True] * (len(words) - 1) + [False]
    pos = ["X"] * len(words)
    return {
        "words": words,
        "spaces": spaces,
        "heads": heads,
        "deps": deps.split(),
        "tags": tags.split(),
        "pos": pos,
    }


GOOD = tree("batter in red", [0, 0, 1], "ROOT prep pobj", "NN IN NN")
ORDER = tree("batter in red", [0, 0, 1], "ROOT prep pobj", "VB IN NN")
LEAVING = tree("top left guy", [1, 1, 1], "nsubj ROOT dobj", "NN VBD NN")
TWO = tree("batter red", [0, 1], "ROOT ROOT", "NN NN")
NOUN_RULES = tree("guy batter", [1, 1], "nsubj ROOT", "NN NN")
CLAUSE = tree("guy sits", [1, 1], "nsubj ROOT", "NN VBZ")


def write(path: Path, trees: list[Tree]) -> Path:
    with gzip.open(path, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(tree) + "\n" for tree in trees)
    return path


def test_trees_survive_the_conversion(tmp_path: Path) -> None:
    one = {**GOOD, "pos": ["NOUN", "ADP", "NOUN"], "spaces": [True, False, False]}
    source = write(tmp_path / "trees.jsonl.gz", [one, CLAUSE])  # type: ignore[list-item]
    main([str(tmp_path / "new" / "out.spacy"), str(source), str(source)])
    docs = list(DocBin().from_disk(tmp_path / "new" / "out.spacy").get_docs(spacy.blank("en").vocab))
    assert [doc.text for doc in docs] == ["batter inred", "guy sits"] * 2
    assert [token.head.i for token in docs[0]] == [0, 0, 1]
    assert [token.dep_ for token in docs[0]] == ["ROOT", "prep", "pobj"]
    assert [token.tag_ for token in docs[0]] == ["NN", "IN", "NN"]
    assert [token.pos_ for token in docs[0]] == ["NOUN", "ADP", "NOUN"]


def test_filter_and_exclusion_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = write(tmp_path / "plain.jsonl.gz", [TWO, CLAUSE])
    filtered = write(tmp_path / "filtered.jsonl.gz", [TWO, GOOD])
    labels = tmp_path / "labels.jsonl"
    labels.write_text('{"expression": "Guy sits"}\n', encoding="utf-8")
    out = tmp_path / "out.spacy"
    main([str(out), str(plain), "--consistent", str(filtered), "--exclude", str(labels)])
    docs = DocBin().from_disk(out).get_docs(spacy.blank("en").vocab)
    assert [doc.text for doc in docs] == ["batter red", "batter in red"]
    assert "2 trees" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("odd", "kept"),
    [
        pytest.param(ORDER, False, id="a noun read as a verb"),
        pytest.param(LEAVING, False, id="left as a verb"),
        pytest.param(TWO, False, id="two roots"),
        pytest.param(NOUN_RULES, False, id="subject of a noun"),
        pytest.param(CLAUSE, True, id="an ordinary clause"),
    ],
)
def test_consistent(odd: Tree, kept: bool) -> None:
    trees = [GOOD] * 10 + [odd]
    assert consistent(trees) == trees if kept else consistent(trees) == [GOOD] * 10


def test_common_double_readings_are_kept() -> None:
    assert consistent([GOOD, ORDER] * 5) == [GOOD, ORDER] * 5


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("not json", id="not JSON"),
        pytest.param("[1]", id="not an object"),
        pytest.param('{"words": ["a"]}', id="keys missing"),
        pytest.param(json.dumps({**GOOD, "heads": [0, 0]}), id="unequal lengths"),
        pytest.param(json.dumps({**GOOD, "heads": [0, 0, 3]}), id="head outside"),
        pytest.param(json.dumps({key: [] for key in GOOD}), id="no words"),
    ],
)
def test_bad_line_is_named(line: str, tmp_path: Path) -> None:
    source = tmp_path / "trees.jsonl"
    source.write_text(json.dumps(GOOD) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"trees\.jsonl:2 is not a dependency tree"):
        list(read_trees(source))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No tree file at '.*none\.jsonl'"):
        list(read_trees(tmp_path / "none.jsonl"))


def test_text_of() -> None:
    assert text_of({**GOOD, "spaces": [False, True, True]}) == "batterin red"
