"""What is in run folders: results, predictions of one or more processes, what resuming finds, settings."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from random import Random
from typing import Any

from fuzz.mutate import changed, damaged, dump, json_file, parse
from fuzz.runner import Case, Wrong

STAGES = ("data", "proposals", "image", "text", "score", "metrics", "total")
FIGURES = {"oIoU": 20.5, "mIoU": 22.25}
SUBSET = {"label": "Unseen", "n_images": 1, "n_expressions_expected": 2, "n_expressions_evaluated": 2}


def _document() -> dict[str, Any]:
    from gl_ris.results import Results

    counts = {"n_images": 2, "n_expressions_expected": 4, "n_expressions_evaluated": 4}
    rest = {"failures": {"no proposals": 1}, "methods": {"Global-Local": FIGURES}, "upper_bound": FIGURES}
    known = {"schema": 1, "experiment": "zero_shot", "dataset": "toy", "split": "val", "partition": "unc"}
    known |= {"proposals": "slic", **counts, **rest, "subsets": {"unseen": {**SUBSET, **rest}}}
    known |= {
        "seconds": dict.fromkeys(STAGES, 1.5),
        "config": {"model": {"alpha": 0.5}},
        "versions": {"python": "3"},
    }
    known |= {"git_commit": None, "created": "2026-11-26T00:00:00+00:00"}
    made = Results.__struct_fields__
    return {name: value for name, value in known.items() if name in made}


def results(folder: Path) -> Case:
    """``results.json``, against json: what is read is what stands there."""
    from gl_ris.results import Results, format_table, write_table_csv

    path, whole = folder / "results.json", _document()
    path.write_bytes(dump(whole))
    Results.read(path)

    def case(random: Random) -> str:
        content = json_file(random, whole)
        path.write_bytes(content)
        found = Results.read(path)
        said, read = parse(content), found.document()
        for name, value in said.items():
            if name in read and not _alike(read[name], value):
                raise Wrong(f"{name}: {read[name]!r:.200} in place of {value!r:.200}")
        format_table(found).encode("utf-8", "backslashreplace")
        write_table_csv(folder / "table.csv", found)
        return "read"

    return case


def _alike(read: Any, said: Any) -> bool:
    """Say whether all that was read stands there; what stands there beside it is not looked at."""
    if isinstance(read, dict) and isinstance(said, dict):
        return all(_alike(value, said[name]) for name, value in read.items() if name in said)
    if isinstance(read, list | tuple) and isinstance(said, list):
        return len(read) == len(said) and all(map(_alike, read, said))
    return (type(read) is type(said) and read == said) or (_number(read) and _number(said) and read == said)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _line(index: int, sent: int, method: str = "Random") -> dict[str, Any]:
    return {
        "image_id": 100 + index,
        "ref_id": 10 * index,
        "sent_id": sent,
        "expression": "the caf\u00e9's star",
        "noun_phrase": "star",
        "method": method,
        "choice": 1,
        "score": 0.25,
        "iou": 0.5,
        "intersection": 2,
        "union": 4,
        "segmentation": {"size": [2, 2], "counts": "04"},
        "failure": None,
        "index": index,
        "parsed": {"head": "star", "relations": [{"kind": "left", "anchor": 0}], "anchors": ["cat"]},
    }


def _facts(sent: int) -> dict[str, Any]:
    """What a line tells of masks: the first of an image, of the image, too."""
    image = {
        "size": [2, 4],
        "areas": [1, 2, 3],
        "objects": [{"category": "star", "area": 2}, {"category": None, "area": 4}],
        "overlaps": [[1, 0, 2], [0, 2, 0]],
        "united": [{"objects": [0, 1], "area": 5, "overlaps": [1, 2, 2]}],
    }
    own = {"target": [0, 1], "overlaps": [1, 1], "area": 2, "chosen": [0, 1]}
    return own if sent % 2 else {"target": [0], "image": image}


KINDS = {
    "image_id": (int, str),
    "ref_id": (int, str),
    "sent_id": (int, str),
    "expression": (str,),
    "noun_phrase": (str, type(None)),
    "method": (str,),
    "choice": (int, type(None)),
    "score": (float, type(None)),
    "iou": (float, type(None)),
    "intersection": (int, type(None)),
    "union": (int, type(None)),
    "segmentation": (dict, type(None)),
}


def strict_line(line: bytes) -> dict[str, Any] | None:
    """Read a line of predictions by json and by the types that it must have; None if it is damaged."""
    try:
        content = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or not all(
        name in content and _fits(content[name], kinds) for name, kinds in KINDS.items()
    ):
        return None
    numbers = [v for v in content.values() if isinstance(v, float)]
    return None if any(math.isnan(value) or math.isinf(value) for value in numbers) else content


def _fits(value: Any, kinds: tuple[type, ...]) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    # JSON does not tell whole numbers from others
    same = (float in kinds and whole) or (int in kinds and isinstance(value, float) and value.is_integer())
    return same or type(value) in kinds


def _lines(random: Random, records: list[dict[str, Any]], share: float) -> bytes:
    """Write records, some of them damaged."""
    content = b""
    for record in records:
        line = dump(record) + b"\n"
        if random.random() < share:
            kind = random.randrange(4)
            line = (
                dump(changed(random, record)) + b"\n"
                if kind < 2
                else damaged(random, line)
                if kind == 2
                else b""
            )
        content += line
    if random.random() < share:
        content = damaged(random, content, most=1)
    return content


def predictions(folder: Path) -> Case:
    """``predictions.jsonl``, against a strict reading of each line by json."""
    from gl_ris.headroom import explain
    from gl_ris.predictions import read_predictions

    path = folder / "predictions.jsonl"

    def case(random: Random) -> str:
        content = _lines(random, [_line(k // 2, k) | _facts(k) for k in range(4)], 0.2)
        path.write_bytes(content)
        found = read_predictions(path)
        for record, line in zip(
            found,
            content.splitlines(keepends=True) if b"\r" not in content else content.split(b"\n"),
            strict=False,
        ):
            wanted = strict_line(line if line.endswith(b"\n") else line + b"\n")
            if wanted is None:
                raise Wrong(f"read a damaged line: {line!r:.400}")
            if any(getattr(record, name) != wanted[name] for name in KINDS):
                raise Wrong(f"{record!r:.200} in place of {wanted!r:.200}")
            record.line()
        if len(found) != content.count(b"\n") + (not content.endswith(b"\n") and bool(content)):
            raise Wrong(f"{len(found)} records of {content.count(10)} lines")
        errors, headroom = explain(found)  # what can be read can be explained, or is not told of its image
        for method, kinds in errors.items():
            if sum(kind.count for kind in kinds.values()) + headroom[method].hits != len(
                [record for record in found if record.method == method and record.iou is not None]
            ):
                raise Wrong(f"some of the expressions of {method} have no kind")
        return "read"

    return case


def _written(random: Random, folder: Path, images: int, share: float) -> None:
    """Write what processes have left, with their counts, damaged in places."""
    ranks = random.randint(1, 3)
    for rank in range(ranks):
        own = [k for k in range(images) if k % ranks == rank][: random.randint(0, images)]
        if random.random() < 0.1:
            own += [random.randrange(images)]
        name = f"predictions_rank{rank}.jsonl" if random.random() < 0.95 else "predictions.jsonl"
        (folder / name).write_bytes(_lines(random, [_line(k, 2 * k + j) for k in own for j in (0, 1)], share))
        counts = _lines(random, [{"index": k, "methods": {"Random": [1, 2]}} for k in own], share)
        (folder / ".progress").mkdir(exist_ok=True)
        (folder / ".progress" / f"rank{rank}.jsonl").write_bytes(counts)


def merging(folder: Path) -> Case:
    """Files of several processes: the merged one has every sound line once, in order, or nothing changes."""
    from gl_ris.errors import UserError
    from gl_ris.predictions import merge_predictions

    run = folder / "run"

    def case(random: Random) -> str:
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir()
        _written(random, run, 4, 0.05)
        before = {path.name: path.read_bytes() for path in run.glob("*.jsonl")}
        given = b"".join(content for name, content in before.items() if "rank" in name).splitlines(
            keepends=True
        )
        try:
            merged = merge_predictions(run).read_bytes()
        except UserError:
            if {path.name: path.read_bytes() for path in run.glob("*.jsonl")} != before:
                raise Wrong("a merge that was refused has changed a file") from None
            raise
        lines = merged.splitlines(keepends=True)
        order = [json.loads(line).get("index", 0) for line in lines]
        if sorted(lines) != sorted(given) or order != sorted(order):
            raise Wrong("the merged lines are not those of the files")
        return "read"

    return case


def resuming(folder: Path) -> Case:
    """A folder that a cut-off run has left: what is taken over is whole, and nothing else stays."""
    from experiments.run import resuming as own
    from experiments.run.folder import PROGRESS

    run = folder / "resumed"
    wanted = {k: [(100 + k, 10 * k, 2 * k + j, "Random") for j in (0, 1)] for k in range(4)}

    def case(random: Random) -> str:
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir()
        _written(random, run, 4, 0.1)
        (run / ".progress").rename(run / PROGRESS) if PROGRESS != ".progress" else None
        sound = [
            strict_line(line)
            for path in run.glob("*.jsonl")
            for line in path.read_bytes().splitlines(keepends=True)
        ]
        found = own.take_over(run, wanted, random.randint(1, 3))
        kept = [json.loads(line) for path in run.glob("*.jsonl") for line in path.read_bytes().splitlines()]
        keys = sorted(
            (r.get("index", 0), r["image_id"], r["ref_id"], r["sent_id"], r["method"]) for r in kept
        )
        taken = [image["index"] for image in found]
        if keys != sorted((k, *key) for k in set(taken) for key in wanted.get(k, [None])):
            raise Wrong(f"the records kept are {keys}, of images {taken}")
        if any(record not in sound for record in kept):
            raise Wrong("a record that was in no file")
        again = own.take_over(run, wanted, 1)
        if [image["index"] for image in again] != taken:
            raise Wrong(f"resumed twice: {taken}, then {again}")
        return "read"

    return case


YAML_SCRAPS = [
    "!!python/object/apply:os.mkdir [mark]",
    "&a [*a]",
    "*x",
    "? [a]",
    "{",
    "- ",
    "\t",
    "...",
    "--- a\n--- b",
]
YAML_SCRAPS += [
    "0x10",
    "1_000",
    "1:30",
    ".inf",
    ".nan",
    "2001-01-01",
    "yes",
    "~",
    "!!binary aGk=",
    "!!set {a}",
    "'",
]


def config(_: Path) -> Case:
    """``config.yaml`` as ``--config`` reads it, against PyYAML's safe loader."""
    from contextlib import suppress

    import yaml

    from experiments.cli.config_file import read_config
    from experiments.cli.overrides import current_paths, normalise
    from experiments.run.resuming import settings_to_go_on
    from gl_ris.errors import UserError

    settings: dict[str, Any] = {
        "seed_everything": 0,
        "data": {
            "class_path": "datamodules.RefCOCO",
            "init_args": {"root": "data", "split": "val", "limit": None},
        },
        "model": {"alpha": 0.5, "clip": "RN50", "recipe": {"base": "clean", "unseen": "unseen_names"}},
        "trainer": {"devices": 1, "enable_progress_bar": False},
        "methods": ["global_local", {"method": "cropping", "title": "Cropping"}],
    }
    laughs = "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9) if k else 'x'}]\n" for k in range(9))
    path = Path("config.yaml").absolute()

    def going_on(path: Path) -> None:
        with suppress(UserError):  # other settings
            settings_to_go_on(path.parent, "python -m experiments.zero_shot", settings, ())

    def case(random: Random) -> str:
        text = yaml.safe_dump(settings)
        if random.random() < 0.5:
            with_raw = changed(random, settings, as_json=False)
            text = yaml.safe_dump(with_raw, allow_unicode=True)
        if random.random() < 0.3:
            at = random.randrange(len(text) + 1)
            text = text[:at] + random.choice((*YAML_SCRAPS, laughs)) + text[at:]
        content = text.encode("utf-8", "surrogatepass")
        if random.random() < 0.4:
            content = damaged(random, content, most=2)
        path.write_bytes(content)
        try:
            found = read_config(path)
            current_paths(found)
            path.write_bytes(b"# python -m experiments.zero_shot --config x\n" + content)
            going_on(path)
            normalise(
                [f"--config={path}", "alpha=0.5"],
                {"alpha": "model.alpha"},
                {},
                path.parent,
                options=["model.alpha"],
            )
        finally:
            path.unlink()
        said = yaml.safe_load(content.decode()) or {}
        recipe = "recipe" in found.get("model", {}) if isinstance(found.get("model"), dict) else False
        if not recipe and repr(found)[:9999] != repr(said)[:9999]:
            raise Wrong(f"{found!r:.200} in place of {said!r:.200}")
        return "read"

    return case
