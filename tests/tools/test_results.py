"""The command that runs, fills in and checks the pages, on runs and pages of a few lines."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from tqdm import tqdm

from gl_ris.errors import UserError
from tools import results
from tools.results_blocks import blocks_of, differences, filled, made, strays

PLAN = results.read_table(results.PLAN)
TABLE = """source,method,encoder,dataset,proposals,n,oIoU,mIoU,oIoU_low,oIoU_high
ours,Global-Local,rn,b,slic,1482,50.5,60.25,48.5,52.5
ours,Global-Local,rn,a,slic,953,40.0,41.5,,
ours,Cropping,rn,a,slic,953,30.0,31.5,,
ours,Random,,a,slic,953,10.0,11.5,,
ours,Largest,,a,slic,953,9.0,9.5,,
"""
CROSSED = {
    "files": ["t/table.csv"],
    "lines": {"dataset": "set", "encoder": "tower", "n": "expressions"},
    "columns": ["method"],
    "cell": "{oIoU} / {mIoU} [{absent}]",
    "where": {"dataset": ["a", "b"], "method": ["Global-Local", "Random"]},
}
MISSES = {
    "dataset": "a",
    "errors": {"M": {"part": {"count": 1, "share": 25.0, "oIoU_gain": 2.5}}},
    "headroom": {
        "M": {
            "hits": 3,
            "expressions": 4,
            **{name: {"oIoU": 1.0, "mIoU": 2.0} for name in ("now", "ranking", "masks")},
        }
    },
}
PAGE = """# Page
Of 61.22 in the text, and 0.85 of a share.
<!-- results: main-job -->

```text
oIoU  61.22 ±4.0
Seconds  1.0
```

