"""OpenAI's own files of weights: archives of programs, of which only the tensors are read."""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip import factory

from gl_ris.clip import load_clip
from gl_ris.clip.torchscript import is_archive, quick_gelu_of, read_archive
from gl_ris.errors import UserError
from tiny_clips import VISION, shake

SIZES = {"vit": 32, "resnet": 96}


@pytest.fixture
def architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Make a tiny architecture known to open_clip under two names, with and without QuickGELU."""
    monkeypatch.setattr(factory, "_MODEL_CONFIGS", dict(factory._MODEL_CONFIGS))
    monkeypatch.setattr(factory, "_MODEL_CONFIG_PATHS", list(factory._MODEL_CONFIG_PATHS))

    def add(kind: str) -> str:
        text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
        config = {"embed_dim": 24, "vision_cfg": VISION[kind], "text_cfg": text}
        for name, quick in ((f"tiny-{kind}", False), (f"tiny-{kind}-quickgelu", True)):
            (tmp_path / "configs").mkdir(exist_ok=True)
            (tmp_path / "configs" / f"{name}.json").write_text(json.dumps({**config, "quick_gelu": quick}))
        open_clip.add_model_config(tmp_path / "configs")
        return f"tiny-{kind}"

    return add


def random_model(name: str, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(3)
    model = open_clip.create_model(name).eval()
    shake(model)
    # as OpenAI's files state them
    for measure in ("input_resolution", "context_length", "vocab_size"):
        vars(model).pop(measure, None)
        model.register_buffer(measure, torch.tensor(7))
    return model.to(dtype)


def trace(model: Any, kind: str, path: Path) -> Path:
    dtype = next(model.parameters()).dtype
    inputs = (torch.rand(1, 3, SIZES[kind], SIZES[kind], dtype=dtype), torch.ones(1, 77, dtype=torch.long))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(model, inputs, check_trace=False, strict=False).save(str(path))
    return path


def features(clip: Any, kind: str) -> list[torch.Tensor]:
    pixels = torch.rand(2, 3, SIZES[kind], SIZES[kind], generator=torch.Generator().manual_seed(1))
    return [clip.encode_image(pixels), clip.encode_texts(["a dog", "the red star on the left"])]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_an_archive_gives_the_features_of_its_state_dict(
    kind: str, dtype: torch.dtype, architecture: Callable[[str], str], tmp_path: Path
) -> None:
    name = f"{architecture(kind)}-quickgelu"
    model = random_model(name, dtype)
    archive = trace(model, kind, tmp_path / "RN50.pt")
    plain = {
        key: t
        for key, t in model.state_dict().items()
        if not key.endswith(("_length", "_resolution", "_size"))
    }
    torch.save(plain, tmp_path / "plain.pt")
    with pytest.warns(UserWarning, match="does not say its activation"):
        expected = features(load_clip(name, str(tmp_path / "plain.pt")), kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # its programs say the activation
        loaded = load_clip(name, str(archive))
    assert all(torch.equal(a, b) for a, b in zip(features(loaded, kind), expected, strict=True))
    assert {key: t.dtype for key, t in read_archive(archive).items()} == {
        k: t.dtype for k, t in plain.items()
    }


@pytest.mark.parametrize(("quick", "fix"), [(True, "tiny-vit-quickgelu"), (False, "tiny-vit")])
def test_the_activation_must_be_that_of_its_programs(
    quick: bool, fix: str, architecture: Callable[[str], str], tmp_path: Path
) -> None:
    name = architecture("vit")
    archive = trace(random_model(fix), "vit", tmp_path / "weights.pt")
    assert quick_gelu_of(archive) is quick
    other = name if quick else f"{name}-quickgelu"
    with pytest.raises(UserError, match=rf"QuickGELU mismatch: .*weights\.pt' were .*; use '{fix}'\.$"):
        load_clip(other, str(archive))


def test_weights_of_another_architecture_are_one_sentence(
    architecture: Callable[[str], str], tmp_path: Path
) -> None:
    architecture("resnet")
    archive = trace(random_model(f"{architecture('vit')}-quickgelu"), "vit", tmp_path / "weights.pt")
    with pytest.raises(
        UserError, match=r"weights of .* cannot be loaded .* of that very architecture"
    ) as told:
        load_clip("tiny-resnet-quickgelu", str(archive))
    assert "\n" not in str(told.value)


def test_shapes_alone_need_no_values(architecture: Callable[[str], str], tmp_path: Path) -> None:
    name = f"{architecture('vit')}-quickgelu"
    archive = trace(random_model(name), "vit", tmp_path / "weights.pt")
    assert load_clip(name, str(archive), device="meta").device.type == "meta"


class Call:
    """Pickles as a call of ``posix.system``."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        import os

        return os.system, (self.command,)


