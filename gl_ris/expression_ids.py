"""How files of other programs name an expression, by the ids that its data set gives it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Id = int | str
Key = tuple[Id, Id, Id]  # ids of an expression's image, of its ref, and its own

_PLACES = {"sent_id": 2, "ref_id": 1, "image_id": 0}


def expression_keys(records: Iterable[Any]) -> Iterator[Key]:
    """Yield the key of every expression of some `datamodules.records.ImageRecord`, in their order."""
    for record in records:
        for referent in record.referents:
            yield from ((record.image_id, referent.ref_id, sent_id) for sent_id in referent.sent_ids)


class Unknown(ValueError):
    """There is no such expression."""


class ExpressionIds:
    """The expressions of a split, to be found by what a file says of them; ids are compared as text.

    ``names`` has the name of each: its ``sent_id``, or ``<ref_id>_<sent_id>`` where others have the same
    ``sent_id``. Files may use the longer form of any expression.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        self._by: defaultdict[tuple[str, str], list[Key]] = defaultdict(list)
        self.names: dict[Key, str] = {}
        for key in keys:
            ref, sent = map(str, key[1:])
            for kind, value in (("sent_id", sent), ("ref_id", ref), ("name", f"{ref}_{sent}")):
                self._by[kind, value].append(key)
            self.names[key] = sent
        for key in self.names:
            if len(self._by["sent_id", str(key[2])]) > 1:
                self.names[key] = f"{key[1]}_{key[2]}"

    def find(self, ids: Mapping[str, Id | None]) -> Key:
        """Return the one expression of these ids: ``sent_id`` or ``ref_id`` and, beside it, ``image_id``.

        A ref alone names its expression if it has only one. `Unknown` if there is none, a `ValueError` if
        there are several.
        """
        given = {kind: str(ids[kind]) for kind in _PLACES if ids.get(kind) is not None}
        said = ", ".join(f"{kind} {value[:60]}" for kind, value in given.items())
        if not {"sent_id", "ref_id"} & set(given):
            raise ValueError("has neither sent_id nor ref_id")
        some = self._by.get(next(iter(given.items())), [])
        found = [key for key in some if all(str(key[_PLACES[kind]]) == of for kind, of in given.items())]
        return _only(found, said)

    def named(self, name: str) -> Key:
        """Return the expression of a name; errors as of `find`."""
        by_own = self._by.get(("sent_id", name), [])
        return _only(by_own + [key for key in self._by.get(("name", name), []) if key not in by_own], name)


def _only(found: list[Key], said: str) -> Key:
    if not found:
        raise Unknown(f"{said[:200]} is no expression of the split")
    if len(found) > 1:
        raise ValueError(f"{said[:200]} is the name of {len(found)} expressions; give ref_id and sent_id")
    return found[0]
