"""A pickle's memo: what it numbers to use it again, and how much memory a few bytes may ask for by that."""

import re

# The unpickler makes room for as many values as the highest number says that is given to one (opcodes ``r``,
# ``p``): 64 GB for 2**32. Here a number has three bytes or seven digits; refs have some two million values.
_PLAIN = re.compile(
    rb"(?:[(012abdel\])}NoRQstu\x81\x85-\x89\x8f-\x94\x97\x98]"
    rb"|[Kqh\x80\x82].|[M\x83]..|[Jj\x84].{4}|[G\x95].{8}|r...\0"
    rb"|[IL]-?\d+L?\n|[FSVP][^\n]*\n|g\d+\n|[ci][^\n]*\n[^\n]*\n|p\d{1,7}\n)*+",
    re.DOTALL,
)
# opcodes with the length of what follows in front of it, by the bytes of that length
_SIZED = {
    **dict.fromkeys(b"UC\x8a\x8c", 1),
    **dict.fromkeys(b"TBX\x8b", 4),
    **dict.fromkeys(b"\x8d\x8e\x96", 8),
}


def require_small_memo(content: bytes) -> None:
    """Raise a ValueError for a pickle that numbers a value beyond all that one has, or is damaged so far."""
    place = _end_of_plain(content, 0)
    while content[place : place + 1] not in (b"", b"."):
        width = _SIZED.get(content[place])
        if width is None:
            raise ValueError(f"byte {place:,} is damaged, or numbers a value beyond all that refs have")
        start = place + 1 + width
        place = _end_of_plain(content, start + int.from_bytes(content[place + 1 : start], "little"))


def _end_of_plain(content: bytes, start: int) -> int:
    found = _PLAIN.match(content, start)
    return found.end() if found else start