<!-- end -->
"""


def cells(text: str | None) -> list[list[str]]:
    assert text is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.strip().splitlines()]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    for name in ("t", "refshapesg"):
        (folder / name).mkdir(parents=True)
    (folder / "t" / "table.csv").write_text(TABLE)
    (folder / "t" / "results.json").write_text(json.dumps(MISSES))
    (folder / "refshapesg" / "table.txt").write_text("oIoU  61.22 ±4.0\nSeconds  2.0\n")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(PAGE)
    for name in results.PAGES[1:]:
        (tmp_path / name).write_text("# None\n")
    return tmp_path


def test_rows_without_an_encoder_are_in_the_lines_of_every_encoder(work: Path) -> None:
    heads, _, *lines = cells(made({"crossed": CROSSED}, work))
    assert heads == ["set", "tower", "expressions", "Global-Local", "Random"]
    assert lines == [
        ["a", "rn", "953", "40.00 / 41.50 [-]", "10.00 / 11.50 [-]"],
        ["b", "rn", "1,482", "50.50 ±2.0 / 60.25 [-]", "-"],
    ]


def test_misses_are_rows_by_kind_and_ways_of_doing_better(work: Path) -> None:
    kinds = {"files": ["t/results.json"], "lines": {"kind": "kind"}, "columns": ["dataset"]}
    rooms = {**kinds, "lines": {"room": "room"}, "cell": "{mIoU}"}
    shown = cells(made({"crossed": {**kinds, "cell": "{count} {share} {oIoU_gain}"}}, work))[2:]
    assert shown == [["hit", "3 75.00 -"], ["part", "1 25.00 2.50"]]
    assert cells(made({"crossed": rooms}, work))[2:] == [[n, "2.00"] for n in ("now", "ranking", "masks")]


def test_a_form_of_its_own_leaves_the_interval_out_and_what_is_not_there_is_a_dash(work: Path) -> None:
    kind = {**CROSSED, "lines": {"job": "run"}, "cell": "{oIoU:.1f} {absent:.1f}"}
    (line,) = cells(made({"crossed": {**kind, "where": {"dataset": ["b"]}}}, work))[2:]
    assert line == ["t", "50.5 -"]
    gains = {
        "files": ["t/results.json"],
        "lines": {"job": "run"},
        "columns": ["kind"],
        "cell": "{oIoU_gain:.1f}",
    }
    heads, _, shown = cells(made({"crossed": gains}, work))
    assert (heads, shown) == (["run", "hit", "part"], ["t", "-", "2.5"])


def test_of_figures_between_slashes_those_that_a_row_has_not_are_left_out(work: Path) -> None:
    kind = {**CROSSED, "where": {"method": ["Global-Local"]}}
    one = made({"crossed": {**kind, "cell": "{absent:.1f} / {mIoU:.1f} / {other}"}}, work)
    assert [line[-1] for line in cells(one)[2:]] == ["60.2", "41.5"]
    none = made({"crossed": {**kind, "cell": "{absent} / {other}"}}, work)
    assert [line[-1] for line in cells(none)[2:]] == ["-", "-"]


@pytest.mark.parametrize("text", ['{"broken', "[", "5"])
def test_a_damaged_document_is_named_with_the_fix(text: str, root: Path, work: Path) -> None:
    (work / "refshapesg" / "results.json").write_text(text)
    said = r"refshapesg/results\.json' is damaged .*; delete it, and its job is run again"
    with pytest.raises(UserError, match=said):
        results.main(["--only=refshapesg", f"--work={work}", f"--root={root}"])
    document = "refshapesg/results.json"
    for kind in (
        {"crossed": {"files": [document], "lines": {}, "columns": []}},
        {"report": document, "by": "experiments.reporting.fewshot_report"},
    ):
        with pytest.raises(UserError, match=said):
            made(kind, work)


def test_a_table_without_a_line_is_refused(work: Path) -> None:
    for change in ({"lines": {"no_such_key": "set"}}, {"where": {"method": ["no such method"]}}):
        with pytest.raises(UserError, match=r"No row of t/table\.csv has "):
            made({"crossed": {**CROSSED, **change}}, work)


def test_a_report_loses_its_title_and_its_seconds(work: Path) -> None:
    text = "# Title\n\n| a | Seconds |\n|:--|--------:|\n| b | 1.0 |\n\n* a note\n"
    (work / "t" / "table.md").write_text(text)
    assert made({"report": "t/table.md"}, work) == "\n| a |\n|:--|\n| b |\n\n* a note\n\n"


def test_a_block_of_runs_that_are_not_there_is_left_alone(work: Path) -> None:
    assert made({"report": "other/table.md"}, work) is None
    assert filled(PAGE, {}) == PAGE


def test_a_changed_number_is_named_with_file_line_and_both_values(work: Path, root: Path) -> None:
    assert results.check(PLAN, work, root) == []  # the seconds differ
    page = root / "README.md"
    page.write_text(PAGE.replace("oIoU  61.22", "oIoU  61.32"))
    assert results.check(PLAN, work, root) == [
        "README.md:6: main-job: '61.32' in the page, '61.22' in the run",
    ]
    results.fill(PLAN, work, root)
    assert results.check(PLAN, work, root) == []
    assert page.read_text() == PAGE.replace("Seconds  1.0", "Seconds  2.0")


def test_lines_that_came_or_went_are_named() -> None:
    (block,) = blocks_of(PAGE)
    now = block.text.replace("oIoU  61.22 ±4.0\n", "")
    assert (block.name, block.line) == ("main-job", 4)
    assert any(
        found.startswith("p:6: main-job: '61.22' in the page") for found in differences(block, now, "p")
    )


def test_figures_in_the_text_are_those_of_a_table() -> None:
    assert strays(PAGE, "p", {"61.22"}) == []
    assert strays(PAGE, "p", {"61.23"}) == ["p:2: '61.22' in the text, and in none of the runs' tables"]


def test_nothing_is_checked_without_a_run(root: Path) -> None:
    with pytest.raises(UserError, match=r"no finished run in .*nowhere"):
        results.check(PLAN, root / "nowhere", root)


@pytest.mark.parametrize("side", [1, 2])
def test_a_job_that_fails_is_named_and_the_others_go_on(
    side: int, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = {**PLAN, "jobs": {"bad": "no_such_module", "good": "this --not-read", "other": "no_module"}}
    monkeypatch.setattr(results, "read_table", lambda _: plan)
    with pytest.raises(SystemExit, match="1"):
        results.main([f"--work={tmp_path / 'work'}", f"--root={root}", f"--side={side}", "--only=bad,good"])
    said, wrong = capfd.readouterr()
    assert re.search(r"bad: exit code 1 after .* of 2 jobs left", said)
    assert re.search(r"good: done after", said)
    assert "README.md: 0 tables of runs; not run: main-job" in said
    assert said.endswith("failed: bad\n")
    # what several print at a time is in files of theirs
    logs = {path.stem: path.read_text() for path in (tmp_path / "work").glob("*.log")}
    assert sorted(logs) == ([] if side == 1 else ["bad", "good"])
    assert "No module named no_such_module" in (wrong if side == 1 else logs["bad"])


# ends when the job that its first word names has ended
WAITER = """import pathlib, sys, time
name = pathlib.Path(next(word for word in sys.argv if word.startswith("run_dir="))[8:]).name
order = pathlib.Path("order.txt")
with order.open("a") as file: print("begins", name, file=file, flush=True)
while sys.argv[1] != "-" and f"ends {sys.argv[1]}" not in order.read_text(): time.sleep(0.1)
with order.open("a") as file: print("ends", name, file=file, flush=True)
"""


def test_a_job_waits_for_those_whose_files_it_reads_and_lets_others_past(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "waiter.py").write_text(WAITER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    reads = "waiter - abstain={work}/made/thresholds.json"
    jobs = {"made": "waiter other", "reads": reads, "other": "waiter -"}
    assert results.run(jobs, tmp_path / "work", 2) == []
    lines = (tmp_path / "order.txt").read_text().splitlines()
    begun = ("begins made", "begins other")  # side by side, in any order
    rest = [line for line in lines if line not in begun]
    assert rest == ["ends other", "ends made", "begins reads", "ends reads"]


@pytest.mark.parametrize(("side", "shown"), [(2, ["0/2", "one, two", "2/2"]), (1, [])])
def test_a_bar_says_what_runs_and_what_is_left(
    side: int, shown: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()

    def bar(title: str, unit: str, **options: Any) -> Any:
        return tqdm(desc=title, unit=unit, **options, file=terminal, ncols=80)

    monkeypatch.setattr(results, "bar", bar)
    assert results.run({"one": "this --not-read", "two": "this --not-read"}, tmp_path, side) == []
    found = terminal.getvalue()
    assert [part for part in ("0/2", "one, two", "2/2") if part in found] == shown


def test_the_jobs_that_read_files_of_others_name_them() -> None:
    needs = {name: sorted(results.needed(line)) for name, line in PLAN["jobs"].items()}
    assert needs["first-look"] == ["re-ranked"]
    assert needs["gres-both"] == ["thresholds"]
    assert needs["table-1"] == []
    assert {*PLAN["jobs"]} >= {other for others in needs.values() for other in others}


def test_the_jobs_of_a_page_are_those_of_its_tables_and_pictures_and_what_they_read(root: Path) -> None:
    pages = {
        "README.md": "![](docs/first_look.png)",
        "docs/gres.md": "<!-- results: gres-slic -->\n<!-- end -->\n",
        "docs/misses.md": "<!-- results: recipe -->\n<!-- end -->\n",
    }
    for name, text in pages.items():
        (root / name).write_text(text)
    found = {name: results.jobs_of(PLAN, [name], root) for name in results.PAGES}
    assert found["README.md"] == ["re-ranked", "first-look"]
    assert found["docs/gres.md"] == ["thresholds", "gres", "gres-abstain", "gres-union", "gres-both"]
    assert found["docs/misses.md"] == ["recipe"]
    assert found["docs/rerank.md"] == []
    assert results.jobs_of(PLAN, ["docs/misses.md", "README.md"], root) == [
        "re-ranked",
        "first-look",
        "recipe",
    ]


def test_without_a_word_the_jobs_of_both_first_pages_are_run(
    root: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def run(jobs: dict[str, str], *_: object) -> list[str]:
        ran.extend(jobs)
        return []

    monkeypatch.setattr(results, "run", run)
    (root / "docs" / "gres.md").write_text("<!-- results: gres-slic -->\n<!-- end -->\n")
    results.main([f"--work={work}", f"--root={root}"])
    assert ran == ["refshapesg"]
    results.main([f"--work={work}", f"--root={root}", "--pages=docs/gres.md"])
    assert "gres-both" in ran


def test_every_job_is_of_a_page() -> None:
    found = {name for page in results.PAGES for name in results.jobs_of(PLAN, [page], results.ROOT)}
    assert found == {*PLAN["jobs"]}


def test_no_jobs_side_by_side_is_refused() -> None:
    with pytest.raises(UserError, match=r"--side=0 must be 1 or more"):
        results.main(["--side=0"])


def test_a_run_of_older_methods_begins_anew(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[list[str]] = []

    def start(words: list[str], slot: dict[str, str]) -> object:
        lines.append(words)
        return type("Process", (), {"wait": lambda _: 0, "poll": lambda _: 0})()

    monkeypatch.setattr("experiments.grid.runner.start", start)
    for version in (0, results_version()):
        (work / "t" / "results.json").write_text(json.dumps({"methods_version": version}))
        assert results.run({"t": "experiments.zero_shot resume=true"}, work, 1) == []
    ends = [["overwrite=true", f"run_dir={work / 't'}"], ["resume=true", f"run_dir={work / 't'}"]]
    assert lines == [[sys.executable, "-m", "experiments.zero_shot", *end] for end in ends]


def results_version() -> int:
    from gl_ris.results import METHODS_VERSION

    return METHODS_VERSION


def test_unknown_jobs_and_blocks_are_refused(root: Path, work: Path) -> None:
    with pytest.raises(UserError, match=r"Unknown job 'tabel-1'\. Did you mean 'table-1'"):
        results.main(["--only=tabel-1"])
    with pytest.raises(UserError, match=r"Unknown page 'docs/gers\.md'\. Did you mean 'docs/gres\.md'"):
        results.main(["--pages=docs/gers.md"])
    (root / "README.md").write_text(PAGE.replace("main-job", "main-jib"))
    with pytest.raises(UserError, match="Did you mean 'main-job'"):
        results.check(PLAN, work, root)


def test_every_block_is_on_a_page_once_and_of_a_job() -> None:
    pages = [(results.ROOT / name).read_text(encoding="utf-8") for name in results.PAGES]
    assert sorted(block.name for page in pages for block in blocks_of(page)) == sorted(PLAN["blocks"])
    kinds = json.dumps([*PLAN["blocks"].values()])
    files = re.findall(r'"([^"/]+)/[\w.]+\.(?:csv|md|json|txt)"', kinds)
    assert len(files) > 15
    sources = [source.partition("/")[0] for source in PLAN["pictures"].values()]
    assert {*files, *sources} <= {*PLAN["jobs"]}


def test_the_jobs_are_commands_of_the_pages() -> None:
    text = "\n".join((results.ROOT / name).read_text(encoding="utf-8") for name in results.PAGES)
    names = ("refshapesg", "table-1", "table-2", "table-3", "recipe", "unseen", "fewshot", "rerank")
    for name in (*names, "rerank-true-masks", "true-thresholds"):
        line = results.spelt(PLAN["jobs"][name], Path("work"))
        assert f"python -m {line.removesuffix(' resume=true')}" in text
