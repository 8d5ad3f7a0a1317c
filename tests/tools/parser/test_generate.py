from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path

import pytest
import spacy
from spacy.tokens import Doc

from tools.parser.convert import Tree, text_of
from tools.parser.generate import generate, main
from tools.parser.grammar import Node, to_tree


@pytest.fixture(scope="module")
def trees() -> list[Tree]:
    return list(generate(400, seed=3))


def test_words_are_read_off_in_order() -> None:
    guy = Node("guy", "NN", "ROOT", left=[Node("a", "DT", "det"), Node("old", "JJ", "amod")])
    guy.add(Node("in", "IN", "prep").add(Node("red", "NN", "pobj")), Node(".", ".", "punct"))
    tree = to_tree(guy)
    assert text_of(tree) == "an old guy in red."
    assert tree["heads"] == [2, 2, 2, 2, 3, 2]
    assert tree["deps"] == ["det", "amod", "ROOT", "prep", "pobj", "punct"]
    assert tree["pos"] == ["DET", "ADJ", "NOUN", "ADP", "NOUN", "PUNCT"]


def test_same_seed_same_phrases(trees: list[Tree]) -> None:
    assert list(generate(400, seed=3)) == trees
    assert list(generate(400, seed=4)) != trees


def test_phrases_are_distinct_and_not_too_long(trees: list[Tree]) -> None:
    assert len({text_of(tree).lower() for tree in trees}) == 400
    assert max(len(tree["words"]) for tree in trees) <= 30


def test_trees_are_one_projective_sentence_in_spacys_labels(trees: list[Tree]) -> None:
    blank = spacy.blank("en")
    labels = (
        "ROOT acl acomp advcl advmod agent amod appos attr aux auxpass case cc compound conj det dobj "
        "expl neg nsubj nsubjpass nummod pobj poss prep prt punct relcl"
    )
    for tree in trees:
        doc = Doc(blank.vocab, **tree)
        assert len(list(doc.sents)) == 1
        assert {token.dep_ for token in doc} <= set(labels.split())
        arcs = [sorted((token.i, token.head.i)) for token in doc]
        assert not any(a < c < b < d for (a, b), (c, d) in itertools.permutations(arcs, 2))
        # hyphens apart (half-eaten), which training aligns, the words are those of spaCy's tokeniser
        assert "-" in doc.text or [token.text for token in blank(doc.text)] == tree["words"]


def test_command_never_writes_excluded_phrases(trees: list[Tree], tmp_path: Path) -> None:
    banned = [text_of(tree) for tree in trees[:40]]
    lists = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path, part in zip(lists, (banned[:20], banned[20:]), strict=True):
        rows = [{"expression": text.upper()} for text in part]
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    out = tmp_path / "out.jsonl.gz"
    main([str(out), "--count=400", "--seed=3", "--exclude", *map(str, lists)])
    with gzip.open(out, "rt", encoding="utf-8") as lines:
        texts = [text_of(json.loads(line)) for line in lines]
    assert len(texts) == 400
    assert not set(texts) & set(banned)
