"""Captioned images of shapes, as a data module for contrastive training."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.files import written_whole
from datamodules.shapes.pairs import FAMILY, family
from datamodules.shapes.speakers import Caption
from gl_ris.cores import available
from gl_ris.files import cache_folder
from gl_ris.processes import pool

# "right next to" has no side
_SIDE = re.compile(r"\b(?:left|right(?! next to))\b")
_OTHER_SIDE = {"left": "right", "right": "left"}

# Part of the cache folder's name: raise it whenever the images or captions change.
VERSION = 6


class CaptionedShapes(LightningDataModule):
    """Families of four captioned images each, drawn once into the cache folder.

    Args:
        families: Number of families to train on.
        held_out: Number of further families to validate on.
        captions: Captions per image.
        captions_per_visit: How many of them are drawn at each visit; the image is encoded once for all.
        image_size: Height and width of the images in pixels.
        batch_size: Images per batch, a multiple of four: families stay together.
        seed: Of images and captions. No evaluation split uses these seeds: theirs name their data set.
    """

    def __init__(
        self,
        families: int = 32_000,
        held_out: int = 64,
        captions: int = 8,
        captions_per_visit: int = 3,
        image_size: int = 160,
        batch_size: int = 128,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size % FAMILY:
            raise ValueError(f"Expected `batch_size` to be a multiple of {FAMILY}, but got {batch_size}.")
        self.families, self.held_out, self.captions = families, held_out, captions
        self.captions_per_visit = captions_per_visit
        self.image_size, self.batch_size, self.seed = image_size, batch_size, seed

    @property
    def folder(self) -> Path:
        """Where the images and captions are kept."""
        sizes = f"{self.families}+{self.held_out}x{self.captions}-{self.image_size}px-seed{self.seed}"
        return cache_folder() / f"captioned-shapes-v{VERSION}-{sizes}"

    def prepare_data(self) -> None:
        """Draw all families, with a progress bar, unless they are there."""
        if self.folder.is_dir():
            return
        from tqdm import tqdm

        total = self.families + self.held_out
        seeds = [f"captioned shapes {self.seed} {index}" for index in range(total)]
        make = functools.partial(family, size=self.image_size, captions=self.captions)
        with written_whole(self.folder) as draft, pool(available()) as workers:
            shape = (total, FAMILY, self.image_size, self.image_size, 3)
            images = np.lib.format.open_memmap(draft / "images.npy", "w+", np.uint8, shape)
            texts = []
            bar = tqdm(workers.map(make, seeds, chunksize=32), total=total, desc="Drawing captioned shapes")
            for index, (pictures, captions) in enumerate(bar):
                images[index] = pictures
                texts.append(captions)
            images.flush()
            (draft / "captions.json").write_bytes(msgspec.json.encode(texts))

    def captions_by_family(self) -> list[list[list[Caption]]]:
        """All captions, by family and image, those held out last."""
        return msgspec.json.decode(
            (self.folder / "captions.json").read_bytes(), type=list[list[list[Caption]]]
        )

    def training_captions(self) -> Iterator[str]:
        """Every caption but those held out."""
        families = self.captions_by_family()[: self.families]
        return (caption.text for images in families for captions in images for caption in captions)

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches of uint8 images ``(B, H, W, 3)`` and `captions_per_visit` lists of B captions.

        Half of the families are seen in a mirror, in which left is right in the captions, too.
        """
        return self._loader(slice(0, self.families), self.captions_per_visit)

    def val_dataloader(self) -> DataLoader[Any]:
        """All held-out images in one batch, with all their captions."""
        return self._loader(slice(self.families, None), None)

    def _loader(self, part: slice, drawn: int | None) -> DataLoader[Any]:
        images, said = (
            np.load(self.folder / "images.npy", mmap_mode="r")[part],
            self.captions_by_family()[part],
        )
        collate = functools.partial(_batch, images, said, drawn)
        size = self.batch_size // FAMILY if drawn else len(said)
        options: dict[str, Any] = {"shuffle": bool(drawn), "drop_last": bool(drawn), "collate_fn": collate}
        return DataLoader(range(len(said)), batch_size=size, **options)  # type: ignore[arg-type]


def _batch(
    images: np.ndarray, said: list[list[list[Caption]]], drawn: int | None, families: list[int]
) -> tuple[Tensor, list[list[Caption]]]:
    """Stack the images of families; draw captions of each, or take all, one list for each visit."""
    pictures, visits = [], []
    for number in families:
        mirrored = drawn is not None and bool(torch.rand(()) < 0.5)
        pictures.append(images[number][:, :, ::-1] if mirrored else images[number])
        for captions in said[number]:
            order = range(len(captions)) if drawn is None else torch.randperm(len(captions))[:drawn]
            visits.append([in_a_mirror(captions[k]) if mirrored else captions[k] for k in order])
    return torch.from_numpy(np.concatenate(pictures)), [list(visit) for visit in zip(*visits, strict=True)]


def in_a_mirror(caption: Caption) -> Caption:
    """Say of the mirrored picture what the caption says of the picture."""
    text, false = (_SIDE.sub(lambda found: _OTHER_SIDE[found[0]], words) for words in caption[:2])
    return Caption(text, false, caption.change)
