"""Metrics as they count: over calls, rows, copies, precisions and uneven shards."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torchmetrics import Metric

from gl_ris import metrics
from gl_ris.metrics import (
    THRESHOLDS,
    MeanIoU,
    OverallIoU,
    PrecisionAtIoU,
    RISMetrics,
    area_sums,
)
from random_areas import random_areas

METRICS = [OverallIoU, MeanIoU, PrecisionAtIoU]


def test_many_rows_at_once_are_each_row_alone() -> None:
    rows = [random_areas(count=60, seed=seed) for seed in range(3)]
    together = area_sums(*(torch.stack(areas) for areas in zip(*rows, strict=True)), THRESHOLDS, rows=True)
    alone = [RISMetrics() for _ in rows]
    for one, areas in zip(alone, rows, strict=True):
        one.update_areas(*areas)
    assert together.percent(THRESHOLDS) == [one.compute() for one in alone]
    assert together.samples == 60


@pytest.mark.parametrize("metric_class", METRICS)
def test_no_sample_is_nan_with_a_warning(metric_class: type[Metric]) -> None:
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        assert metric_class().compute().isnan()


def test_areas_alone_count_as_an_update() -> None:
    metrics = RISMetrics()
    metrics.update_areas(*random_areas())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics.compute()


@pytest.mark.parametrize("metric_class", METRICS)
def test_metric_equals_the_sums_and_forgets_its_cache(metric_class: type[Metric]) -> None:
    functions = {
        OverallIoU: lambda i, u: area_sums(i, u).overall(),
        MeanIoU: lambda i, u: area_sums(i, u).mean(),
        PrecisionAtIoU: lambda i, u: area_sums(i, u, [0.5]).precision()[0],
    }
    intersection, union = random_areas()
    metric = metric_class()
    for part in (slice(0, 7), slice(7, 300), slice(300, None)):
        metric.update_areas(intersection[part], union[part])
        seen = slice(0, part.stop)
        value = metric.compute()
        assert value.dtype == torch.float64
        assert torch.equal(value, functions[metric_class](intersection[seen], union[seen]))
    metric.reset()
    metric.update_areas(union, union)
    assert metric.compute() == pytest.approx(1 if metric_class is OverallIoU else 0.98)


def test_forward_gives_the_batch_and_keeps_the_total() -> None:
    metric = OverallIoU()
    full, half = torch.ones(2, 2, dtype=torch.bool), torch.tensor([[True, True], [False, False]])
    assert metric(full, full) == 1
    assert metric(half, full) == 0.5
    assert metric.compute() == 0.75


@pytest.mark.parametrize("metric_class", METRICS)
def test_precision_of_the_module_does_not_touch_the_states(metric_class: type[Metric]) -> None:
    intersection, union = random_areas()
    plain = metric_class()
    plain.update_areas(intersection, union)
    module = torch.nn.Module()
    module.metric = metric_class()
    module.metric.update_areas(intersection[:250], union[:250])
    module.half()
    module.to(torch.bfloat16)
    module.metric.update_areas(intersection[250:], union[250:])
    assert all(state.dtype == torch.int64 for state in module.metric.metric_state.values())
    assert torch.equal(module.metric.compute(), plain.compute())


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda metric: pickle.loads(pickle.dumps(metric))])
def test_copies_go_on_counting(copier: object) -> None:
    metrics = RISMetrics()
    metrics.update_areas(*random_areas())
    twin = copier(metrics)  # type: ignore[operator]
    assert twin.compute() == metrics.compute()
    twin.update_areas(*random_areas(seed=1))
    assert (twin.count, metrics.count) == (1000, 500)
    twin.reset()
    assert twin.count == 0


@pytest.mark.parametrize("metric_class", METRICS)
def test_uneven_shards_merge_to_the_same_bits(metric_class: type[Metric]) -> None:
    intersection, union = random_areas()
    whole = metric_class()
    whole.update_areas(intersection, union)
    merged = metric_class()
    merged.update_areas(intersection[400:], union[400:])
    for part in (slice(0, 1), slice(1, 333), slice(333, 400)):
        shard = metric_class()
        for i in reversed(range(part.start, part.stop)):
            shard.update_areas(intersection[i], union[i])
        merged.merge_state(shard)
    assert torch.equal(merged.compute(), whole.compute())


SHARD = """
import json, sys, torch
from gl_ris.metrics import RISMetrics
rank, store, areas = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
torch.distributed.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=2)
metrics = RISMetrics()
for intersection, union in areas[rank::2]:
    metrics.update_areas(torch.tensor(intersection), torch.tensor(union))
print(json.dumps([metrics.compute(), metrics.count]))
torch.distributed.destroy_process_group()
"""


@pytest.mark.ddp
def test_two_processes_give_the_bits_of_one(tmp_path: Path) -> None:
    intersection, union = random_areas(count=27)
    areas = json.dumps(torch.stack([intersection, union], dim=1).tolist())
    shards = [
        subprocess.Popen(
            [sys.executable, "-c", SHARD, str(rank), str(tmp_path / "store"), areas],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(metrics.__file__).parents[1])},
        )
        for rank in range(2)
    ]
    answers = [json.loads(shard.communicate(timeout=1000)[0]) for shard in shards]
    whole = RISMetrics()
    whole.update_areas(intersection, union)
    assert answers == [[whole.compute(), 14], [whole.compute(), 13]]


def test_metrics_plot() -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    metric = MeanIoU()
    metric.update_areas(*random_areas())
    figure, _ = metric.plot()
    assert figure is not None
    mpl.pyplot.close(figure)
