"""Writes down a run: predictions as they come, then the table and the result document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from gl_ris.errors import EvaluationError
from gl_ris.evaluation import Evaluation
from gl_ris.recipe import Recipe
from gl_ris.results import (
    PredictionWriter,
    format_table,
    merge_predictions,
    result_document,
    write_json,
    write_table_csv,
)
from gl_ris.subsets import in_order, subset_label


class Recorder(Callback):
    """Writes what a run of a `gl_ris.evaluator.Evaluator` gives into the run folder, from all processes.

    Each process appends its records to a file of its own; in the end rank 0 merges them and writes
    ``table.csv``, ``table.txt`` and, last, ``results.json``: a folder with that file is a finished run.

    Args:
        path: The run folder, as rank 0 knows it.
        experiment: Name of the experiment.
        settings: The resolved configuration.
    """

    def __init__(self, path: Path | None, experiment: str, settings: dict[str, Any]) -> None:
        self.path = path
        self.experiment = experiment
        self.settings = settings
        self._writer: PredictionWriter | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Tell every process the run folder."""
        self.path = trainer.strategy.broadcast(self.path)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open this process's file of predictions."""
        assert self.path is not None
        self._writer = PredictionWriter(self.path, trainer.global_rank)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the records of one image."""
        assert self._writer is not None
        self._writer.append(outputs)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Merge the predictions and write the results, in rank 0, when every process is done."""
        assert self._writer is not None
        self._writer.close()
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            self._finish(trainer, pl_module)

    def _finish(self, trainer: Trainer, module: Any) -> None:
        data: Any = getattr(trainer, "datamodule", None)
        evaluation: Evaluation = module.evaluation
        assert self.path is not None
        predictions = merge_predictions(self.path, trainer.world_size)
        expected = data.n_expressions * len(evaluation.methods)
        with predictions.open("rb") as file:
            written = sum(1 for _ in file)
        if written != expected:
            raise EvaluationError(f"{predictions} has {written:,} records, expected are {expected:,}.")
        document = describe(module, data, self.experiment, self.settings) | self.more()
        write_table_csv(self.path / "table.csv", document)
        (self.path / "table.txt").write_text(format_table(document) + "\n", encoding="utf-8")
        write_json(self.path / "results.json", document)

    def more(self) -> dict[str, Any]:
        """Return what a subclass adds to the result document."""
        return {}


def describe(module: Any, data: Any, experiment: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Build the result document of a finished run.

    Args:
        module: A `gl_ris.evaluator.Evaluator` after its run.
        data: The data module that it was run on.
        experiment: Name of the experiment.
        settings: The resolved configuration.
    """
    evaluation: Evaluation = module.evaluation
    return result_document(
        experiment=experiment,
        dataset=data.dataset_name,
        split=data.split,
        partition=data.partition,
        proposals=module.proposals_name(data),
        n_images=evaluation.n_images,
        n_expressions_expected=data.n_expressions,
        n_expressions_evaluated=evaluation.n_evaluated,
        methods=evaluation.methods,
        upper_bound=evaluation.upper_bound,
        seconds=evaluation.seconds,
        config=settings,
        failures=evaluation.failures,
        subsets=_subsets(evaluation, data, module.recipe),
        proposal_store=module.stored(),
    )


def _subsets(evaluation: Evaluation, data: Any, recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Describe the subsets, in the order of their labels under the run's recipe."""
    return {
        name: {
            "label": subset_label(name, recipe),
            "n_images": evaluation.subsets[name].n_images,
            "n_expressions_expected": data.subset_sizes[name],
            "n_expressions_evaluated": evaluation.subsets[name].n_evaluated,
            "failures": evaluation.subsets[name].failures,
            "methods": evaluation.subsets[name].methods,
            "upper_bound": evaluation.subsets[name].upper_bound,
        }
        for name in in_order(evaluation.subsets, recipe)
    }


def write_config(path: Path, settings: dict[str, Any], program: str) -> None:
    """Write the settings of a run so that they run again by ``--config``."""
    header = f"# {program} --config {path}\n"
    path.write_text(header + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), encoding="utf-8")
