"""Synthetic scenes of the size of photographs, with as many refs and sentences as RefCOCO has."""

import itertools
import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.run.plain_loop import Ref

_REFS, _SENTENCES = (2, 3), (3, 3, 2, 3, 3)  # RefCOCO has 2.5 refs an image and 2.8 sentences a ref
_WORDS = (
    ("small", "large", "old", "new", "tall", "young", "empty", "front"),
    ("red", "blue", "green", "white", "black", "yellow", "brown", "grey", "orange", "striped"),
    ("man", "woman", "dog", "car", "chair", "cup", "bike", "horse", "bus", "shirt", "boy", "cake"),
)
_PLACES = ("on the left", "behind the fence", "in front", "near the edge of the table", "at the back", "")


@dataclass(frozen=True)
class Sizes:
    """What is measured on: how many scenes, masks in each, height and width in pixels."""

    images: int
    masks: int
    height: int
    width: int


@dataclass(frozen=True)
class PhotoLike:
    """A synthetic scene."""

    # uint8 (3, H, W) and bool (N, H, W)
    image: Tensor
    masks: Tensor
    refs: list[Ref]

    @property
    def sentences(self) -> list[str]:
        """All sentences, ref by ref."""
        return [text for ref in self.refs for text in ref.sentences]

    @property
    def phrases(self) -> list[str]:
        """Their noun phrases."""
        return [text for ref in self.refs for text in ref.phrases]


def make_scenes(sizes: Sizes, seed: int) -> list[PhotoLike]:
    """Draw scenes with a photograph's smooth areas, wavy masks of many sizes, and no text in two of them."""
    generator = torch.Generator().manual_seed(seed)
    texts = list(itertools.product(*_WORDS))
    random.Random(seed).shuffle(texts)
    phrases = itertools.cycle("the " + " ".join(words) for words in texts)
    places, lengths = itertools.cycle(_PLACES), itertools.cycle(_SENTENCES)
    scenes = []
    for number in range(sizes.images):
        coarse = torch.rand(1, 3, 15, 20, generator=generator)
        smooth = F.interpolate(coarse, (sizes.height, sizes.width), mode="bicubic")[0]
        noise = 0.05 * torch.randn(3, sizes.height, sizes.width, generator=generator)
        image = ((smooth + noise).clamp(0, 1) * 255).byte()
        refs = []
        for _ in range(_REFS[number % len(_REFS)]):
            own = [next(phrases) for _ in range(next(lengths))]
            refs.append(Ref([f"{phrase} {next(places)}".strip() for phrase in own], own))
        scenes.append(PhotoLike(image, wavy_masks(sizes, generator), refs))
    return scenes


def wavy_masks(sizes: Sizes, generator: torch.Generator) -> Tensor:
    """Draw masks with radii from 3% to 30% of the width: bool ``(N, H, W)``, none of them empty."""
    y, x = torch.meshgrid(torch.arange(sizes.height), torch.arange(sizes.width), indexing="ij")
    masks = torch.empty(sizes.masks, sizes.height, sizes.width, dtype=torch.bool)
    for mask in masks:
        u = torch.rand(5, generator=generator)
        dy, dx = y - u[0] * (sizes.height - 1), x - u[1] * (sizes.width - 1)
        radii = sizes.width * 0.03 * 10 ** u[2:4]
        wave = 1 + 0.15 * torch.sin(7 * torch.atan2(dy, dx) + 6 * u[4])
        mask[:] = (dx / radii[0]) ** 2 + (dy / radii[1]) ** 2 < wave**2
    return masks
