"""Turn dependency trees (JSON lines) into the `.spacy` files that `spacy train` reads.

    python -m tools.parser.convert OUT.spacy TREES.jsonl.gz... --consistent EXPRESSIONS.jsonl.gz...

Each line of a tree file is one sentence: `words, spaces, heads (absolute index), deps, tags, pos`, in
spaCy's own English labels.  The trees are not part of the project; gl_ris/assets/parser/README.md says
which ones the shipped pipeline saw.
"""

import argparse
import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypedDict

import msgspec

from gl_ris.command_line import add_version
from gl_ris.errors import UserError, in_short

RARE_READING = 0.15
VERB_RULED = frozenset({"nsubj", "nsubjpass", "dobj", "aux", "auxpass"})


class Tree(TypedDict):
    """One sentence with its dependency tree; all lists have one entry per token."""

    words: list[str]
    spaces: list[bool]
    heads: list[int]
    deps: list[str]
    tags: list[str]
    pos: list[str]


def read_trees(path: Path) -> Iterator[Tree]:
    """Yield the trees of a `.jsonl` or `.jsonl.gz` file; `UserError` if it, or a line of it, is none."""
    if not path.is_file():
        raise UserError(f"No tree file at '{path}'; give the path of a .jsonl or .jsonl.gz file.")
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            yield _checked(line, f"{path}:{number}")


def _checked(line: str, where: str) -> Tree:
    try:
        tree = msgspec.json.decode(line, type=Tree)
    except msgspec.DecodeError as error:
        raise UserError(f"{where} is not a dependency tree ({in_short(error)}).") from error
    size = len(tree["words"])
    same = {len(tree[key]) for key in Tree.__annotations__} == {size}  # type: ignore[literal-required]
    if not same or not size or not all(0 <= head < size for head in tree["heads"]):
        raise UserError(f"{where} is not a dependency tree: lists of unequal length, or a head outside it.")
    return tree


def consistent(trees: Iterable[Tree], rare: float = RARE_READING) -> list[Tree]:
    """Leave out the trees of a collection of expressions that cannot be right.

    A reading (a word and the first letter of its tag) is rare if fewer than this share of the word have it.
    """
    # Machine-made trees of telegraphic phrases go wrong in typical ways: "top left gentleman" becomes a
    # sentence (somebody *left* a gentleman), "batter in red" an order (to *batter*), "girl on right pink top"
    # two sentences. Such a tree shows itself by a reading of a word that is rare for this word in the whole
    # collection, by *left* as a verb, by a subject or object of a word that is no verb, or by several roots.
    trees = list(trees)
    readings = Counter(reading for tree in trees for reading in _readings(tree))
    words: Counter[str] = Counter()
    for (word, _), count in readings.items():
        words[word] += count
    usual = {reading for reading, count in readings.items() if count >= rare * words[reading[0]]}
    usual.discard(("left", "V"))
    return [tree for tree in trees if usual.issuperset(_readings(tree)) and _is_one_clause(tree)]


def _is_one_clause(tree: Tree) -> bool:
    links = zip(tree["deps"], tree["heads"], strict=True)
    ruled_by_verbs = all(tree["tags"][head][0] in "VM" for dep, head in links if dep in VERB_RULED)
    return ruled_by_verbs and tree["deps"].count("ROOT") == 1


def _readings(tree: Tree) -> list[tuple[str, str]]:
    return [(word.lower(), tag[0]) for word, tag in zip(tree["words"], tree["tags"], strict=True)]


def read_expressions(paths: Iterable[Path]) -> frozenset[str]:
    """The `expression` of every line of JSON-lines files, in lower case."""
    lines = (line for path in paths for line in path.read_text(encoding="utf-8").splitlines())
    return frozenset(json.loads(line)["expression"].lower() for line in lines)


def text_of(tree: Tree) -> str:
    """The sentence as it is written."""
    pieces = zip(tree["words"], tree["spaces"], strict=True)
    return "".join(word + " " * space for word, space in pieces).strip()


def write_docs(trees: Iterable[Tree], path: Path) -> int:
    """Write trees as one `.spacy` file (a DocBin) and return how many there were."""
    import spacy
    from spacy.tokens import Doc, DocBin

    vocab = spacy.blank("en").vocab
    docs = DocBin(docs=(Doc(vocab, **tree) for tree in trees))
    path.parent.mkdir(parents=True, exist_ok=True)
    docs.to_disk(path)
    return len(docs)


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Turn dependency trees into a .spacy file.")
    add_version(parser)
    parser.add_argument("out", type=Path, help="the .spacy file to write")
    parser.add_argument(
        "trees", type=Path, nargs="+", help="tree files; name one twice to give it double weight"
    )
    parser.add_argument("--consistent", type=Path, nargs="+", default=[], help="tree files to filter first")
    parser.add_argument(
        "--exclude", type=Path, nargs="+", default=[], help="JSON lines whose `expression` is left out"
    )
    options = parser.parse_args(arguments)
    trees = [tree for path in options.trees for tree in read_trees(path)]
    for path in options.consistent:
        trees += consistent(read_trees(path))
    excluded = read_expressions(options.exclude)
    trees = [tree for tree in trees if text_of(tree).lower() not in excluded]
    print(f"{options.out}: {write_docs(trees, options.out)} trees")


if __name__ == "__main__":
    main()
