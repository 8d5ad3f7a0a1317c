"""What a supervised model is to its trainer: how it reads, what it minimises, how it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gl_ris.clip.loading import SHIPPED, SWIN
from gl_ris.errors import UserError
from gl_ris.inputs import Input, shipped_files, source_files
from gl_ris.weights import load_strictly

# From expressions to token ids, special tokens included, of any length.
Tokenize = Callable[[Sequence[str]], list[list[int]]]


@dataclass(frozen=True)
class Example:
    """One visit of a training set."""

    pixels: Tensor  # the image as `Segmenter.read_image` gives it
    expression: str  # one of a ref
    target: Tensor  # the mask of the ref as `Segmenter.read_target` gives it


class Baseline(ABC):
    """The settings of a supervised model and of its training; nothing is loaded before `make`."""

    title: ClassVar[str]  # name of the model in results
    epochs: int
    batch_size: int  # of an optimiser step, over all devices

    def input_files(self) -> dict[str, Input]:
        """Return the files that it starts from, and those of its tokenizer, by name."""
        named = (getattr(self, name, None) for name in ("swin", "bert", "tokenizer"))
        sources = dict.fromkeys(source for source in named if source is not None)
        found = (shipped_files(one) if one in (*SHIPPED, SWIN) else source_files(one) for one in sources)
        return {name: path for files in found for name, path in files.items()}

    @abstractmethod
    def make(self) -> Segmenter:
        """Build the model; `UserError` if weights or tokenizer cannot be loaded or settings do not fit."""


class Segmenter(nn.Module, ABC):
    """A supervised model of referring image segmentation with the recipe that it is trained by."""

    # whether it reads expressions as they were typed, before the data set cleaned them
    reads_raw: ClassVar[bool] = False

    def __init__(self, network: nn.Module, tokenize: Tokenize, settings: Baseline) -> None:
        super().__init__()
        self.network: Any = network
        self.tokenize, self.settings = tokenize, settings
        self.title = settings.title

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
    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compare logits with ``B`` targets of `read_target`; a scalar."""

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Put examples together to a batch; runs in the processes that load data."""
        return {
            "pixels": torch.stack([example.pixels for example in examples]),
            "targets": torch.stack([example.target for example in examples]),
            **self.read_texts([example.expression for example in examples]),
        }

    def training_loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of a batch of `collate`, a scalar."""
        texts = {name: tensor for name, tensor in batch.items() if name not in ("pixels", "targets")}
        return self.loss(self.logits(batch["pixels"], **texts), batch["targets"])

    def logits(self, pixels: Tensor, **texts: Tensor) -> Tensor:
        """Run the network on ``B`` images of `read_image` with an expression each."""
        return self.network(pixels, **texts)

    def encode_image(self, pixels: Tensor) -> Any:
        """Compute what sees no text of one image, ``(1, 3, side, side)``; of a plain network nothing."""
        return self.network.encode_image(pixels) if hasattr(self.network, "encode_image") else pixels

    def ground(self, encoded: Any, **texts: Tensor) -> Tensor:
        """Return the `logits` of ``E`` expressions on one image from what `encode_image` gave."""
        if hasattr(self.network, "ground"):
            return self.network.ground(encoded, **texts)
        return self.logits(encoded.expand(len(next(iter(texts.values()))), -1, -1, -1), **texts)

    @abstractmethod
    def answer(self, logits: Tensor, height: int, width: int) -> Tensor:
        """Turn the `logits` of ``E`` expressions on one image into masks of its size, bool ``(E, H, W)``."""

    @abstractmethod
    def optimization(self, steps: int, epochs: int) -> dict[str, Any]:
        """Make optimiser and schedule, as Lightning takes them, for so many steps and epochs."""

    def load_weights(self, content: Any) -> None:
        """Load the state of this model or its published form; `UserError` if it is neither or misfits."""
        if not isinstance(content, Mapping):
            raise UserError(
                f"A file of weights of {self.title} holds names and tensors, not {type(content).__name__}."
            )
        if any(str(name).startswith("network.") for name in content):
            state = {name.removeprefix("network."): value for name, value in content.items()}
            load_strictly(self.network, state, self.title)
        else:
            self.load_published(content)

    def load_published(self, content: Mapping[str, Any]) -> None:
        """Load a checkpoint of the published code; `UserError` if there is none, or it does not fit."""
        raise UserError(f"These are no weights of {self.title}, for which none are published.")

    @torch.no_grad()
    def segment(self, image: Tensor, expressions: Sequence[str], batch_size: int = 16) -> Tensor:
        """Return masks, bool ``(E, H, W)``, of any number of expressions on uint8 ``(3, H, W)`` RGB.

        After `encode_image`, ``batch_size`` go through the network together, each by itself alone.
        """
        height, width = image.shape[1:]
        device = next(self.parameters()).device
        encoded = self.encode_image(self.read_image(image)[None].to(device))
        masks = [torch.zeros(0, height, width, dtype=torch.bool, device=image.device)]
        for start in range(0, len(expressions), batch_size):
            some = expressions[start : start + batch_size]
            texts = {name: tensor.to(device) for name, tensor in self.read_texts(some).items()}
            masks.append(self.answer(self.ground(encoded, **texts), height, width).to(image.device))
        return torch.cat(masks)


def pad_ids(rows: Sequence[Sequence[int]], length: int) -> Tensor:
    """Pad rows of token ids with 0 to ``length``: int64 ``(len(rows), length)``; longer ones are cut.

    Example:
        >>> pad_ids([[5, 6], [7, 8, 9, 10]], 3)
        tensor([[5, 6, 0],
                [7, 8, 9]])
    """
    padded = [[*row[:length], *[0] * (length - len(row))] for row in rows]
    return torch.tensor(padded, dtype=torch.int64).view(len(rows), length)


def convolution(incoming: int, outgoing: int, kernel: int = 3) -> nn.Sequential:
    """Return convolution (same size), batch normalisation and ReLU."""
    conv = nn.Conv2d(incoming, outgoing, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outgoing), nn.ReLU())
