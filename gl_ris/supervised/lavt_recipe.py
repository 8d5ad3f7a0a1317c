"""How LAVT reads, is trained and answers, as published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gl_ris.crops import standardize
from gl_ris.errors import UserError
from gl_ris.recipe import IMAGENET_MEAN, IMAGENET_STD
from gl_ris.supervised.lavt import LAVT
from gl_ris.supervised.segmenter import MaskSegmenter, Optimization, Tokenize, pad_ids

CLASS_WEIGHTS = (0.9, 1.1)
"""Of background and referred object in the loss."""

POWER = 0.9
"""Of the polynomial by which the rate falls to 0."""


class LAVTSegmenter(MaskSegmenter):
    """LAVT with its recipe: squashed input, weighted cross-entropy, AdamW, polynomial decay.

    Args:
        network: The network.
        tokenize: Tokenizer of its BERT, special tokens included; padding is 0.
        learning_rate: At the first step.
        weight_decay: Of everything but the Swin's normalisations and position biases.
    """

    title: ClassVar[str] = "LAVT"
    reads_raw: ClassVar[bool] = True

    def __init__(
        self, network: LAVT, tokenize: Tokenize, learning_rate: float = 5e-5, weight_decay: float = 1e-2
    ) -> None:
        super().__init__()
        self.network = network
        self.tokenize = tokenize
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay

    @property
    def side(self) -> int:
        """Side of the input in pixels."""
        return self.network.size.image_size

    def read_image(self, image: Tensor) -> Tensor:
        """Squash to a square with Pillow (bilinear), and normalise with ImageNet's values."""
        picture = Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy())
        squashed = np.array(picture.resize((self.side, self.side), Image.Resampling.BILINEAR))
        pixels = torch.from_numpy(squashed).permute(2, 0, 1)[None].to(image.device) / 255
        return standardize(pixels, IMAGENET_MEAN, IMAGENET_STD)[0].contiguous()

    def read_target(self, target: Tensor) -> Tensor:
        """Squash to the same square, each pixel from the nearest one: int64 ``(side, side)`` of 0 and 1."""
        size = (self.side, self.side)
        return F.interpolate(target[None, None].float(), size, mode="nearest-exact")[0, 0].long()

    def read_texts(self, expressions: Sequence[str]) -> dict[str, Tensor]:
        """Tokenise; the ids behind the last are cut off without regard, the end token among them."""
        rows = self.tokenize(expressions)
        length = self.network.size.max_words
        ids = pad_ids(rows, length)
        lengths = torch.tensor([len(row) for row in rows])
        return {"input_ids": ids, "attention_mask": (torch.arange(length) < lengths[:, None]).long()}

    def logits(self, pixels: Tensor, **texts: Tensor) -> Tensor:
        """Run the network: ``(B, 2, side, side)``."""
        return self.network(pixels, **texts)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Weighted cross-entropy, the mean over pixels by their weights."""
        return F.cross_entropy(logits, targets, weight=logits.new_tensor(CLASS_WEIGHTS))

    def answer(self, logits: Tensor, height: int, width: int) -> Tensor:
        """Resize the logits (bilinear) and take the higher one of each pixel."""
        background, object_ = F.interpolate(
            logits.float(), (height, width), mode="bilinear", align_corners=False
        ).unbind(dim=1)
        return object_ > background

    def optimization(self, steps: int, epochs: int) -> Optimization:
        """AdamW; the rate falls at every step as ``(1 - step / steps) ** 0.9``."""
        optimizer = torch.optim.AdamW(self.groups(), lr=self.learning_rate, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: max(0.0, 1 - step / steps) ** POWER
        )
        return Optimization(optimizer, schedule, "step")

    def load_published(self, content: Mapping[str, Any]) -> None:
        """Load a published checkpoint: ``model``, and ``bert_model`` unless ``model`` holds the BERT."""
        if "model" not in content:
            raise UserError("These are no weights of LAVT: they have neither 'network.*' nor 'model'.")
        self.network.load_official_state_dict(content["model"], content.get("bert_model"))

    def groups(self) -> list[dict[str, object]]:
        """Parameters that are trained: what is not decayed of the backbone, its rest, decoder, and text."""
        net = self.network
        parts = {"visual": net.visual, "pwam": net.pwam, "gate": net.gate, "out_norm": net.out_norm}
        backbone = {
            f"{prefix}.{name}": parameter
            for prefix, part in parts.items()
            for name, parameter in part.named_parameters()
        }
        spared = [key for key in backbone if "norm" in key or "relative_position_bias_table" in key]
        return [
            {"params": [backbone[key] for key in spared], "weight_decay": 0.0},
            {"params": [p for key, p in backbone.items() if key not in set(spared)]},
            {"params": list(net.decoder.parameters())},
            {"params": [p for p in net.text.parameters() if p.requires_grad]},
        ]
