"""Grouping the regions of a partition into object candidates, on the graph of which region touches which.

A candidate is a set of regions, a row of a bool matrix ``members`` ``(K, n)``, so that merging, filling holes
and measuring overlap are matrix products over the ``n`` regions and never touch a pixel.
"""

from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import inf, sqrt

import numpy as np

from gl_ris.masks import suppress

_MAX_COLOR_DISTANCE = 255 * 3**0.5


@dataclass(frozen=True)
class RegionGraph:
    """The regions of a partition and how they touch, float64."""

    borders: np.ndarray  # (n, n), symmetric: length of the common border in pixel edges, 0 on the diagonal.
    areas: np.ndarray  # (n,) in pixels.
    colors: np.ndarray  # (n, 3), mean RGB, 0 to 255.
    frame: np.ndarray  # (n,), length of the region's border with the frame of the image, in pixel edges.


def region_graph(labels: np.ndarray, pixels: np.ndarray) -> RegionGraph:
    """Measure the regions of a partition, int ``(H, W)`` with all of 0 to n - 1; RGB uint8 ``(H, W, 3)``."""
    n = int(labels.max()) + 1
    first, second = _side_by_side(labels)
    borders = np.bincount(first * n + second, minlength=n * n).reshape(n, n).astype(float)
    areas = np.bincount(labels.ravel(), minlength=n).astype(float)
    rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    frame = np.bincount(rim, minlength=n).astype(float)
    return RegionGraph(borders + borders.T, areas, mean_colors(labels, pixels, areas), frame)


def _side_by_side(labels: np.ndarray) -> np.ndarray:
    # The regions on both sides of every pixel edge that parts two, (2, edges).
    pairs = ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:]))
    edges = [np.flatnonzero(a != b) for a, b in pairs]
    sides = [[side.ravel().take(at) for side in pair] for pair, at in zip(pairs, edges, strict=True)]
    return np.concatenate(sides, axis=1)


