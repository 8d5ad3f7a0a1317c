"""What measures masks that are drawn, rather than chosen from proposals."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gl_ris.evaluator import Choices, Evaluator, Records, SceneLike, faults_of, make_records, target_reasons
from gl_ris.masks import encode_rle
from gl_ris.metrics import mask_areas
from gl_ris.tally import subsets_of, targeted_in


class Drawn(NamedTuple):
    """The masks of one method for the ``E`` expressions of a scene."""

    masks: Tensor  # bool (E, H, W), empty where there is none
    failures: list[str | None]  # why there is no mask, or None

    @classmethod
    def nothing(cls, scene: SceneLike, reason: str | None) -> Drawn:
        """Return no mask for any expression of a scene."""
        return cls(torch.zeros_like(scene.targets[scene.referents]), [reason] * len(scene.expressions))


class DrawingEvaluator(Evaluator):
    """Measures drawn masks as `gl_ris.zero_shot.ZeroShotRIS` does chosen ones; nothing bounds the figures."""

    bounded = False

    @abstractmethod
    def draw(self, scene: SceneLike) -> Mapping[str, Drawn]:
        """Return what each of the methods draws for a scene that can be used."""

    def proposals_name(self, data: Any) -> str:
        """Say that there is nothing to choose from."""
        return "none"

    def predict_step(self, scene: SceneLike, batch_idx: int = 0) -> Records:
        """Draw for every expression of a scene, measure, and count: a record per expression and method.

        Where there is no mask, and in a scene that cannot be used, the intersection is 0 and the union the
        target.
        """
        if scene.index in self.finished:
            return Records()
        drawn = {name: Drawn.nothing(scene, scene.error) for name in self.methods}
        if scene.error is None:
            with self._watch("score"):
                drawn |= self.draw(scene)
        with self._watch("metrics"):
            return self._judge(scene, drawn)

    def _judge(self, scene: SceneLike, drawn: Mapping[str, Drawn]) -> Records:
        targets, faults, reasons = scene.targets[scene.referents], faults_of(scene), target_reasons(scene)
        columns, found, missed = [], [], []
        for title, (masks, failures) in drawn.items():
            masks[[fault is not None for fault in faults]] = False
            none = Choices.none(len(masks), None)
            choices = replace(none, failures=failures).on_targets(reasons)
            found.append(areas := mask_areas(masks, targets))
            missed.append(choices.failures)
            lost = [failure or fault for failure, fault in zip(failures, faults, strict=True)]
            encoded = [None if why else encode_rle(mask) for mask, why in zip(masks, lost, strict=True)]
            columns.append(make_records(title, scene, choices, areas, [None] * len(masks), encoded))
        intersection, union = map(torch.stack, zip(*found, strict=True))
        self.tally.add_scene(intersection, union, missed, subsets_of(scene), targeted=targeted_in(scene))
        return Records(record for row in zip(*columns, strict=True) for record in row)
