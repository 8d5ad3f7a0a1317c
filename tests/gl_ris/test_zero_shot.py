from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from gl_ris.clip.context import ImageContext
from gl_ris.clip.text_tower import TextTower
from gl_ris.errors import EvaluationError, UserError
from gl_ris.proposals.base import ProposalGenerator, Proposals
from gl_ris.results import Prediction
from gl_ris.scorers import Scorer, available_scorers
from gl_ris.zero_shot import ZeroShotRIS

HEIGHT, WIDTH = 20, 30


class Told(Scorer):
    """Chooses the proposal that the expression ends with; NaN for "nan"; fails on an image of value 13."""

    name, title = "told", "Told"

    def texts(self, expressions: Sequence[str], noun_phrases: Sequence[str] | None = None) -> list[str]:
        return []

    def score(
        self, context: ImageContext, expressions: Sequence[str], noun_phrases: Sequence[str] | None
    ) -> Tensor:
        if int(context.image[0, 0, 0]) == 13:
            raise RuntimeError("unlucky\nimage")
        scores = torch.zeros(len(expressions), len(context.masks))
        for row, text in enumerate(expressions):
            last = text.split()[-1]
            scores[row] = float("nan") if last == "nan" else 0.0
            if last != "nan":
                scores[row, int(last)] = 1.0
        return scores


TOLD = f"{__name__}.Told"


@dataclass(frozen=True)
class Scene:
    image: Tensor
    expressions: list[str]
    targets: Tensor
    referents: Tensor
    image_id: int
    ref_ids: list[int]
    sent_ids: list[int]
    index: int
    proposals: Proposals | None
    error: str | None = None

    def to(self, device: Any, **_: Any) -> Scene:
        return self


class Halves(ProposalGenerator):
    """The left and the right half."""

    name = "halves"

    def __init__(self) -> None:
        self.calls = 0

    def settings(self) -> dict[str, Any]:
        return {}

    def __call__(self, image: Tensor) -> Proposals:
        self.calls += 1
        masks = torch.zeros(2, *image.shape[1:], dtype=torch.bool)
        masks[0, :, :15], masks[1, :, 15:] = True, True
        return Proposals.from_masks(masks)


class Data(LightningDataModule):
    """A data module of given scenes."""

    def __init__(self, scenes: list[Scene], proposals_name: str | None = "ground_truth") -> None:
        super().__init__()
        self.scenes, self.proposals_name = scenes, proposals_name
        self.n_images = len(scenes)
        self.n_expressions = len(self.expressions())
        self.subset_sizes: dict[str, int] = {}

    def expressions(self) -> list[str]:
        return [text for scene in self.scenes for text in scene.expressions]

    def check_world_size(self, world_size: int) -> None:
        if world_size > self.n_images:
            raise UserError(f"{self.n_images} images for {world_size} processes")

    def predict_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.scenes, batch_size=None, collate_fn=lambda scene: scene)


def make_scene(index: int, texts: Sequence[str], value: int = 100, **changes: Any) -> Scene:
    """Two targets, referred to in turns, and three proposals: each target, and both together."""
    targets = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
    targets[0, 2:8, 3 : 9 + index], targets[1, 10:18, 12:28] = True, True
    masks = torch.cat([targets, targets.any(dim=0, keepdim=True)])
    image = torch.full((3, HEIGHT, WIDTH), value, dtype=torch.uint8)
    referents = torch.arange(len(texts)) % 2
    scene = Scene(
        image=image,
        expressions=list(texts),
        targets=targets,
        referents=referents,
        image_id=1000 + index,
        ref_ids=(10 * index + referents).tolist(),
        sent_ids=list(range(len(texts))),
        index=index,
        proposals=Proposals.from_masks(masks),
    )
    return replace(scene, **changes)


def no_proposals(count: int = 0) -> Proposals:
    return Proposals.from_masks(torch.zeros(count, HEIGHT, WIDTH, dtype=torch.bool))


@pytest.fixture(scope="module")
def vit(clip_folder: Callable[..., Path]) -> str:
    return f"local-dir:{clip_folder('vit')}"


