"""Where the misses of a run come from, and what would be gained if one kind alone were mended.

To mend a miss is to take the proposal of highest IoU in place of the choice; the target itself where no
proposal reaches 0.5, and where masks are drawn.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from gl_ris.analysis import aligned, figure_names, image_sums, percent
from gl_ris.files import read_table
from gl_ris.misses import FAILED, HIT, NO_PROPOSAL, Areas, Seen, measured
from gl_ris.predictions import Prediction

KINDS: Mapping[str, Sequence[str]] = read_table(Path(__file__).parent / "assets" / "misses.yaml")

_Count = Annotated[int, Meta(ge=0)]
_Percent = Annotated[float, Meta(ge=0, le=100)]


class Miss(msgspec.Struct, frozen=True, kw_only=True):
    """Misses of one kind by one method."""

    count: _Count
    share: _Percent  # of the expressions that are counted, in percent
    # by how many points the figure, with every miss counted, would be higher if these alone were mended;
    # None if there is no expression
    oIoU_gain: float | None
    mIoU_gain: float | None


class Headroom(msgspec.Struct, frozen=True, kw_only=True):
    """What stands between one method and better figures; figures in percent, every miss counted."""

    expressions: _Count  # that are counted
    hits: _Count
    proposals: bool  # whether it chooses from proposals
    now: dict[str, float]  # oIoU and mIoU
    # the same if the ranking were perfect: the best proposal taken each time; of drawn masks, if every miss
    # were mended
    ranking: dict[str, float]
    # the same if masks were perfect: those of hits exact, and one there for every target
    masks: dict[str, float]


def _figures(areas: Sequence[Areas]) -> dict[str, float]:
    """Return oIoU and mIoU in percent; empty without an expression."""
    if not areas:
        return {}
    intersections, unions = zip(*areas, strict=True)
    _, sums = image_sums([0] * len(areas), [(intersections, unions)])
    return dict(zip(figure_names(), percent(sums[0, 0]).tolist(), strict=True))


class _Method:
    """What became of each expression by one method, and what each kind of mending would make of it."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        # of each expression with a target: the kind of miss; areas now, mended, of the best choice, if exact
        self.rows: list[tuple[str, tuple[Areas, Areas, Areas, Areas]]] = []
        self.proposals = False

    def add(self, record: Prediction, seen: Seen) -> None:
        kind = seen.kind(record)
        self.kinds[kind] += 1
        if record.target == ():
            return
        now, target, best = measured(record), seen.exact(record), seen.best(record)
        self.proposals |= best is not None
        mended = target if best is None or kind == NO_PROPOSAL else best
        drawn = now if kind in (HIT, FAILED, NO_PROPOSAL) else target
        exact = target if kind in (HIT, NO_PROPOSAL) else now
        self.rows.append((kind, (now, mended, drawn if best is None else best, exact)))

    def misses(self) -> dict[str, Miss]:
        """Return the kinds of miss that occur, in the order of tables."""
        now, found = _figures([areas[0] for _, areas in self.rows]), {}
        for kind in (kind for kind in KINDS if kind in self.kinds):
            then = _figures([areas[own == kind] for own, areas in self.rows])
            gains = {f"{name}_gain": then[name] - now[name] if now else None for name in figure_names()}
            count = self.kinds[kind]
            found[kind] = Miss(count=count, share=100 * count / self.kinds.total(), **gains)
        return found

    def headroom(self) -> Headroom:
        """Return the rest."""
        now, _, ranking, masks = (_figures([areas[place] for _, areas in self.rows]) for place in range(4))
        counts = {"expressions": self.kinds.total(), "hits": self.kinds[HIT]}
        return Headroom(**counts, proposals=self.proposals, now=now, ranking=ranking, masks=masks)


def explain(records: Iterable[Prediction]) -> tuple[dict[str, dict[str, Miss]], dict[str, Headroom]]:
    """Return by method the kinds of miss that occur, and what stands between it and better figures.

    Records are in the order of a ``predictions.jsonl``. Both are empty if one of them was written by a
    program that did not yet tell of its image; a method without a measured expression is in neither.
    """
    methods: dict[str, _Method] = defaultdict(_Method)
    for record, seen in with_images(records):
        if record.iou is None:
            continue
        if seen is None:
            return {}, {}
        methods[record.method].add(record, seen)
    return (
        {method: one.misses() for method, one in methods.items()},
        {method: one.headroom() for method, one in methods.items()},
    )


def with_images(records: Iterable[Prediction]) -> Iterator[tuple[Prediction, Seen | None]]:
    """Yield records in the order of a ``predictions.jsonl`` with what is told of their image, if it is."""
    seen, index = None, None
    for record in records:
        if record.index != index or record.image is not None:
            seen, index = None if record.image is None else Seen(record.image), record.index
        yield record, seen


def told(errors: Mapping[str, Mapping[str, Miss]], headroom: Mapping[str, Headroom]) -> str:
    """Say in three lines where the misses of a method come from; of several in a table."""
    if not headroom:
        return ""
    if len(headroom) > 1:
        return _table(errors, headroom)
    ((method, room),) = headroom.items()
    misses = "; ".join(f"{one.count:,} {KINDS[kind][1]}" for kind, one in errors[method].items())
    missed = f"{room.expressions - room.hits:,} were missed: {misses}." if misses else "None was missed."
    lines = [
        f"Misses       Of {room.expressions:,} expressions {room.hits:,} were hits (IoU >= 0.5). {missed}"
    ]
    if room.now:
        right = "the best mask taken each time" if room.proposals else "every target that was missed drawn"
        masks = "hits exact, and a mask for every target" if room.proposals else "hits exact"
        lines += [
            f"If only the ranking were perfect ({right}), oIoU would be {_change(room, room.ranking)}.",
            f"If only the masks were perfect ({masks}), oIoU would be {_change(room, room.masks)}.",
        ]
    return "\n             ".join(lines)


def _change(room: Headroom, then: Mapping[str, float]) -> str:
    return f"{then['oIoU']:.1f} (it is {room.now['oIoU']:.1f})"


def _table(errors: Mapping[str, Mapping[str, Miss]], headroom: Mapping[str, Headroom]) -> str:
    kinds = [kind for kind in KINDS if any(kind in found for found in errors.values())]
    rows = [["Misses, % of expressions", "hits", *(KINDS[kind][0] for kind in kinds)]]
    for method, room in headroom.items():
        found = errors[method]
        shares = [found[kind].share if kind in found else 0.0 for kind in kinds]
        hits = 100 * room.hits / max(1, room.expressions)
        rows.append([method, *(f"{share:.1f}" for share in (hits, *shares))])
    return "\n".join(aligned(rows))
