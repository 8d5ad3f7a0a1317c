from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datamodules import check, phrasecut
from datamodules.checking.counts import Published, compared, differences, read_counts
from datamodules.checking.run import Options, Report, count_problems, find_targets
from datamodules.checking.run import check as check_target
from gl_ris.command_line import exit_code

SQUARE = [[1, 1, 5, 1, 5, 5, 1, 5]]  # 16 of 64 pixels


def ref(ref_id: int, image_id: int, split: str, *sentences: str) -> dict[str, Any]:
    texts = sentences or ("a thing",)
    return {
        "ref_id": ref_id,
        "ann_id": ref_id,
        "image_id": image_id,
        "category_id": 1,
        "split": split,
        "file_name": "x.jpg",
        "sent_ids": [10 * ref_id + n for n in range(len(texts))],
        "sentences": [
            {"sent_id": 10 * ref_id + n, "sent": t, "raw": t, "tokens": []} for n, t in enumerate(texts)
        ],
    }


Damage = Callable[[list[dict[str, Any]], dict[str, Any], Path], None]


def make(root: Path, damage: Damage | None = None, name: str = "mine", split_by: str = "unc") -> Path:
    """Write four sound images of 8 x 8, three val and one test, one ref each; then let `damage` loose."""
    refs = [ref(n, n, "test" if n == 4 else "val") for n in range(1, 5)]
    instances = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": 8, "width": 8} for n in range(1, 5)],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "iscrowd": 0, "segmentation": SQUARE}
            for n in range(1, 5)
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }
    folder = root / name
    (folder / "images").mkdir(parents=True)
    for n in range(1, 5):
        Image.new("RGB", (8, 8), (n, 2 * n, 3 * n)).save(folder / "images" / f"{n}.png")
    if damage:
        damage(refs, instances, folder)
    # the project's own writer would refuse some of the damage
    (folder / f"refs({split_by}).p").write_bytes(pickle.dumps(refs, protocol=2))
    (folder / "instances.json").write_text(json.dumps(instances))
    return folder


def look(folder: Path, **options: Any) -> Report:
    (target,) = find_targets(str(folder), Path("data"))
    return check_target(target, Options(progress=False, **options))


def found(report: Report) -> dict[str, tuple[int, ...]]:
    return {split: tuple(c.found for c in counts.values()) for split, counts in report.splits.items()}


def kinds(report: Report) -> dict[str, int]:
    return {kind: count for kind, count in report.problems.counts.items() if kind != "not compared"}


def outline(value: Any) -> Damage:
    def damage(refs: Any, instances: Any, folder: Path) -> None:
        instances["annotations"][1]["segmentation"] = value

    return damage


def sentence(text: str) -> Damage:
    return lambda refs, *_: refs[1].update(ref(2, 2, "val", text))


def image(change: Callable[[Path], Any]) -> Damage:
    return lambda refs, instances, folder: change(folder / "images" / "2.png")


def no_sentences(refs: Any, instances: Any, folder: Path) -> None:
    refs[1]["sentences"] = []


def name_outside(refs: Any, instances: Any, folder: Path) -> None:
    instances["images"][1]["file_name"] = "../../secret.png"


def test_a_sound_data_set_is_fine(tmp_path: Path) -> None:
    report = look(make(tmp_path), images="decode")
    assert found(report) == {"test": (1, 1, 1), "val": (3, 3, 3)}
    assert kinds(report) == {}
    assert not report.problems.failed(strict=True)
    assert report.looked[1] == f"val: 3 images decoded in {tmp_path}/mine/images, 3 masks drawn"


