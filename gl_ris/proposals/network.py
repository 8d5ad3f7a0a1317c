"""What generators with a network have in common: where and how they compute, and whose weights they carry."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gl_ris.clip.tower import one_thread_per_operation
from gl_ris.errors import UserError, in_short
from gl_ris.proposals.base import ProposalGenerator


class NetworkGenerator(nn.Module, ProposalGenerator):
    """A generator that is a module: it computes where ``to`` has put it, and takes images from anywhere.

    Always in float32 and without gradients, and on a CPU with the same bits for any number of threads.
    """

    title: str  # What messages call the generator.
    network: nn.Module  # Its only part with weights, in evaluation mode; set by the subclass.

    def __init__(self) -> None:
        super().__init__()
        self._loaded = self._warned = False
        self.weights_file: Path | None = None  # the file of weights, where they came from one
        self._hash: str | None = None
        self.register_load_state_dict_post_hook(_note_weights)

    def start(self, weights: str | Path | None, make: Callable[[], nn.Module]) -> dict[str, Any] | None:
        """Make the network, once the file of its weights could be read; return what that holds, if any."""
        content = None if weights is None else read_weights(weights, self.title)
        self.weights_file = None if weights is None else Path(weights).expanduser()
        # A module made in inference mode could not be given its weights outside of it.
        with torch.inference_mode(False):
            self.network = make().eval().requires_grad_(False)
        return content

    def named_weights(self) -> dict[str, Tensor]:
        """Return the weights under the names that they are published with."""
        return self.network.state_dict()

    def input_files(self) -> dict[str, Path]:
        """Return the file of weights, if there was one."""
        return {} if self.weights_file is None else {self.weights_file.name: self.weights_file}

    def weights_hash(self) -> str:
        """Return the SHA-256 of the weights, whatever file they came from."""
        if self._hash is None:
            self._hash = hash_weights(self.named_weights())
        return self._hash

    @contextmanager
    def computing(self) -> Iterator[torch.device]:
        """Compute inside as the class promises, whatever the precision outside; gives the device."""
        weight = next(self.network.parameters())
        if weight.dtype != torch.float32:
            raise UserError(
                f"{self.title} computes in float32, but its weights were turned into {weight.dtype}; leave "
                "trainer.precision as it is by default."
            )
        if not self._loaded and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.title} has random weights, so its masks mean nothing: give weights=FILE.",
                stacklevel=4,
            )
        one_thread = one_thread_per_operation(weight.device)
        with torch.no_grad(), torch.autocast(weight.device.type, enabled=False), _no_tf32(), one_thread:
            yield weight.device


def _note_weights(module: NetworkGenerator, _: Any) -> None:
    module._loaded, module._hash = True, None


@contextmanager
def _no_tf32() -> Iterator[None]:
    cudnn: Any = torch.backends.cudnn
    # torch 2.9 began to replace `allow_tf32`, and fails where both are used.
    new = hasattr(cudnn, "conv")
    owner, name, value = (cudnn.conv, "fp32_precision", "ieee") if new else (cudnn, "allow_tf32", False)
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def read_weights(path: str | Path, what: str) -> dict[str, Any]:
    """Read a file of ``torch.save`` onto the CPU; see `state_dict_in` for its content.

    A `UserError`, which begins with ``what``, if there is none, or it is damaged or no plain data.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(
            f"{what}: there is no file of weights {path}; docs/proposals.md says how to get published ones "
            "('python -m datamodules.download freesolo', or cutler). Or choose others by proposals=NAME."
        )
    # Pickles of numpy arrays, as detectron2's .pkl files, cannot be told from programs.
    if path.suffix == ".pkl":
        raise UserError(
            f"{what}: {path} is a plain pickle, which could run code, so it is not opened. If you trust it, "
            "write its weights to a .pth file: torch.save({'model': {k: torch.as_tensor(v) for k, v in "
            "pickle.load(open(FILE, 'rb'), encoding='latin1')['model'].items()}}, NEW_FILE)."
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch also raises what the safetensors library raises
        # torch answers to text with a bare key
        reason = "it is no file of torch.save" if isinstance(error, KeyError) else in_short(error)
        raise UserError(
            f"{what}: the weights {path} cannot be read ({reason}); the file must be complete and hold "
            "tensors alone, as torch.save({'model': state_dict}, FILE) writes them."
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


def hash_weights(tensors: Mapping[str, Tensor]) -> str:
    """Return the hexadecimal SHA-256 of tensors: of names, types, shapes and values, in any order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        values: Any = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(values)
    return digest.hexdigest()
