"""The network of FreeSOLO: SOLOv2 (Wang et al., NeurIPS 2020) with two classes on a ResNet and its pyramid.

Features are float32 ``(1, C, h, w)``. One image at a time: the group norms, the coordinate channels and the
square grids see the whole canvas, so that the padding of a batch would change the result.
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

# Cells along each side of the five grids, and the pixels of the input between neighbouring positions of the
# features that each grid is laid over.
GRIDS = (40, 36, 24, 16, 12)
STRIDES = (8, 8, 16, 32, 32)

CANVAS = 32  # Both sides of the input are a multiple of this.

_FEATURES, _CATEGORIES, _KERNEL, _EMBEDDING = 256, 2, 256, 128


@dataclass(frozen=True)
class Predictions:
    """What the network says about one image; the cells of all grids in a row, grid by grid, row by row."""

    # (cells, 2) in [0, 1], how much each cell is the middle of an object; 0 where a neighbour is more so.
    categories: Tensor
    kernels: Tensor  # (cells, 256), the 1x1 convolution that draws the mask of each cell's object.
    strides: Tensor  # (cells,), the stride of each cell's features.
    features: Tensor  # (1, 256, h, w) at a quarter of the input, what the masks are drawn from.


class FreeSOLONetwork(nn.Module):
    """From a normalised image to categories, kernels and mask features; the ResNet has 50 or 101 layers."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.backbone = resnet_fpn_backbone(
            backbone_name=f"resnet{depth}", weights=None, norm_layer=_BatchNorm, trainable_layers=5
        )
        self.ins_head = InstanceHead()
        self.mask_head = MaskHead()

    def forward(self, pixels: Tensor) -> Predictions:
        """Read one image, float ``(1, 3, h, w)``, normalised, both sides a multiple of `CANVAS`."""
        p2, p3, p4, p5, p6 = self.backbone(pixels).values()
        halved = F.interpolate(p2, scale_factor=0.5, mode="bilinear")
        widened = F.interpolate(p6, size=p5.shape[-2:], mode="bilinear")
        categories, kernels = self.ins_head([halved, p3, p4, p5, widened])
        cells = [torch.full((grid * grid,), stride) for grid, stride in zip(GRIDS, STRIDES, strict=True)]
        return Predictions(
            torch.cat([_by_cell(keep_peaks(level.sigmoid())) for level in categories]),
            torch.cat([_by_cell(level) for level in kernels]),
            torch.cat(cells).to(pixels.device),
            self.mask_head([p2, p3, p4, p5]),
        )


class InstanceHead(nn.Module):
    """Says for each cell of a grid over the image whether an object is there, and the kernel of its mask."""

    def __init__(self) -> None:
        super().__init__()
        self.cate_tower = _tower(_FEATURES)
        self.kernel_tower = _tower(_FEATURES + 2)
        self.cate_pred = nn.Conv2d(512, _CATEGORIES, 3, padding=1)
        self.kernel_pred = nn.Conv2d(512, _KERNEL, 3, padding=1)
        # Of use in training alone; here so that the published weights fit.
        self.emb_pred = nn.Conv2d(512, _EMBEDDING, 3, padding=1)

    def forward(self, levels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Read five levels of features, and return category logits and kernels, ``(1, C, S, S)`` each."""
        categories, kernels = [], []
        for features, grid in zip(levels, GRIDS, strict=True):
            cells = F.interpolate(with_coordinates(features), size=(grid, grid), mode="bilinear")
            kernels.append(self.kernel_pred(self.kernel_tower(cells)))
            categories.append(self.cate_pred(self.cate_tower(cells[:, :_FEATURES])))
        return categories, kernels


class MaskHead(nn.Module):
    """Gathers four levels of features at the resolution of the finest."""

    def __init__(self) -> None:
        super().__init__()
        self.convs_all_levels = nn.ModuleList(_ladder(level) for level in range(4))
        self.conv_pred = _block(128, _KERNEL, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Read four levels of features, finest first."""
        levels = [*levels[:-1], with_coordinates(levels[-1])]
        climbed = [ladder(level) for ladder, level in zip(self.convs_all_levels, levels, strict=True)]
        return self.conv_pred(sum(climbed[1:], climbed[0]))


class _BatchNorm(FrozenBatchNorm2d):
    """A frozen batch norm that rounds as detectron2's does without gradients."""

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def with_coordinates(features: Tensor) -> Tensor:
    """Append two channels, the x and the y of each position from -1 (first) to 1 (last)."""
    batch, _, height, width = features.shape
    x = torch.linspace(-1, 1, width, device=features.device).expand(batch, 1, height, width)
    y = torch.linspace(-1, 1, height, device=features.device)[:, None].expand(batch, 1, height, width)
    return torch.cat([features, x, y], dim=1)


def keep_peaks(categories: Tensor) -> Tensor:
    """Set to 0 every cell, of ``(1, C, S, S)``, that a neighbour above, left, or above left exceeds."""
    highest = F.max_pool2d(categories, 2, stride=1, padding=1)[..., :-1, :-1]
    return torch.where(categories == highest, categories, 0)


def _by_cell(level: Tensor) -> Tensor:
    return level[0].flatten(1).T  # (1, C, S, S) to (S * S, C)


def _tower(channels: int) -> nn.Sequential:
    return nn.Sequential(*_block(channels, 512), *(layer for _ in range(3) for layer in _block(512, 512)))


def _block(channels: int, out: int, size: int = 3) -> nn.Sequential:
    conv = nn.Conv2d(channels, out, size, padding=size // 2, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(32, out), nn.ReLU())


def _ladder(level: int) -> nn.Sequential:
    # One convolution and doubling for each level to climb; at level 0 one convolution alone.
    steps = OrderedDict[str, nn.Module]()
    for step in range(max(level, 1)):
        channels = 128 if step else _FEATURES + 2 * (level == 3)
        steps[f"conv{step}"] = _block(channels, 128)
        if level:
            steps[f"upsample{step}"] = nn.Upsample(scale_factor=2, mode="bilinear")
    return nn.Sequential(steps)
