"""What a run was made of, by hash."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

import gl_ris.assets
from gl_ris.hashes import sha256_of
from gl_ris.inputs import clip_files, hub_files, inputs_of, source_files

ASSETS = Path(gl_ris.assets.__file__).parent


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub with one repository: a large file by its SHA-256, a small one by another hash."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--owner--name"
    snapshot = folder / "snapshots" / ("c" * 40)
    for made in (folder / "blobs", folder / "refs", snapshot):
        made.mkdir(parents=True)
    (folder / "refs" / "main").write_text("c" * 40)
    for name, blob in {"model.safetensors": "a" * 64, "config.json": "b" * 40}.items():
        (folder / "blobs" / blob).write_bytes(b"{}")
        (snapshot / name).symlink_to(folder / "blobs" / blob)
    return tmp_path


@pytest.mark.usefixtures("hub")
def test_downloads_of_the_hub_are_known_by_their_blobs(monkeypatch: pytest.MonkeyPatch) -> None:
    found = hub_files("owner/name")
    assert {name: isinstance(path, Path) and sha256_of(path) for name, path in found.items()} == {
        "owner/name/config.json": digest(b"{}"),
        "owner/name/model.safetensors": "a" * 64,
    }
    assert clip_files("hf-hub:owner/name", None) == source_files("owner/name") == found
    assert hub_files("owner/other") == {"owner/other": None}


def test_files_of_a_clip_model(tmp_path: Path) -> None:
    weights = tmp_path / "mine.pt"
    weights.write_bytes(b"x")
    assert clip_files("ViT-B-32", str(weights)) == {"mine.pt": weights}
    assert clip_files("ViT-B-32", None) == {}
    assert clip_files(f"local-dir:{tmp_path}", None) == {f"{tmp_path.name}/mine.pt": weights}
    assert set(clip_files("refshapes-rn", None)) == {
        f"refshapes-rn/{name}"
        for name in (
            *("open_clip_config.json", "open_clip_model.safetensors"),
            *("tokenizer.json", "tokenizer_config.json"),
        )
    }


def test_of_files_of_one_name_each_has_its_hash(tmp_path: Path) -> None:
    from datamodules import RefCOCO
    from gl_ris.given_masks import GivenMasks

    folder, paths = tmp_path / "refcoco", [tmp_path / name / "x.json" for name in ("a", "b")]
    for path in (folder / "refs(unc).p", folder / "instances.json", *paths):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(str(path).encode())
    data = RefCOCO(tmp_path, sentences=paths[0], without=paths[1])
    found = inputs_of(GivenMasks([str(path) for path in paths]), data)
    each = {str(path): digest(str(path).encode()) for path in paths}
    assert found["predictions"] == found["lists"] == each
    alone = inputs_of(GivenMasks(str(paths[0])), RefCOCO(tmp_path, sentences=paths[0]))
    assert alone["predictions"] == alone["lists"] == {"x.json": each[str(paths[0])]}


def test_inputs_of_a_run(tmp_path: Path) -> None:
    from datamodules import RefCOCO
    from gl_ris.proposals import SLIC
    from gl_ris.zero_shot import ZeroShotRIS

    folder = tmp_path / "refcoco"
    folder.mkdir()
    for name in ("refs(unc).p", "instances.json", "other.json"):
        (folder / name).write_bytes(name.encode())
    data: Any = RefCOCO(tmp_path, proposals="ground_truth", instances=folder / "other.json")
    found = inputs_of(ZeroShotRIS(clip="refshapes-rn"), data)
    assert found["annotations"] == {
        name: digest(name.encode()) for name in ("refs(unc).p", "instances.json", "other.json")
    }
    assert found["parser"] == {"shipped": sha256_of(ASSETS / "parser")}
    weights = (ASSETS / "refshapes-rn" / "open_clip_model.safetensors").read_bytes()
    assert found["clip"]["refshapes-rn/open_clip_model.safetensors"] == digest(weights)
    assert "proposals" not in found
    generated = inputs_of(ZeroShotRIS(clip="refshapes-rn", proposals=SLIC()), RefCOCO(tmp_path))
    ((name, key),) = generated["proposals"].items()
    assert name.startswith("refcoco-unc-val/slic-")
    assert str(key).startswith(name.rpartition("-")[2])
