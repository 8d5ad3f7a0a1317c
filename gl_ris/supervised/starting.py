"""Weights that supervised models start from: of timm and Hugging Face by name, or from a file."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gl_ris.errors import UserError

_HEAD = ("head.", "norm.")
"""What a classifier has on top of the stages."""

_COMPUTED = ("attn_mask", "relative_position_index")
"""What a Swin computes from its measures, whatever a file says."""


def load_swin(network: nn.Module, source: str) -> None:
    """Load the stages of a classifier into a network of `gl_ris.supervised.swin.swin`.

    Args:
        network: Changed in place.
        source: timm's name, or a file of its state.

    Raises:
        UserError: It cannot be loaded, or is of other measures.
    """
    state = {name: tensor for name, tensor in _state(source).items() if not name.startswith(_HEAD)}
    state = {name: tensor for name, tensor in state.items() if not name.endswith(_COMPUTED)}
    _fit(network, state, source)


def load_vit(network: nn.Module, source: str) -> None:
    """Load a classifier without its head into timm's VisionTransformer; see `load_swin`."""
    _fit(network, {n: t for n, t in _state(source).items() if not n.startswith("head.")}, source)


def load_bert(network: nn.Module, source: str) -> None:
    """Load a BERT of a Hugging Face name or folder.

    Raises:
        UserError: It cannot be loaded, or is of other measures.
    """
    from transformers import BertModel

    def load() -> Mapping[str, Tensor]:
        return BertModel.from_pretrained(
            source, add_pooling_layer=False, trust_remote_code=False
        ).state_dict()

    _fit(network, _or_advice(load, f"BERT '{source}'", "a folder that save_pretrained wrote"), source)


def read_weights(path: str | Path) -> Any:
    """Read what a file of weights holds; a pickle may hold tensors and plain values alone.

    ``argparse.Namespace``, a bag of values that published training scripts put beside the weights, is let
    through.

    Raises:
        UserError: The file is missing, damaged, or holds something else.
    """
    import argparse

    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"There is no file of weights '{file}'.")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"The weights '{file}' cannot be read: they are damaged, or hold something other than tensors "
            "and plain values, which is not loaded. Fetch them anew."
        ) from error
    except (OSError, ValueError, RuntimeError, EOFError, KeyError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"The weights '{file}' cannot be read ({type(error).__name__}: {reason}).") from error
    except Exception as error:  # safetensors has an error of its own class
        raise UserError(f"The weights '{file}' cannot be read ({str(error)[:120]}).") from error


def _state(source: str) -> Mapping[str, Tensor]:
    if Path(source).suffix in (".pt", ".pth", ".safetensors", ".bin"):
        content = read_weights(source)
        state = content.get("model", content) if isinstance(content, Mapping) else {}
        return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    import timm

    def load() -> Mapping[str, Tensor]:
        return timm.create_model(source, pretrained=True).state_dict()

    return _or_advice(load, f"timm's '{source}'", "a file of its weights (.pth or .safetensors)")


def _or_advice(load: Callable[[], Mapping[str, Tensor]], what: str, instead: str) -> Mapping[str, Tensor]:
    try:
        return load()
    except Exception as error:  # hubs raise errors of many libraries
        reason = " ".join(str(error).split())
        raise UserError(
            f"The weights of {what} cannot be loaded ({type(error).__name__}: {reason:.160}). Run once with "
            f"a connection, give {instead} in its place, or null to start from random weights."
        ) from error


def _fit(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    try:
        missing, unknown = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise UserError(
            f"The weights '{source}' are of other measures: {' '.join(str(error).split()):.300}"
        ) from error
    missing = [name for name in missing if not name.endswith(_COMPUTED)]
    if missing or unknown:
        first = (missing or unknown)[0]
        raise UserError(
            f"The weights '{source}' do not fit: {len(missing)} names are missing and {len(unknown)} unknown "
            f"(the first: '{first}')."
        )
