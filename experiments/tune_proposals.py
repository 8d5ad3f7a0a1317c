"""What settings of an unsupervised generator make possible: ``python -m experiments.tune_proposals``."""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from experiments.cli.command import CONFIGS
from gl_ris.command_line import add_version, as_typed, leave

if TYPE_CHECKING:
    from torch import Tensor

    from datamodules import Scene
    from gl_ris.proposals import ProposalGenerator
    from gl_ris.proposals.quality import Quality

Grid = dict[str, list[float]]

# values by generator and setting, for the drawings of RefShapes and for photographs
GRIDS: dict[str, Grid]
PHOTO_GRIDS: dict[str, Grid]
GRIDS, PHOTO_GRIDS = yaml.safe_load((CONFIGS / "tune_proposals.yaml").read_text(encoding="utf-8")).values()
SMALLEST_OBJECT = 2000  # Smaller objects of photographs are not counted, in pixels.


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


def read_photos(root: str) -> list[tuple[Tensor, Tensor]]:
    """Read the images of RefCOCO (unc) in a folder, each with its larger instances, bool ``(R, H, W)``."""
    from datamodules import RefCOCO
    from gl_ris.errors import UserError

    photos = []
    for split in ("val", "testA", "testB"):
        for scene in RefCOCO(root, split=split, proposals="ground_truth").predict_dataloader():
            masks = scene.proposals.masks
            photos.append((scene.image, masks[masks.flatten(1).sum(dim=1) >= SMALLEST_OBJECT]))
    if not any(len(objects) for _, objects in photos):
        raise UserError(f"--photos={root}: not one of its instances has {SMALLEST_OBJECT:,} pixels or more.")
    return photos


def measure_photos(generator: ProposalGenerator, photos: Sequence[tuple[Tensor, Tensor]]) -> list[Quality]:
    """Measure a generator on each photo by itself, every instance an object."""
    import torch

    from gl_ris.proposals.quality import Quality

    found = []
    for image, objects in photos:
        found.append(Quality())
        found[-1].add(generator(image), objects, torch.arange(len(objects)))
    return found


def figures(found: Sequence[Quality]) -> dict[str, float]:
    """Sum up photos: mean best IoU and recall of their objects in percent, and how many masks there are."""
    every = sum(found[1:], found[0])
    recall = {"recall 0.5": every.recall(0.5), "recall 0.75": every.recall(0.75)}
    count = {"count": sum(every.counts) / len(found), "without": sum(not count for count in every.counts)}
    return {"best IoU": every.upper_bound()["mIoU"], **recall, **count}


def tune_on_photos(generator: str, root: str, grid: Grid | None) -> None:
    """Print what every combination of settings finds on photos, the highest mean best IoU first.

    And what is found on each photo by the settings that are best on the others, which is what to expect of a
    new one.
    """
    from tabulate import tabulate

    photos = read_photos(root)
    found, rows = [], []
    for settings, made in _combinations(generator, PHOTO_GRIDS, grid):
        found.append(measure_photos(made, photos))
        rows.append(settings | figures(found[-1]))
    rows.sort(key=lambda row: -row["best IoU"])
    total = sum(len(objects) for _, objects in photos)
    print(f"{len(photos)} photos, {total} objects of {SMALLEST_OBJECT} pixels or more, {generator}")
    print(tabulate(rows, "keys", floatfmt=".4g"))
    if len(found) > 1 and len(photos) > 1:
        left_out = [
            max(found, key=lambda each: figures([*each[:k], *each[k + 1 :]])["best IoU"])[k]
            for k in range(len(photos))
        ]
        print("On each photo with the best settings of the others:")
        print(tabulate([figures(left_out)], "keys", floatfmt=".4g"))


def _combinations(
    generator: str, grids: dict[str, Grid], grid: Grid | None
) -> Iterator[tuple[dict[str, float], ProposalGenerator]]:
    """Yield every combination of settings, and the generator that has them."""
    from tqdm import tqdm

    from gl_ris.errors import unknown_name
    from gl_ris.proposals import GENERATORS

    if generator not in grids:
        raise unknown_name("generator to tune", generator, grids)
    make: Any = GENERATORS[generator]
    axes = grids[generator] if grid is None else grid
    combinations = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    for settings in tqdm(combinations, "Measuring", unit="setting"):
        yield settings, make(**settings)


def tune(generator: str, split: str, images: int, seed: int, grid: Grid | None) -> None:
    """Print the upper bound of every combination of settings, the highest overall IoU first.

    ``grid`` has the values to try by setting, None those behind the defaults, {} the defaults alone.
    """
    from tabulate import tabulate

    from datamodules import RefShapes

    data = RefShapes("refshapesg", split, proposals="ground_truth", limit=images, limit_seed=seed)
    data.prepare_data()
    scenes = list(data.predict_dataloader())
    rows = [c | measure(made, scenes) for c, made in _combinations(generator, GRIDS, grid)]
    rows.sort(key=lambda row: -row["oIoU"])
    print(f"{len(scenes)} images of refshapesg {split}, {generator}")
    print(tabulate(rows, "keys", floatfmt=("g",) * (len(rows[0]) - 5) + (".2f", ".2f", ".2f", ".1f", ".3f")))


def main() -> None:
    """Tune what the command line names."""
    parser = argparse.ArgumentParser(
        as_typed("python -m experiments.tune_proposals"),
        description="The upper bound of every combination of settings on RefShapes.",
    )
    add_version(parser)
    parser.add_argument("--generator", default="slic", help="slic or felzenszwalb")
    parser.add_argument("--split", default="train", help="split of refshapesg to measure on")
    parser.add_argument("--images", type=int, default=100, help="number of images, a sample of the split")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument(
        "--grid", type=yaml.safe_load, help="settings and values to try, {scale: [500, 1000]}"
    )
    parser.add_argument(
        "--photos", metavar="FOLDER", help="measure on the photos of RefCOCO in this folder instead"
    )
    options = vars(parser.parse_args())
    if root := options.pop("photos"):
        tune_on_photos(options["generator"], root, options["grid"])
    else:
        tune(**options)


if __name__ == "__main__":
    leave(main)
