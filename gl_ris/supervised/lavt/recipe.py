"""LAVT as published: what it starts from, how it reads, is trained and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gl_ris.clip.image import standardize
from gl_ris.errors import UserError
from gl_ris.recipe import IMAGENET_MEAN, IMAGENET_STD
from gl_ris.supervised.lavt.network import LAVT, LAVTSize
from gl_ris.supervised.segmenter import Baseline, Segmenter, pad_ids
from gl_ris.supervised.starting import load_bert, load_classifier, load_tokenizer

CLASS_WEIGHTS = (0.9, 1.1)  # Of background and referred object in the loss.


@dataclass(frozen=True)
class LAVTBaseline(Baseline):
    """LAVT, from an ImageNet Swin and a pre-trained BERT.

    Args:
        size: Measures of the network.
        swin: timm's name of the Swin to start from, a file of weights, or refshapes-swin, which
            is shipped; null starts from random ones.
        bert: Hugging Face name or folder of the BERT to start from; null starts from random weights.
        tokenizer: Hugging Face name or folder of the tokenizer, or a shipped CLIP for its tokenizer.
        learning_rate: At the first step.
        weight_decay: Of everything but the Swin's normalisations and position biases.
        text_dropout: Train BERT with dropout, which the published code does not.
        epochs: Of a training.
        batch_size: Of a step, over all devices.
    """

    title: ClassVar[str] = "LAVT"

    size: LAVTSize = LAVTSize()  # noqa: RUF009  frozen
    swin: str | None = "swin_base_patch4_window12_384.ms_in22k"
    bert: str | None = "google-bert/bert-base-uncased"
    tokenizer: str = "google-bert/bert-base-uncased"
    learning_rate: float = 5e-5
    weight_decay: float = 1e-2
    text_dropout: bool = False
    epochs: int = 40
    batch_size: int = 32

    def make(self) -> LAVTSegmenter:
        """Build it; see `Baseline.make`."""
        tokenize = load_tokenizer(self.tokenizer)
        network = LAVT(self.size, self.text_dropout)
        if self.swin is not None:
            load_classifier(network.visual, self.swin)
        if self.bert is not None:
            load_bert(network.text, self.bert)
        return LAVTSegmenter(network, tokenize, self)


class LAVTSegmenter(Segmenter):
    """LAVT with its recipe: squashed input, weighted cross-entropy, AdamW, polynomial decay."""

    network: LAVT
    settings: LAVTBaseline
    reads_raw: ClassVar[bool] = True

    def read_image(self, image: Tensor) -> Tensor:
        """Squash to a square with Pillow (bilinear), and normalise with ImageNet's values."""
        picture = Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy())
        size = (self.network.size.image_size,) * 2
        squashed = np.array(picture.resize(size, Image.Resampling.BILINEAR))
        pixels = torch.from_numpy(squashed).permute(2, 0, 1)[None].to(image.device) / 255
        return standardize(pixels, IMAGENET_MEAN, IMAGENET_STD)[0].contiguous()

    def read_target(self, target: Tensor) -> Tensor:
        """Squash to the same square, each pixel from the nearest one: int64 ``(side, side)`` of 0 and 1."""
        size = (self.network.size.image_size,) * 2
        return F.interpolate(target[None, None].float(), size, mode="nearest-exact")[0, 0].long()

    def read_texts(self, expressions: Sequence[str]) -> dict[str, Tensor]:
        """Tokenise; the ids behind the last are cut off without regard, the end token among them."""
        rows, length = self.tokenize(expressions), self.network.size.max_words
        lengths = torch.tensor([len(row) for row in rows])
        return {
            "input_ids": pad_ids(rows, length),
            "attention_mask": (torch.arange(length) < lengths[:, None]).long(),
        }

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Weighted cross-entropy, the mean over pixels by their weights."""
        return F.cross_entropy(logits, targets, weight=logits.new_tensor(CLASS_WEIGHTS))

    def answer(self, logits: Tensor, height: int, width: int) -> Tensor:
        """Resize the logits (bilinear) and take the higher one of each pixel."""
        background, object_ = F.interpolate(
            logits.float(), (height, width), mode="bilinear", align_corners=False
        ).unbind(dim=1)
        return object_ > background

    def optimization(self, steps: int, epochs: int) -> dict[str, Any]:
        """AdamW, whose rates fall at every step as ``(1 - step / steps) ** 0.9``."""
        rate, decay = self.settings.learning_rate, self.settings.weight_decay
        optimizer = torch.optim.AdamW(self.groups(), lr=rate, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: max(0.0, 1 - step / steps) ** 0.9
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def load_published(self, content: Mapping[str, Any]) -> None:
        """Load a published checkpoint: ``model``, and ``bert_model`` unless ``model`` holds the BERT."""
        if "model" not in content:
            raise UserError("These are no weights of LAVT: they have neither 'network.*' nor 'model'.")
        self.network.load_official_state_dict(content["model"], content.get("bert_model"))

    def groups(self) -> list[dict[str, object]]:
        """Parameters that are trained: what is not decayed of the backbone, its rest, decoder, and text."""
        net = self.network
        parts = ("visual.", "pwam.", "gate.", "out_norm.")
        backbone = {name: p for name, p in net.named_parameters() if name.startswith(parts)}
        spared = [key for key in backbone if "norm" in key or "relative_position_bias_table" in key]
        return [
            {"params": [backbone[key] for key in spared], "weight_decay": 0.0},
            {"params": [p for key, p in backbone.items() if key not in set(spared)]},
            {"params": list(net.decoder.parameters())},
            {"params": [p for p in net.text.parameters() if p.requires_grad]},
        ]
