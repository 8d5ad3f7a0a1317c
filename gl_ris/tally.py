"""What is counted of a run: areas, misses, failures and seconds, exact over any number of processes.

Subsets are named parts of a data set's expressions whose figures a run counts beside those of all. The data
say which expressions are in which subset. A name is in lower case and has the form ``kind`` or
``kind_definition``: where there are several definitions of one kind, the recipe's field of that name says
which of them carries the plain label. ``unseen_names`` is labelled "Unseen" under a recipe with
``unseen="names"``, and "Unseen (names)" under any other.
"""

from __future__ import annotations

import itertools
import math
import re
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from gl_ris.errors import EvaluationError
from gl_ris.files import plain
from gl_ris.metrics import THRESHOLDS, AreaSums, GRESSums, area_sums
from gl_ris.results import STAGES

_T = TypeVar("_T")
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)?")
# all expressions that have a target, those of which none is known, and those that are known to have none
ALL, _WITHOUT, ABSENT = "", "-", "0"


def gather_objects(value: _T) -> list[_T]:
    """Return the ``value`` of every process, in the order of ranks; each process must call this."""
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    values: list[_T | None] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return cast("list[_T]", values)


def subset_label(name: str, recipe: Any) -> str:
    """Return what a table calls a subset under a `gl_ris.recipe.Recipe`.

    Example:
        >>> from gl_ris.recipe import Recipe
        >>> [subset_label(name, Recipe(unseen="names")) for name in ("unseen_names", "unseen_synonyms")]
        ['Unseen', 'Unseen (synonyms)']
        >>> subset_label("crowded", Recipe())
        'Crowded'
    """
    kind, _, definition = name.partition("_")
    plain = definition in ("", getattr(recipe, kind, None))
    return kind.capitalize() if plain else f"{kind.capitalize()} ({definition})"


def in_order(names: Iterable[str], recipe: Any) -> list[str]:
    """Order names so that those with a plain label come first, and otherwise as they are."""
    return sorted(names, key=lambda name: "(" in subset_label(name, recipe))


def targeted_in(scene: Any) -> Tensor | None:
    """Return which expressions of a scene have a target, bool ``(E,)``; None if all have."""
    return cast("Tensor | None", getattr(scene, "targeted", None))


def absent_in(scene: Any) -> Tensor | None:
    """Return which expressions of a scene are known to have no target, bool ``(E,)``; None for none."""
    return cast("Tensor | None", getattr(scene, "absent", None))


def subsets_of(scene: Any) -> dict[str, Tensor]:
    """Return the subsets of a scene, if it has any: by name, bool ``(E,)``, which expressions are in it."""
    return dict(getattr(scene, "subsets", {}))


