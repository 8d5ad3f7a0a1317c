"""Write made-up referring expressions with their dependency trees (see `tools.parser.grammar`).

    python -m tools.parser.generate OUT.jsonl.gz --exclude LABELLED.jsonl...

Machine-made trees of telegraphic phrases ("far left tan chair") are often wrong; these are right by
construction.  Expressions that stand in an `--exclude` file (JSON lines with an `expression`) are
never written, so that a hand-labelled list stays unseen.
"""

import argparse
import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path

from gl_ris.command_line import add_version
from tools.parser.convert import Tree, read_expressions, text_of
from tools.parser.grammar import Grammar, to_tree


def generate(
    count: int, seed: int, excluded: frozenset[str] = frozenset(), longest: int = 30
) -> Iterator[Tree]:
    """Draw trees, all different in their text, none of the ``excluded`` lower-case ones.

    Expressions of more than ``longest`` tokens are drawn again.
    """
    grammar = Grammar(random.Random(seed))
    seen = set(excluded)
    while count > 0:
        tree = to_tree(grammar.expression())
        text = text_of(tree).lower()
        if text in seen or len(tree["words"]) > longest:
            continue
        seen.add(text)
        count -= 1
        yield tree


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Write made-up referring expressions with their trees.")
    add_version(parser)
    parser.add_argument("out", type=Path, help="the .jsonl.gz file to write")
    parser.add_argument("--count", type=int, default=16000, help="how many expressions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--exclude", type=Path, nargs="+", default=[], help="JSON lines whose `expression` is never written"
    )
    options = parser.parse_args(arguments)
    excluded = read_expressions(options.exclude)
    with gzip.open(options.out, "wt", encoding="utf-8") as out:
        for tree in generate(options.count, options.seed, excluded):
            out.write(json.dumps(tree) + "\n")


if __name__ == "__main__":
    main()
