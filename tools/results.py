"""Run, fill in and check what the README and the pages of docs state: ``python -m tools.results``."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gl_ris.command_line import Arguments, leave, show
from gl_ris.errors import UserError, unknown_name
from gl_ris.files import atomic_file, read_table

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "docs/results.md",
    "docs/rerank.md",
    "docs/gres.md",
    "docs/misses.md",
    "docs/proposals.md",
)
# those in whose text, too, every figure with two decimals is of a table
READ = PAGES[:2]
PLAN = Path(__file__).with_name("results.yaml")

_DESCRIPTION = """\
Run what the README and the pages of docs state, one job after the other, put their figures between the
markers of the pages, and copy their pictures. Each job has a folder in --work; what is finished there is
kept, and what was cut off goes on. Blocks of jobs that have not been run there stay as they are."""
_EXAMPLES = """\
examples:
  python -m tools.results
      everything
  python -m tools.results --only=refshapesg,table-1
      two of the jobs
  python -m tools.results --check
      run nothing: name each number of the pages that is not that of the runs in --work (exit code 1)"""


def parser() -> Arguments:
    """Make the parser of the command."""
    made = Arguments("python -m tools.results", _DESCRIPTION, _EXAMPLES)
    add = made.add_argument
    add("--list", action="store_true", help="list the jobs, and which have a folder")
    add("--only", default="", metavar="JOB,...", help="these jobs [all]")
    add("--check", action="store_true", help="compare the pages with the runs, and change nothing")
    add("--work", type=Path, default=Path("runs/results"), help="folder of the runs [runs/results]")
    add("--root", type=Path, default=ROOT, help="folder with the pages [this checkout]")
    return made


def main(tokens: Sequence[str] | None = None) -> None:
    """Run the command; a figure that is not that of the runs, and a job that fails, are exit code 1."""
    options = parser().read(sys.argv[1:] if tokens is None else tokens)
    plan = read_table(PLAN)
    names = [name for name in options.only.split(",") if name] or [*plan["jobs"]]
    for name in names:
        if name not in plan["jobs"]:
            raise unknown_name("job", name, plan["jobs"])
    if options.list:
        show("\n".join(_listed(plan["jobs"], options.work)))
    elif options.check:
        wrong = check(plan, options.work, options.root)
        show("\n".join(wrong or ["Every figure of what was run is that of the last run."]))
        sys.exit(1 if wrong else 0)
    else:
        failed = [name for name in names if not run(name, plan["jobs"][name], options.work)]
        fill(plan, options.work, options.root)
        if failed:
            show(f"failed: {', '.join(failed)}")
            sys.exit(1)


def _listed(jobs: dict[str, str], work: Path) -> list[str]:
    done = {name: "begun" if (work / name).is_dir() else "" for name in jobs}
    return [f"{name:<20} {done[name]:<9} python -m {spelt(line, work)}" for name, line in jobs.items()]


def run(name: str, line: str, work: Path) -> bool:
    """Run a job in its folder, or go on with it; say whether it went well."""
    folder = work / name
    words = [*shlex.split(spelt(line, work)), f"run_dir={folder}"]
    if _stale(folder):
        words = [word.replace("resume=true", "overwrite=true") for word in words]
    show(f"\n{name}: python -m {shlex.join(words)}")
    start = time.monotonic()
    code = subprocess.run([sys.executable, "-m", *words], check=False).returncode
    show(f"{name}: {'done' if code == 0 else f'exit code {code}'} after {time.monotonic() - start:,.0f} s")
    return code == 0


def spelt(line: str, work: Path) -> str:
    """Put into a command line what it names in braces."""
    return line.format(work=work, **read_table(PLAN)["shared"])


def _stale(folder: Path) -> bool:
    """Say whether methods have changed since a run; grids find out by themselves."""
    from gl_ris.results import METHODS_VERSION

    try:
        return bool(json.loads((folder / "results.json").read_bytes())["methods_version"] != METHODS_VERSION)
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
