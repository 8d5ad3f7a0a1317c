"""Keeping what was read in memory, up to a limit."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from torch import Tensor


class Memory:
    """Keeps tensors by key until they take as many bytes as allowed; what comes later is made every time.

    Training visits its samples at random, so that throwing out older ones would gain nothing.

    Args:
        limit: Bytes.

    Example:
        >>> import torch
        >>> memory = Memory(8)
        >>> memory("a", lambda: torch.zeros(2)) is memory("a", lambda: torch.ones(2))
        True
        >>> memory("b", lambda: torch.zeros(1)) is memory("b", lambda: torch.zeros(1))
        False
    """

    def __init__(self, limit: int) -> None:
        self.free = limit
        self._kept: dict[Hashable, Tensor] = {}

    def __call__(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """Return the tensor of ``key``, which must not be changed; ``make`` makes it if it is not kept."""
        if key in self._kept:
            return self._kept[key]
        made = make()
        if made.nbytes <= self.free:
            self.free -= made.nbytes
            self._kept[key] = made
        return made
