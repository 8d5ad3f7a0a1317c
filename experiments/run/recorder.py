"""Writes down a run: predictions as they come, then the table and the result document."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from msgspec import UNSET, UnsetType

from gl_ris.errors import EvaluationError
from gl_ris.results import PredictionWriter, Results, format_table, merge_predictions, write_table_csv
from gl_ris.tally import Evaluation, Figures, in_order, subset_label


class Recorder(Callback):
    """Writes what a run of a `gl_ris.evaluator.Evaluator` gives into the run folder, from all processes.

    Each process appends its records to a file of its own; in the end rank 0 merges them and writes
    ``table.csv``, ``table.txt`` and, last, ``results.json``: a folder with that file is a finished run.

    Args:
        experiment: Name of the experiment.
        settings: The resolved configuration.
        training: What is known of the model's training when the run ends, as `gl_ris.results.Training`; None
            if it was not trained, UNSET where there is nothing to train.

    Attributes:
        path: The run folder; to be set in rank 0 before the run.
        results: The document, in rank 0, after the run.
    """

    def __init__(
        self,
        experiment: str,
        settings: dict[str, Any],
        training: Mapping[str, Any] | UnsetType | None = UNSET,
    ) -> None:
        self.experiment, self.settings, self.training = experiment, settings, training
        self.path: Path | None = None
        self.results: Results | None = None
        self._writer: PredictionWriter | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the run folder to every process."""
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
        assert self.path is not None
        predictions = merge_predictions(self.path, trainer.world_size)
        expected = data.n_expressions * len(module.evaluation.methods)
        with predictions.open("rb") as file:
            written = sum(1 for _ in file)
        if written != expected:
            raise EvaluationError(f"{predictions} has {written:,} records, expected are {expected:,}.")
        more = {} if isinstance(self.training, UnsetType) else {"training": self.training}
        self.results = describe(module, data, self.experiment, self.settings, **more)
        write_table_csv(self.path / "table.csv", self.results)
        (self.path / "table.txt").write_text(format_table(self.results) + "\n", encoding="utf-8")
        self.results.write(self.path / "results.json")


def describe(module: Any, data: Any, experiment: str, settings: dict[str, Any], **more: Any) -> Results:
    """Build the result document of a finished run.

    Args:
        module: A `gl_ris.evaluator.Evaluator` after its run.
        data: The data module that it was run on.
        experiment: Name of the experiment.
        settings: The resolved configuration.
        **more: Further attributes of `Results`.
    """
    evaluation: Evaluation = module.evaluation
    # those with a plain label under the run's recipe come first
    names = in_order(evaluation.subsets, module.recipe)
    return Results.new(
        experiment=experiment,
        dataset=data.dataset_name,
        split=data.split,
        partition=data.partition,
        proposals=module.proposals_name(data),
        proposal_store=module.stored(),
        **_counted(evaluation, data.n_expressions),
        subsets={
            name: {
                "label": subset_label(name, module.recipe),
                **_counted(evaluation.subsets[name], data.subset_sizes[name]),
            }
            for name in names
        },
        seconds=evaluation.seconds,
        config=settings,
        **more,
    )


def _counted(figures: Figures, expected: int) -> dict[str, Any]:
    return {
        "n_images": figures.n_images,
        "n_expressions_expected": expected,
        "n_expressions_evaluated": figures.n_evaluated,
        "failures": figures.failures,
        "methods": figures.methods,
        "upper_bound": figures.upper_bound,
    }


def write_config(path: Path, settings: dict[str, Any], program: str) -> None:
    """Write the settings of a run so that they run again by ``--config``."""
    header = f"# {program} --config {path}\n"
    path.write_text(header + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), encoding="utf-8")
