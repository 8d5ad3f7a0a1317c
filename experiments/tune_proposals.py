"""Measure what settings of an unsupervised generator make possible on RefShapes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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


@dataclass(frozen=True)
class Measured:
    """What a setting makes possible.

    Attributes:
        overall: Overall IoU of the best proposal for each expression, in percent.
        mean: Mean IoU likewise.
        count: Proposals per image.
        objects: Share of the proposals that have an IoU of 0.5 or more with some object, in percent.
        seconds: Processor time per image.
    """

    overall: float
    mean: float
    count: float
    objects: float
    seconds: float


def measure(generator: ProposalGenerator, scenes: Sequence[Scene]) -> Measured:
    """Measure a generator on scenes whose own proposals are the ground truth.

    An image without proposals counts with intersection 0, like any miss.
    """
    import torch

    from gl_ris.evaluator import best_proposals
    from gl_ris.masks import pairwise_areas
    from gl_ris.metrics import mean_iou, overall_iou, sample_iou

    intersections, unions, found, objects, seconds = [], [], 0, 0, 0.0
    for scene in scenes:
        start = time.process_time()
        masks = generator(scene.image).masks
        seconds += time.process_time() - start
        found += len(masks)
        targets = scene.targets[scene.referents]
        # one empty mask more: the choice that an image without proposals is left with
        area, union = pairwise_areas(torch.cat([masks, torch.zeros_like(targets[:1])]), targets)
        best = best_proposals(area, union), torch.arange(len(targets))
        intersections.append(area[best])
        unions.append(union[best])
        if len(masks) and scene.proposals is not None:
            ious = sample_iou(*pairwise_areas(masks, scene.proposals.masks))
            objects += int((ious.amax(dim=1) >= 0.5).sum())
    area, union = torch.cat(intersections), torch.cat(unions)
    return Measured(
        100 * float(overall_iou(area, union)),
        100 * float(mean_iou(area, union)),
        found / len(scenes),
        100 * objects / max(found, 1),
        seconds / len(scenes),
    )


def tune(
    generator: str = "slic",
    split: str = "train",
    images: int = 100,
    seed: int = 0,
    grid: dict[str, list[float]] | None = None,
) -> None:
    """Print the upper bound of every combination of settings, the highest overall IoU first.

    Args:
        generator: slic or felzenszwalb.
        split: Split of refshapesg to measure on.
        images: Number of images, a sample of the split.
        seed: Of the sample.
        grid: Setting of the generator -> values to try, e.g. '{scale: [500, 1000], sigma: [0.5]}'; the grid
            behind the defaults if it is left out, the defaults alone if it is {}.
    """
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
    rows = [(c, measure(make(**c), scenes)) for c in tqdm(combinations, "Measuring", unit="setting")]
    print(f"{len(scenes)} images of refshapesg {split}, {generator}")
    print(" ".join(f"{name:>11}" for name in (*axes, "oIoU", "mIoU", "count", "objects %", "CPU s/image")))
    for setting, row in sorted(rows, key=lambda item: -item[1].overall):
        figures = (
            f"{row.overall:11.2f} {row.mean:11.2f} {row.count:11.2f} {row.objects:11.1f} {row.seconds:11.3f}"
        )
        print(" ".join([*(f"{value:11g}" for value in setting.values()), figures]))


if __name__ == "__main__":
    from jsonargparse import CLI

    CLI(tune, as_positional=False)
