"""k refs of each class: nested, the same in any order, with what is lacking on record."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pytest

from datamodules.fewshot import RefKey, Shots, Subset, choose_refs, read_manifest, write_manifest
from gl_ris.errors import UserError

SIZES = {1: 40, 2: 7, 3: 1}


def universe() -> list[RefKey]:
    refs, number = [], 0
    for category, count in SIZES.items():
        for _ in range(count):
            number += 1
            refs.append(RefKey(number, 1000 + number, category, number % 10, 1 + number % 3))
    return refs


def choose(refs: list[RefKey], k: Shots, seed: int = 0) -> Subset:
    return choose_refs(refs, k, seed, dataset="toy", split_by="unc", split="train", categories=[1, 2, 3, 4])


def test_the_order_of_a_class_is_that_of_a_hash_anyone_can_compute() -> None:
    ids = sorted(range(1, 41), key=lambda i: hashlib.sha256(f"5|toy|unc|{i}".encode()).hexdigest())
    assert [ref.ref_id for ref in choose(universe(), 4, seed=5).refs][:4] == ids[:4]


def test_subsets_are_nested_and_do_not_hang_on_the_order_of_the_file() -> None:
    shuffled = universe()
    random.Random(3).shuffle(shuffled)
    before: set[object] = set()
    for k in (1, 2, 4, 16, "all"):
        subset = choose(universe(), k)
        assert choose(shuffled, k).manifest == subset.manifest
        now = {ref.ref_id for ref in subset.refs}
        assert before <= now
        before = now
    assert before == {ref.ref_id for ref in universe()}


def test_seeds_choose_differently() -> None:
    assert choose(universe(), 4).manifest.ref_ids != choose(universe(), 4, seed=1).manifest.ref_ids


def test_a_class_gives_what_it_has_and_the_lack_is_recorded() -> None:
    subset = choose(universe(), 4)
    assert subset.shortfall == {"3": 3, "4": 4}
    assert choose(universe(), "all").shortfall == {}
    assert [ref.category for ref in subset.refs] == [1] * 4 + [2] * 4 + [3]
    manifest = subset.manifest
    assert manifest.n_refs == 9
    assert manifest.share == 9 / 48
    assert manifest.per_class == {"1": (40, 4), "2": (7, 4), "3": (1, 1), "4": (0, 0)}
    assert manifest.n_sentences == sum(ref.sentences for ref in subset.refs)
    assert manifest.n_images == len({ref.image_id for ref in subset.refs})


def test_two_refs_of_one_annotation_are_one_instance_with_all_sentences() -> None:
    refs = [RefKey(1, 9, 1, 1, 2), RefKey(2, 9, 1, 1, 3), RefKey(3, 8, 1, 1, 1)]
    first = min((1, 2), key=lambda i: hashlib.sha256(f"0|toy|unc|{i}".encode()).hexdigest())
    subset = choose(refs, "all")
    assert {ref.ref_id for ref in subset.refs} == {first, 3}
    assert subset.manifest.n_sentences == 6


@pytest.mark.parametrize("k", [0, -1, 1.5, True, "some"])
def test_what_is_no_count_is_refused(k: object) -> None:
    with pytest.raises(UserError, match="k="):
        choose(universe(), k)  # type: ignore[arg-type]


def test_an_empty_universe_is_refused() -> None:
    with pytest.raises(UserError, match="no refs"):
        choose([], 1)


def test_a_manifest_brings_a_subset_back(tmp_path: Path) -> None:
    subset = choose(universe(), 4)
    write_manifest(tmp_path / "m.json", subset)
    found = read_manifest(tmp_path / "m.json", universe())
    assert [ref.ref_id for ref in found.refs] == [ref.ref_id for ref in subset.refs]
    assert found.manifest == subset.manifest
    assert found.shortfall == subset.shortfall


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda m: m["ref_ids"].append(48), "damaged"),
        (lambda m: m.pop("ref_ids"), "is no manifest, or damaged .*`ref_ids`"),
        (lambda m: m.update(universe_sha256="0"), "other refs"),
    ],
)
def test_a_manifest_of_something_else_is_refused(tmp_path: Path, change: object, expected: str) -> None:
    write_manifest(tmp_path / "m.json", choose(universe(), 4))
    manifest = json.loads((tmp_path / "m.json").read_text())
    change(manifest)  # type: ignore[operator]
    (tmp_path / "m.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=expected):
        read_manifest(tmp_path / "m.json", universe())
    with pytest.raises(UserError, match="No manifest at"):
        read_manifest(tmp_path / "none.json", universe())
