"""Files of weights: read as plain data, and compared with a network before they change it."""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gl_ris.errors import UserError, in_short
from gl_ris.files import read_table

_NAMES = Path(__file__).parent / "assets" / "weight_names.yaml"


def read_weights(path: str | Path, what: str, advice: str = "") -> Any:
    """Read a file of ``torch.save`` or safetensors onto the CPU; see `state_dict_in` for its content.

    A `UserError`, which begins with ``what``, if there is none (``advice`` says where to get it), or it is
    damaged or no plain data.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"{what}: there is no file of weights {path}{advice}.")
    # Pickles of numpy arrays, as detectron2's .pkl files, cannot be told from programs.
    if path.suffix == ".pkl":
        raise UserError(
            f"{what}: {path} is a plain pickle, which could run code, so it is not opened. If you trust it, "
            "write its weights to a .pth file: torch.save({'model': {k: torch.as_tensor(v) for k, v in "
            "pickle.load(open(FILE, 'rb'), encoding='latin1')['model'].items()}}, NEW_FILE)."
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        # a bag of plain values, which published training scripts put beside the weights
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch also raises what the safetensors library raises
        # torch answers to text with a bare key
        reason = "it is no file of torch.save" if isinstance(error, KeyError) else in_short(error, typed=True)
        raise UserError(
            f"{what}: the weights {path} cannot be read ({reason}); the file must be complete and hold "
            "tensors and plain values alone, as torch.save({'model': state_dict}, FILE) writes them."
        ) from error


def state_dict_in(content: Any, what: str) -> dict[str, Tensor]:
    """Take the named tensors out of what a file of weights holds.

    That is a state dict of tensors or numpy arrays, or a mapping that has one under ``model``; a `UserError`
    if it is something else.
    """
    found = content.get("model", content) if isinstance(content, Mapping) else content
    if not isinstance(found, Mapping) or not found:
        raise UserError(f"{what}: weights must be named tensors, got {type(found).__name__} without any.")
    tensors = {}
    for name, value in found.items():
        try:
            tensors[str(name)] = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{what}: weight '{name}' is no tensor but a {type(value).__name__}.") from error
    return tensors


def check_names_and_shapes(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str) -> None:
    """Raise a `UserError` that names the weights that are missing, unexpected or of another shape."""
    shapes = [
        f"{name} is {tuple(given[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in given and given[name].shape != tensor.shape
    ]
    problems = {
        "missing": [name for name in wanted if name not in given],
        "unexpected": [name for name in given if name not in wanted],
        "of another shape": shapes,
    }
    parts = [
        f"{len(names)} {kind} ({', '.join(names[:5]) + (', ...' if len(names) > 5 else '')})"
        for kind, names in problems.items()
        if names
    ]
    if parts:
        raise UserError(f"{what}: these weights do not fit the network: {'; '.join(parts)}.")


def renamed(name: str, table: str) -> str:
    """Translate the name of a weight by a table of ``assets/weight_names.yaml``.

    Example:
        >>> renamed("backbone.body.layer1.0.downsample.1.bias", "freesolo")
        'backbone.bottom_up.res2.0.shortcut.norm.bias'
        >>> renamed("classifier.bn2_3.running_mean", "lavt")
        'decoder.block3.4.running_mean'
    """
    for pattern, other in read_table(_NAMES)[table]:
        name = re.sub(pattern, other, name)
    return name


def load_strictly(network: nn.Module, state: Mapping[str, Any], what: str) -> None:
    """Load a state; a `UserError`, and nothing is changed, if it is none or does not fit."""
    tensors = state_dict_in({"model": state}, what)
    check_names_and_shapes(tensors, network.state_dict(), what)
    network.load_state_dict(tensors)


def hash_weights(tensors: Mapping[str, Tensor]) -> str:
    """Return the hexadecimal SHA-256 of tensors: of names, types, shapes and values, in any order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        values: Any = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(values)
    return digest.hexdigest()
