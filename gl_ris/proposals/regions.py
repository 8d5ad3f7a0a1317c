"""Grouping the regions of a partition into object candidates, on the graph of which region touches which.

A candidate is a set of regions, a row of a bool matrix ``members`` ``(K, n)``, so that merging, filling holes
and measuring overlap are matrix products over the ``n`` regions and never touch a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gl_ris.masks import suppress

_MAX_COLOR_DISTANCE = 255 * 3**0.5


@dataclass(frozen=True)
class RegionGraph:
    """The regions of a partition and how they touch, float64."""

    # (n, n), symmetric: length of the common border in pixel edges, 0 on the diagonal.
    borders: np.ndarray
    # (n,) in pixels.
    areas: np.ndarray
    # (n, 3), mean RGB, 0 to 255.
    colors: np.ndarray
    # (n,), length of the region's border with the frame of the image, in pixel edges.
    frame: np.ndarray


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
    return np.concatenate([np.stack([a[a != b], b[a != b]]) for a, b in pairs], axis=1)


def merge_tree(graph: RegionGraph) -> np.ndarray:
    """Merge the two most alike neighbours until two regions are left, and keep every region on the way.

    The candidates, bool ``(K, n)``, are the regions themselves, then the merged ones in order.
    """
    n = len(graph.areas)
    borders, areas, colors = graph.borders.copy(), graph.areas.copy(), graph.colors.copy()
    members = np.eye(n, dtype=bool)
    found = [members.copy()]
    costs = np.stack([_merge_costs(i, borders, areas, colors) for i in range(n)])
    for _ in range(n - 2):
        i, j = np.unravel_index(costs.argmin(), costs.shape)
        if not np.isfinite(costs[i, j]):
            break
        colors[i] = (areas[i] * colors[i] + areas[j] * colors[j]) / (areas[i] + areas[j])
        areas[i] += areas[j]
        members[i] |= members[j]
        borders[i] += borders[j]
        borders[i, i] = 0
        borders[:, i] = borders[i]
        borders[j] = borders[:, j] = 0
        costs[j] = costs[:, j] = np.inf
        costs[i] = costs[:, i] = _merge_costs(i, borders, areas, colors)
        found.append(members[i : i + 1].copy())
    return np.concatenate(found)


def _merge_costs(i: np.intp | int, borders: np.ndarray, areas: np.ndarray, colors: np.ndarray) -> np.ndarray:
    # Alike are neighbours of near mean colour, where the smaller is small and shares much of its outline with
    # the other: colour distance * sqrt(smaller area) / sqrt(shared share of the shorter outline).
    touching = borders[i] > 0
    costs = np.full(len(areas), np.inf)
    distance = np.linalg.norm(colors[touching] - colors[i], axis=1)
    outline = np.minimum(borders[touching].sum(axis=1), borders[i].sum())
    shared = borders[i, touching] / outline
    costs[touching] = distance * np.sqrt(np.minimum(areas[touching], areas[i]) / shared)
    return costs


def fill_holes(members: np.ndarray, graph: RegionGraph) -> np.ndarray:
    """Add to each candidate, bool ``(K, n)``, the regions that it cuts off from the image's frame."""
    touching = (graph.borders > 0).astype(np.float32)
    outside = (graph.frame > 0) & ~members
    while True:
        reached = ((outside.astype(np.float32) @ touching > 0) | outside) & ~members
        if (reached == outside).all():
            return ~outside
        outside = reached


def islands(graph: RegionGraph) -> np.ndarray:
    """Take the largest region for the ground; the connected pieces of the rest, bool ``(K, n)``."""
    from scipy.sparse.csgraph import connected_components

    ground = graph.areas.argmax()
    touching = graph.borders > 0
    touching[ground] = touching[:, ground] = False
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
    distances = np.linalg.norm(graph.colors[:, None] - graph.colors, axis=-1)
    outline = _across(inside, graph.borders, outside)
    larger = outside * (graph.areas > areas[:, None])
    length = np.maximum(outline, 1)
    contrast = _across(inside, graph.borders * distances, outside) / length / _MAX_COLOR_DISTANCE
    surrounded = 0.1 + 0.9 * _across(inside, graph.borders, larger) / length
    compactness = np.minimum(1, 4 * np.pi * areas / (length + inside @ graph.frame) ** 2)
    return compactness * np.sqrt(areas / graph.areas.sum()) * (contrast * surrounded) ** 0.25


def _across(inside: np.ndarray, weights: np.ndarray, outside: np.ndarray) -> np.ndarray:
    # The sum of the weights over all pairs of a region inside and one outside, per candidate.
    return ((inside @ weights) * outside).sum(axis=1)


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
    sums = [np.bincount(labels.ravel(), pixels[..., channel].ravel(), len(areas)) for channel in range(3)]
    return np.stack(sums, axis=1) / areas[:, None]


def melted(labels: np.ndarray, pixels: np.ndarray, threshold: float) -> np.ndarray:
    """Join regions that touch and whose mean colours are nearer than ``threshold``, and chains of such.

    From int ``(h, w)`` to the same with all values 0 to n - 1; pixels are uint8 ``(h, w, 3)`` RGB.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, labels = np.unique(labels, return_inverse=True)
    labels = labels.reshape(pixels.shape[:2])
    colors = mean_colors(labels, pixels, np.bincount(labels.ravel()))
    first, second = _side_by_side(labels)
    alike = np.linalg.norm(colors[first] - colors[second], axis=1) < threshold
    # Only what is joined goes in: an explicit zero would count as an edge.
    graph = coo_array((alike[alike], (first[alike], second[alike])), shape=(len(colors), len(colors)))
    return connected_components(graph, directed=False)[1][labels]
