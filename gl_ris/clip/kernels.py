"""The fastest kernels of a processor for linear layers and convolutions, and what they make of weights."""

from __future__ import annotations

import functools
import os
import platform
import warnings
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gl_ris.errors import UserError, in_short

PLAIN, PACKED = "torch", "onednn packed"
# of the environment: "torch" keeps to torch's own kernels, "auto" or nothing chooses
OVERRIDE = "GL_RIS_KERNELS"
# Rows and images that weights are laid out for: always the same, as the layout may bear on the last bits.
_ROWS, _IMAGES = 400, 8
_QUICK = 1.702  # QuickGELU is x * sigmoid(1.702 * x), and oneDNN has x * sigmoid(x)


class Processor(NamedTuple):
    """What the choice of kernels depends on."""

    vendor: str  # "GenuineIntel", "AuthenticAMD", ...; empty where the system does not say
    # what it can do, by torch's names ("avx2", "avx512_f", "avx512_bf16", "amx_bf16", ...)
    abilities: frozenset[str]
    mkl: bool  # whether torch's own matrix products are those of Intel's MKL


class Kernels(NamedTuple):
    """How linear layers and convolutions are computed: each `PLAIN` or `PACKED`."""

    linear: str = PLAIN
    convolution: str = PLAIN


def choose(dtype: torch.dtype, processor: Processor) -> Kernels:
    """Choose kernels by what the processor is, never by a timing: all processes and later runs choose alike.

    Example:
        >>> choose(torch.float32, Processor("AuthenticAMD", frozenset({"avx2", "avx512_f"}), mkl=True))
        Kernels(linear='onednn packed', convolution='onednn packed')
    """
    if dtype == torch.bfloat16 and processor.abilities & {"avx512_bf16", "amx_bf16"}:
        return Kernels(PACKED, PACKED)
    if dtype != torch.float32 or "avx2" not in processor.abilities:
        return Kernels()
    # MKL keeps to AVX2 on processors that are not Intel's. With AVX-512 that is half of what they can do.
    slow = processor.mkl and processor.vendor != "GenuineIntel" and "avx512_f" in processor.abilities
    return Kernels(PACKED if slow else PLAIN, PACKED)


