"""The training before an evaluation: its settings, its curve, and going on with one that was cut off."""

from __future__ import annotations

import functools
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.cli import ArgsType, LightningArgumentParser

from experiments.cli.command import Command
from experiments.cli.parts import ExperimentCLI
from experiments.run.folder import PROGRESS, STATE, UNFINISHED
from gl_ris.cores import all_cores
from gl_ris.errors import UserError
from gl_ris.files import atomic_file, decode, write_json
from gl_ris.tally import gather_objects

if TYPE_CHECKING:
    from datamodules.base import RISDataModule
    from gl_ris.supervised.module import SupervisedRIS

WEIGHTS = "weights.pt"
_RECORD = "training.json"  # what a training has said of itself, kept until the evaluation is done
# options of data that are about the split that is measured
_OF_SPLIT = ("limit", "limit_seed", "sentences", "without")
_BATCHES = ("trainer.devices", "trainer.num_nodes", "trainer.strategy")  # what a training's batches hang on
# what the record of a training takes from the manifest of its refs
_CHOSEN = ("dataset", "split_by", "split", "k", "seed", "n_refs", "n_sentences", "n_images", "share")
POINTS = 1000  # lines of a learning curve, at most about
INTERVAL = 300.0  # seconds between two saved states


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained before it is evaluated.

    Args:
        k: Refs of each class to learn from, a number or all.
        seed: Of the choice of refs, of what the model starts with at random, and of the order of visits.
        split: Of the data set, to learn from.
        epochs: Null takes those of the baseline.
        batch_size: Refs of an optimiser step over all devices; null takes that of the baseline, and no subset
            is smaller than its batch.
        schedule: official_epochs trains for so many epochs whatever k is; min_steps for more if they have
            fewer steps than min_steps, so that a small k does not also mean hardly any training.
        min_steps: See schedule.
        manifest: The manifest.json of an earlier run, whose refs are taken whatever k and seed say.
    """

    k: int | Literal["all"] = "all"
    seed: int = 0
    split: str = "train"
    epochs: int | None = None
    batch_size: int | None = None
    schedule: Literal["official_epochs", "min_steps"] = "official_epochs"
    min_steps: int = 2000
    manifest: str | None = None

    def __post_init__(self) -> None:
        """Check the numbers; raises `UserError` where one is out of range."""
        for name in ("epochs", "batch_size", "min_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"training.{name}={value} must be 1 or more.")
        if self.k != "all" and self.k < 1:
            raise UserError(f"k={self.k} is not a number of refs; give a whole number from 1 on, or all.")

    def length(self, steps_per_epoch: int, published: int) -> int:
        """Return how many epochs a training has, of a baseline with so many ``published`` ones.

        Example:
            >>> TrainingSettings(schedule="min_steps", min_steps=100).length(3, 20)
            34
        """
        epochs = self.epochs or published
        return max(epochs, -(-self.min_steps // steps_per_epoch)) if self.schedule == "min_steps" else epochs


class Unfinished:
    """The folder ``training`` inside a run folder, of a training that is under way or was cut off."""

    def __init__(self, run_folder: Path) -> None:
        self.folder = run_folder / UNFINISHED
        self.checkpoint, self.curve = self.folder / STATE, self.folder / "learning_curve.csv"

    def finish(self) -> None:
        """Keep the learning curve in the run folder, and remove the rest."""
        self.curve.replace(self.folder.parent / self.curve.name)
        shutil.rmtree(self.folder)


class Progress(Callback):
    """Writes the learning curve while a training runs, and now and then a state to go on from.

    A line of the curve, a CSV file, has the mean loss since the line before, and the learning rates.
    ``unfinished`` is None in processes other than rank 0; ``interval`` is in seconds.
    """

    def __init__(self, unfinished: Unfinished | None, interval: float = INTERVAL) -> None:
        self.unfinished, self.interval = unfinished, interval
        self._losses: list[float] = []
        self._written = 0
        self._last = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the curve, or drop the lines of steps that are to be made once more."""
        if self.unfinished is None:
            return
        path, self._written = self.unfinished.curve, trainer.global_step
        text = path.read_text(encoding="utf-8") if path.is_file() and trainer.global_step else ""
        lines = [line.split(",") for line in text.splitlines()]
        kept = [line for line in lines if line[1:2] and line[1].isdigit() and int(line[1]) <= self._written]
        rates = [f"learning_rate_{place}" for place in range(len(_rates(trainer)))]
        self._write("w", ["epoch", "step", "loss", *rates], *kept)

    def _write(self, mode: str, *lines: list[Any]) -> None:
        assert self.unfinished is not None
        with self.unfinished.curve.open(mode, encoding="utf-8") as file:
            file.writelines(",".join(map(str, line)) + "\n" for line in lines)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the loss, and write a line when it is time."""
        if self.unfinished is None:
            return
        # Lightning gives the share that the batch has in its step
        self._losses.append(float(outputs["loss"]) * trainer.accumulate_grad_batches)
        every = max(1, int(pl_module.expected_steps) // POINTS)  # type: ignore[arg-type]
        if trainer.global_step % every or trainer.global_step == self._written:
            return
        self._written = trainer.global_step
        loss = sum(self._losses) / len(self._losses)
        self._losses.clear()
        self._write("a", [trainer.current_epoch, trainer.global_step, loss, *_rates(trainer)])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the state if the last time is long ago; every process takes part."""
        if not trainer.strategy.broadcast(time.monotonic() - self._last > self.interval):
            return
        own = None if self.unfinished is None else self.unfinished.checkpoint
        path: Path = trainer.strategy.broadcast(own)  # type: ignore[assignment]
        draft = path.with_name(f".{path.name}")  # there is never a damaged file of the name
        trainer.save_checkpoint(draft)
        if trainer.is_global_zero:
            draft.replace(path)
        self._last = time.monotonic()


