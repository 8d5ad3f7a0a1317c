"""What a benchmark has measured, as a page of text for the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from experiments.reporting.frame import number
from experiments.run.measuring import DRIFT

Document = Mapping[str, Any]

_MODEL = (
    *("model", "type", "ratio", "work saved", "same work"),
    *("choices", "GFLOP/s", "limit", "share", "open_clip"),
)
_NOTES = (
    "ratio: times as fast as the plain loop in fp32 (median of pairs, A B A B) = work saved x same work "
    "done faster",
    "choices: equal ones of all; share: of the best matrix rate ('limit', GFLOP/s) by the crops; open_clip: "
    "times as fast as its encoder",
)


def page_of(document: Document) -> str:
    """Lay out a benchmark's document; what has no verdict is a dash, and the reason stands below."""
    from tabulate import tabulate

    parts = [_machine(document["machine"])]
    if document["clip"]:
        rows = [_row(document, model, kind) for model, kinds in document["clip"].items() for kind in kinds]
        table = tabulate(rows, _MODEL, floatfmt=".2f", missingval="-", disable_numparse=True)
        parts += ["\n".join([table, "", *_NOTES]), *_beside(document["clip"])]
    for part in (_threads, _start_up, _flat):
        parts += part(document)
    reasons = [*_reasons(document)]
    parts += ["No verdict\n" + "\n".join(f"  {reason}" for reason in reasons)] if reasons else []
    return "\n\n".join(parts)


def _machine(machine: Document) -> str:
    load = "" if machine["load"] is None else f", load {machine['load']['before']:.1f} before"
    load += "" if machine["load"] is None else f" and {machine['load']['after']:.1f} after"
    return f"Machine      {machine['processor']}, {machine['cores']} cores, {machine['device']}{load}"


def _row(document: Document, model: str, kind: str) -> list[str | None]:
    found = document["clip"][model][kind]
    if "missing" in found:
        return [model, kind]
    control, choices = document["controls"][model][kind], found["choices"]
    return [
        model,
        kind,
        number(found["ratio_to_reference"], ",.2f"),
        number(found["work_saved"], ",.2f"),
        number(found["same_work_faster"], ",.2f"),
        f"{choices['equal']}/{choices['of']}",
        number(found["gflops"]["program"], ",.0f"),
        number(control["best"], ",.0f"),
        None if found["share_of_limit"] is None else f"{found['share_of_limit']:.0%}",
        number(found["crops"]["ratio"], ",.2f"),
    ]


def _beside(clip: Document) -> Iterator[str]:
    """Say what is not matrix work, and what texts gain."""
    for model, kinds in clip.items():
        for kind, found in kinds.items():
            if "missing" not in found:
                items = [f"{item['name']} {item['share']:.1%}" for item in found["not_matrix"]]
                ratio = found["text"]["ratio"]
                faster = f"texts {number(ratio, ',.2f')} times as fast as at the full context"
                gain = "texts: no verdict" if ratio is None else faster
                yield f"{model} {kind}: {gain}\n  largest beside matrix work: {', '.join(items)}"


def _threads(document: Document) -> Iterator[str]:
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


def _start_up(document: Document) -> Iterator[str]:
    found = document["startup"]
    if found is not None:
        parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in found["parts"].items())
        imports = ", ".join(f"{name} {seconds:.2f}" for name, seconds in found["imports"].items())
        yield (
            f"First result of a warm main job after {found['seconds_to_first_result']:.2f} s\n"
            f"  by part ({found['seconds_to_first_result_traced']:.2f} s with imports logged): {parts}\n"
            f"  imports: {imports}"
        )


def _flat(document: Document) -> Iterator[str]:
    found = document["flat"]
    if any(value is not None for value in found["ms_per_image"].values()):
        yield "\n".join(
            f"{int(count):>6,} images: {found['ms_per_image'][count]:.1f} ms an image, peak memory "
            f"{found['rss_mb'][count]:,.0f} MB"
            for count in found["ms_per_image"]
        )


def _reasons(document: Document) -> Iterator[str]:
    for model, kinds in document["clip"].items():
        for kind, found in kinds.items():
            if "missing" in found:
                yield f"{model} {kind}: {found['missing']}"
            elif not found["crops"]["counted"]:
                yield f"{model} {kind}: share, since torch does not count the work of the tower's kernels"
    for name, kinds in document["controls"].items():
        for kind, control in kinds.items():
            if not control["steady"]:
                before, after = (max(control[when].values()) for when in ("before", "after"))
                yield (
                    f"{name} {kind}: the best matrix rate went from {before:,.0f} to {after:,.0f} GFLOP/s "
                    f"({control['drift']:.0%}, allowed are {DRIFT:.0%}); run it again on a quieter machine"
                )
