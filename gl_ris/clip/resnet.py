"""A ModifiedResNet of open_clip opened for regions: masked attention pooling (paper, Sec. 4.1)."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gl_ris.clip.kernels import Layers, has_hooks, is_free


@dataclass(frozen=True)
class ResNetState:
    """What all masks of an image share."""

    feature_map: Tensor  # the last map as the network gives it, ``(1, C, rows, columns)``
    # query, key and value projections of the positions of the map (L2-normalised over channels if that
    # was asked for) without bias, ``(3, rows * columns, C)``
    projected: Tensor
    # the same projections of the position embedding, with bias, ``(3, 1 + rows * columns, C)``
    positions: Tensor


class ResNetTower:
    """An open_clip ``ModifiedResNet``; `gl_ris.clip.tower.Tower` says what is what."""

    kind = "resnet"
    depth = 0

    def __init__(self, visual: Any, layers: Layers) -> None:
        self.visual, self.layers = visual, layers
        self.image_size = (visual.image_size, visual.image_size)
        self.grid_size = (visual.image_size // 32, visual.image_size // 32)
        self.feature_dim: int = visual.output_dim

    def check_masked_blocks(self, masked_blocks: int) -> None:
        """Accept any value: this tower masks its last feature map, however many blocks a ViT would mask."""

    def encode(self, pixels: Tensor) -> Tensor:
        """Encode whole images."""
        tokens = self.feature_map(pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
        tokens = tokens + self.visual.attnpool.positional_embedding.to(tokens.dtype)
        return self._attend(
            *(self._project(part, tokens[:, :1] if part == "q" else tokens) for part in "qkv")
        )

    def feature_map(self, pixels: Tensor) -> Tensor:
        """Compute the last feature map before pooling, ``(B, C, rows, columns)``."""
        visual, layers = self.visual, self.layers
        pixels = pixels.to(visual.conv1.weight.dtype)
        if has_hooks(visual) or not is_free(pixels, visual.conv1.weight):
            found = visual.forward_intermediates(pixels, indices=[4], intermediates_only=True)
            return found["image_intermediates"][0]
        outputs = pixels.contiguous(memory_format=torch.channels_last)
        for layer, norm in (
            (visual.conv1, visual.bn1),
            (visual.conv2, visual.bn2),
            (visual.conv3, visual.bn3),
        ):
            outputs = layers.convolution(outputs, layer, norm)
        outputs = visual.avgpool(outputs)
        for stage in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            for block in stage:
                outputs = self._run(block, outputs)
        return outputs

    def _run(self, block: Any, inputs: Tensor) -> Tensor:
        """Run one bottleneck."""
        convolution, identity = self.layers.convolution, inputs
        if block.downsample is not None:
            pool, layer, norm = block.downsample
            identity = convolution(pool(inputs), layer, norm, relu=False)
        outputs = convolution(convolution(inputs, block.conv1, block.bn1), block.conv2, block.bn2)
        return convolution(block.avgpool(outputs), block.conv3, block.bn3, plus=identity)

    def image_state(self, pixels: Tensor, masked_blocks: int = 0, unit_map: bool = False) -> ResNetState:
        """Compute the feature map and its projections."""
        # The projections are linear and a mask scales whole positions, so masking after projecting is the
        # same as projecting the masked map.
        feature_map = self.feature_map(pixels)
        masked_map = F.normalize(feature_map, dim=1) if unit_map else feature_map
        tokens = masked_map[0].flatten(1).T
        position = self.visual.attnpool.positional_embedding.to(tokens.dtype)
        projected = [self._project(part, tokens, bias=False) for part in "qkv"]
        positions = [self._project(part, position) for part in "qkv"]
        return ResNetState(feature_map, torch.stack(projected), torch.stack(positions))

    def region_features(self, state: ResNetState, grid_masks: Tensor, masked_blocks: int = 0) -> Tensor:
        """Pool the masked map once per mask (Eqs. 2, 3), as ``visual.attnpool`` would.

        The query is the mean over *all* positions of the masked map; masked-out positions stay as keys and
        values that consist of bias and position embedding alone.
        """
        keep = grid_masks.flatten(1).to(state.projected.dtype)
        mean = torch.einsum("ng,pgc->pnc", keep / keep.shape[1], state.projected)
        key, value = (
            torch.cat([mean[i][:, None], keep[..., None] * state.projected[i]], dim=1) + state.positions[i]
            for i in (1, 2)
        )
        return self._attend((mean[0] + state.positions[0, 0])[:, None], key, value)

    def _project(self, part: str, tokens: Tensor, bias: bool = True) -> Tensor:
        layer = getattr(self.visual.attnpool, f"{part}_proj")
        return self.layers.linear(tokens, layer.weight, layer.bias if bias else None)

    def _attend(self, *projected: Tensor) -> Tensor:
        """Pool by one query, ``(B, 1, C)``, from keys and values, ``(B, L, C)``, to ``(B, feature_dim)``."""
        pool = self.visual.attnpool
        heads = [part.unflatten(-1, (pool.num_heads, -1)).transpose(1, 2) for part in projected]
        pooled = F.scaled_dot_product_attention(*heads)
        return self._project("c", pooled.transpose(1, 2).flatten(1))

    def last_map(self, state: ResNetState) -> Tensor:
        """Return the map that enters the attention pooling, ``(1, C, rows, columns)``."""
        return state.feature_map

    def pool(self, state: ResNetState, shifts: Tensor) -> Tensor:
        """Pool the last map with a vector added to all its positions, once for each of ``(S, C)``."""
        # What is added to all keys alike does not change how they are weighed, and to all values it is added
        # after weighing: keys and values are projected once.
        pool, positions = self.visual.attnpool, state.feature_map[0].flatten(1).T
        tokens = torch.cat([positions.mean(dim=0, keepdim=True), positions])
        tokens = tokens + pool.positional_embedding.to(tokens.dtype)
        parts = pool.q_proj(tokens[:1] + shifts), pool.k_proj(tokens), pool.v_proj(tokens)
        heads = [part.unflatten(-1, (pool.num_heads, -1)).transpose(0, 1) for part in parts]
        pooled = F.scaled_dot_product_attention(*heads).transpose(0, 1).flatten(1)
        return pool.c_proj(pooled + F.linear(shifts, pool.v_proj.weight))

    def dense_features(self, state: ResNetState) -> Tensor:
        """Project every position by the pooling's value and output layers, as convolutions of size 1x1."""
        # The position embedding belongs to the attention and is left out, as MaskCLIP does.
        pool = self.visual.attnpool
        return pool.c_proj(pool.v_proj(state.feature_map[0].permute(1, 2, 0)))
