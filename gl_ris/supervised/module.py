"""Supervised referring segmentation as a LightningModule: trains any of the baselines, and measures it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from gl_ris.choices import Choices
from gl_ris.clip.tower import one_thread_per_operation
from gl_ris.errors import UserError
from gl_ris.evaluator import Evaluator, Records, SceneLike, faults_of, make_records, target_reasons
from gl_ris.inputs import Input, source_files
from gl_ris.masks import encode_rle
from gl_ris.metrics import mask_areas
from gl_ris.recipe import Recipe
from gl_ris.supervised.segmenter import Baseline, Segmenter
from gl_ris.tally import absent_in, subsets_of, targeted_in
from gl_ris.weights import read_weights


class SupervisedRIS(Evaluator):
    """Trains a supervised model on batches of its own making, and measures the masks that it draws.

    Nothing is loaded until `configure_model`. Training takes batches of `Segmenter.collate`; `predict_step`
    takes one scene, as that of `gl_ris.zero_shot.ZeroShotRIS` does, and counts in the same way. There are no
    proposals and no upper bound: the model draws its masks.

    Args:
        baseline: The model with what it starts from.
        weights: A file to load into it: one that a training of ours has left, or a published checkpoint.
        recipe: Of its fields only those about data have a meaning here: target_overlap and unseen.

    Raises:
        UserError: There is no baseline, or an unknown recipe.
    """

    segmenter: Segmenter  # set by `configure_model`
    bounded = False

    def __init__(
        self, baseline: Baseline | None = None, weights: str | None = None, recipe: Recipe | str = "clean"
    ) -> None:
        if baseline is None:
            raise UserError("There is no model; name one by baseline=NAME, e.g. baseline=cris-tiny.")
        super().__init__()
        self.title = baseline.title
        self.baseline, self.weights, self.recipe = baseline, weights, Recipe.resolve(recipe)
        self.expected_steps = 1  # optimiser steps of the training that is to come, for the schedule

    @property
    def methods(self) -> list[str]:
        """The title alone."""
        return [self.title]

    def configure_model(self) -> None:
        """Build the model and load its weights; harmless when repeated; `UserError` as of `Baseline.make`."""
        if "segmenter" in self._modules:
            return
        segmenter = self.baseline.make()
        if self.weights is not None:
            segmenter.load_weights(read_weights(self.weights, self.title))
        # last, so that weights that do not fit leave nothing configured
        self.segmenter = segmenter

    def proposals_name(self, data: Any) -> str:
        """Say that there is nothing to choose from."""
        return "none"

    def input_files(self, data: Any) -> dict[str, Mapping[str, Input]]:
        """Return what the model starts from, and the file of weights if one is loaded."""
        weights = {} if self.weights is None else source_files(self.weights)
        return {"model": self.baseline.input_files(), "weights": weights}

    def configure_optimizers(self) -> Any:
        """Make the optimiser and the schedule of the model's recipe."""
        return self.segmenter.optimization(self.expected_steps, cast("int", self.trainer.max_epochs))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int = 0) -> Tensor:
        """Return the loss of a batch; `FloatingPointError` if it is no number."""
        loss = self.segmenter.training_loss(batch)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"The loss is {loss.item()} in step {self.global_step}; a lower learning rate or "
                "trainer.precision=32-true may help."
            )
        return loss

    def predict_step(self, scene: SceneLike, batch_idx: int = 0) -> Records:
        """Segment every expression of a scene, measure, and count: a record per expression."""
        if scene.index in self.finished:
            return Records()
        # in a scene that cannot be used each is a miss: intersection 0, union the target
        masks = torch.zeros_like(scene.targets[scene.referents])
        failure = scene.error
        if failure is None:
            with self._watch("score"):
                masks, failure = self.attempt(self.title, scene, lambda: self._segment(scene), masks)
        masks[[fault is not None for fault in faults_of(scene)]] = False
        with self._watch("metrics"):
            return self._judge(scene, masks, failure)

    def _segment(self, scene: SceneLike) -> Tensor:
        raw = getattr(scene, "raw", scene.expressions)
        texts = raw if self.segmenter.reads_raw else scene.expressions
        with one_thread_per_operation(self.device):
            return self.segmenter.segment(scene.image, texts)

    def _judge(self, scene: SceneLike, masks: Tensor, failure: str | None) -> Records:
        targets = scene.targets[scene.referents]
        intersection, union = mask_areas(masks, targets)
        none = Choices.none(len(masks), failure).on_targets(target_reasons(scene))
        absent = absent_in(scene)
        if absent is not None and failure is None:  # a mask without a pixel says that there is nothing
            empty = frozenset(place for place, mask in enumerate(masks) if not mask.any())
            none = replace(none, abstained=empty)
        more: dict[str, Any] = {"targeted": targeted_in(scene), "absent": absent}
        more["abstained"] = [none.abstained]
        areas = intersection[None], union[None]
        self.tally.add_scene(*areas, [none.failures], subsets_of(scene), **more)
        lost = [failure or fault or i in none.abstained for i, fault in enumerate(faults_of(scene))]
        encoded = [None if why else encode_rle(mask) for mask, why in zip(masks, lost, strict=True)]
        phrases = [None] * len(masks)
        return Records(make_records(self.title, scene, none, (intersection, union), phrases, encoded))
