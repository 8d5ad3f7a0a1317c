"""Abstaining and unions: what is chosen, what it counts for, and thresholds that are found and read."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gl_ris.calibration import Calibration, Sample, best_rules
from gl_ris.choices import Choices, Rule, choose
from gl_ris.clip.image import ImageContext
from gl_ris.drawing import NONE, DrawingEvaluator, Drawn
from gl_ris.errors import UserError
from gl_ris.masks import decode_rle
from gl_ris.metrics import GRES, OverallIoU
from gl_ris.recipe import Recipe
from gl_ris.scorers import Scorer
from gl_ris.tally import Tally
from gl_ris.thresholds import read_thresholds, rule_of
from toy_scenes import HEIGHT, WIDTH, Data, make_scene, run

Predict = Callable[..., Any]


class Given(Scorer):
    """Gives the scores that an expression is made of."""

    name, title = "given", "Given"

    def texts(self, expressions: Sequence[str], noun_phrases: Sequence[str] | None = None) -> list[str]:
        return []

    def score(self, context: ImageContext, expressions: Any, noun_phrases: Any) -> Tensor:
        return torch.tensor([[float(word) for word in text.split()[1:]] for text in expressions])


GIVEN = f"{__name__}.Given"


@pytest.mark.parametrize(
    ("row", "rule", "chosen"),
    [
        ([0.5, 0.2, 0.4], Rule(), (0,)),
        ([0.5, 0.2, 0.4], Rule(abstain=0.5), (0,)),
        ([0.5, 0.2, 0.4], Rule(abstain=0.500001), None),
        ([0.5, 0.2, 0.4], Rule(union=0.4), (0, 2)),
        ([0.5, 0.2, 0.4], Rule(union=0.45), (0,)),
        ([0.5, 0.2, 0.4], Rule(union=0.9), (0,)),
        ([0.5, 0.2, 0.4], Rule(abstain=0.6, union=0.9), None),
        ([0.5, -torch.inf, 0.5], Rule(union=-5.0), (0, 2)),
        ([-torch.inf] * 3, Rule(abstain=0.1, union=0.1), None),
        ([torch.nan, 1, 1], Rule(union=0.1), None),
    ],
)
def test_what_is_chosen(row: list[float], rule: Rule, chosen: tuple[int, ...] | None) -> None:
    found = choose(torch.tensor([[-9.0, -9.0, 9.0], row], dtype=torch.float64), rule=rule)
    assert found.chosen == [(2,), chosen]
    failed = not np.isfinite(max(row)) or np.isnan(row).any()
    assert (found.failures[1] is not None) == failed
    assert (1 in found.abstained) == (chosen is None and not failed)
    assert found.rows[1] == (None if failed else int(np.argmax(row)))


def test_of_a_damaged_target_there_is_neither_union_nor_abstention() -> None:
    found = choose(torch.tensor([[0.5, 0.5], [0.1, 0.1], [0.5, 0.5]]), rule=Rule(0.2, 0.4))
    assert found.on_targets([None, "target: cut off", "target: cut off"]) == Choices(
        [0, None, None],
        [0.5, None, None],
        [None, *["target: cut off"] * 2],
        [True, False, False],
        {0: (0, 1)},
    )


def scenes() -> list[Any]:
    """Three scenes: two targets, an expression for both, and one for nothing; four sets of scores each."""
    made = []
    rng = np.random.default_rng(7)
    for index in range(3):
        texts = [f"take {' '.join(f'{s:.3f}' for s in rng.random(3))}" for _ in range(8)]
        scene = make_scene(index, texts)
        targets = torch.cat(
            [scene.targets, scene.targets.any(dim=0, keepdim=True), scene.targets[:1] & False]
        )
        referents = torch.tensor([0, 1, 2, 3] * 2)
        absent = referents == 3
        ids = {"ref_ids": referents.tolist(), "sent_ids": list(range(8))}
        more = {"targets": targets, "referents": referents, "absent": absent, "targeted": ~absent}
        more |= {"objects": scene.targets, "categories": [None, None], "meant": [(0,), (1,), (0, 1), ()]}
        made.append(replace(scene, **more, **ids))
    return made


def by_hand(scene: Any, rule: Rule) -> list[tuple[Tensor, bool]]:
    """The raw mask of each expression and whether nothing is chosen, by a plain loop."""
    found = []
    for text in scene.expressions:
        scores = [float(torch.tensor(float(word))) for word in text.split()[1:]]
        above = [i for i, score in enumerate(scores) if rule.union is not None and score >= rule.union]
        rows = above or [scores.index(max(scores))]
        mask = torch.stack([scene.proposals.masks[i] for i in rows]).any(dim=0)
        found.append((mask, rule.abstain is not None and max(scores) < rule.abstain))
    return found


@pytest.mark.parametrize("rule", [Rule(), Rule(abstain=0.8), Rule(union=0.6), Rule(abstain=0.7, union=0.5)])
def test_figures_and_records_are_those_of_the_metrics(rule: Rule, predict: Predict) -> None:
    data = Data(scenes())
    model, records = predict(data, GIVEN, abstain=rule.abstain, union=rule.union)
    gres, overall = GRES(), OverallIoU()
    lines = iter(records)
    for scene in data.scenes:
        for place, (mask, empty) in enumerate(by_hand(scene, rule)):
            target, record = scene.targets[scene.referents[place]], next(lines)
            gres.update(mask[None], target[None], torch.tensor([empty]))
            if target.any():
                shared = mask & target & (not empty)
                overall.update_areas(shared.sum(), (mask | target).sum())
                assert record.target == scene.meant[scene.referents[place]]
            else:
                assert record.target == ()
                assert record.iou == float(empty)
            assert record.abstained == empty
            assert record.failure is None
            assert (record.segmentation is None) == (record.choice is None) == empty
            if not empty:
                assert torch.equal(decode_rle(record.segmentation, size=(HEIGHT, WIDTH)), mask)
                shares = [int((mask & one).sum()) for one in scene.objects]
                united = record.chosen is not None
                assert (record.overlaps, record.area) == (
                    (tuple(shares), int(mask.sum())) if united else (None, None)
                )
                assert record.chosen is None or record.choice in record.chosen
    figures = model.evaluation.methods["Given"]
    expected = {name: 100 * value for name, value in gres.compute().items()}
    assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=1e-7)
    assert figures["oIoU"] == pytest.approx(100 * float(overall.compute()))
    # what is in the records alone
    known = [record for record in records if record.iou is not None]
    assert figures["gIoU"] == pytest.approx(100 * np.mean([record.iou for record in known]))
    unions = sum(record.union for record in known)
    assert figures["cIoU"] == pytest.approx(100 * sum(record.intersection for record in known) / unions)
    assert (model.evaluation.n_evaluated, model.evaluation.n_absent) == (18, 6)


class Drawing(DrawingEvaluator):
    """Draws nothing, the whole image or the target, and says why there is no mask, by turns."""

    recipe = Recipe()
    methods = ("Drawn",)  # type: ignore[assignment]

    def draw(self, scene: Any) -> dict[str, Drawn]:
        drawn = Drawn.nothing(scene, None)
        for place, referent in enumerate(scene.referents.tolist()):
            mask, turn = drawn.masks[place], (place + scene.index) % 4
            drawn.masks[place] = (mask, mask | True, scene.targets[referent], mask)[turn]
            drawn.failures[place] = (None, None, None, NONE if place < 4 else "cut off")[turn]
        return {"Drawn": drawn}


def test_an_empty_drawing_says_that_there_is_nothing() -> None:
    model, data, gres = Drawing(), Data(scenes(), None), GRES()
    records = [record for batch in run(model, data) for record in batch]
    lines = iter(records)
    for scene in data.scenes:
        drawn = model.draw(scene)["Drawn"]
        for place, (mask, why) in enumerate(zip(*drawn, strict=True)):
            target, record = scene.targets[scene.referents[place]], next(lines)
            empty = not mask.any() and why != "cut off"
            gres.update(mask[None], target[None], torch.tensor([empty]))
            assert record.abstained == empty
            assert record.failure == (None if empty and not target.any() else why)
    expected = {name: 100 * value for name, value in gres.compute().items()}
    figures = model.evaluation.methods["Drawn"]  # type: ignore[union-attr]
    assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=1e-7)
    assert 0 < expected["N_acc"] < 100 > expected["T_acc"] > 0
    dropped = [record.abstained for record in records if record.target != ()]
    assert figures["T_acc"] == pytest.approx(100 * (1 - sum(dropped) / len(dropped)))


def test_where_every_expression_has_a_target_there_are_no_such_figures(predict: Predict) -> None:
    model, records = predict(Data([make_scene(0, ["take 0.1 0.2 0.3", "take 0.3 0.2 0.1"])]), GIVEN)
    assert not {"gIoU", "cIoU", "N_acc", "T_acc"} & set(model.evaluation.methods["Given"])
    assert not any(b'"abstained"' in r.line() or b'"target"' in r.line() for r in records)
    assert model.rules() == {}


def test_a_rule_may_be_of_one_method_alone(predict: Predict) -> None:
    methods = [GIVEN, {"method": GIVEN, "title": "Shy", "abstain": 2}]
    model, records = predict(Data(scenes()), methods)
    assert [record.abstained for record in records] == [False, True] * 24
    assert model.rules() == {"Shy": {"abstain": 2}}
    assert model.evaluation.methods["Shy"]["N_acc"] == 100
    assert model.evaluation.methods["Shy"]["T_acc"] == 0


def test_a_run_that_goes_on_has_the_same_sums(predict: Predict) -> None:
    model, _ = predict(Data(scenes()), GIVEN, abstain=0.7, union=0.5)
    again = Tally(model.methods)
    for scene in scenes():
        one, _ = predict(Data([scene]), GIVEN, abstain=0.7, union=0.5)
        again.add_again(json.loads(json.dumps(one.tally.last)))
    seconds = model.evaluation.seconds
    assert again.compute(seconds) == model.evaluation


def test_thresholds_are_the_best_there_are() -> None:
    """Against every threshold that could make a difference, tried one by one."""
    rng = np.random.default_rng(1)
    samples = []
    for number in range(40):
        scores = np.sort(rng.integers(0, 12, 4) / 8)[::-1].astype(float)
        absent = number % 3 == 0
        samples.append(Sample(absent, scores, np.zeros(4) if absent else rng.random(4)))
    samples += [Sample(True, np.zeros(0), np.zeros(0)), Sample(False, np.zeros(0), np.zeros(0))]

    def reached(rule: Rule) -> float:
        total = 0.0
        for absent, scores, ious in samples:
            if not len(scores):
                continue
            if rule.abstain is not None and scores[0] < rule.abstain:
                total += absent
            else:
                above = 1 if rule.union is None else max(1, sum(scores >= rule.union))
                total += ious[above - 1]
        return 100 * total / len(samples)

    found = best_rules(samples, {"method": "given"})
    steps = [None, *np.arange(-1, 14) / 8]
    tried = {(a, u): reached(Rule(a, u)) for a, u in itertools.product(steps, steps)}
    assert found.none.gIoU == pytest.approx(tried[None, None])
    assert found.abstain.gIoU == pytest.approx(max(value for (_, u), value in tried.items() if u is None))
    assert found.union.gIoU == pytest.approx(
        max(v for (a, u), v in tried.items() if a is None and u is not None)
    )
    assert found.both.gIoU == pytest.approx(max(value for (_, u), value in tried.items() if u is not None))
    for fitted in (found.abstain, found.union, found.both):
        assert reached(Rule(fitted.abstain, fitted.union)) == pytest.approx(fitted.gIoU)


@pytest.mark.parametrize("samples", [[], [Sample(True, np.zeros(0), np.zeros(0))]])
def test_without_a_score_there_is_no_threshold(samples: list[Sample]) -> None:
    found = best_rules(samples, {})
    assert {
        (one.abstain, one.union, one.gIoU) for one in (found.none, found.abstain, found.union, found.both)
    } == {(None, None, 0.0)}


def calibrated(clips: Any, **options: Any) -> Calibration:
    data = Data(scenes())
    data.split = "train"  # type: ignore[attr-defined]
    model = Calibration(clip=clips["vit"].name, methods=GIVEN, **options)
    run(model, data)
    return model


def document(model: Calibration) -> dict[str, Any]:
    import msgspec

    found = {title: msgspec.to_builtins(own) for title, own in model.found.items()}
    place = {"dataset": "toy", "split": "train", "partition": None, "proposals": "ground_truth"}
    return {**place, "n_images": 3, "n_expressions": 24, "methods": found}


@pytest.mark.parametrize("kinds", [(), ("abstain",), ("union",), ("abstain", "union")])
def test_a_run_reaches_what_the_thresholds_were_found_to_reach(
    kinds: tuple[str, ...], clips: Any, predict: Predict, tmp_path: Path
) -> None:
    model, path = calibrated(clips), tmp_path / "thresholds.json"
    path.write_text(json.dumps(document(model)))
    again, _ = predict(Data(scenes()), GIVEN, **dict.fromkeys(kinds, str(path)))
    own = model.found["Given"]
    fitted = {(): own.none, ("abstain",): own.abstain, ("union",): own.union}.get(kinds, own.both)
    assert again.evaluation.methods["Given"]["gIoU"] == pytest.approx(fitted.gIoU, abs=1e-7)
    said = again.rules().get("Given", {})
    assert {kind: said.get(kind) for kind in kinds} == {kind: getattr(fitted, kind) for kind in kinds}
    assert (said.get("found on") == "toy train (3 images), proposals: ground_truth") == bool(kinds)


def test_that_no_threshold_was_better_than_none_is_said(clips: Any, predict: Predict, tmp_path: Path) -> None:
    content, path = document(calibrated(clips)), tmp_path / "thresholds.json"
    content["methods"]["Given"]["abstain"] = {"gIoU": 50.0}
    path.write_text(json.dumps(content))
    model, _ = predict(Data(scenes()), GIVEN, abstain=str(path))
    place = "toy train (3 images), proposals: ground_truth"
    assert model.rules() == {"Given": {"abstain": "none", "found on": place}}


def test_thresholds_are_found_on_train_alone(clips: Any) -> None:
    data = Data(scenes())
    data.split = "val"  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="found on 'val' would be tuned to it; calibrate on split=train"):
        run(Calibration(clip=clips["vit"].name, methods=GIVEN), data)
    with pytest.raises(UserError, match=r"'Given' has abstain=0\.5 and union=None, which are to be found"):
        Calibration(clip=clips["vit"].name, methods=GIVEN, abstain=0.5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"split": "val"}, "is no file of thresholds, or damaged .*calibrate"),
        ({"methods": {}}, r"Unknown method of .* \(abstain\): 'A'"),
        ({"methods": {"A": {}}}, "is no file of thresholds, or damaged"),
        (None, "No file of thresholds at"),
    ],
)
def test_a_file_that_does_not_have_them_is_refused(
    change: dict[str, Any] | None, said: str, clips: Any, tmp_path: Path
) -> None:
    path = tmp_path / "thresholds.json"
    if change is not None:
        path.write_text(json.dumps(document(calibrated(clips)) | change))
    with pytest.raises(UserError, match=said):
        rule_of(str(path), None, "A", {})


@pytest.mark.parametrize("name", ["abstain", "union"])
@pytest.mark.parametrize("given", [float("nan"), float("inf"), -float("inf")])
def test_a_threshold_that_is_not_finite_is_refused_before_a_run(name: str, given: float) -> None:
    with pytest.raises(UserError, match=rf"{name}={given} is no threshold; give a finite number"):
        rule_of(*((given, None) if name == "abstain" else (None, given)), "A", {})


def test_thresholds_of_other_settings_are_refused(clips: Any, predict: Predict, tmp_path: Path) -> None:
    path = tmp_path / "thresholds.json"
    path.write_text(json.dumps(document(calibrated(clips))))
    assert read_thresholds(path).methods["Given"].settings["alpha"] == 0.85
    with pytest.raises(UserError, match=r"'Given' in .* were found with alpha=0.85, not 0.5; make them"):
        predict(Data(scenes()), GIVEN, alpha=0.5, union=str(path))
