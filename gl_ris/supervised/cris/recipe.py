"""CRIS as published: what it starts from, how it reads, is trained and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gl_ris.clip import load_clip
from gl_ris.clip.image import standardize
from gl_ris.inputs import Input, clip_files
from gl_ris.supervised.cris.network import CRIS, CRISSize
from gl_ris.supervised.segmenter import Baseline, Segmenter, Tokenize, pad_ids
from gl_ris.supervised.starting import clip_tokenizer

THRESHOLD = 0.35  # A pixel is the object's if its probability is above this.

MILESTONE = 35 / 50  # Share of the epochs after which the rate falls to a tenth.


@dataclass(frozen=True)
class CRISBaseline(Baseline):
    """CRIS, from a CLIP with a ModifiedResNet.

    Args:
        clip: The CLIP, as for `gl_ris.load_clip`: the paper's zero-shot ResNet is RN50-quickgelu.
        pretrained: Its weights, e.g. openai; null for folders and shipped models, which bring their own.
        word_length: Token ids of an expression: 17 for RefCOCO and RefCOCO+, 22 for RefCOCOg.
        size: Measures of what is added to the CLIP.
        side: Side of the input in pixels, a multiple of 32.
        learning_rate: Of what was not in the CLIP, and of its position embeddings.
        backbone_rate: Of the rest of the CLIP.
        first_epoch_at_full_rate: Train the CLIP at learning_rate in the first epoch, as the published code
            does by an oversight.
        epochs: Of a training.
        batch_size: Of a step, over all devices.
    """

    title: ClassVar[str] = "CRIS"

    clip: str = "RN50-quickgelu"
    pretrained: str | None = "openai"
    word_length: int = 22
    size: CRISSize = CRISSize()  # noqa: RUF009  frozen
    side: int = 416
    learning_rate: float = 1e-4
    backbone_rate: float = 1e-5
    first_epoch_at_full_rate: bool = False
    epochs: int = 50
    batch_size: int = 64

    def input_files(self) -> dict[str, Input]:
        """Return the files of the CLIP."""
        return clip_files(self.clip, self.pretrained)

    def make(self) -> CRISSegmenter:
        """Build it; see `Baseline.make`."""
        clip = load_clip(self.clip, self.pretrained)
        network = CRIS(clip.model.requires_grad_(True), self.word_length, self.size)
        return CRISSegmenter(network, clip_tokenizer(self.clip), self, clip.mean, clip.std)


class CRISSegmenter(Segmenter):
    """CRIS with its recipe: letterboxed input, binary cross-entropy at a quarter of it, Adam.

    ``mean`` and ``std`` are those of the CLIP's input, RGB in [0, 1].
    """

    network: CRIS
    settings: CRISBaseline

    def __init__(
        self,
        network: CRIS,
        tokenize: Tokenize,
        settings: CRISBaseline,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__(network, tokenize, settings)
        self.mean, self.std, self.side = tuple(mean), tuple(std), settings.side

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

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy with soft targets, the mean over pixels."""
        return F.binary_cross_entropy_with_logits(logits, targets)

    def answer(self, logits: Tensor, height: int, width: int) -> Tensor:
        """Bring probabilities back onto the image (bicubic both ways) and cut them at the threshold."""
        heat = F.interpolate(
            logits.float().sigmoid(), (self.side, self.side), mode="bicubic", align_corners=True
        )
        box = self._letterbox(height, width)
        return box.back(heat[:, 0]) > THRESHOLD

    def optimization(self, steps: int, epochs: int) -> dict[str, Any]:
        """Adam; both rates fall to a tenth after seven tenths of the epochs."""
        chosen = self.settings
        optimizer = torch.optim.Adam(self.groups(), lr=chosen.learning_rate)
        milestone = max(1, round(MILESTONE * epochs))

        def fall(epoch: int) -> float:
            return 0.1 if epoch >= milestone else 1.0

        raised = chosen.learning_rate / chosen.backbone_rate if chosen.first_epoch_at_full_rate else 1.0
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, [lambda epoch: raised if epoch == 0 else fall(epoch), fall]
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    def load_published(self, content: Mapping[str, Any]) -> None:
        """Load a checkpoint of the published layout: a state, or a mapping with ``state_dict``."""
        self.network.load_official_state_dict(content.get("state_dict", content))

    def groups(self) -> list[dict[str, object]]:
        """The CLIP without its position embeddings; then those, and all that is new beside the CLIP."""
        known: list[Tensor] = []
        new: list[Tensor] = []
        for name, parameter in self.network.named_parameters():
            kept = name.startswith("backbone.") and "positional_embedding" not in name
            (known if kept else new).append(parameter)
        return [{"params": known, "lr": self.settings.backbone_rate}, {"params": new}]

    def _letterbox(self, height: int, width: int) -> Letterbox:
        return Letterbox(height, width, self.side)


class Letterbox:
    """How an image of ``height`` by ``width`` pixels lies centred in a square of ``side`` pixels.

    A pixel ``x`` of the image lies at ``scale * x + shift`` of the square, counted in whole pixels from the
    first one's centre, along either axis; the shift is (y, x).
    """

    def __init__(self, height: int, width: int, side: int) -> None:
        self.size, self.side = (height, width), side
        self.scale = min(side / height, side / width)
        self.shift = (side - height * self.scale) / 2, (side - width * self.scale) / 2

    def image(self, image: Tensor, border: Sequence[float]) -> Tensor:
        """Bring a uint8 RGB image into the square, bicubic without antialiasing, beside a ``border`` colour.

        Both are in 0 to 255; the result is float32 ``(3, side, side)``, whole numbers from 0 to 255.
        """
        colour = torch.tensor(border, dtype=torch.float32, device=image.device).view(3, 1, 1)
        return (self._into(image.float() - colour, "bicubic") + colour).round().clamp(0, 255)

    def mask(self, mask: Tensor) -> Tensor:
        """Bring a mask, bool ``(height, width)``, into the square, bilinear: float32 in [0, 1]."""
        return self._into(mask[None].float(), "bilinear")[0]

    def back(self, heat: Tensor) -> Tensor:
        """Bring maps ``(B, side, side)`` back onto the image, bicubic, 0 outside: ``(B, height, width)``."""
        places = [
            torch.arange(length, device=heat.device) * self.scale + start
            for length, start in zip(self.size, self.shift, strict=True)
        ]
        return _sample(heat.float(), places[0], places[1], "bicubic")

    def _into(self, planes: Tensor, mode: str) -> Tensor:
        places = [
            (torch.arange(self.side, device=planes.device) - start) / self.scale for start in self.shift
        ]
        return _sample(planes, places[0], places[1], mode)


def _sample(planes: Tensor, rows: Tensor, columns: Tensor, mode: str) -> Tensor:
    """Sample planes ``(C, H, W)`` at every crossing of rows and columns, given in pixels; 0 outside."""
    height, width = planes.shape[1:]
    # grid_sample counts from -1 to 1 between the centres of the first and the last pixel
    y, x = 2 * rows / max(height - 1, 1) - 1, 2 * columns / max(width - 1, 1) - 1
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[None].to(planes.dtype)
    return F.grid_sample(planes[None], grid, mode=mode, padding_mode="zeros", align_corners=True)[0]