def from_cpuinfo(field: str) -> str:
    """Return what Linux says of the first processor; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def this_processor() -> Processor:
    """Return what is known of the processor of this machine."""
    # elsewhere the description ends with it: "AMD64 Family 25 Model 17 Stepping 1, AuthenticAMD"
    vendor = from_cpuinfo("vendor_id") or platform.processor().rpartition(", ")[2]
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    abilities = frozenset(name for name, has in known.items() if has is True)
    return Processor(vendor, abilities, torch.backends.mkl.is_available())


def asked() -> str:
    """Return "auto" or "torch", whichever ``GL_RIS_KERNELS`` asks for; a `UserError` if it is neither."""
    value = os.environ.get(OVERRIDE) or "auto"
    if value not in ("auto", "torch"):
        raise UserError(f"{OVERRIDE}={value} is unknown: set it to auto or torch, or leave it out.")
    return value


@functools.cache
def kernels_here(dtype: torch.dtype) -> Kernels:
    """Return the kernels for a dtype on this machine; warn once where they are missing in torch or fail.

    A `UserError` as `asked`.
    """
    chosen = Kernels() if asked() == "torch" else choose(dtype, this_processor())
    try:
        if PACKED in chosen:
            _try(dtype)
    except (AttributeError, RuntimeError, TypeError) as error:
        warnings.warn(
            f"This torch cannot compute with packed weights, the fastest way on this processor "
            f"({in_short(error)}): CLIP models take torch's own kernels. {OVERRIDE}=torch does so unasked.",
            stacklevel=2,
        )
        return Kernels()
    return chosen


@torch.no_grad()
def _try(dtype: torch.dtype) -> None:
    """Compute a little in every way that is used; raises what is wrong."""
    rows, image = torch.ones(8, 8, dtype=dtype), torch.ones(1, 8, 4, 4, dtype=dtype)
    packed, layer = _pack(rows), nn.Conv2d(8, 8, 1)
    for then in ("gelu", "swish", "none"):
        _linear(rows, packed, None, then, rows if then == "none" else None)
    packed = _pack(rows[:, :, None, None], layer, image)
    for plus in (None, image):
        _convolve(image, packed, None, layer, True, plus)


class Layers:
    """Computes the layers of one model by the kernels that fit, and keeps what they make of its weights.

    That takes as much memory as the weights, and is made anew when one was written to or replaced. Where a
    gradient is asked for, under autocast and on other devices layers are torch's own.
    """

    def __init__(self) -> None:
        self._made: dict[Hashable, tuple[Any, Any, Any]] = {}

    def __reduce__(self) -> tuple[type[Layers], tuple[()]]:
        return Layers, ()  # copies and other processes make their own: packed weights cannot be written down

    def forget(self) -> None:
        """Drop what was made of weights."""
        self._made.clear()

    def linear(
        self, inputs: Tensor, weight: Tensor, bias: Tensor | None, plus: Tensor | None = None
    ) -> Tensor:
        """Compute ``inputs @ weight.T + bias + plus``."""
        if _packs(inputs, weight):
            return _linear(inputs, self._packed(weight), bias, plus=plus)
        outputs = F.linear(inputs, weight, bias)
        return outputs if plus is None else plus + outputs

    def mlp(self, inputs: Tensor, mlp: Any, plus: Tensor | None) -> Tensor:
        """Compute ``mlp(inputs) + plus`` of a linear layer, an activation and another linear layer."""
        first, activation, second = mlp
        if not (_packs(inputs, first.weight) and _packs(inputs, second.weight)):
            return mlp(inputs) if plus is None else plus + mlp(inputs)
        kind = type(activation).__name__, getattr(activation, "approximate", "none")
        then = {("GELU", "none"): "gelu", ("QuickGELU", "none"): "swish"}.get(kind, "none")
        # swish of a larger x is a larger QuickGELU: the second layer makes up for that
        scale = _QUICK if then == "swish" else 1.0
        hidden = _linear(inputs, self._packed(first.weight, scale), first.bias * scale, then)
        hidden = activation(hidden) if then == "none" else hidden
        return _linear(hidden, self._packed(second.weight, 1 / scale), second.bias, plus=plus)

    def _packed(self, weight: Tensor, scale: float = 1.0) -> Tensor:
        packed: Tensor = self._kept(("linear", scale), (weight,), lambda: _pack(weight * scale))
        return packed

    def convolution(
        self, inputs: Tensor, layer: nn.Conv2d, norm: Any, relu: bool = True, plus: Tensor | None = None
    ) -> Tensor:
        """Compute ``relu(norm(layer(inputs)) + plus)`` of a batch norm in evaluation mode, without gradients.

        In channels last, ``(B, C, h, w)``, with the norm folded into the weights.
        """
        packs = kernels_here(inputs.dtype).convolution == PACKED

        def make() -> tuple[Tensor, Tensor]:
            weight, bias = _fold(layer, norm)
            return _pack(weight, layer, inputs) if packs else weight, bias

        tensors = (layer.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
        weight, bias = self._kept(("convolution", packs), tensors, make)
        if packs:
            return _convolve(inputs, weight, bias, layer, relu, plus)
        outputs = F.conv2d(inputs, weight, bias, layer.stride, layer.padding)
        outputs = outputs if plus is None else outputs.add_(plus)
        return outputs.relu_() if relu else outputs

    def _kept(self, what: Hashable, tensors: tuple[Tensor, ...], make: Callable[[], Any]) -> Any:
        """Return what was made of tensors, made anew if one of them has changed."""
        key = what, tensors[0].data_ptr(), tensors[0].shape
        seen = [(one.data_ptr(), 0 if one.is_inference() else one._version) for one in tensors]
        found = self._made.get(key)
        if found is None or found[0] != seen:
            with torch.no_grad():
                # with the tensors, so that no others can come to lie where they do
                found = self._made[key] = (seen, tensors, make())
        return found[2]


def is_free(inputs: Tensor, weight: Tensor) -> bool:
    """Say whether a layer may be computed by any kernel: on a CPU in its own dtype, without gradient."""
    return (
        inputs.device.type == weight.device.type == "cpu"
        and inputs.dtype == weight.dtype
        and not torch.is_autocast_enabled("cpu")
        and not (torch.is_grad_enabled() and (inputs.requires_grad or weight.requires_grad))
    )


def has_hooks(module: nn.Module) -> bool:
    """Say whether someone listens to a module or a part of it, which must be called for that."""
    return any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def _packs(inputs: Tensor, weight: Tensor) -> bool:
    return is_free(inputs, weight) and kernels_here(inputs.dtype).linear == PACKED


def _fold(layer: nn.Conv2d, norm: Any) -> tuple[Tensor, Tensor]:
    """Fold a batch norm into the convolution before it, which has no bias: weight and bias."""
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    weight = layer.weight.double() * scale[:, None, None, None]
    bias = norm.bias.double() - norm.running_mean.double() * scale
    return weight.to(layer.weight.dtype, memory_format=torch.channels_last), bias.to(layer.weight.dtype)


# torch has these for what `torch.compile` makes. Its public ways (`torch.utils.mkldnn`, convolutions of size
# 1x1) lay the weights out at each call.
def _pack(weight: Tensor, layer: nn.Conv2d | None = None, inputs: Tensor | None = None) -> Tensor:
    if layer is None or inputs is None:
        return torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
    size = [_IMAGES, *inputs.shape[1:]]
    return torch.ops.mkldnn._reorder_convolution_weight(weight, *_geometry(layer), size)


def _linear(
    inputs: Tensor, packed: Tensor, bias: Tensor | None, then: str = "none", plus: Tensor | None = None
) -> Tensor:
    operation = torch.ops.mkldnn._linear_pointwise
    if plus is not None:
        return operation.binary(inputs, plus, packed, bias, "add")
    return operation.default(inputs, packed, bias, then, [], "none")


def _convolve(
    inputs: Tensor, packed: Tensor, bias: Tensor | None, layer: nn.Conv2d, relu: bool, plus: Tensor | None
) -> Tensor:
    operation, geometry = torch.ops.mkldnn._convolution_pointwise, _geometry(layer)
    if plus is None:
        return operation.default(inputs, packed, bias, *geometry, "relu" if relu else "none", [], "")
    then = "relu" if relu else None
    return operation.binary(inputs, plus, packed, bias, *geometry, "add", 1.0, then, [], "")


def _geometry(layer: nn.Conv2d) -> tuple[Any, Any, Any, int]:
    return layer.padding, layer.stride, layer.dilation, layer.groups
