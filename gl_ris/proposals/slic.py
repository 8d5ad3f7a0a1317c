"""SLIC superpixels with scikit-image's labels, several times as fast where few clusters still move."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

# What only leaves pairs out may round otherwise than what decides.
_SLACK = 1 + 1e-9
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


class _Clusters:
    """Clusters of pixels in space and colour; of several equally near ones the one of lowest number wins."""

    def __init__(self, size: tuple[int, int], segments: int, colors: np.ndarray) -> None:
        from skimage.util import regular_grid

        self.size = size
        y, x = (np.arange(length, dtype=float) for length in size)
        self.features = [np.repeat(y, len(x)), np.tile(x, len(y)), *colors.reshape(3, -1)]
        steps = regular_grid((1, *size), segments)
        self.weight = 1.0 / max(step.step or 1 for step in steps) ** 2
        # the rows and columns that clusters start on
        self.grid = [line[step] for line, step in zip((y, x), steps[1:], strict=True)]
        self.shape = len(self.grid[0]), len(self.grid[1])
        self.count = self.shape[0] * self.shape[1]
        self.start = [line.ravel() for line in np.meshgrid(*self.grid, indexing="ij")]
        self.centers, self.drift = np.zeros((5, self.count)), np.zeros(2)
        # how far each looks for pixels
        self.reach = [2 * (step.step or 1) for step in regular_grid((1, *size), self.count)[1:]]
        # Colours start at zero, so that the first round sees space alone.
        row, column = (
            np.abs(places[:, None] - line).argmin(axis=1)
            for places, line in zip((y, x), self.grid, strict=True)
        )
        self.labels = (row[:, None] * self.shape[1] + column).ravel()
        self.best = np.zeros(len(self.labels))

    def settle(self, rounds: int = 10) -> np.ndarray:
        """Let the clusters move, and return the labels, int ``(h, w)``."""
        members = np.arange(len(self.labels))
        self._move(members, np.arange(self.count))
        # at most the distance of each pixel to any cluster but its own
        self.second = self._to_others()
        near = np.zeros((2, 0), dtype=np.intp)
        for _ in range(rounds - 1):
            left = self._decide(*np.concatenate([near, self._among(self._astray(members))], axis=1))
            if not left.any():
                break
            members = np.flatnonzero(left[self.labels])
            near = self._around(self._move(members, np.flatnonzero(left)))
        return self.labels.reshape(self.size)

    def _move(self, members: np.ndarray, clusters: np.ndarray) -> np.ndarray:
        # To the means of all their pixels; returns those that have some.
        own = self.labels[members]
        counts = np.bincount(own, minlength=self.count)
        self.centers[:, clusters] = np.nan  # what has no pixels is nowhere, for good
        clusters = clusters[counts[clusters] > 0]
        for center, values in zip(self.centers, self.features, strict=True):
            center[clusters] = np.bincount(own, values.take(members), self.count)[clusters] / counts[clusters]
        for axis, start in enumerate(self.start):
            moved = np.abs(self.centers[axis, clusters] - start[clusters])
            self.drift[axis] = max(self.drift[axis], moved.max())
        return clusters

    def _to_others(self) -> np.ndarray:
        # After the first round clusters are still a grid: the next row or column but the own.
        y, x = self.centers[0].reshape(self.shape)[:, 0], self.centers[1].reshape(self.shape)[0]
        own = np.divmod(self.labels.reshape(self.size), self.shape[1])
        gaps = np.abs(np.arange(self.size[0])[:, None] - y), np.abs(np.arange(self.size[1])[:, None] - x)
        for gap, at in zip(gaps, (own[0][:, 0], own[1][0]), strict=True):
            gap[np.arange(len(at)), at] = np.inf
        rows, columns = (gap.min(axis=1) ** 2 * self.weight for gap in gaps)
        return np.minimum(rows[:, None], columns).ravel()

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
        # Which of these pairs, no further apart than the bounds, are out of the cluster's reach.
        far = np.flatnonzero(bounds > (min(self.reach) - 1) ** 2 * self.weight)
        inside = np.ones(len(far), dtype=bool)
        for axis, reach in enumerate(self.reach):
            at, center = self.features[axis].take(pixels[far]), self.centers[axis].take(clusters[far])
            inside &= (at >= np.floor(center - reach)) & (at < np.floor(center + reach + 1))
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
        # Pairs of a pixel and one of these clusters that may be nearer than the second best, (2, pairs).
        low, squares = [], []
        for center, reach, length in zip(self.centers[:2, clusters], self.reach, self.size, strict=True):
            low.append(np.maximum(center - reach, 0).astype(np.intp))
            high = np.minimum(center + reach + 1, length).astype(np.intp)
            places = low[-1][:, None] + np.arange((high - low[-1]).max())
            squares.append(np.where(places < high[:, None], np.square(center[:, None] - places), np.nan))
        rows, columns = squares
        spans = [rows.shape[1], columns.shape[1]]
        limits = _framed(self.second.reshape(self.size), spans, _SLACK / self.weight)

        def within(part: slice) -> np.ndarray:
            return rows[part, :, None] + columns[part, None] <= limits[low[0][part], low[1][part]]

        which, pixels = _inside(within, low, spans, self.size[1])
        foreign = self.labels[pixels] != clusters[which]
        return np.stack([pixels[foreign], clusters[which[foreign]]])

    def _among(self, pixels: np.ndarray) -> np.ndarray:
        # Pairs of one of these pixels and a cluster that may be nearer than the second best, (2, pairs).
        y, x = (feature.take(pixels)[:, None, None] for feature in self.features[:2])
        low, spans = [], []
        for line, at, far in zip(self.grid, (y, x), self.drift + self.reach + 1, strict=True):
            low.append(np.searchsorted(line, at.ravel() - far))
            spans.append(int((np.searchsorted(line, at.ravel() + far) - low[-1]).max(initial=0)) + 1)
        rows, columns = (_framed(center.reshape(self.shape), spans) for center in self.centers[:2])
        bounds = self.second[pixels] * _SLACK
        limits = (bounds / self.weight * _SLACK)[:, None, None]

        def within(part: slice) -> np.ndarray:
            at = low[0][part], low[1][part]
            return np.square(rows[at] - y[part]) + np.square(columns[at] - x[part]) <= limits[part]

        which, clusters = _inside(within, low, spans, self.shape[1])
        pixels, bounds = pixels[which], bounds[which]
        found = np.stack([pixels, clusters])
        return np.delete(found, self._outside(pixels, clusters, bounds), axis=1)

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


def _framed(field: np.ndarray, spans: list[int], factor: float = 1.0) -> np.ndarray:
    # All windows of a 2D field times a factor, also those partly or wholly beyond its end, where it is NaN.
    padded = np.full([length + span for length, span in zip(field.shape, spans, strict=True)], np.nan)
    np.multiply(field, factor, out=padded[: field.shape[0], : field.shape[1]])
    # what sliding_window_view returns, without its checks, which take as long as all else here
    shape = (field.shape[0] + 1, field.shape[1] + 1, *spans)
    return np.ndarray(shape, padded.dtype, padded, strides=padded.strides * 2)


def _inside(
    within: Callable[[slice], np.ndarray], low: list[np.ndarray], spans: list[int], width: int
) -> tuple[np.ndarray, np.ndarray]:
    # Which windows, and which places of a field of that width, ``within`` holds for, batch by batch.
    area = spans[0] * spans[1]
    batch = max(1, _BATCH // area)
    found = [np.flatnonzero(within(slice(i, i + batch))) + i * area for i in range(0, len(low[0]), batch)]
    which, place = np.divmod(np.concatenate([np.zeros(0, dtype=np.intp), *found]), area)
    offsets = (np.arange(spans[0])[:, None] * width + np.arange(spans[1])).ravel()
    return which, (low[0] * width + low[1])[which] + offsets[place]