@pytest.mark.parametrize(
    ("damage", "kind", "example"),
    [
        (image(lambda p: p.unlink()), "image missing", r"val, image 2: .*2\.png"),
        (image(lambda p: p.write_bytes(p.read_bytes()[:50])), "image unreadable", "cannot be read"),
        (image(lambda p: p.write_bytes(b"<html>")), "image unreadable", "cannot be read"),
        (image(lambda p: Image.new("L", (9, 8)).save(p)), "image unreadable", "is 9 x 8, annotated as 8 x 8"),
        (name_outside, "image name", r"val, image 2: .*secret\.png"),
        (outline([]), "mask empty", "val, image 2, ref 2"),
        (outline([[3, 3, 3, 3, 3, 3]]), "mask empty", "ref 2"),
        (outline([[0, 0, 8, 0, 8, 8, 0, 8]]), "mask full", "ref 2"),
        (outline([[1, 1, 4, 1, 4, 4, 1, 4]]), "mask tiny", "ref 2: 9 pixels"),
        (outline([[1, 1, 20, 1, 20, 5, 1, 5]]), "mask leaves image", r"ref 2: by 12\.0 pixels"),
        (outline([[1, 1, 5, 1, 5]]), "mask faulty", "even count"),
        (outline("text"), "mask faulty", "str, not polygons"),
        (outline({"size": [4, 4], "counts": [0, 16]}), "mask faulty", "ref 2"),
        (sentence(""), "sentence empty", "ref 2: ''"),
        (sentence(" \t"), "sentence empty", r"ref 2: ' \\t'"),
        (no_sentences, "ref without sentences", "val, ref 2"),
    ],
)
def test_each_damage_is_found_once_and_named(tmp_path: Path, damage: Damage, kind: str, example: str) -> None:
    report = look(make(tmp_path, damage), images="decode")
    assert kinds(report) == {kind: 1}
    with pytest.raises(AssertionError, match=example):
        raise AssertionError(report.problems.examples[kind][0])


def test_ids_that_stand_for_two_things(tmp_path: Path) -> None:
    def damage(refs: Any, instances: Any, folder: Path) -> None:
        refs[0]["ref_id"] = 2
        refs[2]["sentences"][0]["sent_id"] = 10
        instances["images"].append(dict(instances["images"][0]))
        instances["annotations"].append(dict(instances["annotations"][3]))

    report = look(make(tmp_path, damage))
    assert kinds(report)["duplicate id"] == 4
    assert sorted(report.problems.examples["duplicate id"]) == [
        "id of annotations in instances.json 4: 2 times",
        "id of images in instances.json 1: 2 times",
        "ref_id 2: 2 times",
        "sent_id 10: 2 times",
    ]


@pytest.mark.parametrize(
    ("name", "split_by", "kind", "fails"),
    [
        ("refcoco", "unc", "shared image", True),
        ("refcocog", "google", "image in two splits", False),
        ("mine", "unc", "image in two splits", False),
    ],
)
def test_images_in_two_splits_are_an_error_where_the_partition_is_by_image(
    tmp_path: Path, name: str, split_by: str, kind: str, fails: bool
) -> None:
    def damage(refs: Any, *_: Any) -> None:
        refs[3]["image_id"] = 3

    problems = look(make(tmp_path, damage, name, split_by)).problems
    assert problems.counts[kind] == 1
    assert "1 images stand in test and val, e.g. 3" in problems.examples[kind][0]
    problems.counts = {k: n for k, n in problems.counts.items() if k == kind}
    assert problems.failed() is fails


@pytest.mark.parametrize(
    ("file", "content", "match"),
    [
        ("refs(unc).p", b"\x80\x02]q\x00(K\x01", "not a readable pickle"),
        ("refs(unc).p", pickle.dumps([Path]), "was refused"),
        ("instances.json", b"<html>", "is no annotation file, or damaged"),
        ("instances.json", b'{"images": [], "annotations": [], "categories": []}', "do not belong together"),
    ],
    ids=["cut-off", "hostile", "page", "other"],
)
def test_a_damaged_file_is_a_finding_not_a_crash(
    tmp_path: Path, file: str, content: bytes, match: str
) -> None:
    folder = make(tmp_path)
    (folder / file).write_bytes(content)
    report = look(folder)
    assert report.problems.failed()
    assert match in report.problems.examples["file"][0]


