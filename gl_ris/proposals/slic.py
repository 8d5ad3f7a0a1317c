"""SLIC superpixels with scikit-image's labels, several times as fast where few clusters still move."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

# What only leaves pairs out may round otherwise than what decides.
_SLACK = 1 + 1e-9
# About how many places of windows are looked at together, so that they stay in the processor's cache.
_BATCH = 1 << 15


def superpixels(pixels: np.ndarray, segments: int, compactness: float, sigma: float) -> np.ndarray:
    """Part an image as ``skimage.segmentation.slic`` does, to the bit.

    From uint8 ``(h, w, 3)`` RGB to int ``(h, w)`` with labels from 0. Nothing is approximated, only what cannot
    change a label is left out: after the first rounds few clusters move, and a pixel is compared with these
    alone, or with all around it where its own has moved away beyond what was the second best.

    What is not covered scikit-image does itself: a ``compactness`` so small that colours round space away, and,
    with a warning, a version of scikit-image that keeps its last step elsewhere.
    """
    from skimage.segmentation import slic

    colors = _smooth_lab(pixels, sigma) * (1.0 / compactness)
    clusters = _Clusters(pixels.shape[:2], segments, colors.reshape(3, -1))
    try:
        from skimage.segmentation._slic import _enforce_label_connectivity_cython as connect
    except ImportError:
        warnings.warn("This scikit-image hides a step of SLIC: it takes several times as long.", stacklevel=2)
        clusters.covered = False
    if not clusters.covered:
        return slic(pixels, segments, compactness, sigma=sigma, start_label=0)
    labels = clusters.settle()
    size = labels.size / clusters.count
    return connect(labels[None], int(0.5 * size), int(3 * size), start_label=0)[0]


def _smooth_lab(pixels: np.ndarray, sigma: float) -> np.ndarray:
    # Lab, float64 (3, h, w), of a stretched and smoothed image, as slic makes it.
    from scipy.ndimage import gaussian_filter
    from skimage.color import rgb2lab
    from skimage.util import img_as_float

    flat = pixels.reshape(-1, 3)
    red, green, blue = flat.T.astype(np.uint32)
    codes = red << 16 | green << 8 | blue
    present = np.unique(codes)
    drawn = 8 * present.size < codes.size  # so few colours that each is converted once
    if drawn:
        flat = (present[:, None] >> np.uint32([16, 8, 0]) & 255).astype(np.uint8)
    values = img_as_float(flat)
    values = values - values.min()
    lab = rgb2lab(values[None] / (values.max() or 1))
    # slic smooths along a third axis of length one too, which rounds
    lab = gaussian_filter(lab, [sigma, 0, 0])[0].T.copy()
    lab = lab.take(np.searchsorted(present, codes), axis=1) if drawn else lab
    return gaussian_filter(lab.reshape(3, *pixels.shape[:2]), [0, sigma, sigma])


class _Clusters:
    """Clusters of an image's pixels in space and colour, which move to the means of their pixels.

    Pixels and clusters are numbered row by row, and of several that are equally near the lowest number wins.
    """

    def __init__(self, size: tuple[int, int], segments: int, colors: np.ndarray) -> None:
        from skimage.util import regular_grid

        self.size = size
        steps = regular_grid((1, *size), segments)
        self.weight = 1.0 / max(step.step or 1 for step in steps) ** 2
        self.features = np.concatenate([np.mgrid[: size[0], : size[1]].reshape(2, -1), colors])
        # the rows and columns that clusters start on
        self.grid = [np.arange(n)[step] for n, step in zip(size, steps[1:], strict=True)]
        self.shape = len(self.grid[0]), len(self.grid[1])
        self.count = self.shape[0] * self.shape[1]
        self.start = np.stack([line.ravel() for line in np.meshgrid(*self.grid, indexing="ij")])
        # rows and columns that each competes for, from and up to
        self.reach = [2 * (step.step or 1) for step in regular_grid((1, *size), self.count)[1:]]
        self.low, self.high = np.zeros((2, 2, self.count), dtype=np.intp)
        self.centers = np.zeros((5, self.count))
        # how far any has come from its start, and within which distance, squared, none has a pixel outside
        self.drift = np.zeros(2)
        self.safe = (min(self.reach) - 1) ** 2 * self.weight

        gaps = [np.abs(np.arange(n)[:, None] - line) for n, line in zip(size, self.grid, strict=True)]
        self.covered = bool(
            all((gap.min(axis=1) <= reach).all() for gap, reach in zip(gaps, self.reach, strict=True))
            and max(colors.max(), -colors.min()) ** 2 < 2**40 * self.weight
        )
        # Colours of clusters start at zero, so that the first round sees space alone.
        self.nearest = [gap.argmin(axis=1) for gap in gaps]
        self.labels = (self.nearest[0][:, None] * self.shape[1] + self.nearest[1]).ravel()
        self.best = np.zeros(len(self.labels))

    def settle(self, rounds: int = 10) -> np.ndarray:
        """Let the clusters move, and return the labels, int ``(h, w)``."""
        members = np.arange(len(self.labels))
        moved = self._move(members, np.arange(self.count))
        # at most the distance of each pixel to any cluster but its own
        self.second = self._to_others()
        near = np.zeros((2, 0), dtype=np.intp)
        for _ in range(rounds - 1):
            left = self._decide(*np.concatenate([near, self._among(self._astray(members))], axis=1))
            if not left.any():
                break
            members = np.flatnonzero(left[self.labels])
            moved = self._move(members, np.flatnonzero(left))
            near = self._around(moved)
        return self.labels.reshape(self.size)

    def _move(self, members: np.ndarray, clusters: np.ndarray) -> np.ndarray:
        # To the means of all their pixels; returns those that have some.
        own = self.labels[members]
        counts = np.bincount(own, minlength=self.count)
        self.centers[:, clusters] = np.nan  # what has no pixels is nowhere, for good
        clusters = clusters[counts[clusters] > 0]
        for center, values in zip(self.centers, self.features, strict=True):
            center[clusters] = np.bincount(own, values.take(members), self.count)[clusters] / counts[clusters]
        for axis, (reach, length) in enumerate(zip(self.reach, self.size, strict=True)):
            self.low[axis, clusters] = np.maximum(self.centers[axis, clusters] - reach, 0)
            self.high[axis, clusters] = np.minimum(self.centers[axis, clusters] + reach + 1, length)
            drift = np.abs(self.centers[axis, clusters] - self.start[axis, clusters])
            self.drift[axis] = max(self.drift[axis], drift.max())
        return clusters

    def _to_others(self) -> np.ndarray:
        # A bound after the first round, when clusters still form a grid: the next row or column.
        lines = self.centers[0, :: self.shape[1]], self.centers[1, : self.shape[1]]
        bounds = []
        for line, own in zip(lines, self.nearest, strict=True):
            gaps = np.abs(np.arange(len(own))[:, None] - line)
            gaps[np.arange(len(own)), own] = np.inf
            bounds.append(gaps.min(axis=1) ** 2 * self.weight)
        return np.minimum(bounds[0][:, None], bounds[1]).ravel()

    def _distances(self, pixels: np.ndarray, clusters: np.ndarray) -> np.ndarray:
        # In this order, on which the last bit depends: space by weight, plus colour.
        def add(feature: int, total: np.ndarray | float = 0.0) -> np.ndarray:
            gaps = self.centers[feature].take(clusters)
            gaps -= self.features[feature].take(pixels)
            gaps *= gaps
            gaps += total
            return gaps

        space = add(1, add(0))
        space *= self.weight
        space += add(4, add(3, add(2)))
        return space

    def _outside(self, pixels: np.ndarray, clusters: np.ndarray, bounds: np.ndarray) -> np.ndarray:
        # Which of these pairs, that are no further apart than the bounds, the cluster does not compete for.
        far = np.flatnonzero(bounds > self.safe)
        pixels, clusters = pixels[far], clusters[far]
        (y, x), low, high = self.features[:2], self.low, self.high
        inside = (y[pixels] >= low[0][clusters]) & (y[pixels] < high[0][clusters])
        inside &= (x[pixels] >= low[1][clusters]) & (x[pixels] < high[1][clusters])
        return far[~inside]

    def _astray(self, members: np.ndarray) -> np.ndarray:
        # Measure pixels whose own cluster has moved; return those for which another may be nearer.
        own = self.labels[members]
        best = self._distances(members, own)
        best[self._outside(members, own, best)] = np.inf
        self.best[members] = best
        lost = members[best >= self.second[members]]
        self.second[lost] = self.best[lost] + 0.1
        return lost

    def _around(self, clusters: np.ndarray) -> np.ndarray:
        # Pairs of a pixel and a cluster, of these, that may be nearer than the second best, (2, pairs).
        low, high = self.low[:, clusters], self.high[:, clusters]
        spans = tuple((high - low).max(axis=1).tolist())
        squares = []
        for axis, span in enumerate(spans):
            places = low[axis, :, None] + np.arange(span)
            gaps = np.square(self.centers[axis, clusters, None] - places)
            gaps[places >= high[axis, :, None]] = np.nan
            squares.append(gaps)
        limits = _framed(self.second.reshape(self.size) * (_SLACK / self.weight), spans)
        rows, columns = squares

        def within(part: slice) -> np.ndarray:
            return rows[part, :, None] + columns[part, None] <= limits[low[0, part], low[1, part]]

        which, pixels = _inside(within, low, spans, self.size[1])
        foreign = self.labels[pixels] != clusters[which]
        return np.stack([pixels[foreign], clusters[which[foreign]]])

    def _among(self, pixels: np.ndarray) -> np.ndarray:
        # Pairs of these pixels and any cluster that may be nearer than the second best, (2, pairs).
        places = self.features[:2, pixels]
        lines = [
            np.searchsorted(line, place + np.array([[-far], [far]]))
            for line, place, far in zip(self.grid, places, self.drift + self.reach + 1, strict=True)
        ]
        low = np.stack([each[0] for each in lines])
        spans = tuple(int((last - first).max(initial=0)) + 1 for first, last in lines)
        rows, columns = (_framed(center.reshape(self.shape), spans) for center in self.centers[:2])
        bounds = self.second[pixels] * _SLACK
        limits = bounds / self.weight * _SLACK

        def within(part: slice) -> np.ndarray:
            at = low[0, part], low[1, part]
            y, x = (place[part, None, None] for place in places)
            return np.square(rows[at] - y) + np.square(columns[at] - x) <= limits[part, None, None]

        which, clusters = _inside(within, low, spans, self.shape[1])
        inside = np.ones(len(which), dtype=bool)
        inside[self._outside(pixels[which], clusters, bounds[which])] = False
        return np.stack([pixels[which[inside]], clusters[inside]])

    def _decide(self, pixels: np.ndarray, clusters: np.ndarray) -> np.ndarray:
        # Give each pixel to the nearest; returns which clusters have lost or won some, bool.
        distances = self._distances(pixels, clusters)
        was, before = self.labels[pixels], self.best[pixels]
        np.minimum.at(self.best, pixels, distances)
        now = self.best[pixels]
        self.labels[pixels[now < before]] = self.count
        equal = distances == now
        np.minimum.at(self.labels, pixels[equal], clusters[equal])
        label = self.labels[pixels]
        beaten, left = clusters != label, was != label
        np.minimum.at(self.second, pixels[beaten], distances[beaten])
        np.minimum.at(self.second, pixels[left], before[left])
        changed = np.zeros(self.count, dtype=bool)
        changed[was[left]] = changed[label[left]] = True
        return changed


def _framed(field: np.ndarray, spans: tuple[int, ...]) -> np.ndarray:
    # All windows of a 2D field, also those that lie partly or wholly beyond its end, which is NaN.
    padded = np.full([length + span for length, span in zip(field.shape, spans, strict=True)], np.nan)
    padded[: field.shape[0], : field.shape[1]] = field
    return sliding_window_view(padded, spans)


def _inside(
    within: Callable[[slice], np.ndarray], low: np.ndarray, spans: tuple[int, ...], width: int
) -> tuple[np.ndarray, np.ndarray]:
    # Which windows, and which places of a field of that width, ``within`` holds for, batch by batch.
    area = spans[0] * spans[1]
    batch = max(1, _BATCH // area)
    found = [np.flatnonzero(within(slice(i, i + batch))) + i * area for i in range(0, low.shape[1], batch)]
    which, place = np.divmod(np.concatenate([np.zeros(0, dtype=np.intp), *found]), area)
    offsets = (np.arange(spans[0])[:, None] * width + np.arange(spans[1])).ravel()
    return which, (low[0] * width + low[1])[which] + offsets[place]
