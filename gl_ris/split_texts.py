"""Noun phrases and parses of the expressions of a run: each found once, in one of its processes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gl_ris.tally import gather_objects

if TYPE_CHECKING:
    from gl_ris.parsing import Parsed


class SplitTexts:
    """What the parser finds in expressions; those of a whole split are known from the start.

    Args:
        parser: As in `gl_ris.text.load_parser`.
    """

    def __init__(self, parser: str | None) -> None:
        self._parser = parser
        self._phrases: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self._parses: dict[str, Parsed] = {}

    def prepare(self, own: Sequence[str], rules: Iterable[str]) -> None:
        """Parse this process's share of distinct texts, and take over the others'; ``rules`` of recipes."""
        from gl_ris.parsing import kept_noun_phrases, kept_readings

        read = kept_readings(own, self._parser)
        for found in gather_objects([one for _, one in read]):
            self._parses.update((one.text, one) for one in found)
        for rule in rules:
            phrases = [phrase for phrase, _ in read]
            if rule == "tokens":
                phrases = kept_noun_phrases(own, self._parser, published=True)
            for part in gather_objects(dict(zip(own, phrases, strict=True))):
                self._phrases[rule].update(part)

    def parsed(self, expressions: Sequence[str]) -> list[Parsed]:
        """Return what each expression says."""
        new = [text for text in dict.fromkeys(expressions) if text not in self._parses]
        if new:
            from gl_ris.parsing import read

            # one parse gives both
            for text, (phrase, parsed) in zip(new, read(new, self._parser), strict=True):
                self._parses[text], self._phrases["as_given"][text] = parsed, phrase
        return [self._parses[text] for text in expressions]

    def phrases(self, expressions: Sequence[str], rule: str) -> list[str]:
        """Return the noun phrase of each expression by a recipe's rule for texts."""
        known = self._phrases[rule]
        new = [text for text in dict.fromkeys(expressions) if text not in known]
        if new and rule == "tokens":
            from gl_ris.text import noun_phrases

            known.update(zip(new, noun_phrases(new, self._parser, published=True), strict=True))
        elif new:
            self.parsed(new)
        return [known[text] for text in expressions]