class Stopwatch:
    """Seconds per stage of a run; work queued on ``device`` counts for the stage that queued it."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._started = self._mark = time.perf_counter()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time spent inside the block to ``stage``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self.seconds[stage] += time.perf_counter() - start

    def mark(self) -> None:
        """Begin to wait, see `waited`."""
        self._mark = time.perf_counter()

    def waited(self, shares: Mapping[str, float]) -> None:
        """Add the time since `mark` to stages, in the proportions of ``shares``."""
        waited, total = time.perf_counter() - self._mark, sum(shares.values())
        for stage, share in shares.items():
            self.seconds[stage] += waited * share / total

    def stop(self) -> dict[str, float]:
        """Return the seconds of all stages; ``total`` is the time since the watch was made."""
        return {**self.seconds, "total": time.perf_counter() - self._started}


@dataclass(frozen=True)
class Figures:
    """The figures of all methods on one set of expressions, over all processes."""

    # for each method its figures in percent, see `gl_ris.metrics.RISMetrics`; nan without an expression. Of
    # all, where some are known to have no target, also gIoU, cIoU, N_acc and T_acc (`gl_ris.metrics.GRES`).
    methods: dict[str, dict[str, float]]
    # the same of choosing the best proposal each time; nan where there is nothing to choose
    upper_bound: dict[str, float]
    # both where what was left out counts as missed; the same where nothing was
    every_miss: dict[str, dict[str, float]]
    every_miss_upper_bound: dict[str, float]
    n_images: int  # images with one of the expressions
    n_evaluated: int  # expressions behind the figures
    n_skipped: int  # expressions left out because the recipe says so
    failures: dict[str, int]  # how many expressions are misses for a reason that is known, by reason
    # for each method, how many of its choices had a score that another proposal has, too
    ties: dict[str, int]
    choices: dict[str, int]  # for each method, how many choices it made


@dataclass(frozen=True)
class Evaluation(Figures):
    """The outcome of a run over all processes: the figures of all expressions, and of subsets of them."""

    # Per stage, the mean over processes. What belongs to no stage is in ``total`` alone.
    seconds: dict[str, float]
    n_untargeted: int = 0  # expressions without a known target, which are behind no figure
    n_absent: int = 0  # expressions known to have no target: behind gIoU, cIoU, N_acc and T_acc
    # figures by name of the subset; empty where the data have none
    subsets: dict[str, Figures] = field(default_factory=dict)


@dataclass
class _Count:
    """What has been counted of one set of expressions."""

    sums: AreaSums
    skipped: AreaSums  # of what the recipe leaves out
    images: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    # by method
    choices: Counter[str] = field(default_factory=Counter)
    ties: Counter[str] = field(default_factory=Counter)
    abstained: Counter[str] = field(default_factory=Counter)

    def plus(self, other: _Count) -> _Count:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        sums: Any = (own.plus(more) if isinstance(own, AreaSums) else own + more for own, more in pairs)
        return _Count(*sums)

    def plain(self) -> dict[str, Any]:
        """Return the count as JSON has it; empty where nothing was counted."""
        return plain(vars(self)) if self.images else {}

    def read(self, values: Mapping[str, Any]) -> _Count:
        """Return what `plain` has written; this count, of nothing, says what is of which type."""
        made: dict[str, Any] = {}
        for name, value in values.items():
            kind: Any = type(getattr(self, name))
            parts = [torch.tensor(part, dtype=torch.int64) for part in value] if kind is AreaSums else [value]
            made[name] = kind(*parts)
        return replace(self, **made)


class Tally:
    """What one process has counted so far; if ``bounded``, areas of a best choice come after the methods'."""

    def __init__(self, methods: Sequence[str], bounded: bool = True) -> None:
        self.methods, self.bounded = list(methods), bounded
        self._counts = defaultdict(self._none, {ALL: self._none()})
        self._last: dict[str, _Count] = {}

    def _none(self) -> _Count:
        areas = torch.zeros(len(self.methods) + self.bounded, 0, dtype=torch.int64)
        nothing = area_sums(areas, areas, THRESHOLDS, rows=True)
        return _Count(nothing, nothing)

    def add_scene(
        self,
        intersection: Tensor,
        union: Tensor,
        failures: Sequence[Sequence[str | None]],
        subsets: Mapping[str, Tensor] | None = None,
        *,
        ties: Sequence[Sequence[bool]] = (),
        abstained: Sequence[Collection[int]] = (),
        skipped: bool = False,
        targeted: Tensor | None = None,
        absent: Tensor | None = None,
    ) -> None:
        """Add one image with ``E`` expressions; those that are ``skipped`` are in ``every_miss`` alone.

        Expressions that are not ``targeted``, bool ``(E,)`` or None for all, are counted by themselves, and
        so are those that are ``absent``, bool ``(E,)`` or None for none: known to have no target.

        Areas are int64 ``(rows, E)``: per method, then for the best choice if there is one. Subsets are bool
        ``(E,)``; failures say why there is a miss, per method and expression, or None, and ties whether the
        score of the choice is that of another proposal, too; ``abstained`` names the places of expressions of
        which it is said that there is nothing.
        """
        rows = len(self.methods) + self.bounded
        if intersection.ndim != 2 or len(intersection) != rows:
            raise ValueError(f"Areas must be ({rows}, samples), got {tuple(intersection.shape)}.")
        scene: dict[str, _Count] = {}
        # a GPU is waited for here, and not once more for each of the counts, which are small
        intersection, union = intersection.cpu(), union.cpu()
        whole = torch.ones_like(intersection[0], dtype=torch.bool) if targeted is None else targeted.cpu()
        none = torch.zeros_like(whole) if absent is None else absent.cpu()
        kinds = {ALL: whole, _WITHOUT: ~(whole | none), ABSENT: none}
        own = {name: members.cpu() & whole for name, members in (subsets or {}).items()}
        for name, members in {**kinds, **own}.items():
            if name not in kinds and not _NAME.fullmatch(name):
                raise ValueError(f"The name of a subset must look like unseen or unseen_names, not {name!r}.")
            which = members.nonzero()[:, 0].tolist()
            reasons, tied = ([[row[i] for i in which] for row in rows_] for rows_ in (failures, ties))
            dropped = [sum(i in row for i in which) for row in abstained]
            scene[name] = self._none()
            if which or name == ALL:
                areas = intersection[:, members], union[:, members]
                scene[name] = self._count(*areas, reasons, tied, dropped, skipped)
        self._add(scene)

    @property
    def last(self) -> dict[str, Any]:
        """What the last image has added, as JSON has it; `add_again` takes it."""
        return {name: count.plain() for name, count in self._last.items()}

    def add_again(self, last: Mapping[str, Any]) -> None:
        """Add an image that was counted before, in a run that was cut off, of which `last` was kept."""
        self._add({name: self._none().read(values) for name, values in last.items()})

    def _add(self, scene: dict[str, _Count]) -> None:
        self._last = scene
        for name, count in scene.items():
            self._counts[name] = self._counts[name].plus(count)

    def compute(self, seconds: dict[str, float]) -> Evaluation:
        """Add up all processes, each of which must call this; EvaluationError if there is not one choice."""
        parts = gather_objects((seconds, dict(self._counts)))
        total: defaultdict[str, _Count] = defaultdict(self._none)
        for name, count in itertools.chain.from_iterable(counts.items() for _, counts in parts):
            total[name] = total[name].plus(count)
        absent, without = total.pop(ABSENT, self._none()), total.pop(_WITHOUT, self._none())
        figures = {name: self._figures(count) for name, count in total.items()}
        everything = self._figures(total[ALL], absent)
        figures.pop(ALL)
        failures = dict(everything.failures)
        for count, what in ((without, "without a target"), (absent, "known to have no target")):
            failures |= {f"{reason}, {what}": number for reason, number in sorted(count.failures.items())}
        if failures and not total[ALL].choices + without.choices + absent.choices:
            most = Counter(failures).most_common(3)
            reasons = "; ".join(f"{reason} ({count:,})" for reason, count in most)
            raise EvaluationError(f"Not one expression could be evaluated: {reasons}.")
        return Evaluation(
            **{**vars(everything), "failures": failures},
            n_untargeted=int(without.sums.samples + without.skipped.samples),
            n_absent=int(absent.sums.samples + absent.skipped.samples),
            seconds={stage: sum(part[0][stage] for part in parts) / len(parts) for stage in STAGES},
            subsets=figures,
        )

    def _figures(self, count: _Count, absent: _Count | None = None) -> Figures:
        methods, bound = self._percent(count.sums)
        every_miss, every_bound = self._percent(count.sums.plus(count.skipped))
        if absent is not None and absent.images:
            both = (count, absent)
            self._add_gres(methods, both, [one.sums for one in both])
            self._add_gres(every_miss, both, [one.sums.plus(one.skipped) for one in both])
        return Figures(
            methods=methods,
            upper_bound=bound,
            every_miss=every_miss,
            every_miss_upper_bound=every_bound,
            n_images=count.images,
            n_evaluated=int(count.sums.samples),
            n_skipped=int(count.skipped.samples),
            failures=dict(sorted(count.failures.items())),
            ties={method: count.ties[method] for method in self.methods},
            choices={method: count.choices[method] for method in self.methods},
        )

    def _add_gres(
        self, rows: dict[str, dict[str, float]], counts: Iterable[_Count], sums: Iterable[AreaSums]
    ) -> None:
        """Add the figures of GRES to rows of others, given counts with and without targets, and the sums."""
        last = len(self.methods)
        said = [torch.tensor([one.abstained[name] for name in self.methods]) for one in counts]
        own = [AreaSums(*(part[:last] if part.ndim else part for part in whole)) for whole in sums]
        found = GRESSums(own[0], own[1], *said).figures()
        for place, row in enumerate(rows.values()):
            row |= {name: 100 * float(value[place]) for name, value in found.items()}

    def _percent(self, sums: AreaSums) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
        rows = sums.percent(THRESHOLDS)
        bound = rows[-1] if self.bounded else dict.fromkeys(rows[0], math.nan)
        return dict(zip(self.methods, rows, strict=False)), bound

    def _count(
        self,
        intersection: Tensor,
        union: Tensor,
        failures: Sequence[Sequence[str | None]],
        ties: Sequence[Sequence[bool]],
        abstained: Sequence[int],
        skipped: bool,
    ) -> _Count:
        """Count expressions of one image: areas ``(rows, E)``, failures and ties by method and expression."""
        # an expression counts once by a reason, however many methods fail by it
        failed = {(i, reason) for row in failures for i, reason in enumerate(row) if reason is not None}
        sums = area_sums(intersection, union, THRESHOLDS, rows=True)
        nothing = area_sums(intersection[:, :0], union[:, :0], THRESHOLDS, rows=True)
        return _Count(
            *((nothing, sums) if skipped else (sums, nothing)),
            images=1,
            failures=Counter(reason for _, reason in failed),
            choices=Counter(dict(zip(self.methods, (row.count(None) for row in failures), strict=True))),
            ties=Counter(dict(zip(self.methods, map(sum, ties), strict=False))),
            abstained=Counter(dict(zip(self.methods, abstained, strict=False))),
        )
