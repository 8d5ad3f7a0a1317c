"""What generators with a network have in common: where and how they compute, and whose weights they carry."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gl_ris.clip.tower import one_thread_per_operation
from gl_ris.errors import UserError
from gl_ris.proposals.base import ProposalGenerator
from gl_ris.weights import hash_weights, read_weights

_ADVICE = (
    "; docs/proposals.md says how to get published ones ('python -m datamodules.download freesolo', or "
    "cutler). Or choose others by proposals=NAME"
)


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
        content = None if weights is None else read_weights(weights, self.title, _ADVICE)
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
