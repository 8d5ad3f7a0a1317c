"""Captioned images of shapes, as a data module for contrastive training."""

from __future__ import annotations

import functools
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
from gl_ris.cores import available
from gl_ris.files import cache_folder
from gl_ris.processes import pool

# Part of the cache folder's name: raise it whenever the images or captions change.
VERSION = 4


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
        families: int = 10_000,
        held_out: int = 64,
        captions: int = 8,
        captions_per_visit: int = 2,
        image_size: int = 128,
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

    def texts(self) -> list[list[list[str]]]:
        """All captions, by family and image, those held out last."""
        return msgspec.json.decode((self.folder / "captions.json").read_bytes(), type=list[list[list[str]]])

    def training_captions(self) -> Iterator[str]:
        """Every caption but those held out."""
        return (text for images in self.texts()[: self.families] for captions in images for text in captions)

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches of uint8 images ``(B, H, W, 3)`` and `captions_per_visit` lists of B captions."""
        return self._loader(slice(0, self.families), self.captions_per_visit)

    def val_dataloader(self) -> DataLoader[Any]:
        """All held-out images in one batch, each with its first caption."""
        return self._loader(slice(self.families, None), None)

    def _loader(self, part: slice, drawn: int | None) -> DataLoader[Any]:
        images, texts = np.load(self.folder / "images.npy", mmap_mode="r")[part], self.texts()[part]
        collate = functools.partial(_batch, images, texts, drawn)
        size = self.batch_size // FAMILY if drawn else len(texts)
        options: dict[str, Any] = {"shuffle": bool(drawn), "drop_last": bool(drawn), "collate_fn": collate}
        return DataLoader(range(len(texts)), batch_size=size, **options)  # type: ignore[arg-type]


def _batch(
    images: np.ndarray, texts: list[list[list[str]]], drawn: int | None, families: list[int]
) -> tuple[Tensor, list[list[str]]]:
    """Stack the images of families; draw captions of each, or take the first, one list for each visit."""

    def chosen(said: list[str]) -> list[str]:
        return said[:1] if drawn is None else [said[k] for k in torch.randperm(len(said))[:drawn]]

    captions = [chosen(said) for family in families for said in texts[family]]
    stacked = np.concatenate([images[family] for family in families])
    return torch.from_numpy(stacked), [list(visit) for visit in zip(*captions, strict=True)]