def _rates(trainer: Trainer) -> list[float]:
    return [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]


class Training:
    """A training to come; `UserError` if the refs cannot be chosen, or are too few for the trainer."""

    def __init__(
        self, module: SupervisedRIS, source: RISDataModule, settings: TrainingSettings, trainer: Trainer
    ) -> None:
        from datamodules.learning import FewShotTraining

        self.module, self.settings, self.trainer = module, settings, trainer
        self.data = FewShotTraining(
            source,
            module.segmenter,
            settings.k,
            settings.seed,
            settings.batch_size or module.baseline.batch_size,
            trainer.accumulate_grad_batches,
            None if settings.manifest is None else Path(settings.manifest).expanduser(),
        )
        steps = self.data.steps_per_epoch(trainer.world_size)
        self.epochs = settings.length(steps, module.baseline.epochs)
        self.steps = steps * self.epochs
        subset, parameters = self.data.subset, list(module.parameters())
        # what results say of it; complete after `run`
        self.record: dict[str, Any] = {
            "model": module.baseline.title,
            **{name: getattr(subset.manifest, name) for name in _CHOSEN},
            "shortfall": subset.shortfall,
            "epochs": self.epochs,
            "steps": self.steps,
            "batch_size": self.data.batch_size,
            "schedule": settings.schedule,
            "weights": module.weights,
            "parameters": sum(one.numel() for one in parameters),
            "trained_parameters": sum(one.numel() for one in parameters if one.requires_grad),
        }

    def summary(self) -> str:
        """Say in a line what is going to be done."""
        record, lacking = self.record, sum(self.record["shortfall"].values())
        short = f" ({lacking:,} fewer than k of each class: there are no more)" if lacking else ""
        return (
            f"training: {record['model']}, k={record['k']}, seed {self.settings.seed}: {record['n_refs']:,} "
            f"refs on {record['n_images']:,} images{short}, {self.epochs:,} epochs of "
            f"{self.steps // self.epochs:,} steps, batch {record['batch_size']}"
        )

    def run(self, unfinished: Unfinished | None, checkpoint: Path | None) -> None:
        """Train, and leave weights, manifest and learning curve in the run folder.

        ``unfinished`` is given in rank 0 alone; ``checkpoint``, a state to go on from, in every process.
        """
        from datamodules.fewshot import write_manifest

        start = time.perf_counter()
        seed_everything(self.settings.seed, verbose=False)
        self.module.expected_steps = self.steps
        trainer: Any = self.trainer
        trainer.fit_loop.max_epochs = self.epochs
        self.module.train()  # a loaded CLIP comes in evaluation mode
        progress = Progress(unfinished)
        trainer.callbacks.append(progress)
        if unfinished is not None:
            unfinished.folder.mkdir(exist_ok=True)
        try:
            with all_cores():
                trainer.fit(self.module, datamodule=self.data, ckpt_path=checkpoint, weights_only=True)
        except BaseException:
            if unfinished is not None and not unfinished.checkpoint.is_file():
                shutil.rmtree(unfinished.folder)
            raise
        trainer.callbacks.remove(progress)
        self.record |= {
            "seconds": round(time.perf_counter() - start, 3),
            "unusable_visits": sum(gather_objects(self.data.data.unusable)),
        }
        if unfinished is not None:
            folder = unfinished.folder.parent
            write_json(folder / PROGRESS / _RECORD, self.record)
            write_manifest(folder / "manifest.json", self.data.subset)
            with atomic_file(folder / WEIGHTS) as file:
                torch.save(self.module.segmenter.state_dict(), file)
            unfinished.finish()

    def take(self, folder: Path) -> None:
        """Take the model that a run has trained before it was cut off, in place of `run`."""
        self.record |= decode(folder / PROGRESS / _RECORD, dict[str, Any], "record of a training")
        state = torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True)
        self.module.segmenter.load_state_dict(state)


