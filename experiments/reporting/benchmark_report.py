"""What a benchmark has measured, as a page of text for the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from experiments.reporting.frame import note, number
from experiments.run.measuring import DRIFT

Document = Mapping[str, Any]


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
            items = ", ".join(f"{item['name']} {item['share']:.1%}" for item in found["not_matrix"])
            gain = number(found["text"]["ratio"], ",.2f")
            beside.append(note("beside", model=model, kind=kind, gain=gain, items=items))
    if rows:
        table = tabulate(rows, "keys", missingval="-", disable_numparse=True)
        parts += ["\n".join([table, "", note("benchmark")]), *beside]
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


def _pairs(document: Document) -> Iterator[str]:
    for part, key in (("threads", "default_to_one_thread"), ("processes", "two_to_one")):
        found = document[part]
        if found["seconds"] is not None:
            seconds = "; ".join(
                f"{name.replace('_', ' ')} {', '.join(f'{value:.2f}' for value in values)} s"
                for name, values in found["seconds"].items()
            )
            yield note(part, images=found["images"], ratio=number(found[key], ",.2f"), seconds=seconds)


def _start_up(found: Document | None) -> Iterator[str]:
    if found is not None:
        parts, imports = (
            ", ".join(f"{name} {seconds:.2f}" for name, seconds in found[which].items())
            for which in ("parts", "imports")
        )
        yield note("startup", **{**found, "parts": parts, "imports": imports})


def _flat(ms_per_image: Document, rss_mb: Document) -> Iterator[str]:
    for count, spent in ms_per_image.items():
        if spent is not None:
            yield f"{int(count):>6,} images: {spent:.1f} ms an image, peak memory {rss_mb[count]:,.0f} MB"


def _drifts(controls: Document) -> Iterator[str]:
    for name, kinds in controls.items():
        for kind, control in kinds.items():
            if not control["steady"]:
                before, after = (max(control[when].values()) for when in ("before", "after"))
                yield f"{name} {kind}: " + note(
                    "drift", before=before, after=after, drift=control["drift"], allowed=DRIFT
                )
