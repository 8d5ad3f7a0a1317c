"""Image files, and stored proposals."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import warnings
import zlib
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from fuzz.mutate import changed, damaged, dump
from fuzz.runner import Case, Wrong

KINDS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
}
KINDS |= {
    "BMP": ("1", "L", "P", "RGB"),
    "GIF": ("L", "P"),
    "TIFF": ("1", "L", "RGB", "I;16", "F"),
    "PPM": ("L", "RGB"),
}
SIZE = (9, 12)


def _encoded() -> list[bytes]:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    found = []
    for kind, modes in KINDS.items():
        for mode in modes:
            image = Image.fromarray(pixels)
            if mode == "I;16":
                image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
            buffer = io.BytesIO()
            (image if mode == "I;16" else image.convert(mode)).save(buffer, kind)
            found.append(buffer.getvalue())
    return found


def images(folder: Path) -> Case:
    """Images of all formats and modes, against Pillow's own reading of what it calls sound."""
    from PIL import Image

    from datamodules.images import read_image

    whole, path = _encoded(), folder / "image"

    def case(random: Random) -> str:
        content = (
            damaged(random, random.choice(whole), whole) if random.random() < 0.97 else random.choice(whole)
        )
        path.write_bytes(content)
        source = path if random.random() < 0.5 else io.BytesIO(content)
        try:
            found = read_image(source, *SIZE)
        except ValueError:
            if content in whole and Image.open(io.BytesIO(content)).mode != "F":
                raise
            return "failed"
        if found.shape != (3, *SIZE) or found.dtype != torch.uint8:
            raise Wrong(f"{found.dtype} {tuple(found.shape)}")
        with warnings.catch_warnings(), Image.open(io.BytesIO(content)) as image:
            warnings.simplefilter("ignore")
            if image.mode in ("1", "L", "RGB", "P") and "transparency" not in image.info:
                wanted = np.asarray(image.convert("RGB"))
                if not np.array_equal(found.permute(1, 2, 0).numpy(), wanted):
                    raise Wrong(f"other pixels than Pillow's ({image.format}, {image.mode})")
        return "read"

    return case


def _proposals(count: int, seed: int) -> Any:
    from gl_ris.proposals.base import Proposals

    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(count, *SIZE, generator=generator) < 0.3
    return Proposals.from_masks(masks, torch.rand(count, generator=generator))


def store(folder: Path) -> Case:
    """A store of proposals whose files are damaged: what was stored, nothing, or one sentence."""
    from gl_ris.proposals.base import ImageKey
    from gl_ris.proposals.store import ProposalStore, StoreKey

    key = StoreKey("toy", "unc", "val", "slic", "a.B", 1, {"n": 20}, None)
    whole = {ImageKey(k, *SIZE, f"{k:016x}"): _proposals(k, k) for k in range(4)}
    base = ProposalStore(folder / "whole", key)
    for image, proposals in whole.items():
        base.put(image, proposals, 0.5)
    base.put_failure(ImageKey(9, *SIZE, "9"), "why")
    base.close()
    (index,) = base.folder.glob("*.index")
    names = ["manifest.json", index.name, index.with_suffix(".masks").name]
    contents = {name: (base.folder / name).read_bytes() for name in names}
    lines = [json.loads(line.partition(b" ")[2]) for line in contents[index.name].splitlines()]
    root = folder / "tried"

    def case(random: Random) -> str:
        place = root / key.path
        shutil.rmtree(root, ignore_errors=True)
        place.mkdir(parents=True)
        chosen = random.choice(names)
        honest = random.random() < 0.6 or chosen != index.name
        for name, content in contents.items():
            (place / name).write_bytes(damaged(random, content) if name == chosen else content)
        if chosen == "manifest.json" and random.random() < 0.5:
            (place / chosen).write_bytes(dump(changed(random, json.loads(contents[chosen]))))
        if not honest:  # a line that says by its checksum that it is sound
            texts = [dump(changed(random, line) if random.random() < 0.5 else line) for line in lines]
            (place / chosen).write_bytes(b"".join(b"%08x %s\n" % (zlib.crc32(text), text) for text in texts))
        opened = ProposalStore(root, key) if random.random() < 0.7 else ProposalStore.at(place)
        [opened.name, opened.failures, opened.seconds, opened.size, len(opened), opened.entries]
        return _compare_store(opened, whole, honest)

    return case


def _compare_store(opened: Any, whole: dict[Any, Any], honest: bool) -> str:
    outcome = "read"
    for image, proposals in whole.items():
        found = opened.get(image)
        if found is None:
            outcome = "failed"
        elif honest and any(
            not torch.equal(getattr(found, field.name), getattr(proposals, field.name))
            for field in dataclasses.fields(proposals)
        ):
            raise Wrong(f"other proposals for {image}")
    return outcome


def packed(_: Path) -> Case:
    """Records of proposals, of which lengths and codes must fit."""
    from fuzz.outlines import rle_mask
    from gl_ris.proposals.base import pack, unpack

    whole = [pack(_proposals(count, count)) for count in range(4)]

    def case(random: Random) -> str:
        content = damaged(random, random.choice(whole), whole)
        if random.random() < 0.3:  # heads that say much
            content = (
                np.array([random.choice((0, 1, 2**16, 2**32 - 1)) for _ in range(3)], "<u4").tobytes()
                + content[12:]
            )
        found = unpack(content)
        count, height, width = np.frombuffer(content[:12], "<u4").tolist()
        lengths = np.frombuffer(content[12 : 12 + 4 * count], "<u4").tolist()
        if found.masks.shape != (count, height, width) or found.boxes.shape != (count, 4):
            raise Wrong(f"{tuple(found.masks.shape)} in place of {(count, height, width)}")
        start = 12 + 24 * count
        for mask, length in zip(found.masks, lengths, strict=True):
            wanted = rle_mask({"size": [height, width], "counts": content[start : start + length]})
            start += length
            if height * width < 1 << 20 and (wanted is None or not np.array_equal(mask.numpy(), wanted)):
                raise Wrong("another mask")
        return "read"

    return case
