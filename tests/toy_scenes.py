"""Scenes without a data set behind them, a method that is told what to choose, and a quiet run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from gl_ris.clip.image import ImageContext
from gl_ris.errors import UserError
from gl_ris.proposals.base import Proposals
from gl_ris.scorers import Scorer

HEIGHT, WIDTH = 20, 30


ODD: dict[str, Callable[[Tensor], Any]] = {
    "column": lambda scores: scores[:, :1],
    "turned": lambda scores: scores.T,
    "flat": lambda scores: scores.flatten(),
    "wide": lambda scores: torch.cat([scores, scores], dim=1),
    "complex": lambda scores: scores.to(torch.complex64),
    "whole": lambda scores: scores.long(),
    "yes": lambda scores: scores > 0,
    "list": lambda scores: scores.tolist(),
    "highest": lambda scores: scores + torch.inf,
    "lowest": lambda scores: scores - torch.inf,
    "huge": lambda scores: scores.double() + 1e300,
    "equal": lambda scores: scores,
}


class Told(Scorer):
    """Chooses the proposal that the expression ends with; fails on an image of value 13.

    The last word of the first expression may also be a key of `ODD`: scores as no method should give them.
    """

    name, title = "told", "Told"

    def texts(self, expressions: Sequence[str], noun_phrases: Sequence[str] | None = None) -> list[str]:
        return []

    def score(
        self, context: ImageContext, expressions: Sequence[str], noun_phrases: Sequence[str] | None
    ) -> Tensor:
        if int(context.image[0, 0, 0]) == 13:
            raise RuntimeError("unlucky\nimage")
        scores = torch.zeros(len(expressions), len(context.masks))
        if (odd := expressions[0].split()[-1]) in ODD:
            return ODD[odd](scores)
        for row, text in enumerate(expressions):
            last = text.split()[-1]
            scores[row] = float("nan") if last == "nan" else 0.0
            if last != "nan":
                scores[row, int(last)] = 1.0
        return scores


TOLD = f"{__name__}.Told"


@dataclass(frozen=True)
class Scene:
    image: Tensor
    expressions: list[str]
    targets: Tensor
    referents: Tensor
    image_id: int
    ref_ids: list[int]
    sent_ids: list[int]
    index: int
    proposals: Proposals | None
    error: str | None = None
    faults: list[str | None] = field(default_factory=list)
    targeted: Tensor | None = None
    absent: Tensor | None = None
    objects: Tensor | None = None
    categories: Sequence[str | None] = ()
    meant: Sequence[tuple[int, ...] | None] = ()

    def to(self, device: Any, **_: Any) -> Scene:
        return self


class Data(LightningDataModule):
    """A data module of given scenes."""

    def __init__(self, scenes: list[Scene], proposals_name: str | None = "ground_truth") -> None:
        super().__init__()
        self.scenes, self.proposals_name = scenes, proposals_name
        self.n_images = len(scenes)
        self.n_expressions = len(self.expressions())
        self.subset_sizes: dict[str, int] = {}

    def expressions(self) -> list[str]:
        return [text for scene in self.scenes for text in scene.expressions]

    def image_ids(self) -> list[int | str]:
        return [scene.image_id for scene in self.scenes]

    def image_sizes(self) -> dict[int | str, tuple[int, int]]:
        return {scene.image_id: (HEIGHT, WIDTH) for scene in self.scenes}

    def check_world_size(self, world_size: int) -> None:
        if world_size > self.n_images:
            raise UserError(f"{self.n_images} images for {world_size} processes")

    def predict_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.scenes, batch_size=None, collate_fn=lambda scene: scene)


def make_scene(index: int, texts: Sequence[str], value: int = 100, **changes: Any) -> Scene:
    """Two targets, referred to in turns, and three proposals: each target, and both together."""
    targets = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
    targets[0, 2:8, 3 : 9 + index], targets[1, 10:18, 12:28] = True, True
    masks = torch.cat([targets, targets.any(dim=0, keepdim=True)])
    image = torch.full((3, HEIGHT, WIDTH), value, dtype=torch.uint8)
    referents = torch.arange(len(texts)) % 2
    scene = Scene(
        image=image,
        expressions=list(texts),
        targets=targets,
        referents=referents,
        image_id=1000 + index,
        ref_ids=(10 * index + referents).tolist(),
        sent_ids=list(range(len(texts))),
        index=index,
        proposals=Proposals.from_masks(masks),
    )
    return replace(scene, **changes)


def no_proposals(count: int = 0) -> Proposals:
    return Proposals.from_masks(torch.zeros(count, HEIGHT, WIDTH, dtype=torch.bool))


def run(model: LightningModule, data: Any) -> list[Any]:
    """Predict with one process and without a word; ``data`` is a `Data` or a loader."""
    trainer = Trainer(
        accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_checkpointing=False
    )
    given = {"datamodule": data} if isinstance(data, LightningDataModule) else {"dataloaders": data}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return trainer.predict(model, **given) or []
