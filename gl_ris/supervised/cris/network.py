"""CRIS (Wang et al., CVPR 2022): referring image segmentation driven by CLIP, fully supervised.

Written from a description of its architecture, not from its code. The names of modules are those of the
published layout, so that a checkpoint of it loads as it is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gl_ris.errors import UserError, unknown_name
from gl_ris.supervised.segmenter import convolution
from gl_ris.weights import load_strictly

# CLIPs of the published models, and what open_clip calls them with the activation of OpenAI's weights.
ARCHITECTURES = {"RN50": "RN50-quickgelu", "RN101": "RN101-quickgelu"}


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


class DenseAttentionPool(nn.Module):
    """CLIP's attention pooling kept dense: every position attends to all, and none is added for the image."""

    def __init__(self, pool: Any) -> None:
        super().__init__()
        # takes the parameters over of an open_clip ModifiedResNet's pooling
        self.num_heads: int = pool.num_heads
        self.positional_embedding = pool.positional_embedding
        self.q_proj, self.k_proj = pool.q_proj, pool.k_proj
        self.v_proj, self.c_proj = pool.v_proj, pool.c_proj
        outgoing, incoming = self.c_proj.weight.shape
        self.connect = nn.Sequential(nn.Conv2d(incoming, outgoing, 1, bias=False), nn.BatchNorm2d(outgoing))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, E, h, w)``, not negative, for a last map ``(B, C, h, w)``."""
        size = x.shape[2:]
        tokens = (x + self._position(*size)).flatten(2).transpose(1, 2)
        layers = (self.q_proj, self.k_proj, self.v_proj)
        heads = [layer(tokens).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for layer in layers]
        attended = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        dense = self.c_proj(attended).transpose(1, 2).unflatten(2, size)
        return F.relu(dense + self.connect(x))

    def _position(self, height: int, width: int) -> Tensor:
        rows = self.positional_embedding[1:]  # the first row is that of the whole image
        side = round(len(rows) ** 0.5)
        grid = rows.T.unflatten(1, (side, side))[None]
        return F.interpolate(grid, (height, width), mode="bicubic", align_corners=False)


def image_maps(clip: Any, pixels: Tensor) -> list[Tensor]:
    """Return the maps of strides 8, 16 and 32 of `CRIS.forward`'s pixels, the last one pooled densely."""
    output = clip.visual.forward_intermediates(pixels, indices=[2, 3, 4], intermediates_only=True)
    fine, middle, coarse = output["image_intermediates"]
    return [fine, middle, clip.visual.attnpool(coarse)]


