"""What every image tower opened for regions offers, and which of open_clip's towers can be opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from gl_ris.errors import UserError


class Tower(Protocol):
    """An image tower whose last part can be run once per mask; see `ViTTower` and `ResNetTower`.

    Attributes:
        kind: ``"vit"`` or ``"resnet"``.
        visual: The open_clip tower.
        image_size: Height and width of its input.
        grid_size: Rows and columns of its patches or of its last map.
        feature_dim: Length of its features.
        depth: Number of blocks ``L``; 0 for a ResNet, which has none in which tokens could be masked.
    """

    kind: str
    visual: Any
    image_size: tuple[int, int]
    grid_size: tuple[int, int]
    feature_dim: int
    depth: int

    def check_masked_blocks(self, masked_blocks: int) -> None:
        """Check the number ``k`` of blocks with masked tokens; a `UserError` if it does not fit."""

    def encode(self, pixels: Tensor) -> Tensor:
        """Encode whole images, standardised ``(B, 3, *image_size)``, to unnormalised ``(B, feature_dim)``."""

    def image_state(self, pixels: Tensor, masked_blocks: int, unit_map: bool = False) -> Any:
        """Do the work that all masks of an image share.

        Args:
            pixels: ``(1, 3, *image_size)``, standardised.
            masked_blocks: ``k``; a ResNet, which masks its last map, does the same for any.
            unit_map: L2-normalise a ResNet's map over channels, position by position.
        """

    def region_features(self, state: Any, grid_masks: Tensor, masked_blocks: int) -> Tensor:
        """Finish the tower once per mask (Eqs. 2, 3).

        Args:
            state: What `image_state` gave for the same ``k``.
            grid_masks: float ``(N, rows, columns)`` in [0, 1].
            masked_blocks: ``k``.

        Returns:
            ``(N, feature_dim)``, not normalised.
        """

    def last_map(self, state: Any) -> Tensor:
        """Return the last map that keeps its positions, ``(1, C, rows, columns)``, for ``k = 1``."""

    def pool(self, state: Any, last_map: Tensor) -> Tensor:
        """Finish the tower from a last map that may have been changed, to ``(1, feature_dim)``."""

    def dense_features(self, state: Any) -> Tensor:
        """Take every position by itself through value and output layers of the last attention (MaskCLIP).

        Returns:
            ``(rows, columns, feature_dim)``, not normalised, of the state for ``k = 1``.
        """


def misfit(vision_cfg: Mapping[str, Any]) -> str | None:
    """Say why an image tower cannot be opened for regions.

    Args:
        vision_cfg: The ``vision_cfg`` of an open_clip model configuration.

    Returns:
        The reason, or None if it is a ModifiedResNet or a VisionTransformer that returns its class token.
    """
    if name := vision_cfg.get("timm_model_name"):
        return f"its image tower is timm's '{name}'"
    if vision_cfg.get("attentional_pool"):
        return "its image tower has an attentional pooler"
    if (pooling := vision_cfg.get("pool_type", "tok")) != "tok":
        return f"its image tower pools by '{pooling}' and has no class token to read"
    return None


def fitting_architectures() -> list[str]:
    """List the names of open_clip's architectures whose image tower can be opened for regions."""
    import open_clip

    configs = {name: open_clip.get_model_config(name) for name in open_clip.list_models()}
    return [name for name, config in configs.items() if misfit(config["vision_cfg"]) is None]


def check_tower(name: str, vision_cfg: Mapping[str, Any]) -> None:
    """Check that an image tower can be opened for regions.

    Raises:
        UserError: It cannot; the message says why and lists what fits.
    """
    if reason := misfit(vision_cfg):
        raise UserError(
            f"CLIP model '{name}' does not fit: {reason}. The image tower must be a ModifiedResNet or a "
            f"VisionTransformer with a class token; these fit: {', '.join(fitting_architectures())}."
        )


def open_tower(visual: Any) -> Tower:
    """Open an image tower of open_clip for regions.

    Raises:
        UserError: It is neither a VisionTransformer with a class token nor a ModifiedResNet.
    """
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.transformer import VisionTransformer

    from gl_ris.clip.resnet import ResNetTower
    from gl_ris.clip.vit import ViTTower

    if isinstance(visual, ModifiedResNet):
        return ResNetTower(visual)
    if isinstance(visual, VisionTransformer) and visual.attn_pool is None and visual.pool_type == "tok":
        return ViTTower(visual)
    raise UserError(
        f"An image tower of type {type(visual).__name__} cannot be opened for regions; it must be a "
        "ModifiedResNet or a VisionTransformer with a class token and no attentional pooler."
    )