def _color_distances(colors: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    # Euclidean, of the colours (n, 3) at two arrays of indices: np.linalg.norm's numbers, channel by channel.
    channels = (channel.take(first) - channel.take(second) for channel in colors.T.copy())
    return np.sqrt(sum(channel * channel for channel in channels))


def merge_tree(graph: RegionGraph) -> np.ndarray:
    """Merge the two most alike neighbours until two regions are left, and keep every region on the way.

    The candidates, bool ``(K, n)``, are the regions themselves, then the merged ones in order.
    """
    regions = _Regions(graph)
    n = len(graph.areas)
    most = max(2 * n - 2, n)
    # Of each region its best pair alone, and the turn at which it was that. The least of these is the least
    # of all: what has grown prices its pairs again at once, what waits for such a one does when it is due.
    queue = [(*regions.best(i), i, 0) for i in range(n) if regions.borders[i]]
    heapify(queue)
    changed: list[float] = [0] * n
    # where each region, which may have grown, stands among the candidates, and what those merged are made of
    rows = list(range(n))
    parts: list[tuple[int, int]] = []
    while queue and (turn := n + len(parts)) < most:
        _, i, j, owner, since = heappop(queue)
        if changed[owner] > since:
            continue
        if changed[i] <= since >= changed[j]:
            regions.merge(i, j)
            parts.append((rows[i], rows[j]))
            rows[i], owner, turn = turn, i, turn + 1
            changed[i], changed[j] = turn, inf
        if regions.borders[owner]:
            heappush(queue, (*regions.best(owner), owner, turn))
    members = np.eye(n + len(parts), n, dtype=bool)
    for row, (i, j) in enumerate(parts, n):
        np.logical_or(members[i], members[j], out=members[row])
    return members


class _Regions:
    """A region graph that shrinks, in plain numbers: arrays as short as a region's neighbours are slow."""

    def __init__(self, graph: RegionGraph) -> None:
        self.areas, self.colors = graph.areas.tolist(), graph.colors.tolist()
        self.outlines = graph.borders.sum(axis=1).tolist()
        self.borders: list[dict[int, float]] = [{} for _ in self.areas]
        pairs = np.nonzero(graph.borders)
        for i, j, border in zip(*(each.tolist() for each in (*pairs, graph.borders[pairs])), strict=True):
            self.borders[i][j] = border

    def best(self, i: int) -> tuple[float, int, int]:
        """Price merging with each neighbour: return the least cost, the lower and the higher region."""
        # Alike are neighbours of near mean colour, where the smaller is small and shares much of its outline
        # with the other: colour distance * sqrt(smaller area) / sqrt(shared share of the shorter outline).
        areas, outlines, colors = self.areas, self.outlines, self.colors
        area, outline, (red, green, blue) = areas[i], outlines[i], colors[i]
        least, partner = inf, -1
        for j, border in self.borders[i].items():
            r, g, b = colors[j]
            r, g, b = r - red, g - green, b - blue
            smaller = area if area < areas[j] else areas[j]
            shorter = outline if outline < outlines[j] else outlines[j]
            cost = sqrt(r * r + g * g + b * b) * sqrt(smaller / (border / shorter))
            if cost < least or (cost == least and j < partner):
                least, partner = cost, j
        return least, min(i, partner), max(i, partner)

    def merge(self, i: int, j: int) -> None:
        """Let a region grow by its neighbour ``j``, a higher index, which is no more."""
        a, b = self.areas[i], self.areas[j]
        pairs = zip(self.colors[i], self.colors[j], strict=True)
        self.colors[i] = [(a * own + b * other) / (a + b) for own, other in pairs]
        self.areas[i] = a + b
        self.outlines[i] += self.outlines[j] - 2 * self.borders[j].pop(i)
        del self.borders[i][j]
        for k, border in self.borders[j].items():
            del self.borders[k][j]
            self.borders[i][k] = self.borders[k][i] = self.borders[i].get(k, 0) + border


def fill_holes(members: np.ndarray, graph: RegionGraph) -> np.ndarray:
    """Add to each candidate, bool ``(K, n)``, the regions that it cuts off from the image's frame."""
    # A bit for each candidate, so that the outsides of all of them spread from region to region at once.
    count, n = members.shape
    first, second = np.nonzero(graph.borders + np.eye(n))
    starts = np.searchsorted(first, np.arange(n))
    free = np.zeros((n, -(-count // 64) * 64), dtype=bool)
    free[:, :count] = ~members.T
    allowed = np.packbits(free, axis=1).view(np.uint64)
    outside, before = allowed * (graph.frame > 0)[:, None], np.zeros_like(allowed)
    while (outside != before).any():
        before = outside
        outside = np.bitwise_or.reduceat(outside.take(second, axis=0), starts) & allowed
    return np.unpackbits(outside.view(np.uint8), axis=1, count=count).T == 0


def islands(graph: RegionGraph) -> np.ndarray:
    """Take the largest region for the ground; the connected pieces of the rest, bool ``(K, n)``."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ground = graph.areas.argmax()
    pairs = np.stack(np.nonzero(graph.borders))
    pairs = pairs[:, (pairs != ground).all(axis=0)]
    touching = coo_array((np.ones(pairs.shape[1]), tuple(pairs)), shape=graph.borders.shape)
    count, piece = connected_components(touching, directed=False)
    members = piece == np.arange(count)[:, None]
    return members[~members[:, ground]]


def objectness(members: np.ndarray, graph: RegionGraph) -> np.ndarray:
    """Score how much each candidate, bool ``(K, n)``, looks like one whole object before a ground.

    The score, float64 ``(K,)`` in [0, 1], is ``compactness * sqrt(share of the image) * (contrast *
    surroundedness) ** 0.25``, 0 for a candidate that has nothing around it.
    """
    # Compactness is 4 pi area / outline ** 2 (1 for a disc, at most 1), contrast the mean colour difference
    # across the outline as a share of the largest possible, surroundedness 0.1 plus 0.9 times the share of
    # the outline beside regions larger than the candidate. So wholes come before their parts, and single
    # objects before two that touch.
    inside, outside = members.astype(float), (~members).astype(float)
    areas = inside @ graph.areas
    distances = _color_distances(graph.colors, *np.ogrid[: len(graph.areas), : len(graph.areas)])
    touching = (inside @ graph.borders) * outside
    length = np.maximum(touching.sum(axis=1), 1)
    contrast = ((inside @ (graph.borders * distances)) * outside).sum(axis=1) / length / _MAX_COLOR_DISTANCE
    surrounded = 0.1 + 0.9 * (touching * (graph.areas > areas[:, None])).sum(axis=1) / length
    compactness = np.minimum(1, 4 * np.pi * areas / (length + inside @ graph.frame) ** 2)
    return compactness * np.sqrt(areas / graph.areas.sum()) * (contrast * surrounded) ** 0.25


def choose(
    members: np.ndarray, areas: np.ndarray, scores: np.ndarray, max_iou: float, max_overlap: float, limit: int
) -> np.ndarray:
    """Choose candidates greedily by score, leaving out what overlaps a chosen one too much.

    Of the candidates, bool ``(K, n)``, at most ``limit`` indices, best first; ties go to the lower index. The
    ``areas`` ``(n,)`` are those of the regions, ``max_overlap`` is a share of the smaller one's area.
    """
    weighted = members * areas
    intersection = weighted @ members.T.astype(float)
    own = weighted.sum(axis=1)
    iou = intersection / (own[:, None] + own - intersection)
    overlap = intersection / np.minimum(own[:, None], own)
    clash = (iou > max_iou) | (overlap > max_overlap)
    order = np.argsort(-scores, kind="stable")
    return np.array(suppress(order.tolist(), clash, limit), dtype=np.int64)


def mean_colors(labels: np.ndarray, pixels: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """Return the mean RGB of each region, float64 ``(n, 3)``."""
    flat = labels.ravel().astype(np.intp, copy=False)
    sums = [np.bincount(flat, pixels[..., channel].ravel(), len(areas)) for channel in range(3)]
    return np.stack(sums, axis=1) / areas[:, None]


def melted(labels: np.ndarray, pixels: np.ndarray, threshold: float) -> np.ndarray:
    """Join regions that touch and whose mean colours are nearer than ``threshold``, and chains of such.

    From int ``(h, w)`` to the same with all values 0 to n - 1; pixels are uint8 ``(h, w, 3)`` RGB.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # those that there are, numbered in order
    labels = (np.cumsum(np.bincount(labels.ravel()) > 0) - 1).take(labels)
    colors = mean_colors(labels, pixels, np.bincount(labels.ravel()))
    first, second = _side_by_side(labels)
    alike = _color_distances(colors, first, second) < threshold
    # Only what is joined goes in: an explicit zero would count as an edge.
    graph = coo_array((alike[alike], (first[alike], second[alike])), shape=(len(colors), len(colors)))
    return connected_components(graph, directed=False)[1].take(labels)


def distinct(members: np.ndarray) -> np.ndarray:
    """Return the distinct ones of candidates, bool ``(K, n)``, in the order of ``np.unique(axis=0)``."""
    bits = np.packbits(members, axis=1)
    _, first = np.unique(bits.view(f"V{bits.shape[1]}"), return_index=True)
    return members[first]
