"""How CRIS reads, is trained and answers, as published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gl_ris.crops import standardize
from gl_ris.supervised.cris import CRIS
from gl_ris.supervised.letterbox import Letterbox
from gl_ris.supervised.segmenter import MaskSegmenter, Optimization, Tokenize, pad_ids

THRESHOLD = 0.35
"""A pixel is the object's if its probability is above this."""

MILESTONE = 35 / 50
"""Share of the epochs after which the rate falls to a tenth."""


class CRISSegmenter(MaskSegmenter):
    """CRIS with its recipe: letterboxed input, binary cross-entropy at a quarter of it, Adam.

    Args:
        network: The network.
        tokenize: Tokenizer of its CLIP: start and end of text included; padding is 0.
        mean: RGB mean of the CLIP, in [0, 1].
        std: RGB standard deviation of the CLIP.
        side: Side of the input in pixels, a multiple of 32.
        learning_rate: Of what was not in the CLIP, and of its position embeddings.
        backbone_rate: Of the rest of the CLIP.
        first_epoch_at_full_rate: Train the CLIP at ``learning_rate`` in the first epoch, as the published
            code does by an oversight.
    """

    title: ClassVar[str] = "CRIS"

    def __init__(
        self,
        network: CRIS,
        tokenize: Tokenize,
        mean: Sequence[float],
        std: Sequence[float],
        side: int = 416,
        learning_rate: float = 1e-4,
        backbone_rate: float = 1e-5,
        first_epoch_at_full_rate: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.tokenize = tokenize
        self.mean, self.std = tuple(mean), tuple(std)
        self.side = side
        self.learning_rate, self.backbone_rate = learning_rate, backbone_rate
        self.first_epoch_at_full_rate = first_epoch_at_full_rate

    def read_image(self, image: Tensor) -> Tensor:
        """Centre the image in a square of CLIP's mean colour, and normalise with CLIP's values."""
        square = self._letterbox(*image.shape[1:]).image(image, [255 * value for value in self.mean])
        return standardize(square[None] / 255, self.mean, self.std)[0]

    def read_target(self, target: Tensor) -> Tensor:
        """Centre the mask, and take every fourth pixel: float32 ``(1, side / 4, side / 4)`` in [0, 1]."""
        square = self._letterbox(*target.shape).mask(target)
        return F.interpolate(square[None, None], (self.side // 4, self.side // 4), mode="nearest")[0]

    def read_texts(self, expressions: Sequence[str]) -> dict[str, Tensor]:
        """Tokenise; of an expression that is too long, the last id becomes the end of text."""
        rows = self.tokenize([expression.strip() for expression in expressions])
        length = self.network.word_length
        cut = [row if len(row) <= length else [*row[: length - 1], row[-1]] for row in rows]
        return {"token_ids": pad_ids(cut, length)}

    def logits(self, pixels: Tensor, **texts: Tensor) -> Tensor:
        """Run the network: ``(B, 1, side / 4, side / 4)``."""
        return self.network(pixels, **texts)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy with soft targets, the mean over pixels."""
        return F.binary_cross_entropy_with_logits(logits, targets)

    def answer(self, logits: Tensor, height: int, width: int) -> Tensor:
        """Bring probabilities back onto the image (bicubic both ways) and cut them at the threshold."""
        heat = F.interpolate(
            logits.float().sigmoid(), (self.side, self.side), mode="bicubic", align_corners=True
        )
        box = self._letterbox(height, width)
        return torch.stack([box.back(plane[0]) > THRESHOLD for plane in heat])

    def optimization(self, steps: int, epochs: int) -> Optimization:
        """Adam; both rates fall to a tenth after seven tenths of the epochs."""
        optimizer = torch.optim.Adam(self.groups(), lr=self.learning_rate)
        milestone = max(1, round(MILESTONE * epochs))

        def fall(epoch: int) -> float:
            return 0.1 if epoch >= milestone else 1.0

        raised = self.learning_rate / self.backbone_rate if self.first_epoch_at_full_rate else 1.0
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, [lambda epoch: raised if epoch == 0 else fall(epoch), fall]
        )
        return Optimization(optimizer, schedule, "epoch")

    def load_published(self, content: Mapping[str, Any]) -> None:
        """Load a checkpoint of the published layout: a state, or a mapping with ``state_dict``."""
        self.network.load_official_state_dict(content.get("state_dict", content))

    def groups(self) -> list[dict[str, object]]:
        """The CLIP without its position embeddings; then those, and all that is new beside the CLIP."""
        backbone = dict(self.network.backbone.named_parameters())
        positions = [name for name in backbone if "positional_embedding" in name]
        rest = [self.network.neck, self.network.decoder, self.network.proj]
        return [
            {
                "params": [p for name, p in backbone.items() if name not in positions],
                "lr": self.backbone_rate,
            },
            {"params": [*(backbone[name] for name in positions), *(p for m in rest for p in m.parameters())]},
        ]

    def _letterbox(self, height: int, width: int) -> Letterbox:
        return Letterbox(height, width, self.side)