@pytest.fixture
def predict(vit: str) -> Callable[..., tuple[ZeroShotRIS, list[Prediction]]]:
    def run(data: Any, methods: Any = TOLD, **settings: Any) -> tuple[ZeroShotRIS, list[Prediction]]:
        model = ZeroShotRIS(clip=vit, methods=methods, **settings)
        trainer = Trainer(
            accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_checkpointing=False
        )
        given = {"datamodule": data} if isinstance(data, Data) else {"dataloaders": data}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            batches = trainer.predict(model, **given)
        return model, [record for batch in batches or [] for record in batch]

    return run


def test_figures_are_those_of_a_loop_over_pixels(predict: Callable[..., Any]) -> None:
    texts = ["take 0", "take 0", "take 2", "take 1", "take 1", "take 2"]
    data = Data([make_scene(0, texts), make_scene(1, texts[::-1]), make_scene(2, texts[:3])])
    model, records = predict(data)
    areas, best = [], []
    for scene in data.scenes:
        for text, referent in zip(scene.expressions, scene.referents.tolist(), strict=True):
            target = scene.targets[referent].numpy()
            ious = []
            for mask in scene.proposals.masks.numpy():
                ious.append(((mask & target).sum(), (mask | target).sum()))
            areas.append(ious[int(text[-1])])
            best.append(max(ious, key=lambda area: area[0] / area[1]))
    found = model.evaluation
    figures = found.methods["Told"]
    assert figures["oIoU"] == pytest.approx(100 * sum(i for i, _ in areas) / sum(u for _, u in areas))
    assert figures["mIoU"] == pytest.approx(100 * sum(i / u for i, u in areas) / len(areas))
    assert figures["Pr@0.9"] == pytest.approx(100 * sum(i / u >= 0.9 for i, u in areas) / len(areas))
    assert found.upper_bound["oIoU"] == pytest.approx(100 * sum(i for i, _ in best) / sum(u for _, u in best))
    assert [(r.intersection, r.union) for r in records] == areas
    assert [(r.index, r.choice) for r in records] == [
        (scene.index, int(text[-1])) for scene in data.scenes for text in scene.expressions
    ]
    assert (found.n_images, found.n_evaluated, found.failures) == (3, 15, {})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"proposals": no_proposals()}, "no proposals"),
        ({"proposals": no_proposals(4)}, "no proposals"),
        ({"error": "image file is missing", "proposals": None}, "image file is missing"),
        ({"value": 13}, "Told: RuntimeError: unlucky"),
        ({"texts": ["take nan", "take nan"]}, "score is not a number"),
    ],
    ids=["none", "only-empty-ones", "unreadable", "scoring-raises", "nan"],
)
def test_what_cannot_be_chosen_is_a_counted_miss(
    changes: dict[str, Any], reason: str, predict: Callable[..., Any]
) -> None:
    changes = {"texts": ["take 0", "take 1"], **changes}
    bad = make_scene(1, **changes)
    model, records = predict(Data([make_scene(0, ["take 0", "take 1"]), bad]))
    found = model.evaluation
    good_area = 6 * 6 + 8 * 16
    missed_area = 6 * 7 + 8 * 16
    assert found.methods["Told"]["oIoU"] == pytest.approx(100 * good_area / (good_area + missed_area))
    assert found.methods["Told"]["mIoU"] == 50
    assert found.failures == {reason: 2}
    assert (found.n_images, found.n_evaluated, found.n_skipped) == (2, 4, 0)
    assert [r.failure for r in records] == [None, None, reason, reason]
    assert [(r.choice, r.score, r.segmentation, r.intersection) for r in records[2:]] == [
        (None, None, None, 0)
    ] * 2


def test_the_upper_bound_does_not_suffer_from_a_method_that_fails(predict: Callable[..., Any]) -> None:
    scenes = [make_scene(0, ["take 0"]), make_scene(1, ["take 0"], value=13)]
    model, records = predict(Data(scenes), methods=[TOLD, "random"])
    assert model.evaluation.upper_bound["oIoU"] == 100
    assert model.evaluation.failures == {"Told: RuntimeError: unlucky": 1}
    assert [(r.method, r.failure is None) for r in records] == [
        ("Told", True),
        ("Random", True),
        ("Told", False),
        ("Random", True),
    ]