def text_states(clip: Any, token_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Encode expressions: the states of words ``(B, T, width)``, and of the sentence ``(B, E)``.

    The sentence is the projected state of the end of text, which has the largest of the ``token_ids``.
    """
    length = token_ids.shape[1]  # the tower is causal: a shorter context gives the same states
    states = clip.token_embedding(token_ids) + clip.positional_embedding[:length]
    states = clip.ln_final(clip.transformer(states, attn_mask=clip.attn_mask[:length, :length]))
    ends = states[torch.arange(len(states), device=states.device), token_ids.argmax(dim=1)]
    return states, ends @ clip.text_projection


class CoordinateConvolution(nn.Module):
    """A convolution that is told where it is: x and y from -1 to 1 as two more channels."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        super().__init__()
        self.conv1 = convolution(incoming + 2, outgoing)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(B, C, h, w)``."""
        lines = [torch.linspace(-1, 1, side, device=x.device, dtype=x.dtype) for side in x.shape[2:]]
        coordinates = torch.stack(torch.meshgrid(*lines, indexing="ij")[::-1]).expand(len(x), -1, -1, -1)
        return self.conv1(torch.cat([x, coordinates], dim=1))


class Neck(nn.Module):
    """CRIS's text-guided pyramid: fuses the sentence into the coarsest map, and the maps with each other.

    ``incoming`` and ``outgoing`` are channels at strides 8, 16, 32; the middle one is that of the result.
    """

    def __init__(self, incoming: Sequence[int], outgoing: Sequence[int], sentence: int) -> None:
        super().__init__()
        fine, middle, coarse = outgoing
        text = nn.Linear(sentence, coarse, bias=False)
        self.txt_proj = nn.Sequential(text, nn.BatchNorm1d(coarse), nn.ReLU())
        self.f1_v_proj = convolution(incoming[2], coarse, 1)
        self.norm_layer = nn.Sequential(nn.BatchNorm2d(coarse), nn.ReLU())
        self.f2_v_proj = convolution(incoming[1], middle)
        self.f2_cat = convolution(middle + coarse, middle, 1)
        self.f3_v_proj = convolution(incoming[0], fine)
        self.f3_cat = convolution(fine + middle, middle, 1)
        self.f4_proj5 = convolution(coarse, middle)
        self.f4_proj4 = convolution(middle, middle)
        self.f4_proj3 = convolution(middle, middle)
        self.aggr = convolution(3 * middle, middle, 1)
        self.coordconv = nn.Sequential(CoordinateConvolution(middle, middle), convolution(middle, middle))

    def project(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Do what needs no sentence to maps ``(B, C, h, w)``, fine to coarse."""
        fine = F.avg_pool2d(self.f3_v_proj(maps[0]), 2)
        return [fine, self.f2_v_proj(maps[1]), self.f1_v_proj(maps[2])]

    def forward(self, projected: Sequence[Tensor], sentence: Tensor) -> Tensor:
        """Fuse maps of `project` with sentences ``(B, D)`` to ``(B, middle, h, w)`` at stride 16.

        Maps of one image serve all sentences. Batch normalisation needs two sentences in training.
        """
        double = nn.Upsample(scale_factor=2, mode="bilinear")
        fine, middle, coarse = (one.expand(len(sentence), -1, -1, -1) for one in projected)
        f5 = self.norm_layer(coarse * self.txt_proj(sentence)[:, :, None, None])
        f4 = self.f2_cat(torch.cat([middle, double(f5)], dim=1))
        f3 = self.f3_cat(torch.cat([fine, f4], dim=1))
        parts = [self.f4_proj3(f3), self.f4_proj4(f4), double(self.f4_proj5(f5))]
        return self.coordconv(self.aggr(torch.cat(parts, dim=1)))


def sinusoids(count: int, channels: int, device: torch.device | None = None) -> Tensor:
    """Encode the positions 0 to ``count - 1``: float32 ``(count, channels)``, sines in even ones."""
    # pair i has the frequency 10000 ** (-2 i / channels)
    rates = torch.exp(torch.arange(0, channels, 2, device=device) * (-math.log(10000.0) / channels))
    angles = torch.arange(count, device=device)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def pixel_positions(height: int, width: int, channels: int, device: torch.device | None = None) -> Tensor:
    """Encode pixels row by row, float32 ``(h * w, channels)``: x in the first half of them, then y."""
    across = sinusoids(width, channels // 2, device).expand(height, -1, -1)
    down = sinusoids(height, channels // 2, device)[:, None].expand(-1, width, -1)
    return torch.cat([across, down], dim=-1).flatten(0, 1)


class DecoderLayer(nn.Module):
    """Pixels to pixels, pixels to words, and a feed-forward network, each normalised twice."""

    def __init__(self, channels: int, size: CRISSize) -> None:
        super().__init__()
        self.self_attn_norm = nn.LayerNorm(channels)
        self.cross_attn_norm = nn.LayerNorm(channels)
        self.self_attn, self.multihead_attn = (
            nn.MultiheadAttention(channels, size.heads, dropout=size.dropout, batch_first=True)
            for _ in range(2)
        )
        self.ffn = nn.Sequential(
            nn.Linear(channels, size.hidden),
            nn.ReLU(),
            nn.Dropout(size.dropout),
            nn.LayerNorm(size.hidden),
            nn.Linear(size.hidden, channels),
        )
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))
        self.dropout = nn.Dropout(size.dropout)

    def forward(
        self, pixels: Tensor, words: Tensor, padding: Tensor, pixel_position: Tensor, word_position: Tensor
    ) -> Tensor:
        """Return the pixels ``(B, N, C)`` after the layer; ``padding`` is True where a word is none."""
        normed = self.norm1(pixels)
        placed = normed + pixel_position
        attended = self.self_attn(placed, placed, normed, need_weights=False)[0]
        pixels = pixels + self.dropout(self.self_attn_norm(attended))
        attended = self.multihead_attn(
            self.norm2(pixels) + pixel_position,
            words + word_position,
            words,
            key_padding_mask=padding,
            need_weights=False,
        )[0]
        pixels = pixels + self.dropout(self.cross_attn_norm(attended))
        return pixels + self.dropout(self.ffn(self.norm3(pixels)))


class Decoder(nn.Module):
    """All layers and a last normalisation; the channels of pixels and words are a multiple of 4."""

    def __init__(self, channels: int, size: CRISSize) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(channels, size) for _ in range(size.layers))
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, words: Tensor, padding: Tensor) -> Tensor:
        """Let a map ``(B, C, h, w)`` ask words ``(B, T, C)``; bool ``padding``: where a word is none."""
        channels, size = x.shape[1], x.shape[2:]
        pixel_position = pixel_positions(size[0], size[1], channels, x.device).to(x.dtype)
        word_position = sinusoids(words.shape[1], channels, x.device).to(x.dtype)
        pixels = x.flatten(2).transpose(1, 2)
        for layer in self.layers:
            pixels = layer(pixels, words, padding, pixel_position, word_position)
        return self.norm(pixels).transpose(1, 2).unflatten(2, size)


