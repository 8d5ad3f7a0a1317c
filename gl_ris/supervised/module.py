"""Supervised referring segmentation as a LightningModule: trains any of the baselines, and measures it."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from gl_ris.clip.tower import one_thread_per_operation
from gl_ris.drawing import DrawingEvaluator, Drawn
from gl_ris.errors import UserError
from gl_ris.evaluator import SceneLike
from gl_ris.inputs import Input, source_files
from gl_ris.recipe import Recipe
from gl_ris.supervised.segmenter import Baseline, Segmenter
from gl_ris.weights import read_weights


class SupervisedRIS(DrawingEvaluator):
    """Trains a supervised model on batches of its own making, and measures the masks that it draws.

    Nothing is loaded until `configure_model`. Training takes batches of `Segmenter.collate`; `predict_step`
    takes one scene.

    Args:
        baseline: The model with what it starts from.
        weights: A file to load into it: one that a training of ours has left, or a published checkpoint.
        recipe: Of its fields only those about data have a meaning here: target_overlap and unseen.

    Raises:
        UserError: There is no baseline, or an unknown recipe.
    """

    segmenter: Segmenter  # set by `configure_model`

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

    def draw(self, scene: SceneLike) -> dict[str, Drawn]:
        """Segment every expression of a scene."""
        nothing = Drawn.nothing(scene, None)
        masks, failure = self.attempt(self.title, scene, lambda: self._segment(scene), nothing.masks)
        return {self.title: Drawn(masks, [failure] * len(masks))}

    def _segment(self, scene: SceneLike) -> Tensor:
        raw = getattr(scene, "raw", scene.expressions)
        texts = raw if self.segmenter.reads_raw else scene.expressions
        with one_thread_per_operation(self.device):
            return self.segmenter.segment(scene.image, texts)
