"""What a benchmark has measured, as a page of text for the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from experiments.reporting.frame import number
from experiments.run.measuring import DRIFT

Document = Mapping[str, Any]

_NOTES = (
    "ratio: times as fast as the plain loop in fp32 (median of pairs, A B A B) = work saved x same work "
    "done faster",
    "choices: equal ones of all; share: of the best matrix rate ('limit', GFLOP/s) by the crops; open_clip: "
    "times as fast as its encoder",
)


def page_of(document: Document) -> str:
    """Lay out a benchmark's document; what has no verdict is a dash, and the reason stands below."""
    from tabulate import tabulate

    controls, parts, rows, beside, reasons = document["controls"], [_machine(document["machine"])], [], [], []
    for model, kinds in document["clip"].items():
        for kind, found in kinds.items():
            rows.append({"model": model, "type": kind})
            if "missing" in found:
                reasons.append(f"{model} {kind}: {found['missing']}")
                continue
            rows[-1] |= _row(found, controls[model][kind])
            beside.append(f"{model} {kind}: {_beside(found)}")
    if rows:
        table = tabulate(rows, "keys", missingval="-", disable_numparse=True)
        parts += ["\n".join([table, "", *_NOTES]), *beside]
    parts += [*_pairs(document), *_start_up(document["startup"]), *_flat(**document["flat"])]
    reasons += _drifts(controls)
    return "\n\n".join([*parts, *(["\n  ".join(["No verdict", *reasons])] if reasons else [])])


def _machine(machine: Document) -> str:
    load = machine["load"]
    told = "" if load is None else f", load {load['before']:.1f} before and {load['after']:.1f} after"
    return f"Machine      {machine['processor']}, {machine['cores']} cores, {machine['device']}{told}"


def _row(found: Document, control: Document) -> dict[str, str]:
    choices, share = found["choices"], found["share_of_limit"]
    return {
        "ratio": number(found["ratio_to_reference"], ",.2f"),
        "work saved": number(found["work_saved"], ",.2f"),
        "same work": number(found["same_work_faster"], ",.2f"),
        "choices": f"{choices['equal']}/{choices['of']}",
        "GFLOP/s": number(found["gflops"]["program"], ",.0f"),
        "limit": number(control["best"], ",.0f"),
        "share": number(share, ".0%"),
        "open_clip": number(found["crops"]["ratio"], ",.2f"),
    }


def _beside(found: Document) -> str:
    """Say what texts gain, and what is not matrix work."""
    items = ", ".join(f"{item['name']} {item['share']:.1%}" for item in found["not_matrix"])
    gain = f"texts {number(found['text']['ratio'], ',.2f')} times as fast as at the full context"
    return f"{gain}\n  largest beside matrix work: {items}"


def _pairs(document: Document) -> Iterator[str]:
    for part, key, what, other in (
        ("threads", "default_to_one_thread", "default settings", "one thread without workers"),
        ("processes", "two_to_one", "two processes", "one"),
    ):
        found = document[part]
        if found["seconds"] is not None:
            seconds = "; ".join(
                f"{name.replace('_', ' ')} {', '.join(f'{value:.2f}' for value in values)} s"
                for name, values in found["seconds"].items()
            )
            ratio = number(found[key], ",.2f")
            yield (
                f"Stages of a cold main job, {found['images']} images: {what} {ratio} times as fast as "
                f"{other} ({seconds})"
            )


def _start_up(found: Document | None) -> Iterator[str]:
    if found is not None:
        parts, imports = (
            ", ".join(f"{name} {seconds:.2f}" for name, seconds in found[which].items())
            for which in ("parts", "imports")
        )
        yield (
            f"First result of a warm main job after {found['seconds_to_first_result']:.2f} s\n"
            f"  by part ({found['seconds_to_first_result_traced']:.2f} s with imports logged): {parts}\n"
            f"  imports: {imports}"
        )


def _flat(ms_per_image: Document, rss_mb: Document) -> Iterator[str]:
    for count, spent in ms_per_image.items():
        if spent is not None:
            yield f"{int(count):>6,} images: {spent:.1f} ms an image, peak memory {rss_mb[count]:,.0f} MB"


def _drifts(controls: Document) -> Iterator[str]:
    for name, kinds in controls.items():
        for kind, control in kinds.items():
            if not control["steady"]:
                before, after = (max(control[when].values()) for when in ("before", "after"))
                yield (
                    f"{name} {kind}: the best matrix rate went from {before:,.0f} to {after:,.0f} GFLOP/s "
                    f"({control['drift']:.0%}, allowed are {DRIFT:.0%}); run it again on a quieter machine"
                )
