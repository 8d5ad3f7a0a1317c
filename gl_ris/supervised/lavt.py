"""LAVT (Yang et al., CVPR 2022): language-aware vision Transformer, the paper's supervised reference.

Written from a description of its architecture, not from its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gl_ris.errors import UserError
from gl_ris.supervised.lavt_keys import from_official
from gl_ris.supervised.pwam import LanguageGate, PixelWordAttention


@dataclass(frozen=True)
class LAVTSize:
    """Measures of a LAVT; the defaults are Swin-B with window 12 at 480 pixels, and BERT-base.

    Attributes:
        image_size: Side of the square input in pixels.
        patch_size: Side of a patch.
        embed_dim: Channels of the first stage, doubled from stage to stage.
        depths: Blocks of each stage.
        num_heads: Attention heads of each stage.
        window_size: Side of an attention window.
        drop_path_rate: Stochastic depth of the last block.
        fusion_heads: Heads of the pixel-word attention.
        max_words: Token ids of an expression, special tokens included.
        frozen_text_layers: Last layers of the text encoder that are never trained; nor are its embeddings.
        text: Settings of ``transformers.BertConfig`` that differ from BERT-base's.
    """

    image_size: int = 480
    patch_size: int = 4
    embed_dim: int = 128
    depths: tuple[int, ...] = (2, 2, 18, 2)
    num_heads: tuple[int, ...] = (4, 8, 16, 32)
    window_size: int = 12
    drop_path_rate: float = 0.3
    fusion_heads: int = 1
    max_words: int = 20
    frozen_text_layers: int = 2
    text: Mapping[str, Any] = field(default_factory=dict)


TINY = LAVTSize(
    image_size=128,
    embed_dim=24,
    depths=(2, 2, 2, 2),
    num_heads=(1, 2, 4, 8),
    window_size=4,
    drop_path_rate=0.1,
    frozen_text_layers=1,
    text={
        "vocab_size": 641,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 256,
        "max_position_embeddings": 20,
    },
)
"""A LAVT with every mechanism in 2.5 million parameters, for the embedded benchmark."""


class LAVT(nn.Module):
    """An untrained LAVT.

    Attributes:
        visual: The Swin Transformer.
        pwam: Pixel-word attention of each stage.
        gate: Language gate of each stage; the last one's output is used by nothing.
        out_norm: Normalisation of what each stage gives to the decoder.
        decoder: Makes logits of the four stages.
        text: The BERT, without pooler.

    Args:
        size: Its measures.
        text_dropout: Train BERT with dropout. The published two-part model runs it in evaluation mode even
            during training.
    """

    def __init__(self, size: LAVTSize | None = None, text_dropout: bool = False) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        from gl_ris.supervised.swin import swin

        self.size = size or LAVTSize()
        self.text_dropout = text_dropout
        measures = asdict(self.size)
        self.visual = swin(
            **{
                key: measures[key]
                for key in ("image_size", "patch_size", "embed_dim", "depths", "num_heads", "window_size")
            },
            drop_path_rate=self.size.drop_path_rate,
        )
        self.text = BertModel(BertConfig(**self.size.text), add_pooling_layer=False)
        channels = [self.size.embed_dim * 2**stage for stage in range(len(self.size.depths))]
        words = self.text.config.hidden_size
        self.pwam = nn.ModuleList(PixelWordAttention(c, words, self.size.fusion_heads) for c in channels)
        self.gate = nn.ModuleList(LanguageGate(c) for c in channels)
        self.out_norm = nn.ModuleList(nn.LayerNorm(c) for c in channels)
        self.decoder = LAVTDecoder(channels)
        self._initialise()
        self._freeze()

    def _initialise(self) -> None:
        for gate in self.gate:
            for weight in gate.parameters():
                nn.init.trunc_normal_(weight, std=0.02)

    def _freeze(self) -> None:
        """Keep the text encoder's embeddings and last layers from being trained; gradients pass through."""
        layers = self.text.encoder.layer
        frozen = layers[len(layers) - self.size.frozen_text_layers :]
        for module in (self.text.embeddings, *frozen):
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> LAVT:
        """Switch between training and evaluation; BERT stays in evaluation without ``text_dropout``."""
        super().train(mode)
        self.text.train(mode and self.text_dropout)
        return self

    def forward(self, pixels: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Segment.

        Args:
            pixels: float ``(B, 3, H, W)``, ImageNet-normalised; sides a multiple of the patch.
            input_ids: int64 ``(B, T)``, padded with 0.
            attention_mask: ``(B, T)``, 1 for tokens, 0 for padding.

        Returns:
            Logits ``(B, 2, H, W)``: background and referred object.
        """
        words = self.text(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        logits = self.decoder(self._stages(pixels, words.transpose(1, 2), attention_mask))
        return F.interpolate(logits, pixels.shape[2:], mode="bilinear", align_corners=True)

    def _stages(self, pixels: Tensor, words: Tensor, mask: Tensor) -> list[Tensor]:
        """Return what each stage hands to the decoder, ``(B, C, h, w)``: what was fused, not the sum."""
        stream, outputs = self.visual.patch_embed(pixels), []
        for stage, pwam, gate, norm in zip(
            self.visual.layers, self.pwam, self.gate, self.out_norm, strict=True
        ):
            stream = stage(stream)
            size = stream.shape[1:3]
            fused = pwam(stream.flatten(1, 2).transpose(1, 2), words, mask).transpose(1, 2)
            fused = fused.unflatten(1, size)
            outputs.append(norm(fused).permute(0, 3, 1, 2))
            stream = stream + gate(fused)
        return outputs

    def load_official_state_dict(
        self, model: Mapping[str, Tensor], bert_model: Mapping[str, Tensor] | None = None
    ) -> None:
        """Load the weights of a published LAVT checkpoint, strictly.

        Args:
            model: Its entry ``model``.
            bert_model: Its entry ``bert_model``; None if ``model`` holds ``text_encoder.*`` (``lavt_one``).

        Raises:
            UserError: A name is missing, unknown, or of another shape.
        """
        try:
            self.load_state_dict(from_official(model, bert_model), strict=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise UserError(f"These weights do not fit this LAVT: {reason:.400}") from error


class LAVTDecoder(nn.Module):
    """From the stages' features, coarse to fine, to logits at the resolution of the finest.

    Args:
        channels: Of the stages, fine to coarse.
    """

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        hidden = channels[-1] // 2
        incoming = [channels[-1], *[hidden] * (len(channels) - 2)]
        for number, (above, own) in enumerate(zip(incoming, reversed(channels[:-1]), strict=True)):
            setattr(self, f"block{len(channels) - number}", _double_convolution(above + own, hidden))
        self.head = nn.Conv2d(hidden, 2, 1)

    def forward(self, stages: list[Tensor]) -> Tensor:
        """Decode ``stages`` (fine to coarse) to ``(B, 2, h, w)``."""
        x = stages[-1]
        for number in range(len(stages), 1, -1):
            finer = stages[number - 2]
            if x.shape[2:] != finer.shape[2:]:
                x = F.interpolate(x, finer.shape[2:], mode="bilinear", align_corners=True)
            x = getattr(self, f"block{number}")(torch.cat([x, finer], dim=1))
        return self.head(x)


def _double_convolution(incoming: int, outgoing: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (incoming, outgoing):
        layers += [
            nn.Conv2d(channels, outgoing, 3, padding=1, bias=False),
            nn.BatchNorm2d(outgoing),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)