def rewritten(archive: Path, target: Path, edit: Callable[[str, bytes], Iterator[tuple[str, bytes]]]) -> Path:
    """Copy an archive, each entry as ``edit`` wants it."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            for entry, content in edit(name, old.read(name)):
                new.writestr(entry, content)
    return target


def test_programs_in_an_archive_are_not_run(architecture: Callable[[str], str], tmp_path: Path) -> None:
    name = f"{architecture('vit')}-quickgelu"
    good = trace(random_model(name), "vit", tmp_path / "good.pt")
    mark = tmp_path / "mark"
    hostile = f"import os\nos.system('touch {mark}')\n".encode()

    def edit(entry: str, content: bytes) -> Iterator[tuple[str, bytes]]:
        yield entry, hostile + content if entry.endswith(".py") else content
        if entry.endswith("constants.pkl"):
            yield entry.replace("constants.pkl", "extra.pkl"), pickle.dumps(Call(f"touch {mark}"))

    bad = rewritten(good, tmp_path / "bad.pt", edit)
    expected = features(load_clip(name, str(good)), "vit")
    assert all(map(torch.equal, features(load_clip(name, str(bad)), "vit"), expected))
    assert not mark.exists()


def of_pickle(content: bytes) -> Callable[[str, bytes], Iterator[tuple[str, bytes]]]:
    def edit(entry: str, old: bytes) -> Iterator[tuple[str, bytes]]:
        yield entry, content if entry.endswith("/data.pkl") else old

    return edit


def short(entry: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    yield entry, content[:8] if "/data/" in entry else content


def without_storages(entry: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    if "/data/" not in entry:
        yield entry, content


def opcodes(*values: object) -> bytes:
    """Pickle a module of ``__torch__`` whose state is made of the opcodes of ``values``."""
    made = b"".join(pickle.dumps(value, protocol=2)[2:-1] for value in values)
    return b"\x80\x02c__torch__.m\nM\nq\x00)\x81q\x01" + made + b"b."


SELF = b"\x80\x02c__torch__.m\nM\nq\x00)\x81q\x01}X\x01\x00\x00\x00aq\x02h\x01sb."


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (of_pickle(pickle.dumps(Call("touch MARK"), protocol=2)), r"it names (posix|nt)\.system"),
        (of_pickle(b"\x80\x02cbuiltins\neval\nX\x04\x00\x00\x00open\x85R."), r"it names builtins\.eval"),
        (of_pickle(b"\x80\x02ctorch\nload\n."), r"it names torch\.load"),
        (of_pickle(b"(S'touch MARK'\nios\nsystem\n."), r"it names os\.system"),
        (of_pickle(SELF), "are no tree"),
        (of_pickle(opcodes([1, 2])), "are no tree"),
        (of_pickle(pickle.dumps(3)), "cannot be read"),
        (of_pickle(b""), "cannot be read"),
        (short, "values"),
        (without_storages, "cannot be read"),
        (lambda entry, content: iter([(entry.removesuffix(".pkl") + ".other", content)]), "cannot be read"),
    ],
    ids=[
        "call",
        "eval",
        "load",
        "old pickle",
        "circle",
        "list",
        "number",
        "empty",
        "short",
        "no data",
        "no pickle",
    ],
)
def test_a_hostile_or_damaged_archive_is_one_sentence(
    edit: Any,
    message: str,
    architecture: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    good = trace(random_model(f"{architecture('vit')}-quickgelu"), "vit", tmp_path / "good.pt")
    with pytest.raises(UserError, match=message) as told:
        read_archive(rewritten(good, tmp_path / "bad.pt", edit))
    assert "\n" not in str(told.value)
    assert not (tmp_path / "MARK").exists()


def test_a_small_file_cannot_unpack_to_a_large_one(tmp_path: Path) -> None:
    storage = b"X\x07\x00\x00\x00storagectorch\nByteStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/constants.pkl", b"")
        archive.writestr("a/data.pkl", b"\x80\x02(" + storage + b"J\x00\x00\x00\x10tQ.")
        archive.writestr("a/data/0", bytes(1 << 28))
    with pytest.raises(UserError, match="more than its own size"):
        read_archive(tmp_path / "bomb.pt")


@pytest.mark.parametrize(
    ("place", "value"), [(b"PK\x01\x02", 0xEE), (b"PK\x01\x02", 64)], ids=["name", "version"]
)
def test_a_zip_of_an_odd_directory_is_no_archive(place: bytes, value: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "odd.pt", "w") as archive:
        archive.writestr("\u00e9/constants.pkl", b"")
    content = bytearray((tmp_path / "odd.pt").read_bytes())
    # of the entry in the directory, the second byte of the name's first letter or the version it needs
    content[content.index(place) + (47 if value > 64 else 6)] = value
    (tmp_path / "odd.pt").write_bytes(content)
    assert not is_archive(tmp_path / "odd.pt")


def test_a_file_of_plain_tensors_is_no_archive(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "plain.pt")
    shutil.copy(tmp_path / "plain.pt", tmp_path / "cut.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "plain.pt").read_bytes()[:100])
    assert [quick_gelu_of(tmp_path / name) for name in ("plain.pt", "cut.pt", "missing.pt")] == [None] * 3
