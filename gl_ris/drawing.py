"""What measures masks that are drawn, rather than chosen from proposals."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gl_ris.choices import Choices
from gl_ris.evaluator import Evaluator, Records, SceneLike, faults_of, make_records, target_reasons
from gl_ris.evidence import with_facts, with_overlaps
from gl_ris.masks import encode_rle
from gl_ris.metrics import mask_areas
from gl_ris.tally import absent_in, subsets_of, targeted_in

NONE = "no mask predicted"


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
        target. A mask that is empty, or known to be none, says that there is nothing, which may be right.
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
        absent = absent_in(scene)
        nothing = [False] * len(faults) if absent is None else absent.tolist()
        columns, found, missed, said = [], [], [], []
        for title, (masks, reported) in drawn.items():
            masks[[fault is not None for fault in faults]] = False
            pixels = masks.flatten(1).any(dim=1).tolist()
            blank = [not some and why in (None, NONE) for some, why in zip(pixels, reported, strict=True)]
            empty = [place for place, none in enumerate(blank) if none and faults[place] is None]
            right = {place for place in empty if nothing[place]}
            failures = [None if place in right else why for place, why in enumerate(reported)]
            none = Choices.none(len(masks), None)
            choices = replace(none, failures=failures, abstained=frozenset(empty)).on_targets(reasons)
            found.append(areas := mask_areas(masks, targets))
            missed.append(choices.failures)
            said.append(empty)
            lost = [why or faults[place] or place in right for place, why in enumerate(failures)]
            encoded = [None if why else encode_rle(mask) for mask, why in zip(masks, lost, strict=True)]
            records = make_records(title, scene, choices, areas, [None] * len(masks), encoded)
            columns.append(with_overlaps(records, scene, masks))
        intersection, union = map(torch.stack, zip(*found, strict=True))
        more: dict[str, Any] = {"targeted": targeted_in(scene), "absent": absent, "abstained": said}
        self.tally.add_scene(intersection, union, missed, subsets_of(scene), **more)
        return Records(with_facts([one for row in zip(*columns, strict=True) for one in row], scene))