class Projector(nn.Module):
    """Text-to-pixel: the sentence becomes a convolution kernel of its own over ``channels`` of the pixels."""

    kernel = 3

    def __init__(self, sentence: int, channels: int) -> None:
        super().__init__()
        self.vis = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear"),
            convolution(2 * channels, 2 * channels),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            convolution(2 * channels, channels),
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
    """A CRIS, untrained but for what its CLIP knows; `UserError` for one unknown, or unfit for the measures.

    Args:
        clip: ``"RN50"`` or ``"RN101"`` (random weights), or an open_clip model with a ModifiedResNet and a
            text transformer of its own, which is changed in place.
        word_length: Token ids of an expression: 17 for RefCOCO and RefCOCO+, 22 for RefCOCOg.
        size: Measures of the rest.
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
        # channels of the last map; they double at each stage
        trunk = model.visual.attnpool.c_proj.in_features
        model.visual.attnpool = DenseAttentionPool(model.visual.attnpool)
        self.backbone = model
        self.neck = Neck((trunk // 4, trunk // 2, sentence), self.size.neck, sentence)
        self.decoder = Decoder(words, self.size)
        self.proj = Projector(sentence, self.size.projector)
        with torch.no_grad():
            model.text_projection.mul_(self.size.sentence_scale)
            self.proj.txt.bias[-1] += self.size.prior

    def forward(self, pixels: Tensor, token_ids: Tensor) -> Tensor:
        """Segment: logits ``(B, 1, H / 4, W / 4)`` of the referred object.

        Pixels are float ``(B, 3, H, W)``, normalised with CLIP's mean and deviation, sides a multiple of 32;
        ids are int64 ``(B, T)`` with start and end of text, padded with 0.
        """
        return self.ground(self.encode_image(pixels), token_ids)

    def encode_image(self, pixels: Tensor) -> list[Tensor]:
        """Compute what does not see the text, once for all expressions of an image."""
        return self.neck.project(image_maps(self.backbone, pixels))

    def ground(self, encoded: Sequence[Tensor], token_ids: Tensor) -> Tensor:
        """Finish `forward` for ``B`` expressions, from `encode_image` of as many images or of one for all."""
        words, sentence = text_states(self.backbone, token_ids)
        fused = self.neck(encoded, sentence)
        return self.proj(self.decoder(fused, words, token_ids == 0), sentence)

    def load_official_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Load weights of the published layout, with or without ``module.`` before each name, strictly.

        `UserError` if a name is missing, unknown, or of another shape.
        """
        plain = {name.removeprefix("module."): tensor for name, tensor in state_dict.items()}
        load_strictly(self, plain, "CRIS")


def _untrained(name: str) -> nn.Module:
    import open_clip

    if name not in ARCHITECTURES:
        raise unknown_name("CLIP for CRIS", name, ARCHITECTURES)
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
