"""Run, fill in and check what the README and the pages of docs state: ``python -m tools.results``."""

from __future__ import annotations

import math
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import chain
from pathlib import Path
from typing import Any

from gl_ris.command_line import Arguments, leave, show
from gl_ris.cores import available
from gl_ris.errors import UserError, unknown_name
from gl_ris.files import atomic_file, read_table
from gl_ris.progress import bar

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "docs/results.md",
    "docs/rerank.md",
    "docs/gres.md",
    "docs/misses.md",
    "docs/proposals.md",
)
# run unless others are named; in their text, too, every figure with two decimals is of a table
READ = PAGES[:2]
PLAN = Path(__file__).with_name("results.yaml")
TICK = 5  # seconds after which the bar of jobs goes on

_DESCRIPTION = """\
Run what the README and the pages of docs state, several jobs side by side, put the figures of all that has
been run between the markers of the pages, and copy the pictures. Each job has a folder in --work; what is
finished there is kept, and what was cut off goes on. Blocks of jobs not run there stay as they are."""
_EXAMPLES = """\
examples:
  python -m tools.results
      what README.md and docs/results.md state
  python -m tools.results --pages=docs/gres.md,docs/misses.md
      what two other pages do
  python -m tools.results --only=refshapesg,table-1
      two of the jobs
  python -m tools.results --check
      run nothing: name each number of the pages that is not that of the runs in --work (exit code 1)"""


def parser() -> Arguments:
    """Make the parser of the command."""
    made = Arguments("python -m tools.results", _DESCRIPTION, _EXAMPLES)
    add = made.add_argument
    add("--list", action="store_true", help="list the jobs, and which have a folder")
    add("--pages", default=",".join(READ), metavar="PAGE,...", help=f"jobs of these pages [{','.join(READ)}]")
    add("--only", default="", metavar="JOB,...", help="these jobs, and no others")
    add("--check", action="store_true", help="compare the pages with the runs, and change nothing")
    add("--work", type=Path, default=Path("runs/results"), help="folder of the runs [runs/results]")
    usual = min(2, available())
    add("--side", type=int, default=usual, metavar="N", help=f"jobs side by side [{usual}]")
    add("--root", type=Path, default=ROOT, help="folder with the pages [this checkout]")
    return made


def main(tokens: Sequence[str] | None = None) -> None:
    """Run the command; a figure that is not that of the runs, and a job that fails, are exit code 1."""
    options = parser().read(sys.argv[1:] if tokens is None else tokens)
    plan = read_table(PLAN)
    only = _named("job", options.only, plan["jobs"])
    pages = _named("page", options.pages, PAGES)
    if options.list:
        show("\n".join(_listed(plan, options.work, options.root)))
    elif options.check:
        wrong = check(plan, options.work, options.root)
        show("\n".join(wrong or ["Every figure of what was run is that of the last run."]))
        sys.exit(1 if wrong else 0)
    else:
        if options.side < 1:
            raise UserError(f"--side={options.side} must be 1 or more.")
        names = only or jobs_of(plan, pages, options.root)
        failed = run({name: plan["jobs"][name] for name in names}, options.work, options.side)
        fill(plan, options.work, options.root)
        if failed:
            show(f"failed: {', '.join(failed)}")
            sys.exit(1)


def _named(kind: str, given: str, known: Collection[str]) -> list[str]:
    names = [name for name in given.split(",") if name]
    for name in names:
        if name not in known:
            raise unknown_name(kind, name, known)
    return names


def _listed(plan: dict[str, Any], work: Path, root: Path) -> list[str]:
    lines = []
    for page in PAGES:
        lines.append(f"{page}:")
        for name in jobs_of(plan, [page], root):
            begun = "begun" if (work / name).is_dir() else ""
            lines.append(f"  {name:<20} {begun:<6} python -m {spelt(plan['jobs'][name], work)}")
    return lines


def jobs_of(plan: dict[str, Any], pages: Sequence[str], root: Path) -> list[str]:
    """Return the jobs that the blocks and pictures of pages are made of, in the order of the plan."""
    from tools.results_blocks import blocks_of, sources_of

    texts = [(root / page).read_text(encoding="utf-8") for page in pages]
    kinds = [plan["blocks"][block.name] for text in texts for block in blocks_of(text)]
    drawn = [source for name, source in plan["pictures"].items() if any(Path(name).name in t for t in texts)]
    wanted = {source.partition("/")[0] for source in (*chain(*map(sources_of, kinds)), *drawn)}
    while more := {other for name in wanted for other in needed(plan["jobs"][name])} - wanted:
        wanted |= more
    return [name for name in plan["jobs"] if name in wanted]


