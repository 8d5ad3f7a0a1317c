"""Damage by chance: to bytes, to trees of plain values, and to the JSON that is written of them."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any


class Raw(str):
    """JSON text that stands as it is."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """An object of JSON in which a key may stand twice."""


class Hostile:
    """What leaves a mark where a pickle may run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.mkdir, (Hostile.mark,)

    mark = "mark"


# fmt: off
NUMBERS = [0, -1, 1, 2, 3, 7, 255, 65_535, 65_536, 10**5, 2**31 - 1, 2**31, 2**32 + 7, 2**63 - 1, 2**63,
           2**64, 10**30, -(2**63) - 1, 0.0, -0.0, 0.5, 1e-320, 1e308, -1e308, 3.5e38, 1e17]
TEXTS = ["", " ", "val", "../x", "/etc/passwd", "a\0b", "\ud800", "\udcff", "\u72d7" * 300, "x" * 3000,
         "nan", "1", "1e5", "0x10", "null", "caf\u00e9", "cafe\u0301", "\u202e", "\r\n", "PPYo0", "{"]
TREES: list[Any] = [None, True, False, [], {}, [[]], [{}], [None], {"a": {}}, [1, 2],
    [[0, 0, 1e7, 1e7, 3, 4]], {"size": [6, 10], "counts": "PPYo0"}, {"size": [6, 10], "counts": [0, 60]},
    {"counts": [60]}, {"size": [-6, -10], "counts": [60]}, {"size": [6, 10], "counts": [2**31] * 4},
    [[1, 1, 5, 1, 5, 5]], [[[0.4, 0.4, 5.6, 0.4, 5.6, 3.4]]],
    {"size": [65_535, 65_535], "counts": [65_535**2]}]
FLOATS = [float("nan"), float("inf"), float("-inf")]
RAW = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1E400", "9" * 5000, "01", "1.", "+1", "tru", "'a'",
       "[" * 60_000 + "]" * 60_000, "[" * 900 + "]" * 900, '{"a":' * 3000 + "1" + "}" * 3000,
       '"\\ud800"', '"\\u0000"']
SCRAPS = [b"", b"\0", b"\xff", b"\n", b"{", b"]", b'"', b",", b"NaN", b"null", b"1e999", b"\xef\xbb\xbf",
          b"\x80\x04", b"\xff" * 8, b"\0" * 64, b"9" * 400, b"[" * 3000, b"\r", b"-",
          b"\\ud800", b"\xed\xa0\x80"]
# fmt: on
SCRAPS += [pickle.dumps(Hostile(), protocol) for protocol in (0, 2, 4)]


def damaged(random: Random, content: bytes, others: Sequence[bytes] = (), most: int = 3) -> bytes:
    """Cut, flip, overwrite, repeat, remove or splice bytes, up to so many times."""
    found = bytearray(content)
    for _ in range(random.randint(1, most)):
        start = random.randrange(len(found) + 1)
        stop = min(len(found), start + random.choice((1, 2, 4, 16, 200)))
        match random.randrange(8):
            case 0:
                del found[start:]
            case 1 | 2 if start < len(found):
                found[start] ^= 1 << random.randrange(8)
            case 3 if start < len(found):
                found[start] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
            case 4:
                found[start:start] = random.choice(SCRAPS)
            case 5:
                found[start:start] = found[start:stop] * random.choice((1, 1, 2, 50))
            case 6:
                del found[start:stop]
            case _:
                other = random.choice(others) if others else bytes(found)
                begin = random.randrange(len(other) + 1)
                found[start:stop] = other[begin : begin + random.choice((stop - start, 64))]
    return bytes(found)


def changed(random: Random, tree: Any, *, as_json: bool = True, most: int = 3) -> Any:
    """Return a copy of a tree of lists and dicts with some of its values changed; ``as_json`` for `dump`."""
    holder = [copy.deepcopy(tree)]
    for _ in range(random.randint(1, most)):
        if len(places := list(_places(holder))) == 0:
            return []
        # the whole is not changed but for once in a while
        place, key = random.choice(places[1:] if len(places) > 1 and random.random() < 0.98 else places)
        _change(random, place, key, places, as_json)
    return holder[0] if holder else None


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key in range(len(value)) if type(value) is list else list(value):
        yield value, key
        if type(value[key]) in (list, dict):
            yield from _places(value[key])


def _change(random: Random, place: Any, key: Any, places: Sequence[tuple[Any, Any]], as_json: bool) -> None:
    value = place[key]
    match random.randrange(7):
        case 0 | 1:
            place[key] = odd(random, as_json)
        case 2:
            place[key] = tweaked(random, value)
        case 3:
            other, name = random.choice(places)
            place[key] = copy.deepcopy(other[name]) if name in other or isinstance(other, list) else None
        case 4:
            del place[key]
        case 5 if isinstance(place, list):
            place[key:key] = [copy.deepcopy(value)] * random.choice((1, 1, 1, 3))
        case 5 if as_json and isinstance(value, dict) and value:
            name = random.choice(list(value))
            place[key] = Pairs([*value.items(), (name, odd(random, as_json))])
        case _:
            place[key] = random.choice(([value], {"a": value}, str(value), [value, value]))


def odd(random: Random, as_json: bool = True) -> Any:
    """Return a value as it should be nowhere."""
    kinds = [NUMBERS, NUMBERS, TEXTS, TREES, [Raw(text) for text in RAW] if as_json else FLOATS]
    return copy.deepcopy(random.choice(random.choice(kinds)))


def tweaked(random: Random, value: Any) -> Any:
    """Return a neighbour of a value."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int | float):
        return random.choice(
            (value + 1, value - 1, -value, value * 10, value + 0.5, float(value), str(value))
        )
    if isinstance(value, str):
        cut = random.randrange(len(value) + 1)
        return random.choice(
            (value[:cut], value * 2, value.upper(), value[:cut] + "\u00e9" + value[cut:], [value])
        )
    if isinstance(value, list):
        return random.choice((value[::-1], [], value[:-1], value + value, random.sample(value, len(value))))
    return {} if isinstance(value, dict) else value


def dump(value: Any) -> bytes:
    """Write JSON, `Raw` and `Pairs` as they are; text that has no UTF-8 as its bytes."""
    return _text(value).encode("utf-8", "surrogatepass")


def _text(value: Any) -> str:
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Pairs | dict):
        items = value if isinstance(value, Pairs) else value.items()
        return "{" + ",".join(f"{json.dumps(str(key))}:{_text(item)}" for key, item in items) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_text, value)) + "]"
    return json.dumps(value)


def json_file(random: Random, tree: Any, share: float = 0.7) -> bytes:
    """Write a tree as JSON, changed (that ``share``) or damaged."""
    return dump(changed(random, tree)) if random.random() < share else damaged(random, dump(tree))


def parse(content: bytes) -> Any:
    """Read JSON by the standard library, as leniently as it can; an error if it cannot."""
    text = content.decode("utf-8", "surrogateescape")
    return json.loads(
        text, strict=False, parse_int=lambda digits: int(digits) if len(digits) < 400 else digits
    )
