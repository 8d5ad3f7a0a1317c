"""What settings of an unsupervised generator make possible: ``python -m experiments.tune_proposals``."""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gl_ris.command_line import leave

if TYPE_CHECKING:
    from datamodules import Scene
    from gl_ris.proposals import ProposalGenerator

# The grids behind the defaults. Those of `Felzenszwalb` have not its highest bound: parts within their wholes
# (max_overlap 1) raise it, but then one proposal in three is no object.
GRIDS: dict[str, dict[str, list[float]]] = {
    "felzenszwalb": {
        "scale": [1500, 3000, 6000, 12000, 24000],
        "sigma": [0.3, 0.45, 0.6],
        "max_overlap": [0.8, 1.0],
    },
    "slic": {
        "segments": [2000, 3000, 4000],
        "compactness": [15, 20, 25],
        "sigma": [0.3, 0.5, 0.7],
        "melt": [15, 25],
    },
}


def measure(generator: ProposalGenerator, scenes: Sequence[Scene]) -> dict[str, float]:
    """Measure a generator on scenes whose own proposals are the ground truth.

    "objects %" is the percentage of the proposals that have an IoU of 0.5 or more with some object.
    """
    from gl_ris.masks import pairwise_areas
    from gl_ris.metrics import sample_iou
    from gl_ris.proposals.quality import Quality

    quality, objects, seconds = Quality(), 0, 0.0
    for scene in scenes:
        start = time.process_time()
        proposals = generator(scene.image)
        seconds += time.process_time() - start
        quality.add(proposals, scene.targets, scene.referents)
        if len(proposals) and scene.proposals is not None:
            ious = sample_iou(*pairwise_areas(proposals.masks, scene.proposals.masks))
            objects += int((ious.amax(dim=1) >= 0.5).sum())
    count = sum(quality.counts)
    return {
        **quality.upper_bound(),
        "count": count / len(scenes),
        "objects %": 100 * objects / max(count, 1),
        "CPU s/image": seconds / len(scenes),
    }


def tune(generator: str, split: str, images: int, seed: int, grid: dict[str, list[float]] | None) -> None:
    """Print the upper bound of every combination of settings, the highest overall IoU first.

    ``grid`` has the values to try by setting, None those behind the defaults, {} the defaults alone.
    """
    from tabulate import tabulate
    from tqdm import tqdm

    from datamodules import RefShapes
    from gl_ris.errors import unknown_name
    from gl_ris.proposals import GENERATORS

    if generator not in GRIDS:
        raise unknown_name("generator to tune", generator, GRIDS)
    make: Any = GENERATORS[generator]
    data = RefShapes("refshapesg", split, proposals="ground_truth", limit=images, limit_seed=seed)
    data.prepare_data()
    scenes = list(data.predict_dataloader())
    axes = GRIDS[generator] if grid is None else grid
    combinations = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    rows = [c | measure(make(**c), scenes) for c in tqdm(combinations, "Measuring", unit="setting")]
    rows.sort(key=lambda row: -row["oIoU"])
    print(f"{len(scenes)} images of refshapesg {split}, {generator}")
    print(tabulate(rows, "keys", floatfmt=("g",) * len(axes) + (".2f", ".2f", ".2f", ".1f", ".3f")))


def main() -> None:
    """Tune what the command line names."""
    import yaml

    parser = argparse.ArgumentParser(
        description="The upper bound of every combination of settings on RefShapes."
    )
    parser.add_argument("--generator", default="slic", help="slic or felzenszwalb")
    parser.add_argument("--split", default="train", help="split of refshapesg to measure on")
    parser.add_argument("--images", type=int, default=100, help="number of images, a sample of the split")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument(
        "--grid", type=yaml.safe_load, help="settings and values to try, {scale: [500, 1000]}"
    )
    tune(**vars(parser.parse_args()))


if __name__ == "__main__":
    leave(main)
