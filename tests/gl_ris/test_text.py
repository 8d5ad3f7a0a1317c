from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import spacy
from spacy.tokens import Doc

from gl_ris.text import SHIPPED, join_apostrophes, load_parser, noun_phrase, noun_phrases, published_texts

DATA = Path(__file__).parent.parent / "data"


def labelled(name: str) -> list[dict[str, str]]:
    lines = (DATA / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def parsed(*rows: str) -> Doc:
    """A document from one row per token: word, index of its head, label, part of speech."""
    words, heads, deps, pos = zip(*(row.split() for row in rows), strict=True)
    vocab = spacy.blank("en").vocab
    spaces = [True] * (len(words) - 1) + [False]
    return Doc(vocab, words=words, spaces=spaces, heads=[int(head) for head in heads], deps=deps, pos=pos)


# Trees are written by hand, so these tests say nothing about any parser.
@pytest.mark.parametrize(
    ("doc", "expected"),
    [
        pytest.param(
            parsed("the 1 det DET", "guy 1 ROOT NOUN", "in 1 prep ADP", "red 2 pobj NOUN"),
            "the guy",
            id="root in a chunk",
        ),
        pytest.param(
            parsed(
                "a 1 det DET", "cat 3 nsubj NOUN", "is 3 aux AUX", "lying 3 ROOT VERB", "down 3 advmod ADV"
            ),
            "a cat",
            id="root in no chunk: the chunk of its first child",
        ),
        pytest.param(
            parsed("there 1 expl PRON", "is 1 ROOT VERB", "a 3 det DET", "man 1 attr NOUN"),
            "there is a man",
            id="first child in no chunk: whole text though a later child is in one",
        ),
        pytest.param(parsed("striped 0 ROOT ADJ"), "striped", id="no chunk and no child: whole text"),
        pytest.param(
            parsed("left 1 amod ADJ", "guy 1 ROOT NOUN", "pink 3 amod ADJ", "top 3 ROOT NOUN"),
            "pink top",
            id="several roots: the last one",
        ),
        pytest.param(
            # spaCy drops the chunk of zebra because the chunk of left lies inside it
            parsed(
                "2nd 3 amod ADJ",
                "from 0 prep ADP",
                "left 1 pobj NOUN",
                "zebra 3 ROOT NOUN",
                "up 3 advmod ADV",
            ),
            "2nd from left zebra up",
            id="chunk inside the chunk of the root: whole text",
        ),
        pytest.param(Doc(spacy.blank("en").vocab), "", id="no tokens"),
    ],
)
@pytest.mark.parametrize("published", [False, True])
def test_rule_on_given_trees(doc: Doc, expected: str, published: bool) -> None:
    assert noun_phrase(doc, published=published) == expected


PIZZA = parsed(
    *("the 1 det DET", "pizza 1 ROOT NOUN", "near 1 prep ADP", "us 2 pobj PRON", ". 1 punct PUNCT"),
    *("it 6 nsubj PRON", "is 6 ROOT VERB", "in 6 prep ADP", "front 7 pobj NOUN"),
)
WANTED = parsed("I 1 nsubj PRON", "want 1 ROOT VERB", "the 3 det DET", "one 1 dobj NOUN")
ALONE = parsed("it 1 nsubj PRON", "is 1 ROOT VERB", "red 1 acomp ADJ")
WITH_DETERMINER = parsed("this 1 nsubj DET", "is 1 ROOT VERB", "a 3 det DET", "dog 1 attr NOUN")
INSIDE = parsed("him 0 ROOT PRON", "in 0 prep ADP", "a 3 det DET", "shirt 1 pobj NOUN")


@pytest.mark.parametrize(
    ("doc", "published", "clean"),
    [
        pytest.param(PIZZA, "it", "the pizza", id="an earlier root"),
        pytest.param(WANTED, "I", "the one", id="another child of the root"),
        pytest.param(ALONE, "it", "it", id="there is nothing else"),
        pytest.param(INSIDE, "him", "a shirt", id="neither a root nor its child"),
        pytest.param(WITH_DETERMINER, "this is a dog", "this is a dog", id="the whole text stays"),
    ],
)
def test_a_pronoun_gives_way_but_under_the_published_rule(doc: Doc, published: str, clean: str) -> None:
    assert noun_phrase(doc, published=True) == published
    assert noun_phrase(doc) == clean


@pytest.mark.parametrize(
    ("text", "published", "clean"),
    [
        ("the pizza closer to us . it is in front", "it", "the pizza"),
        ("I want the really expensive one", "i", "the really expensive one"),
        ("someone sitting on a chair", "someone", "someone"),
        ("shaking another player ' s hand", "hand", "another player 's hand"),
        ("shaking another player \u2019 s hand", "s hand", "another player 's hand"),
        ("the man ' s hat", "the man", "the man 's hat"),
    ],
)
def test_what_the_recipes_make_of_a_text(text: str, published: str, clean: str) -> None:
    assert noun_phrases([text]) == [clean]
    assert noun_phrases([text], published=True) == [published]


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("another player ' s hand", "another player 's hand"),
        ("player' s hand that isn ' t his", "player 's hand that isn't his"),
        ("they ' re what we \u2019 ve got", "they 're what we 've got"),
        ("the two boys ' shirts", "the two boys ' shirts"),
        ("a man 's hat, the woman's hat", "a man 's hat, the woman's hat"),
        ("the shirt with ' s ' on it", "the shirt with ' s ' on it"),
        ("' s hat", "' s hat"),
    ],
)
def test_apostrophes_that_a_tokeniser_set_apart(text: str, joined: str) -> None:
    assert join_apostrophes(text) == joined


