"""Folders of CLIPs, TorchScript archives, files of weights, and folders of parsers."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from fuzz.mutate import Hostile, changed, damaged, dump
from fuzz.runner import Case, Wrong


def _state(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "a.weight": torch.rand(3, 4, generator=generator),
        "a.bias": torch.arange(4),
        "b": torch.ones(2).half(),
    }


def weights(folder: Path) -> Case:
    """Files of tensors in torch's two forms, in safetensors', and pickles that name code."""
    from safetensors.torch import save_file

    from gl_ris.weights import read_weights

    torch.save({"model": _state(), "epoch": 3}, folder / "new.pth")
    torch.save(_state(), folder / "old.pth", _use_new_zipfile_serialization=False)
    save_file(_state(), folder / "x.safetensors")
    whole = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    hostile = [pickle.dumps(Hostile(), 2), pickle.dumps({"model": Hostile()}, 4)]

    def case(random: Random) -> str:
        name = random.choice(list(whole))
        content = random.choice(hostile) if random.random() < 0.05 else damaged(random, whole[name], hostile)
        path = folder / f"tried{Path(name).suffix}"
        if name == "new.pth" and random.random() < 0.5:
            content = _zipped(random, whole[name])
        path.write_bytes(content)
        found = read_weights(path, "X")
        if name == "x.safetensors":
            _compare_safetensors(found, content)
        return "read"

    return case


def _zipped(random: Random, content: bytes, name_of: Callable[[str], bool] = lambda _: True) -> bytes:
    """Damage entries of a zip and pack them anew, so that all its checksums are right."""
    import io

    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(packed, "w") as target:
        chosen = random.choice([name for name in source.namelist() if name_of(name)])
        for name in source.namelist():
            entry = source.read(name)
            if name == chosen:
                entry = pickle.dumps(Hostile(), 2) if random.random() < 0.03 else damaged(random, entry)
            if name != chosen or random.random() < 0.95:
                target.writestr(name, entry)
    return packed.getvalue()


def _compare_safetensors(found: Any, content: bytes) -> None:
    length = int.from_bytes(content[:8], "little")
    head = json.loads(content[8 : 8 + length])
    kinds = {torch.float32: "<f4", torch.int64: "<i8", torch.float16: "<f2"}
    for name, tensor in found.items():
        if tensor.dtype in kinds:
            start, end = head[name]["data_offsets"]
            wanted = np.frombuffer(content[8 + length + start : 8 + length + end], kinds[tensor.dtype])
            if list(tensor.shape) != head[name]["shape"] or tensor.numpy().tobytes() != wanted.tobytes():
                raise Wrong(f"another tensor for {name}")


class _Half(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(3, 4)
        self.register_buffer("steps", torch.arange(5))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(1.702 * self.inner(values)) * self.steps[1]


def torchscript(folder: Path) -> Case:
    """Archives of programs; tensors are those whose bytes are in the zip."""
    import io

    from gl_ris.clip.torchscript import is_archive, quick_gelu_of, read_archive

    torch.manual_seed(0)
    model = _Half()
    torch.jit.trace(model, torch.rand(1, 3)).save(str(folder / "whole.pt"))
    whole, path = (folder / "whole.pt").read_bytes(), folder / "tried.pt"
    wanted = {name: tensor for name, tensor in read_archive(folder / "whole.pt").items()}
    if any(not torch.equal(tensor, wanted[name]) for name, tensor in model.state_dict().items()):
        raise Wrong("other tensors than those of the model")

    def case(random: Random) -> str:
        data = random.random() < 0.3
        sound = random.random() < 0.7
        content = (
            _zipped(random, whole, (lambda name: "/data/" in name) if data else (lambda _: True))
            if sound
            else damaged(random, whole)
        )
        path.write_bytes(content)
        is_archive(path)
        quick_gelu_of(path)
        found = read_archive(path)
        if sound and data:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                entries = {archive.read(name) for name in archive.namelist() if "/data/" in name}
            for name, tensor in found.items():
                if not any(entry.startswith(tensor.contiguous().numpy().tobytes()) for entry in entries):
                    raise Wrong(f"{name} is in no entry")
        return "read"

    return case


def clip_folder(folder: Path) -> Case:
    """A tiny CLIP whose configuration, weights or tokenizer is damaged."""
    from gl_ris.clip import load_clip
    from tiny_clips import save_clip

    whole = save_clip(folder / "clip", "vit")
    contents = {path.name: path.read_bytes() for path in whole.iterdir()}
    reference = load_clip(f"local-dir:{whole}").model.state_dict()
    names = ["open_clip_config.json"] * 3 + list(contents)
    tried = folder / "tried"
    code = {
        "auto_map": {"AutoTokenizer": ["hostile.H", None]},
        "tokenizer_kwargs": {"trust_remote_code": True},
    }

    def case(random: Random) -> str:
        shutil.rmtree(tried, ignore_errors=True)
        tried.mkdir()
        (tried / "hostile.py").write_text(f"import os\nos.mkdir({Hostile.mark!r})\n")
        chosen = random.choice(names)
        for name, content in contents.items():
            if name == chosen:
                content = damaged(random, content)
                if name.endswith(".json") and random.random() < 0.8:
                    tree = changed(random, json.loads(contents[name]), most=1)
                    if random.random() < 0.1 and isinstance(tree, dict):
                        tree |= code
                    content = dump(tree)
            (tried / name).write_bytes(content)
        clip = load_clip(f"local-dir:{tried}")
        found = clip.model.state_dict()
        if chosen != "open_clip_model.safetensors" and any(
            not torch.equal(tensor, found[name])
            for name, tensor in reference.items()
            if "positional" not in name  # which open_clip enlarges to the size of images
        ):
            raise Wrong("other weights than those of the file")
        return "read"

    return case


def parser_folder(folder: Path) -> Case:
    """The shipped parser, one of its files damaged."""
    from gl_ris.text import SHIPPED, load_parser, noun_phrases

    files = [
        path.relative_to(SHIPPED) for path in SHIPPED.rglob("*") if path.is_file() and path.suffix != ".md"
    ]
    scraps = ['\n[components.x]\nfactory = "ner"\n', '\n[initialize]\nbefore_init = {"@callbacks":"x"}\n']
    scraps += ['@architectures = "hostile.v1"\n', "lang = null\n", "[[", "${x.y}", 'source = "/etc"\n']
    count = iter(range(10**9))

    def case(random: Random) -> str:
        # pipelines are kept by their folder
        tried = folder / f"parser{next(count)}"
        chosen = random.choice((Path("config.cfg"), *files))
        shutil.copytree(SHIPPED, tried)
        try:
            content = (SHIPPED / chosen).read_bytes()
            if chosen.name == "config.cfg" and random.random() < 0.5:
                at = random.choice([k for k, byte in enumerate(content) if byte == 10]) + 1
                content = content[:at] + random.choice(scraps).encode() + content[at:]
            elif chosen.suffix == ".json" and random.random() < 0.5:
                content = dump(changed(random, json.loads(content)))
            else:
                content = damaged(random, content)
            (tried / chosen).write_bytes(content)
            parser = load_parser(tried)
            noun_phrases(["a dark brown sofa behind a foot stool", "it"], parser)
        finally:
            shutil.rmtree(tried)
            _forget()
        return "read"

    return case


def _forget() -> None:
    from gl_ris import text

    text._load.cache_clear()
