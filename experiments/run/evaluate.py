"""From the parts of an experiment to a finished run folder: what is checked, run, and written down."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from msgspec import UNSET, UnsetType

from experiments.cli.command import closing_words
from experiments.cli.parts import ExperimentCLI
from experiments.cli.ranks import end_ranks
from experiments.run.folder import RunFolder, room_needed
from experiments.run.intervals import Counted, how_resampled
from experiments.run.resuming import (
    Beginning,
    Keeper,
    begin,
    end,
    is_finished,
    refuse_changes,
    settings_to_go_on,
    take_over,
)
from experiments.run.slice_tables import write_slices
from experiments.run.wandb import log_run
from gl_ris.errors import EvaluationError, UserError
from gl_ris.evaluator import Evaluator
from gl_ris.files import atomic_file, write_text
from gl_ris.headroom import explain
from gl_ris.inputs import inputs_of
from gl_ris.predictions import Key, PredictionWriter, each_prediction, merge_predictions
from gl_ris.results import Results, format_table, write_table_csv
from gl_ris.signals import Ended, kept_if_ended
from gl_ris.slices import Slicing
from gl_ris.tally import ALL, Evaluation, Figures, in_order, subset_label
from gl_ris.visualize import draw_overlays

_FIGURES = ("failures", "methods", "upper_bound", "every_miss", "every_miss_upper_bound", "ties")

Before = Callable[[Path | None], None]


def evaluate(
    cli: ExperimentCLI, recorder: Recorder | None = None, before: Before | None = None
) -> Path | None:
    """Evaluate and leave everything in the run folder, whose path is returned in rank 0; see `carry_out`.

    When the evaluation is written, it is finished: pictures and wandb follow, and cannot undo it.
    """
    writes = recorder or Recorder(cli)

    def report(folder: Path) -> None:
        assert writes.results is not None
        # now, also where the output is a file or a pipe
        print(f"\n{format_table(writes.results)}\n", flush=True)
        with kept_if_ended(lambda: f"the results in {folder} are complete, but for the pictures"):
            draw_overlays(folder, cast("Any", cli.datamodule).scenes)

    return carry_out(cli, writes, report, before)


def carry_out(
    cli: ExperimentCLI,
    recorder: Beginning | None,
    report: Callable[[Path], Mapping[str, Any] | None],
    before: Before | None = None,
) -> Path | None:
    """Run an `Evaluator` over its data, report, and hand the run over to wandb; the run folder in rank 0.

    All checks come before any work, and the run folder comes after the checks; then ``before``, in every
    process. ``recorder`` is a callback that writes into the folder; None where ``report`` writes, and a run
    that was cut off begins anew. ``report`` may return what the closing words tell. A run that is finished is
    not run again.
    """
    main = getattr(rank_zero_only, "rank", 0) == 0
    if _nothing_left(cli, main):
        return Path(cli.config.run_dir).expanduser() if main else None
    place = (cli.command.name, cli.config.run_dir, cli.config.overwrite)
    folder = RunFolder(*place, resume=cli.config.resume) if main else None
    with _cleaned_up(cli.trainer, folder):
        path = _predict(cli, recorder, before, folder)
        if path is not None:
            with room_needed(path):
                facts = report(path) or {}
            end(path)
            closing_words(cli.command.name, path, **facts)
    if folder is not None and path is not None:
        folder.close()
        log_run(path, cli.config.wandb)
    return path


def _nothing_left(cli: ExperimentCLI, main: bool) -> bool:
    """Say whether a run that is to go on is finished; let the settings be those that it began with."""
    if not cli.config.resume:
        return False
    folder = Path(cli.config.run_dir).expanduser()
    cli.take_settings(settings_to_go_on(folder, cli.command.program, cli.settings(), cli.harmless))
    if not is_finished(folder):
        return False
    if main:
        print(f"The run in {folder} is finished; nothing is left to do.")
    return True


def _predict(
    cli: ExperimentCLI, recorder: Beginning | None, before: Before | None, folder: RunFolder | None
) -> Path | None:
    trainer = cast("Any", cli.trainer)
    if folder is not None:
        check(cli)
        announce(cli)
        model, data = cast("Any", cli.model), cast("Any", cli.datamodule)
        if isinstance(model, Evaluator):
            model.inputs = inputs_of(model, data)
            if folder.resume and folder.given is not None:
                refuse_changes(folder.given, model.inputs)
        with room_needed(folder.create()):
            _begin(cli, recorder, folder)
    path = None if folder is None else folder.path
    if before is not None:
        before(path)
    if recorder is not None:
        recorder.path = path
        trainer.callbacks.append(recorder)
    trainer.predict(cli.model, datamodule=cli.datamodule, return_predictions=False)
    return path


def _begin(cli: ExperimentCLI, recorder: Beginning | None, folder: RunFolder) -> None:
    """Write the settings down, or take over what a run that was cut off has finished."""
    config = folder.path / "config.yaml"
    going_on = folder.resume and config.is_file()
    if not going_on:
        write_config(config, cli.settings(), cli.command.program)
    if recorder is None:
        return
    data = cast("Any", cli.datamodule)
    if going_on:
        recorder.taken_over = take_over(folder.path, recorder.wanted(cli.model, data), cli.trainer.world_size)
        if recorder.per_image:
            done = len(recorder.taken_over)
            print(f"going on: {done:,} of {data.n_images:,} images are finished", flush=True)
    inputs = getattr(cli.model, "inputs", {})
    begin(folder.path, recorder.file_names(cli.trainer.world_size), inputs)


def check(cli: ExperimentCLI, *, models: bool = True) -> None:
    """Check all that can be checked before any work; ``models=False`` where one with the same models was."""
    model = cast("Any", cli.model)
    cast("Any", cli.datamodule).require_files()  # before weights are fetched for nothing
    cli.check()
    if models:
        model.configure_model()
    cli.datamodule.prepare_data()
    cli.datamodule.setup("predict")
    model.check(cli.datamodule, cli.trainer)
    if hasattr(model, "recipe"):
        check_targets(model.recipe.target_overlap, cli.datamodule)


def announce(cli: ExperimentCLI) -> None:
    """Say which settings are those of other pictures, and how many proposals have to be made, if any have."""
    from gl_ris.proposals.source import describe_stored

    for line in dict.fromkeys(variant.foreign_shares for variant in getattr(cli.model, "variants", ())):
        if line is not None:
            print(line, flush=True)
    source = cast("Any", cli.model).open_source(cli.datamodule)
    if source is not None:
        print(describe_stored(source, set(cast("Any", cli.datamodule).image_ids())), flush=True)


def check_targets(wanted: str, data: Any) -> None:
    """Raise a `UserError` unless ``data`` make targets of polygons in the way that the recipe wants."""
    # where there is no such option, there are no polygons for which it matters
    if "overlap" in inspect.signature(type(data)).parameters and data.rule != wanted:
        raise UserError(
            f"The recipe's target_overlap is '{wanted}', but the data make targets by '{data.rule}'; "
            f"set data.overlap={wanted}."
        )


@contextmanager
def _cleaned_up(trainer: Trainer, folder: RunFolder | None) -> Iterator[None]:
    """If the work inside fails, end the processes started for it, and leave no empty run folder."""
    try:
        with kept_if_ended(lambda: _kept(folder)):
            yield
    except BaseException as error:
        if cause := end_ranks(trainer, error):
            cause.kept = _kept(folder)
            raise cause from error
        if not isinstance(error, Ended) and folder is not None and not folder.discard_if_empty():
            print(f"The run was cut off: {_kept(folder)}.", file=sys.stderr)
        raise


def _kept(folder: RunFolder | None) -> str | None:
    """Say, in rank 0, what is left of a run that is ended, and leave no empty run folder."""
    if folder is None:
        return None
    if folder.discard_if_empty():
        return "nothing was done yet"
    again = f"the same command with run_dir={folder.path} resume=true goes on from there"
    return f"what is done is kept in {folder.path}, and {again}"


class Recorder(Keeper):
    """Writes what a run of a `gl_ris.evaluator.Evaluator` gives into the run folder, from all processes.

    Each process appends its records to a file of its own; in the end rank 0 merges them and writes
    ``table.csv``, ``table.txt`` and, last, ``results.json``: a folder with that file is a finished run.
    """

    def __init__(self, cli: ExperimentCLI, training: Mapping[str, Any] | UnsetType | None = UNSET) -> None:
        super().__init__()
        # training is None for a model that was not trained, UNSET where there is nothing to train
        self.cli, self.training = cli, training
        self.results: Results | None = None  # the document, in rank 0, after the run
        self._writer: PredictionWriter | None = None

    def file_names(self, world_size: int) -> list[str]:
        """Name the files of predictions."""
        return [f"predictions_rank{rank}.jsonl" for rank in range(world_size)]

    def wanted(self, module: Any, data: Any) -> dict[int, list[Key]]:
        """Say for each image what its records are about, in their order."""
        return {
            index: [
                (record.image_id, referent.ref_id, sent_id, method)
                for referent in record.referents
                for sent_id in referent.sent_ids
                for method in module.methods
            ]
            for index, record in enumerate(data.records)
        }

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open this process's files."""
        super().on_predict_start(trainer, pl_module)
        assert self.path is not None
        self._writer = PredictionWriter(self.path, trainer.global_rank)

    def record(self, outputs: Any) -> None:
        """Write the records of one image."""
        assert self._writer is not None
        self._writer.append(outputs)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Merge the predictions and write the results, in rank 0, when every process is done."""
        super().on_predict_end(trainer, pl_module)
        assert self._writer is not None
        assert self.path is not None
        self._writer.close()
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            with room_needed(self.path):
                self._finish(trainer, pl_module)

    def _finish(self, trainer: Trainer, module: Any) -> None:
        data: Any = getattr(trainer, "datamodule", None)
        assert self.path is not None
        predictions = merge_predictions(self.path)
        expected = data.n_expressions * len(module.evaluation.methods)
        with predictions.open("rb") as file:
            written = sum(1 for _ in file)
        if written != expected:
            raise EvaluationError(f"{predictions} has {written:,} records, expected are {expected:,}.")
        more: dict[str, Any] = {} if isinstance(self.training, UnsetType) else {"training": self.training}
        counted = Counted(self.path, module, data.image_ids()) if self.cli.config.intervals else None
        settings = self.cli.settings()
        errors, headroom = explain(each_prediction(predictions))
        slicing = Slicing(each_prediction(predictions))
        sliced = {"slices": slicing.compute(counted is not None), "slices_left_out": slicing.left_out}
        more |= msgspec.to_builtins({**sliced, "errors": errors, "headroom": headroom})
        self.results = describe(module, data, self.cli.command.name, settings, counted, **more)
        write_slices(self.path, self.results)
        write_table_csv(self.path / "table.csv", self.results)
        write_text(self.path / "table.txt", format_table(self.results) + "\n")
        self.results.write(self.path / "results.json")


def describe(
    module: Any,
    data: Any,
    experiment: str,
    settings: dict[str, Any],
    counted: Counted | None = None,
    **more: Any,
) -> Results:
    """Build the result document of an `Evaluator` after its run on ``data``; ``more`` of `Results`.

    With intervals where there is what was ``counted`` of each image.
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
        inputs=module.inputs,
        kernels=module.kernels(),
        parsed=module.parsed,
        filters=data.filter.told,
        own_metric=_own_metric(evaluation, data.own_metric),
        counting=module.counting,
        **_counted(evaluation, data.n_expressions - evaluation.n_untargeted - evaluation.n_absent, counted),
        **(how_resampled() if counted else {}),
        n_expressions_without_target=evaluation.n_untargeted,
        n_expressions_no_target=evaluation.n_absent,
        rules=module.rules(),
        subsets={
            name: {
                "label": subset_label(name, module.recipe),
                **_counted(evaluation.subsets[name], data.subset_sizes[name], counted, name),
            }
            for name in names
        },
        seconds=evaluation.seconds,
        config=settings,
        **more,
    )


def _own_metric(evaluation: Evaluation, metric: str | None) -> dict[str, Any] | None:
    if metric is None:
        return None
    return {
        "name": metric,
        "methods": {method: figures["mIoU"] for method, figures in evaluation.every_miss.items()},
    }


def _counted(figures: Figures, expected: int, counted: Counted | None, subset: str = ALL) -> dict[str, Any]:
    return {
        "n_images": figures.n_images,
        "n_expressions_expected": expected,
        "n_expressions_evaluated": figures.n_evaluated,
        "n_expressions_skipped": figures.n_skipped,
        **{name: getattr(figures, name) for name in _FIGURES},
        **(counted.part(subset, figures.n_skipped > 0) if counted else {}),
    }


def write_config(path: Path, settings: dict[str, Any], program: str) -> None:
    """Write the settings of a run so that they run again by ``--config``."""
    header = f"# {program} --config {path}\n"
    text = header + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    with atomic_file(path) as file:
        file.write(text.encode())