def run(jobs: Mapping[str, str], work: Path, side: int) -> list[str]:
    """Run jobs in their folders, or go on with them, so many side by side; return those that failed.

    A job waits for those whose files its command line names. The output of several goes to ``JOB.log``.
    """
    from experiments.grid.runner import children, shares

    failed, waiting, slots = list[str](), [*jobs], shares(side)
    running: dict[Future[int], tuple[str, dict[str, str], float]] = {}
    # one job at a time has the terminal, and bars of its own
    meter = bar("jobs", "job", total=len(jobs), delay=0 if side > 1 else math.inf)
    with ThreadPoolExecutor(side) as threads, children() as processes, meter:
        while waiting or running:
            unfinished = {*waiting, *(name for name, *_ in running.values())}
            for name in [name for name in waiting if not unfinished & needed(jobs[name])][: len(slots)]:
                waiting.remove(name)
                meter.clear()
                processes.append(_started(name, jobs[name], work, slots[0], side > 1))
                running[threads.submit(processes[-1].wait)] = name, slots.pop(0), time.monotonic()
            meter.set_postfix_str(", ".join(name for name, *_ in running.values()), refresh=side > 1)
            for ended in wait(running, TICK, FIRST_COMPLETED).done:
                name, slot, began = running.pop(ended)
                slots.append(slot)
                failed += [name] * (ended.result() != 0)
                how = f"exit code {ended.result()}" if ended.result() else "done"
                left = f"{len(waiting) + len(running)} of {len(jobs)} jobs left"
                meter.clear()
                show(f"{name}: {how} after {time.monotonic() - began:,.0f} s; {left}")
                meter.update()
    return failed


def _started(
    name: str, line: str, work: Path, slot: Mapping[str, str], logged: bool
) -> subprocess.Popen[bytes]:
    """Start a job: with its output on the terminal, or in a log beside its folder."""
    from experiments.grid.runner import start

    words = [*shlex.split(spelt(line, work)), f"run_dir={work / name}"]
    if _stale(work / name):
        words = [word.replace("resume=true", "overwrite=true") for word in words]
    command, log = [sys.executable, "-m", *words], work / f"{name}.log"
    show(f"{name}: python -m {shlex.join(words)}" + (f" (its output is in {log})" if logged else ""))
    if not logged:
        return start(command, slot)
    work.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        return start(command, slot, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)


def needed(line: str) -> set[str]:
    """Return the jobs whose files a command line names."""
    return {*re.findall(r"\{work\}/([^/\s]+)", line)}


def spelt(line: str, work: Path) -> str:
    """Put into a command line what it names in braces."""
    return line.format(work=work, **read_table(PLAN)["shared"])


def _stale(folder: Path) -> bool:
    """Say whether methods have changed since a run; grids find out by themselves."""
    from gl_ris.results import METHODS_VERSION
    from tools.results_blocks import document_in

    try:
        return bool(document_in(folder / "results.json")["methods_version"] != METHODS_VERSION)
    except FileNotFoundError:
        return False


def made_anew(plan: dict[str, Any], work: Path, root: Path) -> dict[str, tuple[str, dict[str, str]]]:
    """Read the pages, and make the blocks of each whose runs are there, by their names."""
    from tools.results_blocks import blocks_of, made

    found = {}
    for name in PAGES:
        page, texts = (root / name).read_text(encoding="utf-8"), {}
        for block in blocks_of(page):
            if block.name not in plan["blocks"]:
                raise unknown_name(f"block in {name}:", block.name, plan["blocks"])
            if (text := made(plan["blocks"][block.name], work)) is not None:
                texts[block.name] = text
        left = [block.name for block in blocks_of(page) if block.name not in texts]
        show(f"{name}: {len(texts)} tables of runs" + (f"; not run: {', '.join(left)}" if left else ""))
        found[name] = page, texts
    return found


def fill(plan: dict[str, Any], work: Path, root: Path) -> None:
    """Put what the runs have found into the pages, and copy the pictures."""
    from tools.results_blocks import filled

    for name, (page, texts) in made_anew(plan, work, root).items():
        with atomic_file(root / name) as file:
            file.write(filled(page, texts).encode())
    for picture, source in plan["pictures"].items():
        if (work / source).is_file():
            shutil.copyfile(work / source, root / picture)
            show(f"{picture}: drawn anew")


def check(plan: dict[str, Any], work: Path, root: Path) -> list[str]:
    """Name what the pages say and the runs do not; `UserError` without a run."""
    from tools.results_blocks import blocks_of, differences, figures_in, filled, strays

    pages = made_anew(plan, work, root)
    if not any(texts for _, texts in pages.values()):
        raise UserError(f"There is no finished run in '{work}'; python -m tools.results makes them.")
    # published figures are in the text, too
    known = figures_in((ROOT / "configs" / "paper.yaml").read_text(encoding="utf-8"))
    for page, texts in pages.values():
        known |= {figure for block in blocks_of(filled(page, texts)) for figure in figures_in(block.text)}
    wrong = []
    for name, (page, texts) in pages.items():
        for block in blocks_of(page):
            wrong += differences(block, texts.get(block.name, block.text), name)
        wrong += strays(page, name, known) if name in READ else []
    return wrong


if __name__ == "__main__":
    leave(main)
