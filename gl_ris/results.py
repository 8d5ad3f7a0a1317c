"""The result document of a run, and its table: what was evaluated, with what, and the figures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from gl_ris.analysis import aligned, explained, number
from gl_ris.files import decode, plain, write_json, write_rows
from gl_ris.headroom import Headroom, Miss, told
from gl_ris.program import git_commit, versions
from gl_ris.slices import Slices

STAGES = ("data", "proposals", "image", "text", "score", "metrics", "total")

# Of what leads from inputs and settings to figures: raised whenever a figure changes, so that grids measure
# anew what an older program has measured, and no run mixes both. 2: baselines under recipe ``published``.
# 3: CLIP in bf16, by other kernels and with batch norms folded. 4: masks that are left out, ordinals from the
# end or of an anchor, and the middle of a side are ranked anew otherwise.
METHODS_VERSION = 4

UPPER_BOUND = "Upper bound"  # what tables call the best choices
# names of two ways of counting, where they differ
SKIPPING = "images without proposals left out as published"
EVERY_MISS = "every miss counted"

_WHERE_ANY = ("n_expressions_without_target", "n_expressions_no_target", "rules", "filters", "own_metric")
ALSO_CALLED = "oIoU is also called cIoU, and mIoU gIoU, in other papers."

Count = Annotated[int, Meta(ge=0)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Figures = dict[str, Percent | None]
"""oIoU, mIoU and maybe more, in percent; None where there was no expression."""
Ends = Annotated[list[Percent], Meta(min_length=2, max_length=2)]
Intervals = dict[str, dict[str, Ends]]
"""By method, and `UPPER_BOUND`, the ends of the 95% interval of each figure, in percent."""


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """oIoU and mIoU, in percent, of choosing the best proposal each time; None without a choice."""

    oIoU: Percent | None
    mIoU: Percent | None


class Subset(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of some of the expressions; see `Results` for what is not said here."""

    label: str  # what tables call the subset
    n_images: Count
    n_expressions_expected: Count  # expressions of the split that are in it
    n_expressions_evaluated: Count
    n_expressions_skipped: Count = 0
    failures: dict[str, int] = {}
    methods: dict[str, Figures]
    upper_bound: Bound
    every_miss: dict[str, Figures] | UnsetType = UNSET
    every_miss_upper_bound: Bound | UnsetType = UNSET
    intervals: Intervals | UnsetType = UNSET
    every_miss_intervals: Intervals | UnsetType = UNSET
    ties: dict[str, Count] = {}

    def __post_init__(self) -> None:
        _check_figures(self)


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """What a supervised model has learnt from, and for how long."""

    model: str
    dataset: str
    split_by: str | None
    split: str
    k: int | str  # refs of each class, or ``"all"``; ``seed`` is that of their choice
    seed: int
    n_refs: Count
    n_sentences: Count
    n_images: Count
    share: float  # of the refs of the split, in [0, 1]
    shortfall: dict[str, int]  # by class, how many refs it has fewer than k
    epochs: int
    steps: int  # of the optimiser; ``schedule`` says how their number was found
    batch_size: int
    schedule: str
    weights: str | None  # the file that training began with, or None
    parameters: int
    trained_parameters: int
    seconds: float
    unusable_visits: int  # how often a ref was to be learnt from that could not be read


class OwnMetric(msgspec.Struct, frozen=True, kw_only=True):
    """The metric that the card of a data set defines, in percent by method."""

    name: str
    methods: dict[str, Percent | None]


