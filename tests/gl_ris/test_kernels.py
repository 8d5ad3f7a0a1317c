"""Layers by any kernel against torch's modules in double precision, and which kernels a processor gets."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from gl_ris.clip import kernels
from gl_ris.clip.kernels import PACKED, PLAIN, Kernels, Layers, Processor, choose, kernels_here
from gl_ris.errors import UserError
from gl_ris.zero_shot import ZeroShotRIS

FP32, BF16, FP16 = torch.float32, torch.bfloat16, torch.float16
ZEN3, ZEN4 = {"avx2"}, {"avx2", "avx512_f", "avx512_bf16"}
SKYLAKE, SAPPHIRE = {"avx2", "avx512_f"}, {"avx2", "avx512_f", "avx512_bf16", "amx_bf16"}


@pytest.fixture(autouse=True)
def chosen_anew() -> Iterator[None]:
    kernels_here.cache_clear()
    yield
    kernels_here.cache_clear()


@pytest.fixture(params=[PLAIN, PACKED])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have everything computed by each kind of kernel, whatever this processor would choose."""
    if request.param == PACKED:
        try:
            kernels._try(FP32)
        except (AttributeError, RuntimeError):
            pytest.skip("this torch has no packed weights")
    monkeypatch.setattr(kernels, "kernels_here", lambda _: Kernels(request.param, request.param))
    return str(request.param)


@pytest.mark.parametrize(
    ("vendor", "abilities", "mkl", "dtype", "expected"),
    [
        ("AuthenticAMD", ZEN4, True, FP32, (PACKED, PACKED)),
        ("AuthenticAMD", ZEN4, True, BF16, (PACKED, PACKED)),
        ("AuthenticAMD", ZEN4, True, FP16, (PLAIN, PLAIN)),
        # MKL uses all that these have
        ("AuthenticAMD", ZEN3, True, FP32, (PLAIN, PACKED)),
        ("GenuineIntel", SKYLAKE, True, FP32, (PLAIN, PACKED)),
        ("GenuineIntel", SAPPHIRE, True, FP32, (PLAIN, PACKED)),
        ("GenuineIntel", SAPPHIRE, True, BF16, (PACKED, PACKED)),
        ("GenuineIntel", SKYLAKE, True, BF16, (PLAIN, PLAIN)),
        ("AuthenticAMD", ZEN3, True, BF16, (PLAIN, PLAIN)),
        # not MKL's products
        ("AuthenticAMD", ZEN4, False, FP32, (PLAIN, PACKED)),
        # an ARM, and one that says nothing
        ("", {"neon", "bf16"}, False, FP32, (PLAIN, PLAIN)),
        ("", set(), True, BF16, (PLAIN, PLAIN)),
    ],
)
def test_kernels_follow_from_the_processor(
    vendor: str, abilities: set[str], mkl: bool, dtype: torch.dtype, expected: tuple[str, str]
) -> None:
    assert choose(dtype, Processor(vendor, frozenset(abilities), mkl)) == expected


def test_torchs_own_kernels_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "this_processor", lambda: Processor("AuthenticAMD", frozenset(ZEN4), True))
    for asked in ("torch", "auto"):
        monkeypatch.setenv("GL_RIS_KERNELS", asked)
        kernels_here.cache_clear()
        assert (kernels_here(FP32) == (PLAIN, PLAIN)) == (asked == "torch")
    monkeypatch.setenv("GL_RIS_KERNELS", "quick")
    with pytest.raises(UserError, match="GL_RIS_KERNELS=quick is unknown: set it to auto or torch"):
        kernels_here(BF16)
    with pytest.raises(UserError, match="GL_RIS_KERNELS=quick is unknown"):
        ZeroShotRIS()


