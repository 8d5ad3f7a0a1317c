"""How the TSEG-style baseline reads, is trained and answers; where the original is not known, our choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gl_ris.crops import resize_pixels
from gl_ris.supervised.assignment import assignment_loss
from gl_ris.supervised.segmenter import Example, Optimization, Segmenter, Tokenize, pad_ids
from gl_ris.supervised.tseg import TSEG

MOST_EXPRESSIONS = 8
"""Of one image in a batch."""

TEXT_RATE, POWER = 0.1, 0.9
"""Share of the learning rate for the text encoder, and power by which the rate falls."""


class TSEGSegmenter(Segmenter):
    """A reconstruction of TSEG, weakly supervised: images and their expressions, no masks.

    Args:
        network: The network.
        tokenize: Tokenizer of its BERT, special tokens included; padding is 0.
        learning_rate: At the first step, of all but the text encoder, which has a tenth.
        weight_decay: Of everything.
        threshold: A pixel is the object's if its probability is above this.
    """

    title: ClassVar[str] = "TSEG (reconstruction)"
    by_image: ClassVar[bool] = True

    def __init__(
        self,
        network: TSEG,
        tokenize: Tokenize,
        learning_rate: float = 1e-4,
        weight_decay: float = 1e-2,
        threshold: float = 0.5,
    ) -> None:
        super().__init__()
        self.network = network
        self.tokenize = tokenize
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.threshold = threshold

    def read_image(self, image: Tensor) -> Tensor:
        """Squash to a square (bilinear, antialiased), values from -1 to 1."""
        side = self.network.size.image_size
        return (
            resize_pixels(image[None].float() / 255, (side, side), mode="bilinear", antialias=True)[0] * 2 - 1
        )

    def read_texts(self, expressions: Sequence[str]) -> dict[str, Tensor]:
        """Tokenise; ids behind the last are cut off."""
        rows, length = self.tokenize(expressions), self.network.size.max_words
        lengths = torch.tensor([len(row) for row in rows])
        return {
            "input_ids": pad_ids(rows, length),
            "attention_mask": (torch.arange(length) < lengths[:, None]).long(),
        }

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Stack the images; expressions follow each other, with the image and the words of each."""
        chosen = [example.expressions[:MOST_EXPRESSIONS] for example in examples]
        texts = [text for own in chosen for text in own]
        known: dict[str, int] = {}
        return {
            "pixels": torch.stack([example.pixels for example in examples]),
            "owners": torch.tensor([row for row, own in enumerate(chosen) for _ in own]),
            "words": torch.tensor([known.setdefault(text, len(known)) for text in texts]),
            **self.read_texts(texts),
        }

    def training_loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Multi-label patch assignment over all images and expressions of the batch."""
        similarities = self.network(batch["pixels"], batch["input_ids"], batch["attention_mask"])
        return assignment_loss(similarities, batch["owners"], batch["words"], self.network.background)

    def logits(self, pixels: Tensor, **texts: Tensor) -> Tensor:
        """Similarity of each image with its own expression, above the background: ``(B, rows, columns)``."""
        side = self.network.size.image_size // self.network.size.patch_size
        own = torch.stack(
            [
                self.network(pixels[i : i + 1], **{key: value[i : i + 1] for key, value in texts.items()})[
                    0, 0
                ]
                for i in range(len(pixels))
            ]
        )
        return (own - self.network.background).unflatten(1, (side, side))

    def answer(self, logits: Tensor, height: int, width: int) -> Tensor:
        """Resize probabilities (bilinear) and cut them at the threshold."""
        heat = F.interpolate(
            logits[:, None].float().sigmoid(), (height, width), mode="bilinear", align_corners=False
        )
        return heat[:, 0] > self.threshold

    def optimization(self, steps: int, epochs: int) -> Optimization:
        """AdamW; the rate falls at every step as ``(1 - step / steps) ** 0.9``."""
        text = list(self.network.text.parameters())
        known = {id(parameter) for parameter in text}
        rest = [parameter for parameter in self.network.parameters() if id(parameter) not in known]
        groups: list[dict[str, Any]] = [
            {"params": rest},
            {"params": text, "lr": TEXT_RATE * self.learning_rate},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: max(0.0, 1 - step / steps) ** POWER
        )
        return Optimization(optimizer, schedule, "step")