def test_shipped_parser_finds_hand_labelled_phrases() -> None:
    rows = labelled("noun_phrases.jsonl")
    found = noun_phrases([row["expression"] for row in rows])
    wrong = [
        (row["expression"], phrase)
        for row, phrase in zip(rows, found, strict=True)
        if phrase != row["noun_phrase"]
    ]
    assert len(rows) >= 80
    assert len(wrong) <= 0.06 * len(rows), wrong


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (
            "a dark brown leather sofa behind a foot stool that has a laptop computer on it",
            "a dark brown leather sofa",
        ),
        ("a cat is lying on the seat of the scooter", "a cat"),
    ],
)
def test_examples_of_the_paper(expression: str, expected: str) -> None:
    assert noun_phrases([expression]) == [expected]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_phrase_depends_on_its_own_text_alone(batch_size: int) -> None:
    texts = [row["expression"] for row in labelled("noun_phrases.jsonl")]
    alone = {text: noun_phrases([text])[0] for text in texts}
    mixed = texts + texts[::3]
    random.Random(batch_size).shuffle(mixed)
    assert noun_phrases(mixed, batch_size=batch_size) == [alone[text] for text in mixed]
    shards = [noun_phrases(mixed[rank::3], batch_size=batch_size) for rank in range(3)]
    assert [shards[i % 3][i // 3] for i in range(len(mixed))] == [alone[text] for text in mixed]


def test_each_distinct_text_is_parsed_once() -> None:
    class Counting:
        def __init__(self) -> None:
            self.seen: list[str] = []

        def pipe(self, texts: list[str], batch_size: int) -> list[Doc]:
            self.seen += texts
            return [parsed(f"{text} 0 ROOT NOUN") for text in texts]

    parser = Counting()
    assert noun_phrases(["b", "a", "b", "a", "b"], parser) == ["b", "a", "b", "a", "b"]  # type: ignore[arg-type]
    assert parser.seen == ["a", "b"]


@pytest.mark.parametrize("published", [False, True])
def test_no_texts(published: bool) -> None:
    assert noun_phrases([], published=published) == []


def test_blank_texts_come_back() -> None:
    assert noun_phrases(["", "  ", "left guy", "\t"]) == ["", "  ", "left guy", "\t"]
    assert published_texts(["", "  "]) == ["", ""]


def test_published_texts_are_lower_case_tokens_joined_by_blanks() -> None:
    assert published_texts(["The Man's  hat, half-eaten."]) == ["the man 's hat , half - eaten ."]


def test_published_option_parses_the_published_text() -> None:
    assert noun_phrases(["The Man's hat on the left"], published=True) == ["the man 's hat"]
    assert noun_phrases(["The Man's hat on the left"]) == ["The Man's hat"]


def test_parser_may_be_given_loaded_or_by_folder() -> None:
    texts = ["woman in red on right"]
    assert (
        noun_phrases(texts, load_parser())
        == noun_phrases(texts, SHIPPED)
        == noun_phrases(texts, str(SHIPPED))
    )