@pytest.mark.parametrize("error", [AttributeError("no _linear_pointwise"), RuntimeError("not compiled in")])
def test_missing_kernels_are_announced_once(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(weight: Tensor) -> Tensor:
        raise error

    monkeypatch.setattr(kernels, "this_processor", lambda: Processor("AuthenticAMD", frozenset(ZEN4), True))
    monkeypatch.setattr(kernels, "_pack", fail)
    inputs, weight = torch.randn(3, 8), torch.randn(5, 8)
    with pytest.warns(UserWarning, match=rf"cannot compute with packed weights.*\({error}\).*GL_RIS_KERNELS"):
        outputs = Layers().linear(inputs, weight, None)
    assert torch.equal(outputs, F.linear(inputs, weight))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Layers().linear(inputs, weight, None)


def has_bf16() -> bool:
    return choose(BF16, kernels.this_processor()).linear == PACKED


@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("activation", [None, nn.GELU(), nn.GELU("tanh"), QuickGELU(), nn.ReLU()])
def test_linear_layers_equal_torchs_in_double_precision(
    kind: str, dtype: torch.dtype, added: bool, activation: nn.Module | None
) -> None:
    if dtype == BF16 and kind == PACKED and not has_bf16():
        pytest.skip("this processor has no bf16")
    inputs, one, two = torch.randn(2, 5, 24)[:, 1:4].to(dtype), nn.Linear(24, 30).to(dtype), nn.Linear(30, 24)
    plus = torch.randn(2, 7, 24)[:, 2:5].to(dtype) if added else None
    layers, modules = Layers(), nn.Sequential(one, activation or nn.Identity(), two.to(dtype))
    with torch.no_grad():
        if activation is None:
            found = layers.linear(layers.linear(inputs, one.weight, one.bias), two.weight, two.bias, plus)
        else:
            found = layers.mlp(inputs, modules, plus)
        expected = modules.double()(inputs.double())
        expected = expected if plus is None else expected + plus.double()
    assert (found.dtype, found.shape) == (dtype, (2, 3, 24))
    tolerance = 1e-5 if dtype == FP32 else 2e-2
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("added", [False, True])
def test_a_convolution_equals_the_modules_that_it_is_made_of(
    kind: str, stride: int, size: int, relu: bool, added: bool
) -> None:
    layer = nn.Conv2d(6, 10, size, stride, size // 2, bias=False)
    norm = nn.BatchNorm2d(10).eval()
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        nn.init.uniform_(tensor, 0.5, 2.0)  # type: ignore[arg-type]
    inputs = torch.randn(3, 6, 9, 7)
    with torch.no_grad():
        expected = norm.double()(layer.double()(inputs.double()))
        plus = torch.randn(expected.shape) if added else None
        expected = expected if plus is None else expected + plus
        layers, found = Layers(), None
        for _ in range(2):
            found = layers.convolution(inputs, layer.float(), norm.float(), relu, plus)
    torch.testing.assert_close(found, (expected.relu() if relu else expected).float(), rtol=1e-5, atol=1e-5)


def test_what_was_made_of_a_weight_follows_it(kind: str) -> None:
    layers, layer, inputs = Layers(), nn.Linear(8, 4).requires_grad_(False), torch.randn(3, 8)

    def check() -> None:
        found = layers.linear(inputs, layer.weight, layer.bias)
        torch.testing.assert_close(found, inputs @ layer.weight.T + layer.bias, rtol=1e-5, atol=1e-6)

    check()
    layer.weight.mul_(3)
    check()
    layer.weight[1] = 7.0
    check()
    layer.weight.data = torch.randn(4, 8)
    check()
    layer.load_state_dict(nn.Linear(8, 4).state_dict(), assign=True)
    check()
    # of a part of a weight, too
    found = layers.linear(inputs, layer.weight[2:], layer.bias[2:])
    torch.testing.assert_close(found, layer(inputs)[:, 2:], rtol=1e-5, atol=1e-6)
    layers.forget()
    assert layers._made == {}


@pytest.mark.parametrize("trained", ["inputs", "weight", "neither"])
def test_gradients_are_torchs(kind: str, trained: str) -> None:
    layer, inputs = nn.Linear(8, 4).requires_grad_(trained == "weight"), torch.randn(3, 8)
    inputs.requires_grad_(trained == "inputs")
    mlp = nn.Sequential(nn.Linear(8, 8).requires_grad_(False), QuickGELU(), layer)
    layers, ways = Layers(), {"linear": layer, "mlp": mlp}
    for found, way in (
        (layers.linear(inputs, layer.weight, layer.bias), "linear"),
        (layers.mlp(inputs, mlp, None), "mlp"),
    ):
        expected = ways[way](inputs)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        assert found.requires_grad == (trained != "neither")
        if found.requires_grad:
            leaf = inputs if trained == "inputs" else layer.weight
            torch.testing.assert_close(
                *(torch.autograd.grad(out.sum(), leaf)[0] for out in (found, expected))
            )


def test_autocast_has_its_way(kind: str) -> None:
    with torch.no_grad(), torch.autocast("cpu", dtype=BF16):
        assert Layers().linear(torch.randn(3, 8), torch.randn(4, 8), None).dtype == BF16


def test_copies_make_their_own(kind: str) -> None:
    layers, inputs, weight = Layers(), torch.randn(3, 8), torch.randn(4, 8)
    expected = layers.linear(inputs, weight, None)
    for other in (copy.deepcopy(layers), pickle.loads(pickle.dumps(layers))):
        assert other._made == {}
        assert torch.equal(other.linear(inputs, weight, None), expected)
