"""Every reader that is tried."""

from __future__ import annotations

from fuzz import annotations, models, outlines, pictures, predicted, runs, tables
from fuzz.runner import Target

# with about how many milliseconds a case takes
TARGETS = {
    target.name: target
    for target in (
        Target("rle", outlines.run_lengths, 0.3),
        Target("polygons", outlines.polygons, 0.3),
        Target("refer", annotations.refer, 3),
        Target("grefcoco", annotations.grefcoco, 2),
        Target("phrasecut", annotations.phrasecut, 2),
        Target("coco", tables.coco_results, 1),
        Target("predicted", predicted.predicted, 2),
        Target("lists", predicted.lists, 1),
        Target("parquet", tables.parquet, 8),
        Target("folder", tables.own_folder, 3),
        Target("images", pictures.images, 1),
        Target("store", pictures.store, 2),
        Target("packed", pictures.packed, 0.3),
        Target("results", runs.results, 1),
        Target("predictions", runs.predictions, 0.5),
        Target("merging", runs.merging, 2),
        Target("resuming", runs.resuming, 4),
        Target("weights", models.weights, 1),
        Target("torchscript", models.torchscript, 1),
        Target("clip", models.clip_folder, 60),
        Target("parser", models.parser_folder, 700),
        Target("config", runs.config, 8),
    )
}
