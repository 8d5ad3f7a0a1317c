from __future__ import annotations

import re
from pathlib import Path

import pytest

from datamodules import download
from datamodules.checking.counts import read_counts
from datamodules.download import peak, plan, require_space
from datamodules.fetching.archive import name_fault
from datamodules.fetching.catalogue import Item, find_item, item_from, read_catalogue
from datamodules.fetching.transfer import MAGIC
from gl_ris.errors import UserError

ITEMS = list(read_catalogue().values())
each = pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.name)


@each
def test_every_item_says_what_it_is_where_from_and_on_what_that_rests(item: Item) -> None:
    assert item.title
    assert item.terms
    assert item.facts
    assert sum([bool(item.downloads), item.hub is not None, item.clip is not None]) == 1
    assert item.makes or item.clip
    assert all(name in read_catalogue() for name in item.needs)
    assert item.check is None or item.check in read_counts()
    assert item.bytes > 0


@each
def test_sizes_hashes_and_places_are_well_formed(item: Item) -> None:
    for made in item.makes:
        assert name_fault(made.path) is None
    for file in item.downloads:
        assert file.magic in MAGIC
        assert file.urls
        assert all(url.startswith(("https://", "http://")) for url in file.urls)
        assert (file.size is None) != (file.about == 0)
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256 or "0" * 64)
        assert re.fullmatch(r"[0-9a-f]{32}", file.md5 or "0" * 32)
        for target in file.place.values():
            assert name_fault(target) is None
            assert any(target.startswith(m.path.split("/")[0]) for m in item.makes)
    if item.hub:
        assert any(made.path.startswith(item.hub.into) for made in item.makes)
        assert item.hub.type in ("dataset", "model")


@each
def test_an_address_without_encryption_is_used_only_where_it_comes_last_or_a_hash_is_known(
    item: Item,
) -> None:
    for file in item.downloads:
        plain = [url.startswith("http:") for url in file.urls]
        assert not any(plain) or plain[-1] or file.md5 or file.sha256
        assert not plain[0]


def test_a_field_that_is_misspelt_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown field `hash`"):
        item_from("toy", {"title": "a toy", "terms": "none", "hash": "0"})


def test_no_name_is_missing() -> None:
    wanted = {"refcoco", "refcoco+", "refcocog", "coco-train2014", "phrasecut", "freesolo", "cutler", "clip"}
    assert wanted <= set(read_catalogue())
    with pytest.raises(UserError, match=r"Unknown name to fetch 'refcocg'\. Did you mean 'refcocog'\?"):
        find_item("refcocg")


@each
def test_every_item_can_be_planned(item: Item) -> None:
    text = plan(item, Path("data"), "to be fetched")
    assert all(url in text for file in item.downloads for url in file.urls)


def test_places_are_named_with_alternatives_and_counts() -> None:
    made = find_item("phrasecut").places(Path("data"))
    assert made[0] == "data/phrasecut/refer_test.json"
    assert made[-1] == "data/phrasecut/image_data_split.json (or image_data_split3000.json)"
    assert find_item("phrasecut-images").places(Path("d")) == ["d/phrasecut/images/*.jpg (77,262 or more)"]


def test_space_is_that_of_the_worst_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, coco = find_item("refcoco"), find_item("coco-train2014")
    alone = 13_510_573_713 + 13_600_000_000
    assert peak([coco], tmp_path) == alone
    assert peak([small, coco], tmp_path) == 400_000_000 + alone
    assert peak([coco, small], tmp_path) == alone  # the archive has gone when the next one comes
    (tmp_path / "downloads").mkdir()
    with (tmp_path / "downloads/train2014.zip.part").open("wb") as file:
        file.truncate(5_000_000_000)
    assert peak([coco], tmp_path) == alone - 5_000_000_000
    monkeypatch.setattr(download, "free_bytes", lambda _: 10**9)
    with pytest.raises(UserError, match=r"coco-train2014 take about 22\.1GB .* has 1\.00GB free"):
        require_space([coco], tmp_path)
