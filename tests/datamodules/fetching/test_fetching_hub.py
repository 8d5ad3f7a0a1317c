from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.fetching.catalogue import Clip, Hub, item_from
from datamodules.fetching.obtain import FetchFailed, Settings, fetch_clip, fetch_hub, obtain, picked
from datamodules.fetching.transfer import Patience, SourceFailed

SHA = "5" * 40
PARQUET = b"PAR1" + bytes(range(256)) * 100 + b"PAR1"


class Sibling:
    def __init__(self, name: str) -> None:
        self.rfilename = name


def serve_hub(server: Any, behave: Any, files: dict[str, bytes], sent: dict[str, bytes] | None = None) -> str:
    """Serve a data set repository as the hub does; `sent` are bytes that differ from what it announces."""
    siblings = [
        {
            "rfilename": name,
            "size": len(content),
            "blobId": "0" * 40,
            "lfs": {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 1},
        }
        for name, content in files.items()
    ]
    info = json.dumps({"id": "me/toy", "sha": SHA, "siblings": siblings}).encode()
    for path in ("/api/datasets/me/toy", "/api/datasets/me/toy/revision/main"):
        server.serve(path, info, behave(kind="application/json", etag=None))
    for name, content in files.items():
        page = (sent or {}).get(name, content)
        headers = {"X-Repo-Commit": SHA, "X-Linked-Size": str(len(page))}
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        server.serve(f"/datasets/me/toy/resolve/{SHA}/{name}", page, behave(etag=etag, headers=headers))
    return server.url("")


def hub(endpoint: str, **fields: Any) -> Hub:
    return Hub(
        **{
            "repo": "me/toy",
            "type": "dataset",
            "pick": ("data/*.parquet",),
            "into": "toy",
            "about": 1,
            "endpoint": endpoint,
            **fields,
        }
    )


def test_wanted_files_come_and_are_checked_by_the_hubs_hashes(
    server: Any, behave: Any, tmp_path: Path
) -> None:
    files = {"data/a.parquet": PARQUET, "data/b.parquet": PARQUET + b"PAR1", "model.bin": b"no"}
    said: list[str] = []
    checked = fetch_hub(hub(serve_hub(server, behave, files)), tmp_path, said.append)
    assert said[-1].endswith(f"revision {SHA}")
    assert checked == "the hub's sizes, and its sha256 of 2 of 2 files"
    assert (tmp_path / "toy/data/a.parquet").read_bytes() == PARQUET
    assert sorted(p.name for p in (tmp_path / "toy").rglob("*.*")) == ["a.parquet", "b.parquet"]


def test_files_may_be_picked_by_their_last_name(server: Any, behave: Any, tmp_path: Path) -> None:
    endpoint = serve_hub(
        server, behave, {"deep/VG/refer_val.json": b"[]", "deep/refer_input_val.json": b"[]"}
    )
    fetch_hub(hub(endpoint, pick=("refer_val.json",), flat=True), tmp_path, lambda _: None)
    assert [p.name for p in (tmp_path / "toy").iterdir()] == ["refer_val.json"]


def test_wrong_bytes_from_the_hub_are_refused(server: Any, behave: Any, tmp_path: Path) -> None:
    wrong = b"PAR1" + bytes(len(PARQUET) - 4)
    endpoint = serve_hub(server, behave, {"data/a.parquet": PARQUET}, {"data/a.parquet": wrong})
    with pytest.raises(SourceFailed, match=r"data/a\.parquet: its sha256 is .*, expected"):
        fetch_hub(hub(endpoint), tmp_path, lambda _: None)
    assert not (tmp_path / "toy").exists()


def test_a_repository_that_is_gone_is_told_with_the_place_by_hand(
    server: Any, tmp_path: Path, hasty: Patience
) -> None:
    entry = {
        "title": "a toy",
        "terms": "none",
        "makes": [{"path": "toy/data", "files": "*.parquet", "count": 1}],
        "hub": {
            "repo": "me/gone",
            "type": "dataset",
            "pick": ["*"],
            "into": "toy",
            "about": 1,
            "endpoint": server.url(""),
        },
    }
    settings = Settings(tmp_path, hasty, progress=False, say=lambda _: None)
    with pytest.raises(FetchFailed, match=r"(?s)me/gone\n.*404.*toy/.*\*\.parquet"):
        obtain(item_from("toy", entry), settings)


def test_what_a_repository_holds_is_named_if_it_is_not_what_is_wanted() -> None:
    siblings = [Sibling("README.md"), Sibling("train.zip")]
    with pytest.raises(
        SourceFailed, match=r"none of the files data/\*\.parquet; it holds README\.md, train\.zip"
    ):
        picked(hub(""), siblings)


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["data/../../x.parquet"], "leads out of its folder"),
        (["a/x.json", "b/x.json"], "several files of one name"),
    ],
)
def test_names_of_a_repository_are_not_trusted(names: list[str], match: str) -> None:
    wanted = hub("", pick=("*.parquet", "x.json"), flat="json" in names[0])
    with pytest.raises(SourceFailed, match=match):
        picked(wanted, [Sibling(name) for name in names])


def test_clip_comes_through_open_clip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from open_clip import pretrained

    asked: list[dict[str, Any]] = []

    def download(config: dict[str, Any]) -> str:
        asked.append(config)
        return str(tmp_path / "model")

    monkeypatch.setattr(pretrained, "download_pretrained", download)
    said: list[str] = []
    clip = Clip(("ViT-B-32-quickgelu", "RN50-quickgelu"), "openai", 1)
    assert fetch_clip(clip, said.append) == "by open_clip"
    assert [line.rpartition(": ")[2] for line in said] == [f"{tmp_path}/model"] * 2
    assert [c["quick_gelu"] for c in asked] == [True, True]
    assert [c["hf_hub"].split("/")[0] for c in asked] == ["timm", "timm"]
    with pytest.raises(SourceFailed, match="no weights 'opanai'"):
        fetch_clip(Clip(("RN50-quickgelu",), "opanai", 1), said.append)