def test_images_nowhere_to_be_found_are_counted(tmp_path: Path) -> None:
    folder = make(tmp_path)
    report = look(folder, image_root=tmp_path / "elsewhere")
    assert kinds(report) == {"image missing": 4}
    assert kinds(look(folder, image_root=tmp_path / "elsewhere", images="none")) == {}


@pytest.mark.slow
def test_many_processes_find_what_one_does(tmp_path: Path) -> None:
    def damage(refs: Any, instances: Any, folder: Path) -> None:
        for n in range(5, 150):
            refs.append(ref(n, n, "val", *([""] if n % 7 == 0 else ["a thing"])))
            instances["images"].append({"id": n, "file_name": f"{n}.png", "height": 8, "width": 8})
            polygons = [] if n % 5 == 0 else SQUARE
            instances["annotations"].append(
                {"id": n, "image_id": n, "category_id": 1, "iscrowd": 0, "segmentation": polygons}
            )

    folder = make(tmp_path, damage)
    alone, together = look(folder), look(folder, workers=2)
    assert alone.problems == together.problems
    assert kinds(alone) == {"image missing": 145, "sentence empty": 21, "mask empty": 29}


def test_counts_that_differ_are_named_and_unverified_ones_only_shown() -> None:
    known = Published(splits={"val": {"refs": 3811, "sentences": 9}}, not_verified=("val sentences",))

    def look_at(split: str, **counts: int) -> tuple[list[str], list[str]]:
        both = compared({split: counts}, known)
        return [str(count) for count in both[split].values()], list(differences(both, "unc", known))

    assert look_at("val", refs=3811, images=1, sentences=1) == (
        ["3,811 ok", "1", "1 (not verified: 9)"],
        [],
    )
    assert look_at("val", refs=3810) == (
        ["3,810 EXPECTED 3,811"],
        ["refs of val: 3,810, expected 3,811 (unc)"],
    )
    assert look_at("dev", refs=0) == (["0"], ["split dev: not one of val (unc)"])


def test_the_published_counts_add_up() -> None:
    totals = {
        ("refcoco", "unc", "refs"): 50_000,
        ("refcoco", "google", "refs"): 50_000,
        ("refcocog", "umd", "refs"): 49_822,
        ("refcocog", "google", "refs"): 49_822,
        ("refcocog", "umd", "images"): 25_799,
        ("refcoco", "unc", "images"): 19_994,
        ("refcoco+", "unc", "images"): 19_992,
        ("refcoco", "unc", "sentences"): 142_210,
        ("grefcoco", "unc", "images"): 19_994,
        ("grefcoco", "unc", "sentences"): 259_859,
    }
    for (name, partition, kind), total in totals.items():
        assert sum(counts[kind] for counts in read_counts()[name][partition].splits.values()) == total
    unverified = [
        (name, partition, split, kind)
        for name, partitions in read_counts().items()
        for partition, known in partitions.items()
        for split, counts in compared(known.splits, known).items()
        for kind, count in counts.items()
        if not count.verified
    ]
    assert unverified == [
        ("refcoco+", "unc", "train", "sentences"),
        ("refcocog", "umd", "train", "sentences"),
        ("refcocog", "umd", "test", "sentences"),
        *(("grefcoco", "unc", split, "sentences") for split in ("train", "val", "testA", "testB")),
    ]


def task(task_id: str, image_id: int, polygons: Any = None) -> dict[str, Any]:
    drawn = [[[[1, 1], [5, 1], [5, 5], [1, 5]]]] if polygons is None else polygons
    return {"task_id": task_id, "image_id": image_id, "phrase": "a thing", "Polygons": drawn}


