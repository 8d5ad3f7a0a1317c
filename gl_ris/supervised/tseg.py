"""A TSEG-style network: patches and expressions in one space, trained without masks.

TSEG (Strudel et al., arXiv 2205.04725) has no public code; this is a reconstruction from its abstract and
from the mask transformer of Segmenter that it builds on. Its figures are its own and not those of the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class TSEGSize:
    """Measures of a TSEG; the defaults are ViT-S/16 at 384 pixels and BERT-base.

    Attributes:
        image_size: Side of the square input in pixels.
        patch_size: Side of a patch.
        channels: Of patches and expressions.
        depth: Blocks of the image encoder.
        heads: Attention heads of encoder and decoder.
        decoder_blocks: Blocks in which expressions look at patches.
        max_words: Token ids of an expression, special tokens included.
        text: Settings of ``transformers.BertConfig`` that differ from BERT-base's.
    """

    image_size: int = 384
    patch_size: int = 16
    channels: int = 384
    depth: int = 12
    heads: int = 6
    decoder_blocks: int = 2
    max_words: int = 20
    text: Mapping[str, Any] = field(default_factory=dict)


TINY = TSEGSize(
    image_size=128,
    patch_size=8,
    channels=64,
    depth=4,
    heads=2,
    text={
        "vocab_size": 641,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 256,
        "max_position_embeddings": 20,
    },
)
"""For the embedded benchmark."""


class TSEG(nn.Module):
    """An untrained TSEG.

    Attributes:
        visual: The image encoder.
        text: The BERT, without pooler.
        text_projection: From its first state to an expression.
        decoder: Blocks over patches and expressions.
        temperature: Of the similarities.
        background: Similarity of the background with every patch.

    Args:
        size: Its measures.
    """

    def __init__(self, size: TSEGSize | None = None) -> None:
        super().__init__()
        from timm.models.vision_transformer import VisionTransformer
        from transformers import BertConfig, BertModel

        self.size = size or TSEGSize()
        width = self.size.channels
        self.visual = VisionTransformer(
            img_size=self.size.image_size,
            patch_size=self.size.patch_size,
            embed_dim=width,
            depth=self.size.depth,
            num_heads=self.size.heads,
            num_classes=0,
            global_pool="",
        )
        self.text = BertModel(BertConfig(**self.size.text), add_pooling_layer=False)
        self.text_projection = nn.Linear(self.text.config.hidden_size, width)
        self.incoming = nn.Linear(width, width)
        self.decoder = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, self.size.heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(self.size.decoder_blocks)
        )
        self.norm = nn.LayerNorm(width)
        self.patch_projection, self.query_projection = (
            nn.Parameter(torch.randn(width, width) * width**-0.5) for _ in range(2)
        )
        self.temperature = nn.Parameter(torch.tensor(0.1))
        self.background = nn.Parameter(torch.tensor(0.0))

    def forward(self, pixels: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Compare every expression with every patch of every image.

        Args:
            pixels: float ``(B, 3, side, side)``, values from -1 to 1.
            input_ids: int64 ``(E, T)``, padded with 0.
            attention_mask: ``(E, T)``, 1 for tokens, 0 for padding.

        Returns:
            Similarities ``(B, E, P)``, patches row by row. That of an expression depends on no other.
        """
        patches = self.incoming(self.visual.forward_features(pixels)[:, self.visual.num_prefix_tokens :])
        words = self.text(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state[:, 0]
        queries = self.text_projection(words).expand(len(pixels), -1, -1)
        count = patches.shape[1]
        tokens, blocked = torch.cat([patches, queries], dim=1), self._blocked(count, queries.shape[1])
        for block in self.decoder:
            tokens = block(tokens, src_mask=blocked.to(tokens.device))
        tokens = self.norm(tokens)
        places = F.normalize(tokens[:, :count] @ self.patch_projection, dim=-1)
        sought = F.normalize(tokens[:, count:] @ self.query_projection, dim=-1)
        return sought @ places.transpose(1, 2) / self.temperature

    def _blocked(self, patches: int, queries: int) -> Tensor:
        """Return who may not look at whom: patches see patches, an expression sees patches and itself."""
        total = patches + queries
        blocked = torch.zeros(total, total, dtype=torch.bool)
        blocked[:, patches:] = True
        return blocked.fill_diagonal_(False)
