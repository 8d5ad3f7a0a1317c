"""LAVT (Yang et al., CVPR 2022): language-aware vision Transformer, the paper's supervised reference.

Written from a description of its architecture, not from its code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import (
    SwinTransformer,
    SwinTransformerBlock,
    window_partition,
    window_reverse,
)
from torch import Tensor, nn

from gl_ris.supervised.segmenter import convolution
from gl_ris.weights import load_strictly, renamed


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


class PadFirstBlock(SwinTransformerBlock):
    """A Swin block that pads to whole windows before the cyclic shift."""

    # timm shifts first and pads afterwards, and masks for the unpadded map; where a map is no multiple of the
    # window the two differ (by an eighth in stage 4 of Swin-B at 480 pixels), so that weights trained in one
    # order do not fit the other.
    def _attn(self, x: Tensor) -> Tensor:
        height, width, channels = x.shape[1:]
        rows, columns = (
            -(-length // window) * window
            for length, window in zip((height, width), self.window_size, strict=True)
        )
        x = F.pad(x, (0, 0, 0, columns - width, 0, rows - height))
        if any(self.shift_size):
            x = torch.roll(x, [-shift for shift in self.shift_size], dims=(1, 2))
        windows = window_partition(x, self.window_size).view(-1, self.window_area, channels)
        windows = self.attn(windows, mask=self._shift_mask(x))
        x = window_reverse(windows.view(-1, *self.window_size, channels), self.window_size, rows, columns)
        if any(self.shift_size):
            x = torch.roll(x, self.shift_size, dims=(1, 2))
        return x[:, :height, :width].contiguous()

    def _shift_mask(self, padded: Tensor) -> Tensor | None:
        """Return the mask between tokens that only the shift brought together; kept while it fits."""
        key = (padded.shape[1:3], padded.device, padded.dtype)
        if getattr(self, "_mask_key", None) != key:
            self._mask_key, self._mask = key, self.get_attn_mask(padded)
        return self._mask


def swin(size: LAVTSize) -> Any:
    """Build an untrained Swin Transformer without head: ``patch_embed``, then ``layers`` one by one.

    Maps are ``(B, H, W, C)``, sides any multiple of the patch; a stage begins by merging patches.
    """
    network = SwinTransformer(
        img_size=size.image_size,
        patch_size=size.patch_size,
        num_classes=0,
        embed_dim=size.embed_dim,
        depths=tuple(size.depths),
        num_heads=tuple(size.num_heads),
        window_size=size.window_size,
        drop_path_rate=size.drop_path_rate,
        always_partition=True,  # a window is never shrunk, however small the map
        strict_img_size=False,
    )
    network.norm = nn.Identity()
    for module in network.modules():
        if isinstance(module, SwinTransformerBlock):
            # timm names the class of its blocks in the middle of a constructor; the state is the same
            module.__class__ = PadFirstBlock
    return network


class PixelWordAttention(nn.Module):
    """LAVT's pixel-word attention: every pixel gathers from the words and is multiplied by what it gets."""

    def __init__(self, channels: int, text_channels: int, heads: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.vis = nn.Conv1d(channels, channels, 1)
        self.query = nn.Conv1d(channels, channels, 1)
        self.key = nn.Conv1d(text_channels, channels, 1)
        self.value = nn.Conv1d(text_channels, channels, 1)
        self.out = nn.Conv1d(channels, channels, 1)
        self.mm = nn.Conv1d(channels, channels, 1)

    def forward(self, pixels: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """Fuse pixels ``(B, C, N)``, ``N`` above 1, with words ``(B, text_channels, T)`` to ``(B, C, N)``.

        ``mask``, ``(B, T)``, is 1 for words and 0 for padding.
        """
        keep = mask[:, None].to(words.dtype)
        query = F.instance_norm(self.query(pixels))
        key, value = self.key(words) * keep, self.value(words) * keep
        parts = [part.unflatten(1, (self.heads, -1)) for part in (query, key, value)]
        # scaled by all channels, however many heads share them
        scores = parts[0].transpose(2, 3) @ parts[1] * pixels.shape[1] ** -0.5
        weights = (scores + (1e4 * keep - 1e4)[:, :, None]).softmax(dim=-1)
        gathered = (weights @ parts[2].transpose(2, 3)).transpose(2, 3).flatten(1, 2)
        gathered = F.instance_norm(self.out(gathered))
        return F.gelu(self.mm(F.gelu(self.vis(pixels)) * gathered))


class LanguageGate(nn.Sequential):
    """LAVT's language gate: how much of the fused feature is added back to the stream, channel by channel."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Linear(channels, channels, bias=False), nn.ReLU(), nn.Linear(channels, channels, bias=False)
        )

    def forward(self, fused: Tensor) -> Tensor:
        """Return the gated residual of ``fused``, ``(..., C)``."""
        return torch.tanh(super().forward(fused)) * fused


class LAVT(nn.Module):
    """An untrained LAVT.

    Args:
        size: Its measures.
        text_dropout: Train BERT with dropout. The published two-part model runs it in evaluation mode even
            during training.
    """

    def __init__(self, size: LAVTSize | None = None, text_dropout: bool = False) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        self.size = size or LAVTSize()
        self.text_dropout = text_dropout
        self.visual = swin(self.size)
        self.text = BertModel(BertConfig(**self.size.text), add_pooling_layer=False)
        channels = [self.size.embed_dim * 2**stage for stage in range(len(self.size.depths))]
        words = self.text.config.hidden_size
        self.pwam = nn.ModuleList(PixelWordAttention(c, words, self.size.fusion_heads) for c in channels)
        # the last one's output is used by nothing
        self.gate = nn.ModuleList(LanguageGate(c) for c in channels)
        self.out_norm = nn.ModuleList(nn.LayerNorm(c) for c in channels)
        self.decoder = LAVTDecoder(channels)
        for weight in self.gate.parameters():
            nn.init.trunc_normal_(weight, std=0.02)
        # the text encoder's embeddings and last layers are not trained; gradients pass through the layers
        layers = self.text.encoder.layer
        for module in (self.text.embeddings, *layers[len(layers) - self.size.frozen_text_layers :]):
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> LAVT:
        """Switch between training and evaluation; BERT stays in evaluation without ``text_dropout``."""
        super().train(mode)
        self.text.train(mode and self.text_dropout)
        return self

    def forward(self, pixels: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Segment: logits ``(B, 2, H, W)`` of background and referred object.

        Pixels are float ``(B, 3, H, W)``, ImageNet-normalised, sides a multiple of the patch; ids are int64
        ``(B, T)``, padded with 0; the mask, ``(B, T)``, is 1 for tokens and 0 for padding.
        """
        # the text first: both may draw random numbers in training
        words = self._words(input_ids, attention_mask)
        return self._fuse(self.encode_image(pixels), words, attention_mask)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Compute what does not see the text, the first stage, once for all expressions of an image."""
        return self.visual.layers[0](self.visual.patch_embed(pixels))

    def ground(self, encoded: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Finish `forward` for ``B`` expressions, from `encode_image` of as many images or of one for all."""
        return self._fuse(encoded, self._words(input_ids, attention_mask), attention_mask)

    def _words(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.text(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return states.transpose(1, 2)

    def _fuse(self, stream: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        size = [self.size.patch_size * side for side in stream.shape[1:3]]
        logits = self.decoder(self._stages(stream, words, mask))
        return F.interpolate(logits, size, mode="bilinear", align_corners=True)

    def _stages(self, stream: Tensor, words: Tensor, mask: Tensor) -> list[Tensor]:
        """Return what each stage hands to the decoder, ``(B, C, h, w)``, from what leaves the first."""
        outputs: list[Tensor] = []
        parts = (self.visual.layers, self.pwam, self.gate, self.out_norm)
        for stage, pwam, gate, norm in zip(*parts, strict=True):
            stream = stage(stream) if outputs else stream
            # the first stream may be that of one image for all words
            fused = pwam(stream.flatten(1, 2).transpose(1, 2), words, mask).transpose(1, 2)
            fused = fused.unflatten(1, stream.shape[1:3])
            # the decoder gets what was fused, the next stage the sum
            outputs.append(norm(fused).permute(0, 3, 1, 2))
            stream = stream + gate(fused)
        return outputs

    def load_official_state_dict(
        self, model: Mapping[str, Tensor], bert_model: Mapping[str, Tensor] | None = None
    ) -> None:
        """Load the weights of a published LAVT checkpoint, strictly, from its entries of these names.

        ``bert_model`` is None if ``model`` holds ``text_encoder.*`` (``lavt_one``). `UserError` if a name is
        missing, unknown, or of another shape.
        """
        load_strictly(self, from_official(model, bert_model), "LAVT")


class LAVTDecoder(nn.Module):
    """From the features of the stages, ``channels`` fine to coarse, to logits at the finest resolution."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        hidden = channels[-1] // 2
        incoming = [channels[-1], *[hidden] * (len(channels) - 2)]
        for number, (above, own) in enumerate(zip(incoming, reversed(channels[:-1]), strict=True)):
            block = nn.Sequential(*convolution(above + own, hidden), *convolution(hidden, hidden))
            setattr(self, f"block{len(channels) - number}", block)
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


# Buffers that follow from the measures, and what segmentation has no use for.
_DROPPED = re.compile(
    r"(.*\.)?(relative_position_index|attn_mask|position_ids)|(backbone\.)?(norm|head)\.(weight|bias)"
    r"|text_encoder\.pooler\..*"
)


def from_official(
    model: Mapping[str, Tensor], bert_model: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Give the tensors of a published checkpoint our names; names that are not known stay as they are."""
    text = {f"text_encoder.{name}": tensor for name, tensor in (bert_model or {}).items()}
    kept = {name: tensor for name, tensor in {**model, **text}.items() if not _DROPPED.fullmatch(name)}
    return {renamed(name, "lavt"): tensor for name, tensor in kept.items()}
