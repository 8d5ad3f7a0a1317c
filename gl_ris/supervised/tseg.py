"""A TSEG-style baseline: patches and expressions in one space, trained without masks.

TSEG (Strudel et al., arXiv 2205.04725) has no public code; this is a reconstruction from its abstract and
from the mask transformer of Segmenter that it builds on. Its figures are its own and not those of the paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gl_ris.clip.image import resize_pixels
from gl_ris.supervised.segmenter import Baseline, Example, Segmenter, bert_inputs, polynomial_decay
from gl_ris.supervised.starting import load_bert, load_classifier, load_tokenizer

MOST_EXPRESSIONS = 8  # Of one image in a batch.

TEXT_RATE = 0.1  # Share of the learning rate for the text encoder.

# Weight of nothing in the pooling, so that an expression with few patches has a small score.
EPSILON = 1.0

# Of the focal term of Araslanov and Roth (CVPR 2020), from whom the weighted pooling is too.
FOCAL_POWER, FOCAL_OFFSET = 3, 0.01


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


class TSEG(nn.Module):
    """An untrained TSEG of the given measures."""

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
        # from BERT's first state to an expression
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
        # similarity of the background with every patch
        self.background = nn.Parameter(torch.tensor(0.0))

    def forward(self, pixels: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Compare every expression with every patch of every image.

        From pixels, float ``(B, 3, side, side)`` from -1 to 1, and token ids, int64 ``(E, T)`` padded with 0
        as ``attention_mask`` says, to similarities ``(B, E, P)``, patches row by row. That of an expression
        depends on no other.
        """
        return self.ground(self.encode_image(pixels), input_ids, attention_mask)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Compute the patches that the decoder reads, once for all expressions of an image."""
        return self.incoming(self.visual.forward_features(pixels)[:, self.visual.num_prefix_tokens :])

    def ground(self, patches: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Finish `forward` from the patches of `encode_image`."""
        words = self.text(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state[:, 0]
        queries = self.text_projection(words).expand(len(patches), -1, -1)
        count = patches.shape[1]
        tokens = torch.cat([patches, queries], dim=1)
        # patches see patches, an expression sees patches and itself
        blocked = torch.zeros(2 * (tokens.shape[1],), dtype=torch.bool, device=tokens.device)
        blocked[:, count:] = True
        blocked.fill_diagonal_(False)
        for block in self.decoder:
            tokens = block(tokens, src_mask=blocked)
        tokens = self.norm(tokens)
        places = F.normalize(tokens[:, :count] @ self.patch_projection, dim=-1)
        sought = F.normalize(tokens[:, count:] @ self.query_projection, dim=-1)
        return sought @ places.transpose(1, 2) / self.temperature


@dataclass(frozen=True)
class TSEGBaseline(Baseline):
    """A reconstruction of TSEG, which learns from images and their expressions without masks.

    Args:
        size: Measures of the network.
        vit: timm's name of the ViT to start from, or a file of weights; null starts from random ones.
        bert: Hugging Face name or folder of the BERT to start from; null starts from random weights.
        tokenizer: Hugging Face name or folder of the tokenizer, or a shipped CLIP for its tokenizer.
        learning_rate: At the first step, of all but the text encoder, which has a tenth.
        weight_decay: Of everything.
        threshold: A pixel is the object's if its probability is above this.
        epochs: Of a training.
        batch_size: Images of a step, over all devices.
    """

    title: ClassVar[str] = "TSEG (reconstruction)"

    size: TSEGSize = TSEGSize()
    vit: str | None = "vit_small_patch16_384.augreg_in21k_ft_in1k"
    bert: str | None = "google-bert/bert-base-uncased"
    tokenizer: str = "google-bert/bert-base-uncased"
    learning_rate: float = 1e-4
    weight_decay: float = 1e-2
    threshold: float = 0.5
    epochs: int = 20
    batch_size: int = 16

    def make(self) -> TSEGSegmenter:
        """Build it; see `Baseline.make`."""
        tokenize = load_tokenizer(self.tokenizer)
        network = TSEG(self.size)
        if self.vit is not None:
            load_classifier(network.visual, self.vit)
        if self.bert is not None:
            load_bert(network.text, self.bert)
        return TSEGSegmenter(network, tokenize, self)


class TSEGSegmenter(Segmenter):
    """A reconstruction of TSEG, weakly supervised: images and their expressions, no masks."""

    network: TSEG
    settings: TSEGBaseline
    by_image: ClassVar[bool] = True

    def read_image(self, image: Tensor) -> Tensor:
        """Squash to a square (bilinear, antialiased), values from -1 to 1."""
        size = (self.network.size.image_size,) * 2
        return resize_pixels(image[None].float() / 255, size, mode="bilinear", antialias=True)[0] * 2 - 1

    def read_texts(self, expressions: Sequence[str]) -> dict[str, Tensor]:
        """Tokenise; ids behind the last are cut off."""
        return bert_inputs(self.tokenize(expressions), self.network.size.max_words)

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

    def ground(self, encoded: Tensor, **texts: Tensor) -> Tensor:
        """Similarity of the image with each expression, above the background: ``(E, rows, columns)``."""
        side = self.network.size.image_size // self.network.size.patch_size
        count = len(texts["input_ids"])
        alone = [{key: value[i : i + 1] for key, value in texts.items()} for i in range(count)]
        own = [self.network.ground(encoded, **text)[0, 0] for text in alone]
        return (torch.stack(own) - self.network.background).unflatten(1, (side, side))

    def answer(self, logits: Tensor, height: int, width: int) -> Tensor:
        """Resize probabilities (bilinear) and cut them at the threshold."""
        heat = F.interpolate(
            logits[:, None].float().sigmoid(), (height, width), mode="bilinear", align_corners=False
        )
        return heat[:, 0] > self.settings.threshold

    def optimization(self, steps: int, epochs: int) -> dict[str, Any]:
        """AdamW with `polynomial_decay`."""
        rate, text = self.settings.learning_rate, list(self.network.text.parameters())
        rest = [p for name, p in self.network.named_parameters() if not name.startswith("text.")]
        groups: list[dict[str, Any]] = [{"params": rest}, {"params": text, "lr": TEXT_RATE * rate}]
        optimizer = torch.optim.AdamW(groups, lr=rate, weight_decay=self.settings.weight_decay)
        return polynomial_decay(optimizer, steps)


def assign(similarities: Tensor, present: Tensor, ignored: Tensor, background: Tensor) -> Tensor:
    """Share the patches of each image out among the background (a scalar similarity) and the expressions.

    From similarities ``(B, E, P)`` to shares ``(B, E, P)`` in [0, 1]; ``present``, bool ``(B, E)``, are the
    expressions of each image, ``ignored`` those of a present one's words from another image: share 0.
    """
    # An expression competes with the background and with those that are not of the image, never with others
    # of the image: two of them may well refer to the same object.
    absent = ~present & ~ignored
    others = similarities.masked_fill(~absent[..., None], -torch.inf)
    level = torch.logsumexp(torch.cat([others, background.expand_as(others[:, :1])], dim=1), dim=1)[:, None]
    rivals = torch.where(present[..., None], torch.logaddexp(level, similarities), level)
    return (similarities - rivals).exp().masked_fill(ignored[..., None], 0.0)


def pooled_scores(similarities: Tensor, shares: Tensor, focal: bool = True) -> Tensor:
    """Score how well each image shows what each expression says, ``(B, E)``; shares are those of `assign`."""
    pooled = (shares * similarities).sum(dim=2) / (EPSILON + shares.sum(dim=2))
    if not focal:
        return pooled
    # Asks expressions that have hardly any patches to take some: without it the scores can be right while
    # the patches are wrong.
    size = shares.mean(dim=2)
    return pooled + (1 - size) ** FOCAL_POWER * (FOCAL_OFFSET + size).log()


def assignment_loss(
    similarities: Tensor, owners: Tensor, words: Tensor, background: Tensor, focal: bool = True
) -> Tensor:
    """Multi-label loss, a scalar: binary cross-entropy of the scores above the background, over all pairs.

    ``owners`` and ``words``, int64 ``(E,)``: the image of each expression, and a number for its words. Pairs
    are left out where an expression says of another image what is true of this one.
    """
    present = owners[None] == torch.arange(len(similarities), device=owners.device)[:, None]
    same_words = (words[:, None] == words[None]).float()
    ignored = (present.float() @ same_words > 0) & ~present
    shares = assign(similarities, present, ignored, background)
    scores = pooled_scores(similarities, shares, focal) - background
    losses = F.binary_cross_entropy_with_logits(scores, present.to(scores.dtype), reduction="none")
    return losses[~ignored].mean()
