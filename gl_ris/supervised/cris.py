"""CRIS (Wang et al., CVPR 2022): referring image segmentation driven by CLIP, fully supervised.

Written from a description of its architecture, not from its code. The names of modules are those of the
published layout, so that a checkpoint of it loads as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gl_ris.errors import UserError, unknown_name
from gl_ris.supervised.cris_backbone import densify, image_maps, text_states
from gl_ris.supervised.cris_decoder import Decoder
from gl_ris.supervised.cris_neck import Neck, convolution

ARCHITECTURES = {"RN50": "RN50-quickgelu", "RN101": "RN101-quickgelu"}
"""CLIPs of the published models, and what open_clip calls them with the activation of OpenAI's weights."""


@dataclass(frozen=True)
class CRISSize:
    """Measures of what CRIS adds to a CLIP; the defaults are the published ones.

    Attributes:
        neck: Channels of the pyramid at strides 8, 16, 32; the middle one is the width of the text tower.
        layers: Layers of the decoder.
        heads: Attention heads of the decoder.
        hidden: Channels inside the decoder's feed-forward networks.
        dropout: Of the decoder.
        projector: Channels of pixels where the text meets them.
        sentence_scale: Factor on the CLIP's text projection at the start. Where a CLIP's sentences are long
            vectors the first steps are spent on kernels that are far too large.
        prior: Logit of every pixel that the projector's bias starts from, beside its random value.
    """

    neck: tuple[int, int, int] = (256, 512, 1024)
    layers: int = 3
    heads: int = 8
    hidden: int = 2048
    dropout: float = 0.1
    projector: int = 256
    sentence_scale: float = 1.0
    prior: float = 0.0


TINY = CRISSize(
    neck=(64, 128, 256), layers=2, heads=4, hidden=256, projector=64, sentence_scale=1 / 16, prior=-2.5
)
"""For the shipped tiny CLIP, whose text tower is 128 wide and whose sentences are 16 long."""


class Projector(nn.Module):
    """Text-to-pixel: the sentence becomes a convolution kernel of its own over the pixels.

    Args:
        sentence: Channels of the sentence.
        channels: Channels that the kernel reads; the incoming map has twice as many.
    """

    kernel = 3

    def __init__(self, sentence: int, channels: int) -> None:
        super().__init__()
        self.vis = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear"),
            convolution(2 * channels, 2 * channels, 3),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            convolution(2 * channels, channels, 3),
            nn.Conv2d(channels, channels, 1),
        )
        self.txt = nn.Linear(sentence, channels * self.kernel**2 + 1)

    def forward(self, x: Tensor, sentence: Tensor) -> Tensor:
        """Return logits ``(B, 1, 4 h, 4 w)`` of a map ``(B, C, h, w)`` and sentences ``(B, D)``."""
        x = self.vis(x)
        batch, channels = x.shape[:2]
        parameters = self.txt(sentence)
        weight = parameters[:, :-1].unflatten(1, (channels, self.kernel, self.kernel))
        flat = F.conv2d(
            x.flatten(0, 1)[None], weight, parameters[:, -1], padding=self.kernel // 2, groups=batch
        )
        return flat.transpose(0, 1)


class CRIS(nn.Module):
    """A CRIS, untrained but for what its CLIP knows.

    Attributes:
        backbone: The open_clip model, its attention pooling made dense.
        neck: Text-guided pyramid.
        decoder: Vision-language decoder.
        proj: Text-to-pixel projector.

    Args:
        clip: ``"RN50"`` or ``"RN101"`` (random weights), or an open_clip model with a ModifiedResNet and a
            text transformer of its own, which is changed in place.
        word_length: Token ids of an expression: 17 for RefCOCO and RefCOCO+, 22 for RefCOCOg.
        size: Measures of the rest.

    Raises:
        UserError: No CLIP of that name, or one that does not fit the measures.
    """

    def __init__(
        self, clip: str | nn.Module = "RN50", word_length: int = 17, size: CRISSize | None = None
    ) -> None:
        super().__init__()
        self.size = size or CRISSize()
        self.word_length = word_length
        model: Any = _untrained(clip) if isinstance(clip, str) else clip
        sentence, words = model.text_projection.shape[1], model.text_projection.shape[0]
        _check(self.size, words)
        trunk = (
            model.visual.attnpool.c_proj.in_features
        )  # channels of the last map; they double at each stage
        self.backbone = densify(model)
        self.neck = Neck((trunk // 4, trunk // 2, sentence), self.size.neck, sentence)
        self.decoder = Decoder(self.size.layers, words, self.size.heads, self.size.hidden, self.size.dropout)
        self.proj = Projector(sentence, self.size.projector)
        with torch.no_grad():
            model.text_projection.mul_(self.size.sentence_scale)
            self.proj.txt.bias[-1] += self.size.prior

    def forward(self, pixels: Tensor, token_ids: Tensor) -> Tensor:
        """Segment.

        Args:
            pixels: float ``(B, 3, H, W)``, normalised with CLIP's mean and deviation, sides a multiple of 32.
            token_ids: int64 ``(B, T)`` with start and end of text, padded with 0.

        Returns:
            Logits ``(B, 1, H / 4, W / 4)`` of the referred object.
        """
        words, sentence = text_states(self.backbone, token_ids)
        fused = self.neck(image_maps(self.backbone, pixels), sentence)
        return self.proj(self.decoder(fused, words, token_ids == 0), sentence)

    def load_official_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Load weights of the published layout, with or without ``module.`` before each name, strictly.

        Raises:
            UserError: A name is missing, unknown, or of another shape.
        """
        plain = {name.removeprefix("module."): tensor for name, tensor in state_dict.items()}
        try:
            self.load_state_dict(plain, strict=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise UserError(f"These weights do not fit this CRIS: {reason:.400}") from error


def _untrained(name: str) -> nn.Module:
    if name not in ARCHITECTURES:
        raise unknown_name("CLIP for CRIS", name, ARCHITECTURES)
    import open_clip

    return open_clip.create_model(ARCHITECTURES[name], pretrained=None, device=torch.get_default_device())


def _check(size: CRISSize, words: int) -> None:
    if size.neck[1] != words or 2 * size.projector != words:
        raise UserError(
            f"CRIS with neck {size.neck} and projector {size.projector} does not fit a text tower {words} "
            f"wide: neck's second number must be {words}, projector {words // 2}."
        )
    if words % 4 or words % size.heads:
        raise UserError(
            f"A text tower {words} wide does not fit: CRIS needs a multiple of 4 and of heads={size.heads}."
        )