class SupervisedCLI(ExperimentCLI):
    """Parses the command line of a supervised run and makes its parts, the training among them."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of the training."""
        super().add_arguments_to_parser(parser)
        parser.add_class_arguments(TrainingSettings, "training")

    def before_instantiate_classes(self) -> None:
        """Refuse ``trainer.max_epochs``; find what a run that goes on has trained before it was cut off."""
        super().before_instantiate_classes()
        if self.config.trainer.max_epochs is not None or self.config.trainer.max_steps != -1:
            raise UserError("The length of a training is set by epochs=N, or schedule=min_steps.")
        # the state of a training that was cut off, to go on from; None to begin
        self.checkpoint: Path | None = None
        # the run folder with a model that was trained before the run was cut off; None to train
        self.trained: Path | None = None
        if not self.config.resume:
            return
        folder = Path(self.config.run_dir).expanduser()
        if (folder / WEIGHTS).is_file() and (folder / PROGRESS / _RECORD).is_file():
            self.trained = folder
        elif (checkpoint := Unfinished(folder).checkpoint).is_file():
            self.checkpoint = checkpoint

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the trainer; of several processes so that not all parameters need to be in the loss."""
        trainer = super().instantiate_trainer(**kwargs)
        if trainer.world_size == 1 or self.config.trainer.strategy != "auto":
            return trainer
        # LAVT's last gate and CLIP's temperature have no part in it
        self.config.trainer.strategy = "ddp_find_unused_parameters_true"
        return super().instantiate_trainer(**kwargs, strategy=self.config.trainer.strategy)

    @property
    def harmless(self) -> tuple[str, ...]:
        """A training on several devices sees other batches; what is trained is measured alike on any."""
        ours = super().harmless
        trains = self.config.model.weights is None and self.trained is None
        return tuple(name for name in ours if not (trains and name in _BATCHES))

    @functools.cached_property
    def training(self) -> Training | None:
        """The training that is to come; None if the model brings its weights."""
        module = cast("Any", self.model)
        settings: TrainingSettings = self.config_init.training
        seed_everything(settings.seed, verbose=False)
        module.configure_model()
        if module.weights is not None:
            return None
        # the same data module, whole and without proposals
        without = {"split": settings.split, "proposals": None, **dict.fromkeys(_OF_SPLIT)}
        options = vars(self.config.data.init_args).items()
        kept = {name: without.get(name, value) for name, value in options}
        data = cast("RISDataModule", type(self.datamodule)(**kept))
        data.require_files()
        data.prepare_data()
        training = Training(module, data, settings, self.trainer)
        module.title = f"{module.baseline.title} k={training.record['k']}"
        return training

    def check(self) -> None:
        """Prepare the training, whose refs and weights may be missing."""
        _ = self.training


def supervised_parts(command: Command, args: ArgsType = None) -> SupervisedCLI:
    """Make the parts that a command line describes; see `experiments.cli.parts.parts_of`."""
    import datamodules.known  # noqa: F401  so that data.class_path takes short names
    from datamodules.base import RISDataModule
    from gl_ris.supervised.module import SupervisedRIS

    return SupervisedCLI(command, SupervisedRIS, RISDataModule, args=args)
