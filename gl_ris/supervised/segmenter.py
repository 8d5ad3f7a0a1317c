"""What a supervised model is to its trainer: how it reads, what it minimises, how it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

Tokenize = Callable[[Sequence[str]], list[list[int]]]
"""From expressions to token ids, special tokens included, of any length."""


@dataclass(frozen=True)
class Optimization:
    """An optimiser and how its rate falls.

    Attributes:
        optimizer: The optimiser with its groups.
        schedule: Its schedule.
        interval: When the schedule steps: ``"step"`` or ``"epoch"``.
    """

    optimizer: torch.optim.Optimizer
    schedule: Any
    interval: str


class Segmenter(nn.Module, ABC):
    """A supervised model of referring image segmentation with the recipe that it is trained by.

    Attributes:
        title: Its name in results.
        published_epochs: Epochs of the published training.
        published_batch: Its batch over all devices.
    """

    title: ClassVar[str]
    published_epochs: ClassVar[int]
    published_batch: ClassVar[int]

    @abstractmethod
    def read_image(self, image: Tensor) -> Tensor:
        """Turn an image, uint8 ``(3, H, W)`` RGB, into what the network reads, ``(3, side, side)``."""

    @abstractmethod
    def read_target(self, target: Tensor) -> Tensor:
        """Turn a mask, bool ``(H, W)``, into what the loss compares with."""

    @abstractmethod
    def read_texts(self, expressions: Sequence[str]) -> dict[str, Tensor]:
        """Turn ``E`` expressions into tensors of ``E`` rows, arguments of `logits`."""

    @abstractmethod
    def logits(self, pixels: Tensor, **texts: Tensor) -> Tensor:
        """Run the network on ``B`` images of `read_image` with an expression each."""

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compare logits with ``B`` targets of `read_target`; a scalar."""

    @abstractmethod
    def answer(self, logits: Tensor, height: int, width: int) -> Tensor:
        """Turn the logits of ``B`` expressions on one image into masks of its own size.

        Args:
            logits: Of `logits`.
            height: Rows of the image.
            width: Columns of the image.

        Returns:
            bool ``(B, height, width)``.
        """

    @abstractmethod
    def optimization(self, steps: int, epochs: int) -> Optimization:
        """Make the optimiser for a training of ``steps`` steps in ``epochs`` epochs."""

    @torch.no_grad()
    def segment(self, image: Tensor, expressions: Sequence[str], batch_size: int = 16) -> Tensor:
        """Segment what each expression refers to.

        Args:
            image: uint8 ``(3, H, W)`` RGB.
            expressions: Any number; each answer depends on its own expression alone.
            batch_size: Expressions that go through the network together.

        Returns:
            bool ``(E, H, W)``, on the device of the image.
        """
        height, width = image.shape[1:]
        device = next(self.parameters()).device
        pixels = self.read_image(image)[None].to(device)
        masks = [torch.zeros(0, height, width, dtype=torch.bool, device=image.device)]
        for start in range(0, len(expressions), batch_size):
            texts = self.read_texts(expressions[start : start + batch_size])
            count = len(next(iter(texts.values())))
            rows = self.logits(
                pixels.expand(count, -1, -1, -1), **{k: v.to(device) for k, v in texts.items()}
            )
            masks.append(self.answer(rows, height, width).to(image.device))
        return torch.cat(masks)


def pad_ids(rows: Sequence[Sequence[int]], length: int) -> Tensor:
    """Pad rows of token ids with 0 to ``length``: int64 ``(len(rows), length)``; longer ones are cut.

    Example:
        >>> pad_ids([[5, 6], [7, 8, 9, 10]], 3)
        tensor([[5, 6, 0],
                [7, 8, 9]])
    """
    return torch.tensor(
        [[*row[:length], *[0] * (length - len(row))] for row in rows], dtype=torch.int64
    ).view(len(rows), length)
