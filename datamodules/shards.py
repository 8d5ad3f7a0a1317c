"""Which process works on which image: shares of equal work, each image in exactly one of them."""

import heapq
from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import DistributedSampler


class Shard(DistributedSampler[Any]):
    """A sampler of given indices, of a kind that Lightning leaves alone: it deals others out in turns."""

    def __init__(self, indices: Sequence[int]) -> None:
        self.indices = list(indices)  # what its base would count and shuffle is decided

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


def share_out(work: Sequence[int], count: int) -> list[list[int]]:
    """Deal the places of ``work``, each above 0, out to ``count`` shares, each in ascending order.

    The heaviest comes first, and each to the share that has least: the heaviest share has at most 4/3 of what
    the best way of sharing would give it (Graham 1969). None is empty where there are as many places.

    Example:
        >>> share_out([1, 9, 4, 4, 1], 2)
        [[1, 4], [0, 2, 3]]
    """
    shares: list[list[int]] = [[] for _ in range(count)]
    loads = [(0, number) for number in range(count)]
    for place in sorted(range(len(work)), key=lambda place: -work[place]):
        load, number = loads[0]
        shares[number].append(place)
        heapq.heapreplace(loads, (load + work[place], number))
    return [sorted(share) for share in shares]
