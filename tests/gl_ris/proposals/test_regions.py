from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from gl_ris.proposals.regions import (
    RegionGraph,
    choose,
    distinct,
    fill_holes,
    islands,
    melted,
    merge_tree,
    objectness,
    region_graph,
)

# 0 surrounds 1, which surrounds 2; 3 lies apart at the frame
LABELS = np.array(
    [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 1, 2, 1, 0, 3],
        [0, 1, 1, 1, 0, 3],
        [0, 0, 0, 0, 0, 0],
    ]
)
COLORS = np.array([[10, 10, 10], [200, 0, 0], [190, 0, 0], [0, 0, 250]], dtype=np.uint8)


def graph_of(labels: np.ndarray, colors: np.ndarray = COLORS) -> RegionGraph:
    return region_graph(labels, colors[labels])


def members(*rows: list[int]) -> np.ndarray:
    return np.array([[k in row for k in range(4)] for row in rows])


def test_the_graph_counts_edges_pixels_and_frame() -> None:
    graph = graph_of(LABELS)
    wanted = [[0, 12, 0, 4], [12, 0, 4, 0], [0, 4, 0, 0], [4, 0, 0, 0]]
    np.testing.assert_array_equal(graph.borders, wanted)
    np.testing.assert_array_equal(graph.areas, [19, 8, 1, 2])
    np.testing.assert_array_equal(graph.frame, [20, 0, 0, 2])  # corners have two edges
    np.testing.assert_array_equal(graph.colors, COLORS)


def test_a_colour_is_the_mean() -> None:
    pixels = np.zeros((1, 4, 3), dtype=np.uint8)
    pixels[0, :, 1] = [10, 20, 60, 100]
    graph = region_graph(np.array([[0, 0, 1, 1]]), pixels)
    np.testing.assert_array_equal(graph.colors, [[0, 15, 0], [0, 80, 0]])


def test_the_most_alike_neighbours_merge_first() -> None:
    tree = merge_tree(graph_of(LABELS))
    np.testing.assert_array_equal(tree[:4], np.eye(4, dtype=bool))
    np.testing.assert_array_equal(tree[4], [False, True, True, False])
    assert len(tree) == 6  # four regions, two merges, two regions left


