"""What image towers opened for regions offer, which of open_clip's can be opened, and how they are run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from gl_ris.clip.kernels import Layers
from gl_ris.cores import cores, in_command
from gl_ris.errors import UserError

_Batch = TypeVar("_Batch")
_Result = TypeVar("_Result")

# Matrix products on a CPU split their sums differently for different numbers of threads, which changes the
# last bits of a feature and, once in a while, a choice between two equal proposals. So features on a CPU are
# computed by operations of one thread each, and cores are kept busy by working on several batches at the same
# time instead.
_workers: ContextVar[int] = ContextVar("workers", default=0)


class Tower(Protocol):
    """An image tower whose last part can be run once per mask; see `ViTTower` and `ResNetTower`."""

    kind: str  # "vit" or "resnet"
    visual: Any  # the open_clip tower
    image_size: tuple[int, int]  # height and width of its input
    grid_size: tuple[int, int]  # rows and columns of its patches or of its last map
    feature_dim: int  # length of its features
    depth: int  # number of blocks ``L``; 0 for a ResNet, which has none in which tokens could be masked

    def check_masked_blocks(self, masked_blocks: int) -> None:
        """Check the number ``k`` of blocks with masked tokens; a `UserError` if it does not fit."""

    def encode(self, pixels: Tensor) -> Tensor:
        """Encode whole images, standardised ``(B, 3, *image_size)``, to unnormalised ``(B, feature_dim)``."""

    def image_state(self, pixels: Tensor, masked_blocks: int, unit_map: bool = False) -> Any:
        """Do the work that all masks of one image share, standardised ``(1, 3, *image_size)``.

        A ResNet does the same for any ``masked_blocks``; ``unit_map`` L2-normalises its map over channels.
        """

    def region_features(self, state: Any, grid_masks: Tensor, masked_blocks: int) -> Tensor:
        """Finish the tower once per mask (Eqs. 2, 3) from the state for the same ``k``.

        Masks are float ``(N, rows, columns)`` in [0, 1], features ``(N, feature_dim)``, not normalised.
        """

    def last_map(self, state: Any) -> Tensor:
        """Return the last map that keeps its positions, ``(1, C, rows, columns)``, for ``k = 1``."""

    def pool(self, state: Any, shifts: Tensor) -> Tensor:
        """Finish the tower with each of ``(S, C)`` added to all of the last map, to ``(S, feature_dim)``."""

    def dense_features(self, state: Any) -> Tensor:
        """Take every position by itself through value and output layers of the last attention (MaskCLIP).

        From the state for ``k = 1`` to ``(rows, columns, feature_dim)``, not normalised.
        """


def misfit(vision_cfg: Mapping[str, Any]) -> str | None:
    """Say why the image tower of an open_clip configuration cannot be opened for regions; None if it can."""
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
    """Raise a `UserError` that lists what fits if an image tower cannot be opened for regions."""
    if reason := misfit(vision_cfg):
        raise UserError(
            f"CLIP model '{name}' does not fit: {reason}. The image tower must be a ModifiedResNet or a "
            f"VisionTransformer with a class token; these fit: {', '.join(fitting_architectures())}."
        )


def open_tower(visual: Any, layers: Layers | None = None) -> Tower:
    """Open an image tower of open_clip for regions; a `UserError` if it does not fit."""
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.transformer import VisionTransformer

    from gl_ris.clip.resnet import ResNetTower
    from gl_ris.clip.vit import ViTTower

    if isinstance(visual, ModifiedResNet):
        return ResNetTower(visual, layers or Layers())
    if isinstance(visual, VisionTransformer) and visual.attn_pool is None and visual.pool_type == "tok":
        return ViTTower(visual, layers or Layers())
    raise UserError(
        f"An image tower of type {type(visual).__name__} cannot be opened for regions; it must be a "
        "ModifiedResNet or a VisionTransformer with a class token and no attentional pooler."
    )


@contextmanager
def one_thread_per_operation(device: torch.device) -> Iterator[None]:
    """Run operations on one thread each inside the block, on a CPU; elsewhere nothing changes.

    `map_batches` inside the block uses as many workers as there were threads before; in a command, where
    there is but one, as many as cores. Blocks nest.
    """
    if device.type != "cpu" or _workers.get():
        yield
        return
    threads = torch.get_num_threads()
    token = _workers.set(cores() if in_command() else threads)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _workers.reset(token)


def map_batches(function: Callable[[_Batch], _Result], batches: Sequence[_Batch]) -> list[_Result]:
    """Apply a function to every batch, in any order and several at a time in `one_thread_per_operation`."""
    workers = min(_workers.get(), len(batches))
    if workers < 2:
        return [function(batch) for batch in batches]
    # Not kept between calls: idle threads are lost in a forked process, and the pool would wait for them.
    # OpenMP keeps the number of threads per thread, and a new one takes it from the environment. torch sets
    # it before its own loops only: oneDNN's convolutions and products would still split their sums.
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(_with_modes_of_this_thread(function), batches))


def _with_modes_of_this_thread(function: Callable[[_Batch], _Result]) -> Callable[[_Batch], _Result]:
    """Carry inference mode, gradients and autocast over: each thread of torch has its own."""
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    autocast, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def call(batch: _Batch) -> _Result:
        with (
            torch.inference_mode(inference),
            torch.set_grad_enabled(gradients),
            torch.autocast("cpu", dtype=dtype, enabled=autocast),
        ):
            return function(batch)

    return call