class Filtered(msgspec.Struct, frozen=True, kw_only=True):
    """A list of expressions that a run went by."""

    option: str
    file: str
    sha256: str
    n_expressions_left_out: Count


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``results.json``."""

    schema: Literal[1, 2]  # 2; documents of before lack the keys that have a default here
    experiment: str  # Name of the experiment, e.g. "zero_shot".
    dataset: str
    split: str
    partition: str | None  # who split the data set ("unc", "umd", "google"), or None
    proposals: str
    # how proposals were come by: the store's name and of how many images they were read, generated, and
    # failed; None if the data brought them
    proposal_store: dict[str, Any] | None = None
    n_images: Count  # images of the split that were evaluated
    n_expressions_expected: Count  # expressions in the split that have a target
    n_expressions_evaluated: Count  # expressions behind the figures, misses for want of a proposal included
    # expressions that data of one's own have no target for: they are in the predictions, and behind no figure
    n_expressions_without_target: Count = 0
    # expressions that are known to have no target: in gIoU, cIoU and N_acc, and in no other figure
    n_expressions_no_target: Count = 0
    # by method with a rule of its own what it goes by (`gl_ris.choices.Rule`): ``abstain`` and ``union``
    rules: dict[str, dict[str, float | str]] = {}
    # expressions that ``methods`` leave out because the recipe says so, for want of proposals: with those
    # evaluated, all that ``every_miss`` counts
    n_expressions_skipped: Count = 0
    # what ``methods`` count: "published" leaves images without proposals out, "every_miss" leaves out nothing
    counting: Literal["published", "every_miss"] | UnsetType = UNSET
    failures: dict[str, int] = {}  # how many expressions are misses for a reason beside the choice, by reason
    # for each method its figures in percent (`gl_ris.metrics.RISMetrics.compute`)
    methods: dict[str, Figures]
    upper_bound: Bound  # the figures of the best choices
    # ``methods`` and ``upper_bound`` where an expression that was left out counts as missed; the same where
    # none was; not in documents of schema 1
    every_miss: dict[str, Figures] | UnsetType = UNSET
    every_miss_upper_bound: Bound | UnsetType = UNSET
    # of ``methods``, and of ``every_miss`` where that differs; not where nobody asked for them
    intervals: Intervals | UnsetType = UNSET
    every_miss_intervals: Intervals | UnsetType = UNSET
    resampling: dict[str, Count] | UnsetType = UNSET  # how intervals were made: ``draws`` and ``seed``
    # why expressions were missed, every miss counted (see `gl_ris.misses`): by method and kind, and what
    # stands between each method and better figures; empty where the predictions do not tell
    errors: dict[str, dict[str, Miss]] = {}
    headroom: dict[str, Headroom] = {}
    # for each method, how many choices have a score that another proposal of the image has, too
    ties: dict[str, Count] = {}
    # SHA-256 of every file that bears on the figures, by what it is and its name (see `gl_ris.inputs`)
    inputs: dict[str, dict[str, str | None]] | UnsetType = UNSET
    # by which kernels each CLIP model was computed, by its name and precision (see `gl_ris.clip.kernels`)
    kernels: dict[str, dict[str, str]] = {}
    parsed: dict[str, Count] = {}  # how many expressions of the split say what (see `gl_ris.parsing.counts`)
    # figures by kind of expression, target and image (see `gl_ris.slices`), and why a kind is not there
    slices: Slices | UnsetType = UNSET
    slices_left_out: dict[str, str] | UnsetType = UNSET
    own_metric: OwnMetric | None = None  # what the card of the data set asks for, where that has a name
    filters: list[Filtered] = []  # lists of expressions to keep (data.sentences) or not (data.without)
    subsets: dict[str, Subset] = {}  # the figures of parts of the expressions, by name (see `gl_ris.tally`)
    seconds: dict[str, float]  # wall time of exactly the `STAGES`
    config: dict[str, Any]  # the resolved configuration
    methods_version: int = 1  # `METHODS_VERSION` of the program that measured; documents of before lack it
    versions: dict[str, str | None]  # see `versions`; ``git_commit``, see `git_commit`
    git_commit: str | None
    created: str  # when, in ISO format
    # of a supervised model; None if it was not trained, `msgspec.UNSET` in other experiments
    training: Training | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        _check_figures(self)
        if set(self.seconds) != set(STAGES):
            raise ValueError(
                f"seconds must have exactly the keys {', '.join(STAGES)}; got {', '.join(self.seconds)}"
            )
        for name, subset in self.subsets.items():
            if list(subset.methods) != list(self.methods):
                raise ValueError(f"subset '{name}' must have the methods {', '.join(self.methods)}")
            for key in ("n_images", "n_expressions_expected", "n_expressions_evaluated"):
                own, whole = getattr(subset, key), getattr(self, key)
                if own > whole:
                    raise ValueError(f"subset '{name}' has {key}={own}, of {whole} in all")

    @classmethod
    def new(cls, **content: Any) -> Results:
        """Build the document of a run that has just ended, from all that is not about program and time.

        NaN becomes None, and what JSON does not know text. ValueError: something is missing, or cannot be.
        """
        seconds = {stage: round(float(value), 3) for stage, value in content["seconds"].items()}
        made = {
            "schema": 2,
            "methods_version": METHODS_VERSION,
            "versions": versions(),
            "git_commit": git_commit(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return msgspec.convert(plain({**content, **made, "seconds": seconds}), cls)

    @classmethod
    def read(cls, path: Path | str) -> Results:
        """Read a ``results.json``, whatever its unknown keys; a `UserError` if it is missing or damaged."""
        return decode(path, cls, "result document", "Delete it to run it again.")

    def document(self) -> dict[str, Any]:
        """Return what JSON is made of; what only some data or models have is left out elsewhere."""
        content: dict[str, Any] = msgspec.to_builtins(self)
        for name in ("subsets", *_WHERE_ANY, "kernels", "parsed", "errors", "headroom"):
            if not content[name]:
                del content[name]
        return content

    def write(self, path: Path | str) -> None:
        """Write the document, complete or not at all."""
        write_json(path, self.document())


def _check_figures(part: Results | Subset) -> None:
    every_miss = part.methods if part.every_miss is UNSET else part.every_miss
    if list(every_miss) != list(part.methods):
        raise ValueError(f"every_miss must have the methods {', '.join(part.methods)}")
    for title, figures in (*part.methods.items(), *every_miss.items()):
        if not {"oIoU", "mIoU"} <= set(figures):
            raise ValueError(f"the figures of '{title}' lack oIoU or mIoU")


def views_of(results: Results) -> Iterator[tuple[str, str, Results | Subset]]:
    """Yield all and each subset by label and counting: as the run counts, and every miss where that differs.

    The name of the counting is empty where there is only one.
    """
    parts: list[tuple[str, Results | Subset]] = [("All", results)]
    parts += [(one.label, one) for one in results.subsets.values()]
    for label, part in parts:
        every_miss, bound = part.every_miss, part.every_miss_upper_bound
        if not results.n_expressions_skipped or every_miss is UNSET or bound is UNSET:
            yield label, "", part
            continue
        yield label, SKIPPING, part
        counted = part.n_expressions_evaluated + part.n_expressions_skipped
        counts = {"n_expressions_evaluated": counted, "n_expressions_skipped": 0}
        more = {"upper_bound": bound, "intervals": part.every_miss_intervals}
        yield label, EVERY_MISS, replace(part, methods=every_miss, **more, **counts)


def format_table(results: Results) -> str:
    """Lay out a result document as a plain text table, with counts and times under it.

    Figures in percent with two decimals and half of their intervals; "-" where there is none. Each subset has
    a block of its own, and so has each of two ways of counting where they differ.
    """
    views, lines = list(views_of(results)), []
    for label, counting, part in views:
        name = f"{label}, {counting}" if counting else label
        figures = _block(part, results) if _has_some(part) else []
        lines += ["", *([f"{name}: {_evaluated(part)}"] if len(views) > 1 else []), *figures]
    partition = f" ({results.partition})" if results.partition else ""
    heading = f"{results.dataset} {results.split}{partition}, proposals: {results.proposals}"
    seconds = ", ".join(f"{stage} {value:.1f}" for stage, value in results.seconds.items())
    # GRES has figures of its own by these names
    also = [] if any("gIoU" in row for row in results.methods.values()) else [ALSO_CALLED, ""]
    misses = [told(results.errors, results.headroom), ""] if results.headroom else []
    return "\n".join([heading, *lines, "", *misses, *also, format_counts(results), f"Seconds      {seconds}"])


def _block(part: Results | Subset, whole: Results) -> list[str]:
    columns, rows = _table(part, whole)
    sure = part.intervals or {}
    cells = [
        [name, *(number(row.get(key), interval=sure.get(name, {}).get(key)) for key in columns)]
        for name, row in rows
    ]
    lines = aligned([["Method", *columns], *cells])
    rule = "-" * len(lines[0])
    bound = len(part.methods) + 1
    return [lines[0], rule, *lines[1:bound], *([rule, *lines[bound:]] if lines[bound:] else [])]


def _table(part: Results | Subset, whole: Results) -> tuple[list[str], list[tuple[str, Figures]]]:
    """Columns (every figure that any method of the document has) and rows (methods, then the upper bound)."""
    columns = list(dict.fromkeys(["oIoU", "mIoU", *(name for row in whole.methods.values() for name in row)]))
    figures = dict(part.methods)
    # methods that draw their masks have no upper bound, and the table no such row
    if whole.upper_bound != Bound(oIoU=None, mIoU=None):
        figures[UPPER_BOUND] = msgspec.structs.asdict(part.upper_bound)
    return columns, list(figures.items())


def write_table_csv(path: Path | str, results: Results) -> None:
    """Write the table as CSV, one row per method and one for the upper bound, atomically.

    Figures in percent at full precision, empty where there is none; behind them both ends of their intervals,
    if there are any, as ``oIoU_low`` and ``oIoU_high``. Where there are subsets, a column
    ``subset`` has "All" or the label of one, and the rows of each follow those of all. Where counting every
    miss differs, a column ``counting`` says which rows do.
    """
    # every row says what it was measured on, so that files of several runs can be joined
    setting = ("experiment", "dataset", "split", "partition", "proposals")
    views = list(views_of(results))
    extra = {"subset": bool(results.subsets), "counting": any(counting for _, counting, _ in views)}
    columns, _ = _table(results, results)
    shown = [name for name, there in extra.items() if there]
    ends = [f"{name}_{end}" for name in columns if results.intervals for end in ("low", "high")]
    rows: list[list[Any]] = [[*setting, *shown, "n_expressions_evaluated", "method", *columns, *ends]]
    for label, counting, part in views:
        names = {"subset": label, "counting": counting}
        where = [*(getattr(results, key) for key in setting), *(names[name] for name in shown)]
        counted, sure = part.n_expressions_evaluated, part.intervals or {}
        for name, row in _table(part, results)[1]:
            pairs = [sure.get(name, {}).get(column, (None, None)) for column in columns if results.intervals]
            figures = [row.get(column) for column in columns]
            rows.append([*where, counted, name, *figures, *itertools.chain(*pairs)])
    write_rows(path, rows)


def _has_some(part: Results | Subset) -> bool:
    """Say whether any expression is behind the figures, be it one that is known to have no target."""
    return part.n_expressions_expected > 0 or any("gIoU" in row for row in part.methods.values())


def _evaluated(part: Results | Subset) -> str:
    if not _has_some(part):
        return "no expression of the split is in it"
    failed = sum(part.failures.values()) - part.n_expressions_skipped
    missed = f", {failed:,} failed" if failed else ""
    counted = f"{part.n_expressions_evaluated:,} of {part.n_expressions_expected:,} expressions"
    return f"{counted} on {part.n_images:,} images{missed}"


def format_counts(results: Results) -> str:
    """Say in lines what was counted and what was not; the first 13 characters of each name it."""
    expected, evaluated = results.n_expressions_expected, results.n_expressions_evaluated
    skipped, missing = results.n_expressions_skipped, expected - evaluated - results.n_expressions_skipped
    notes = [f" ({skipped:,} skipped)" if skipped else "", f" ({missing:,} MISSING)" if missing else ""]
    without = results.n_expressions_without_target
    more = f"; {without:,} more without a target: predictions alone, no figure" if without else ""
    none = results.n_expressions_no_target
    more += f"; {none:,} more known to have no target: in gIoU, cIoU and N_acc" if none else ""
    reasons = "; ".join(f"{reason}: {count:,}" for reason, count in results.failures.items()) or "none"
    counted = f" (counted as misses{', those skipped where every miss counts' if skipped else ''})"
    tied = "; ".join(f"{method}: {count:,}" for method, count in results.ties.items() if count)
    sure = (
        f"\n±            {explained(results.resampling['draws'])}"
        if results.resampling and results.intervals
        else ""
    )
    ties = f"\nTies         {tied} (the first of proposals with one score was chosen)" if tied else ""
    more_lines = f"{ties}{sure}{_rules(results)}{_parsed(results)}"
    return (
        f"Images       {results.n_images:,}\n"
        f"Expressions  {evaluated:,} evaluated of {expected:,} expected{''.join(notes)}{more}\n"
        f"{''.join(map(_filtered, results.filters))}{_own_metric(results.own_metric)}"
        f"Failures     {reasons}{counted if results.failures and not missing else ''}{more_lines}"
    )


def _rules(results: Results) -> str:
    """Say what is chosen beside the best: "abstain 0.21 (thresholds.json)", each kind of rule on one line."""
    said = {
        name: ", ".join(
            f"{what} {value if isinstance(value, str) else f'{value:.6g}'}" for what, value in rule.items()
        )
        for name, rule in results.rules.items()
    }
    return f"\nRules        {'; '.join(f'{name}: {rule}' for name, rule in said.items())}" if said else ""


def _own_metric(own: OwnMetric | None) -> str:
    if own is None:
        return ""
    figures = (f"{name} {value:.2f}" for name, value in own.methods.items() if value is not None)
    return f"Own metric   {own.name}: {', '.join(figures)}\n"


def _filtered(one: Filtered) -> str:
    left_out = f"{one.n_expressions_left_out:,} expressions left out"
    return f"List         {one.option}={one.file} (SHA-256 {one.sha256[:12]}): {left_out}\n"


def _parsed(results: Results) -> str:
    """Lay out what expressions say: "places 40, relations 12 (left 7, near 5), nothing of that 60"."""
    found = {name: f"{count:,}" for name, count in results.parsed.items() if name != "expressions"}
    kinds = ", ".join(f"{name[9:]} {count}" for name, count in found.items() if name.startswith("relation "))
    said = [f"{name} {count}" for name, count in found.items() if name not in ("none", "relations")]
    said = [text for text in said if not text.startswith("relation ")]
    said += [f"relations {found['relations']} ({kinds})"] if kinds else []
    return f"\nParsed       {', '.join([*said, 'nothing of that ' + found['none']])}" if found else ""
