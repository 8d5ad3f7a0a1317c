"""SLIC superpixels with scikit-image's labels, several times as fast where few clusters still move."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

_SLACK = 1 + 1e-6  # What only leaves pairs out may round otherwise than what decides.
# About how many places of windows are looked at together, so that they stay in the processor's cache.
_BATCH = 1 << 15


def superpixels(pixels: np.ndarray, segments: int, compactness: float, sigma: float) -> np.ndarray:
    """Part an image as ``skimage.segmentation.slic`` does, to the bit.

    From uint8 ``(h, w, 3)`` RGB to int ``(h, w)`` with labels from 0. Nothing is approximated, what cannot
    change a label is left out: after two rounds few clusters move, and a pixel is compared with these alone,
    or with all around where its own has moved away beyond the second best. scikit-image itself takes over
    where ``compactness`` is so small that colours round space away, and, with a warning, if it hides its last
    step.
    """
    from skimage.segmentation import _slic, slic

    connect = getattr(_slic, "_enforce_label_connectivity_cython", None)
    if connect is None:
        warnings.warn("This scikit-image hides a step of SLIC: its own, slower one is taken.", stacklevel=2)
    if connect is None or compactness < 0.01:
        return slic(pixels, segments, compactness, sigma=sigma, start_label=0)
    clusters = _Clusters(pixels.shape[:2], segments, _smooth_lab(pixels, sigma) * (1.0 / compactness))
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
        flat = np.stack([present >> 16, present >> 8 & 255, present & 255], axis=1).astype(np.uint8)
    values = img_as_float(flat)
    values = values - values.min()
    # slic smooths along a third axis of length one too, which rounds
    lab = gaussian_filter(rgb2lab(values[None] / (values.max() or 1)), [sigma, 0, 0])[0].T
    lab = lab.take(np.searchsorted(present, codes), axis=1) if drawn else lab
    return gaussian_filter(lab.reshape(3, *pixels.shape[:2]), [0, sigma, sigma])


class _Grid:
    """Clusters where they start and after a first round that sees space alone: alike for images of a size."""

    def __init__(self, size: tuple[int, int], segments: int) -> None:
        from skimage.util import regular_grid

        y, x = (np.arange(length, dtype=float) for length in size)
        self.places = [np.repeat(y, len(x)), np.tile(x, len(y))]
        steps = regular_grid((1, *size), segments)
        self.weight = 1.0 / max(step.step or 1 for step in steps) ** 2
        # the rows and columns that clusters start on
        self.lines = [line[step] for line, step in zip((y, x), steps[1:], strict=True)]
        self.shape = len(self.lines[0]), len(self.lines[1])
        self.start = [line.ravel() for line in np.meshgrid(*self.lines, indexing="ij")]
        # how far each looks for pixels
        count = self.shape[0] * self.shape[1]
        self.reach = [2 * (step.step or 1) for step in regular_grid((1, *size), count)[1:]]
        row, column = (
            np.abs(places[:, None] - line).argmin(axis=1)
            for places, line in zip((y, x), self.lines, strict=True)
        )
        self.labels = (row[:, None] * self.shape[1] + column).ravel()
        self.counts = np.bincount(self.labels)
        self.means = [np.bincount(self.labels, places) / self.counts for places in self.places]
        # Of each pixel to any cluster but its own: to the next row or column of what is still a grid.
        means, gaps = (self.means[0][:: self.shape[1]], self.means[1][: self.shape[1]]), []
        for places, own, line in zip((y, x), (row, column), means, strict=True):
            gap = np.abs(places[:, None] - line)
            gap[np.arange(len(own)), own] = np.inf
            gaps.append(gap.min(axis=1) ** 2 * self.weight)
        self.second = np.minimum(gaps[0][:, None], gaps[1]).ravel()


_grid = functools.lru_cache(maxsize=4)(_Grid)


class _Clusters:
    """Clusters of pixels in space and colour; of several equally near ones the one of lowest number wins."""

    def __init__(self, size: tuple[int, int], segments: int, colors: np.ndarray) -> None:
        self.size, self.grid = size, _grid(size, segments)
        self.weight, self.reach = self.grid.weight, self.grid.reach
        self.count = len(self.grid.counts)
        colors = colors.reshape(3, -1)
        self.features = [*self.grid.places, *colors]
        self.labels, self.second = self.grid.labels.copy(), self.grid.second.copy()
        means = [np.bincount(self.labels, values) / self.grid.counts for values in colors]
        self.centers, self.drift = np.array([*self.grid.means, *means]), np.zeros(2)
        self._follow(slice(None))
        self.best = np.zeros(len(self.labels))

    def _follow(self, clusters: Any) -> None:
        # how far clusters have gone from where they started, at most
        for axis, start in enumerate(self.grid.start):
            moved = np.abs(self.centers[axis, clusters] - start[clusters])
            self.drift[axis] = max(self.drift[axis], moved.max())

    def settle(self, rounds: int = 10) -> np.ndarray:
        """Let the clusters move, and return the labels, int ``(h, w)``."""
        members = np.arange(len(self.labels))
        near = np.zeros((2, 0), dtype=np.intp)
        for _ in range(rounds - 1):
            left = self._decide(*np.concatenate([near, self._among(self._astray(members))], axis=1))
            if not left.any():
                break
            members = np.flatnonzero(left.take(self.labels))
            near = self._around(self._move(members, np.flatnonzero(left)))
        return self.labels.reshape(self.size)

    def _move(self, members: np.ndarray, clusters: np.ndarray) -> np.ndarray:
        # To the means of all their pixels; returns those that have some.
        own = self.labels.take(members)
        counts = np.bincount(own, minlength=self.count)
        self.centers[:, clusters] = np.nan  # what has no pixels is nowhere, for good
        clusters = clusters[counts[clusters] > 0]
        for center, values in zip(self.centers, self.features, strict=True):
            center[clusters] = np.bincount(own, values.take(members), self.count)[clusters] / counts[clusters]
        self._follow(clusters)
        return clusters

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

    def _inside(self, pixels: np.ndarray, clusters: np.ndarray, bounds: np.ndarray) -> np.ndarray:
        # Which of these pairs, no further apart than the bounds, are within the cluster's reach, bool.
        far = np.flatnonzero(bounds > (min(self.reach) - 1) ** 2 * self.weight)
        inside, found = np.ones(len(bounds), dtype=bool), np.ones(len(far), dtype=bool)
        pixels, clusters = pixels.take(far), clusters.take(far)
        for axis, reach in enumerate(self.reach):
            at, center = self.features[axis].take(pixels), self.centers[axis].take(clusters)
            found &= (at >= np.floor(center - reach)) & (at < np.floor(center + reach + 1))
        inside[far] = found
        return inside

    def _astray(self, members: np.ndarray) -> np.ndarray:
        # Measure pixels whose own cluster has moved; return those for which another may be nearer.
        own = self.labels.take(members)
        best = self._distances(members, own)
        best[~self._inside(members, own, best)] = np.inf
        self.best[members] = best
        far = best >= self.second.take(members)
        lost = members[far]
        self.second[lost] = best[far] + 0.1
        return lost

    def _around(self, clusters: np.ndarray) -> np.ndarray:
        # Pairs of a pixel and one of these clusters that may be nearer than the second best, (2, pairs).
        low, squares = [], []
        for center, reach, length in zip(self.centers[:2, clusters], self.reach, self.size, strict=True):
            first = np.maximum(center - reach, 0).astype(np.intp)
            end = np.minimum(center + reach + 1, length).astype(np.intp)
            low.append(np.minimum(first, length - min(2 * reach + 1, length)))
            places = np.arange(min(2 * reach + 1, length))[:, None] + low[-1]
            far = (center - places) ** 2 * (self.weight / _SLACK)
            squares.append(np.where((places >= first) & (places < end), far, np.nan).astype(np.float32))
        second = self.second.astype(np.float32)

        def near(part: slice, pixels: np.ndarray) -> np.ndarray:
            space = squares[0][:, None, part] + squares[1][:, part]
            return space.reshape(pixels.shape) <= second.take(pixels)

        which, pixels = _pairs(near, low, [len(some) for some in squares], self.size[1])
        clusters = clusters.take(which)
        foreign = self.labels.take(pixels) != clusters
        return np.stack([pixels[foreign], clusters[foreign]])

    def _among(self, pixels: np.ndarray) -> np.ndarray:
        # Pairs of one of these pixels and a cluster that may be nearer than the second best, (2, pairs).
        y, x = (feature.take(pixels) for feature in self.features[:2])
        low, spans = [], []
        for line, at, far in zip(self.grid.lines, (y, x), self.drift + self.reach + 1, strict=True):
            first, end = np.searchsorted(line, at - far), np.searchsorted(line, at + far)
            spans.append(min(int((end - first).max(initial=0)) + 1, len(line)))
            low.append(np.minimum(first, len(line) - spans[-1]))
        bounds = self.second.take(pixels) * _SLACK
        limits = bounds / self.weight

        def near(part: slice, clusters: np.ndarray) -> np.ndarray:
            rows = self.centers[0].take(clusters) - y[part]
            columns = self.centers[1].take(clusters) - x[part]
            return np.square(rows, out=rows) + np.square(columns, out=columns) <= limits[part]

        which, clusters = _pairs(near, low, spans, self.grid.shape[1])
        pixels = pixels.take(which)
        inside = self._inside(pixels, clusters, bounds.take(which))
        return np.stack([pixels[inside], clusters[inside]])

    def _decide(self, pixels: np.ndarray, clusters: np.ndarray) -> np.ndarray:
        # Give each pixel to the nearest; returns which clusters have lost or won some, bool.
        distances = self._distances(pixels, clusters)
        was, before = self.labels.take(pixels), self.best.take(pixels)
        np.minimum.at(self.best, pixels, distances)
        now = self.best.take(pixels)
        self.labels[pixels.take(np.flatnonzero(now < before))] = self.count
        equal = np.flatnonzero(distances == now)
        np.minimum.at(self.labels, pixels.take(equal), clusters.take(equal))
        label = self.labels.take(pixels)
        left = was != label
        second = np.where(clusters != label, distances, np.inf)
        np.minimum(second, before, out=second, where=left)
        np.minimum.at(self.second, pixels, second)
        changed = np.zeros(self.count, dtype=bool)
        changed[was[left]] = changed[label[left]] = True
        return changed


def _pairs(
    near: Callable[[slice, np.ndarray], np.ndarray], low: list[np.ndarray], spans: list[int], width: int
) -> tuple[np.ndarray, np.ndarray]:
    # Which windows, and which places of a field of that width, are ``near``, batch by batch.
    offsets = (np.arange(spans[0])[:, None] * width + np.arange(spans[1])).reshape(-1, 1)
    start = low[0] * width + low[1]
    batch = max(1, _BATCH // len(offsets))
    pairs = [np.zeros((2, 0), dtype=np.intp)]
    for i in range(0, len(start), batch):
        places = start[i : i + batch] + offsets
        found = np.flatnonzero(near(slice(i, i + batch), places))
        which = found - found // places.shape[1] * places.shape[1] + i
        pairs.append(np.stack([which, places.ravel().take(found)]))
    which, found = np.concatenate(pairs, axis=1)
    return which, found