def test_a_failure_is_told_once_with_its_traceback(
    predict: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    predict(Data([make_scene(0, ["take 0"]), *(make_scene(i, ["take 0"], value=13) for i in (1, 2, 3))]))
    (told,) = [entry for entry in caplog.records if entry.name == "gl_ris.zero_shot"]
    assert "1001" in told.getMessage()
    assert told.exc_info is not None


def test_a_bug_that_fails_every_image_is_an_error(predict: Callable[..., Any]) -> None:
    data = Data([make_scene(i, ["take 0"], value=13) for i in range(3)])
    with pytest.raises(EvaluationError, match=r"Not one expression .* Told: RuntimeError: unlucky \(3\)"):
        predict(data)


def test_images_that_go_missing_on_the_way_are_an_error(predict: Callable[..., Any]) -> None:
    data = Data([make_scene(0, ["take 0"])])
    data.n_expressions = 2
    with pytest.raises(
        EvaluationError, match="Evaluated 1 images with 1 expressions, but the split has 1 with 2"
    ):
        predict(data)


def test_a_recipe_can_leave_out_images_without_proposals(predict: Callable[..., Any]) -> None:
    from gl_ris.recipe import Recipe

    recipe = Recipe(skip_images_without_proposals=True)
    scenes = [make_scene(0, ["take 0"]), make_scene(1, ["take 0", "take 1"], proposals=no_proposals())]
    model, records = predict(Data(scenes), recipe=recipe)
    found = model.evaluation
    assert (found.methods["Told"]["oIoU"], found.upper_bound["oIoU"]) == (100, 100)
    assert (found.n_images, found.n_evaluated, found.n_skipped) == (2, 1, 2)
    assert found.failures == {"skipped, no proposals": 2}
    assert len(records) == 3


@dataclass(frozen=True)
class Marked(Scene):
    subsets: dict[str, Tensor] = field(default_factory=dict)


def marked(index: int, texts: Sequence[str], *flags: int, **changes: Any) -> Marked:
    scene = make_scene(index, texts, **changes)
    values = {one.name: getattr(scene, one.name) for one in fields(scene)}
    return Marked(
        **values, subsets={"odd": torch.tensor(flags, dtype=torch.bool), "never": torch.zeros(len(texts)) > 0}
    )


def test_a_subset_has_the_figures_of_its_expressions_alone(predict: Callable[..., Any]) -> None:
    first = marked(0, ["take 0", "take 1", "take 2"], 1, 0, 1)
    rest = [marked(1, ["take 1"], 0), marked(2, ["take 0", "take 0"], 1, 0, proposals=no_proposals())]
    data = Data([first, *rest])
    data.subset_sizes = {"odd": 3, "never": 0}
    model, records = predict(data)
    odd, never = model.evaluation.subsets["odd"], model.evaluation.subsets["never"]
    # the first chooses its target, the third both targets, the fifth nothing: it misses a target of 6 x 8
    small, large = 6 * 6, 8 * 16
    hit, missed = 2 * small, 2 * small + large + 6 * 8
    assert odd.methods["Told"]["oIoU"] == pytest.approx(100 * hit / missed)
    assert odd.methods["Told"]["mIoU"] == pytest.approx(100 * (1 + small / (small + large)) / 3)
    assert (odd.n_images, odd.n_evaluated, odd.failures) == (2, 3, {"no proposals": 1})
    assert (never.n_images, never.n_evaluated) == (0, 0)
    assert model.evaluation.n_evaluated == 6
    assert [r.subsets for r in records] == [("odd",), (), ("odd",), (), ("odd",), ()]


def test_skipped_expressions_are_skipped_in_their_subset(predict: Callable[..., Any]) -> None:
    from gl_ris.recipe import Recipe

    data = Data([marked(0, ["take 0"], 1), marked(1, ["take 0", "take 0"], 1, 0, proposals=no_proposals())])
    data.subset_sizes = {"odd": 2, "never": 0}
    model, _ = predict(data, recipe=Recipe(skip_images_without_proposals=True))
    odd = model.evaluation.subsets["odd"]
    assert (odd.methods["Told"]["oIoU"], odd.n_evaluated, odd.n_skipped) == (100, 1, 1)


def test_a_subset_of_another_size_than_that_of_the_data_is_an_error(predict: Callable[..., Any]) -> None:
    data = Data([marked(0, ["take 0"], 1)])
    data.subset_sizes = {"odd": 2, "never": 0}
    with pytest.raises(EvaluationError, match="Evaluated 1 expressions of subset 'odd', but the split has 2"):
        predict(data)


def test_data_without_subsets_have_none(predict: Callable[..., Any]) -> None:
    model, (record,) = predict(Data([make_scene(0, ["take 0"])]))
    assert (model.evaluation.subsets, record.subsets) == ({}, None)


def test_proposals_are_made_only_for_scenes_that_bring_none(predict: Callable[..., Any]) -> None:
    generator = Halves()
    scenes = [make_scene(0, ["take 1"]), make_scene(1, ["take 1"], proposals=None)]
    _, records = predict(Data(scenes), proposals=generator)
    assert generator.calls == 1
    assert records[0].union == 6 * 6 + 8 * 16
    assert records[1].union == HEIGHT * 15 + 6 * 7  # the right half, beside the first target


def test_each_text_is_encoded_once_for_the_whole_split(
    predict: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    encode = TextTower.encode
    monkeypatch.setattr(
        TextTower, "encode", lambda tower, batch: (encoded.extend(batch.texts), encode(tower, batch))[1]
    )
    texts = ["the red star", "a blue circle above the red star"]
    model, records = predict(
        Data([make_scene(i, texts) for i in range(3)]), methods=["global_local", "cropping"]
    )
    assert len(encoded) == len(set(encoded))
    assert set(texts) <= set(encoded)
    assert {record.noun_phrase for record in records} <= set(encoded)
    seconds = model.evaluation.seconds
    assert seconds["image"] > 0
    assert seconds["text"] > 0
    assert seconds["total"] >= sum(value for stage, value in seconds.items() if stage != "total")


def test_every_method_predicts_what_a_direct_call_scores(predict: Callable[..., Any]) -> None:
    """Lightning predicts in inference mode, in which a method that needs gradients has to get them."""
    image = torch.randint(0, 256, (3, HEIGHT, WIDTH), dtype=torch.uint8)
    scene = make_scene(0, ["the red star", "a blue circle above the red star"], image=image)
    model, records = predict(Data([scene]), methods=sorted(available_scorers()))
    assert model.evaluation.failures == {}
    assert len(model.scorers) == len(model.evaluation.methods) >= 7
    for scorer in model.scorers:
        scores = scorer(image, scene.proposals.masks, scene.expressions)
        own = [record for record in records if record.method == scorer.title]
        assert [record.score for record in own] == pytest.approx(scores.amax(dim=1).tolist(), rel=1e-4)


def test_scenes_may_come_from_a_plain_loader(predict: Callable[..., Any]) -> None:
    loader = DataLoader(
        [make_scene(0, ["take 0", "take 2"])], batch_size=None, collate_fn=lambda scene: scene
    )
    model, records = predict(loader)
    assert [record.choice for record in records] == [0, 2]
    assert model.evaluation.n_evaluated == 2


def test_nothing_is_loaded_by_making_one() -> None:
    assert len(ZeroShotRIS(clip="local-dir:nowhere").scorers) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"methods": ["global_locl"]}, "Did you mean 'global_local'"),
        ({"methods": []}, "must name one method or more"),
        ({"methods": ["cropping", "cropping"]}, "each once"),
        ({"alpha": 1.1}, "alpha=1.1 is out of range"),
        ({"beta": -0.1}, "beta=-0.1 is out of range"),
        ({"recipe": "clan"}, "Did you mean 'clean'"),
    ],
    ids=["unknown-method", "no-method", "twice", "alpha", "beta", "recipe"],
)
def test_wrong_settings_are_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ZeroShotRIS(**settings)


@pytest.mark.parametrize(
    ("world_size", "share", "proposals_name", "message"),
    [
        (2, 1.0, "ground_truth", "1 images for 2 processes"),
        (1, 0.5, "ground_truth", "use data.limit=N"),
        (1, 1, "ground_truth", "use data.limit=N"),
        (1, 1.0, None, "nothing to choose from; give proposals=felzenszwalb"),
    ],
    ids=["too-few-images", "share-of-images", "one-image", "no-proposals"],
)
def test_data_and_trainer_must_fit(
    world_size: int, share: float, proposals_name: str | None, message: str
) -> None:
    data = Data([make_scene(0, ["take 0"])], proposals_name)
    trainer = SimpleNamespace(world_size=world_size, limit_predict_batches=share)
    with pytest.raises(UserError, match=message):
        ZeroShotRIS(proposals=None).check(data, trainer)


def test_a_generator_makes_up_for_data_without_proposals() -> None:
    data = Data([make_scene(0, ["take 0"])], None)
    ZeroShotRIS(proposals=Halves()).check(data, SimpleNamespace(world_size=1, limit_predict_batches=1.0))