@pytest.mark.parametrize(("inside", "phrases"), [(True, 2), (False, 3)])
def test_phrasecut_is_counted_drawn_and_its_miniv_is_a_part_of_val(
    tmp_path: Path, inside: bool, phrases: int
) -> None:
    folder = tmp_path / "phrasecut"
    images = [{"image_id": n, "height": 8, "width": 8} for n in range(1, 4)]
    phrasecut.write_phrasecut(folder, "val", [task("1__1", 1), task("2__1", 2, [[]])], images)
    small = [task("1__1", 1)] if inside else [task("1__2", 1)]
    phrasecut.write_phrasecut(folder, "miniv", small, images)
    phrasecut.write_phrasecut(folder, "test", [task("3__1", 3)], images)
    (folder / "refer_input_test.json").write_text("[]")  # published beside the others, without targets
    (folder / "images").mkdir()
    for n in (1, 3):
        Image.new("RGB", (8, 8)).save(folder / "images" / f"{n}.jpg")
    report = look(folder)
    assert found(report) == {"val": (phrases, 2), "test": (1, 1), "miniv": (1, 1)}
    assert kinds(report) == {"count": 6, "split missing": 1, "image missing": 1, "mask empty": 1}
    assert f"refs of val: {phrases}, expected 20,316 (official)" in report.problems.examples["count"]


def run(*arguments: str) -> int:
    try:
        return exit_code(lambda: check.main(arguments))
    except SystemExit as done:
        return int(done.code or 0)


def test_the_command_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, sentence(""), "refcoco")
    code = run("refcoco", f"root={tmp_path}", "--split=val")
    assert code == 1
    output = capsys.readouterr().out
    assert f"refcoco (unc) in {tmp_path}/refcoco" in output
    assert "val    3 EXPECTED 3,811  3 EXPECTED 1,500  3 EXPECTED 10,834" in output
    assert "  refs of val: 3, expected 3,811 (unc)\n" in output
    assert "note: sentence empty, 1 times" in output
    assert output.endswith("refcoco (unc): MISMATCH\n\n")


def test_notes_fail_a_check_only_if_it_is_strict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(tmp_path, sentence(""))
    assert run(str(folder)) == 0
    assert run(str(folder), "--strict") == 1
    assert run(str(folder), "--strict", "--split=test") == 0
    assert run(str(tmp_path)) == 0  # a folder of such folders


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ([], "Say what to check"),
        (["refcco"], "Unknown data set, and no folder 'refcco'. Did you mean 'refcoco'?"),
        (
            ["refcoco"],
            "No annotations of refcoco in 'data/refcoco'. Fetch it: python -m datamodules.download",
        ),
        (
            ["."],
            "'.' holds neither refs(<split_by>).p nor grefs(<split_by>).json nor refer_<split>.json nor a",
        ),
        (["{mine}", "--split-by=umd"], "Unknown partition (--split-by) of"),
        (["{mine}", "--split=vall"], "Unknown split of mine (unc) 'vall'. Did you mean 'val'?"),
        (["{mine}", "--images=see"], "Argument --images: invalid choice: 'see'"),
        (["{mine}", "--imags=none"], "Unknown option '--imags'. Did you mean '--images'?"),
        (["{mine}", "--workers=-1"], "--workers and --tiny must be 0 or more."),
    ],
)
def test_wrong_usage_is_one_sentence_and_code_2(
    arguments: list[str], match: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = make(tmp_path)
    assert run(*(argument.format(mine=mine) for argument in arguments)) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"error: {match}")
    assert errors.count("\n") == 1


def test_counts_alone_are_what_a_download_asks_for(tmp_path: Path) -> None:
    make(tmp_path, name="refcoco+")
    problems = count_problems("refcoco+", tmp_path)
    assert "refs of val: 3, expected 3,805 (unc)" in problems
    assert "split test: not one of train, val, testA, testB (unc)" in problems
    assert "testA (unc)" in problems