def random_labels(seed: int, size: int = 24) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 4, (size // 4, size // 4)).repeat(4, 0).repeat(4, 1)
    pieces = [ndimage.label(coarse == value)[0] for value in range(4)]
    labels, offset = np.zeros_like(coarse), 0
    for piece in pieces:
        labels[piece > 0] = piece[piece > 0] + offset - 1
        offset += piece.max()
    return labels


@pytest.mark.parametrize("seed", range(5))
def test_every_merged_candidate_is_connected_and_the_tree_is_nested(seed: int) -> None:
    labels = random_labels(seed)
    colors = np.random.default_rng(seed).integers(0, 256, (labels.max() + 1, 3)).astype(np.uint8)
    tree = merge_tree(graph_of(labels, colors))
    assert len(tree) == 2 * (labels.max() + 1) - 2
    for row in tree:
        assert ndimage.label(row[labels])[1] == 1
    for k, row in enumerate(tree):
        for other in tree[:k]:
            assert not (row & other).any() or (row | other == row).all() or (row | other == other).all()


def plain_merges(graph: RegionGraph) -> list[set[int]]:
    """Merge as `merge_tree` says, by a search through all pairs at every step."""
    borders, areas, colors = graph.borders.copy(), graph.areas.copy(), graph.colors.copy()
    regions = {i: {i} for i in range(len(areas))}

    def cost(i: int, j: int) -> float:
        shared = borders[i, j] / min(borders[i].sum(), borders[j].sum())
        return np.linalg.norm(colors[i] - colors[j]) * np.sqrt(min(areas[i], areas[j]) / shared)

    found = []
    while len(regions) > 2:
        touching = [(i, j) for i in regions for j in regions if i < j and borders[i, j]]
        if not touching:
            break
        i, j = min(touching, key=lambda pair: (cost(*pair), pair))
        colors[i] = (areas[i] * colors[i] + areas[j] * colors[j]) / (areas[i] + areas[j])
        areas[i] += areas[j]
        borders[i] += borders[j]
        borders[i, i], borders[:, i] = 0, borders[i]
        borders[i, i] = borders[j] = borders[:, j] = 0
        regions[i] |= regions.pop(j)
        found.append(regions[i].copy())
    return found


@pytest.mark.parametrize("levels", [1, 2, 256], ids=["one colour", "ties", "colours"])
@pytest.mark.parametrize("seed", range(4))
def test_the_tree_is_that_of_a_plain_search(seed: int, levels: int) -> None:
    labels = random_labels(seed)
    n = labels.max() + 1
    graph = graph_of(labels, np.random.default_rng(seed).integers(0, levels, (n, 3)).astype(np.uint8))
    assert [set(np.flatnonzero(row)) for row in merge_tree(graph)[n:]] == plain_merges(graph)


def test_regions_that_do_not_touch_stay_apart() -> None:
    nothing = RegionGraph(np.zeros((4, 4)), np.ones(4), np.zeros((4, 3)), np.ones(4))
    np.testing.assert_array_equal(merge_tree(nothing), np.eye(4, dtype=bool))


@pytest.mark.parametrize("n", [1, 7, 8, 9, 70])
def test_distinct_candidates_come_in_the_order_of_numpy(n: int) -> None:
    rng = np.random.default_rng(n)
    candidates = rng.random((30, n)) < 0.3
    candidates = candidates[rng.integers(0, 30, 80)]
    found = distinct(candidates)
    np.testing.assert_array_equal(found, np.unique(candidates, axis=0))
    assert found.dtype == bool


def test_melting_numbers_the_regions_in_order_whatever_the_labels() -> None:
    labels = np.array([[9, 9, 4, 4, 20, 20]])
    pixels = np.repeat(np.uint8([[10, 10, 90, 90, 92, 92]])[..., None], 3, axis=2)
    np.testing.assert_array_equal(melted(labels, pixels, 5), [[1, 1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(melted(labels, pixels, 0), [[1, 1, 0, 0, 2, 2]])


@pytest.mark.parametrize("seed", range(5))
def test_holes_are_those_that_scipy_finds(seed: int) -> None:
    labels = random_labels(seed)
    graph = graph_of(labels, np.zeros((labels.max() + 1, 3), dtype=np.uint8))
    rng = np.random.default_rng(seed)
    candidates = rng.random((140, labels.max() + 1)) < 0.5
    # regions that meet at a corner only do not touch, so the outside spreads along edges, as scipy's does
    for candidate, filled in zip(candidates, fill_holes(candidates, graph), strict=True):
        np.testing.assert_array_equal(filled[labels], ndimage.binary_fill_holes(candidate[labels]))


def test_a_ring_is_filled_and_the_ground_is_whole() -> None:
    filled = fill_holes(members([1], [0], [3], [2]), graph_of(LABELS))
    np.testing.assert_array_equal(filled, members([1, 2], [0, 1, 2], [3], [2]))


def test_islands_are_what_the_largest_region_leaves_over() -> None:
    found = islands(graph_of(LABELS))
    assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, members([1, 2], [3]).tolist()))
    assert islands(graph_of(np.zeros((3, 3), dtype=int))).shape == (0, 1)


def test_a_whole_before_a_ground_looks_more_like_an_object_than_its_part_or_its_ring() -> None:
    whole, ring, part = objectness(members([1, 2], [1], [2]), graph_of(LABELS))
    assert whole > ring > part > 0


def test_one_object_looks_more_like_an_object_than_two_that_touch_at_a_corner() -> None:
    labels = np.zeros((30, 30), dtype=int)
    labels[5:15, 5:15], labels[14:24, 15:25] = 1, 2
    colors = np.array([[90, 90, 90], [250, 0, 0], [0, 0, 250]], dtype=np.uint8)
    graph = region_graph(labels, colors[labels])
    one, two, both = objectness(np.array([[0, 1, 0], [0, 0, 1], [0, 1, 1]], dtype=bool), graph)
    assert min(one, two) > both


def test_contrast_raises_the_score() -> None:
    faint, strong = (
        objectness(
            members([1, 2]), graph_of(LABELS, np.array([[0] * 3, [c] * 3, [c] * 3, [0] * 3], np.uint8))
        )[0]
        for c in (20, 200)
    )
    assert faint < strong


def test_everything_has_no_outline_and_no_score() -> None:
    assert objectness(members([0, 1, 2, 3]), graph_of(LABELS)).tolist() == [0]


@pytest.mark.parametrize(
    ("max_iou", "max_overlap", "limit", "chosen"),
    [
        (1.0, 1.0, 9, [1, 0, 2, 3]),
        (0.8, 1.0, 9, [1, 2, 3]),
        (0.8, 0.9, 9, [1, 3]),
        (0.0, 1.0, 9, [1, 3]),
        (1.0, 1.0, 2, [1, 0]),
    ],
    ids=["all", "alike", "parts", "disjoint", "capped"],
)
def test_suppression(max_iou: float, max_overlap: float, limit: int, chosen: list[int]) -> None:
    candidates = members([1], [1, 2], [2], [3])  # areas 8, 9, 1, 2
    scores = np.array([0.5, 0.9, 0.4, 0.4])
    found = choose(candidates, graph_of(LABELS).areas, scores, max_iou, max_overlap, limit)
    assert found.tolist() == chosen
