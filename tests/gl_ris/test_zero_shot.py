"""A run of ZeroShotRIS: its figures, its records, its work, and the settings it refuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from gl_ris.bits import pack
from gl_ris.clip.text_tower import TextTower
from gl_ris.errors import UserError
from gl_ris.proposals.base import ProposalGenerator, Proposals
from gl_ris.scorers import available_scorers
from gl_ris.zero_shot import ZeroShotRIS
from toy_scenes import HEIGHT, WIDTH, Data, make_scene


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


def test_proposals_are_packed_once_for_all_methods(
    predict: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = [make_scene(0, ["take 1", "take 0"]), make_scene(1, ["take 2"])]
    packed = []
    monkeypatch.setattr("gl_ris.bits.pack", lambda masks: (packed.append(masks), pack(masks))[1])
    predict(Data(scenes), methods=["global_local", "cropping", "grad_cam", "score_map", "largest"])
    # two targets are packed, too
    assert [len(masks) for masks in packed if masks.shape[1:] == (HEIGHT, WIDTH)].count(3) == len(scenes)


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
    # those that read what other programs scored have tests of their own
    methods = sorted(name for name, kind in available_scorers().items() if not kind.reads_file)
    model, records = predict(Data([scene]), methods=methods)
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
        (1, 1.0, None, "nothing to choose from; give proposals=slic"),
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


class ByNumber(Halves):
    """Serves the images that it was prepared for, each with one mask of as many columns as its place."""

    def prepare(self, image_ids: Sequence[int | str]) -> None:
        self.known = list(image_ids)

    def for_image(self, image_id: int | str, image: Tensor) -> Proposals:
        masks = torch.zeros(1, *image.shape[1:], dtype=torch.bool)
        masks[..., : 1 + self.known.index(image_id)] = True
        return Proposals.from_masks(masks)


def test_a_generator_makes_up_for_data_without_proposals() -> None:
    data = Data([make_scene(0, ["take 0"]), make_scene(1, ["take 1"])], None)
    generator = ByNumber()
    model = ZeroShotRIS(proposals=generator)
    model.check(data, SimpleNamespace(world_size=1, limit_predict_batches=1.0))
    assert generator.known == [1000, 1001]
    scene = replace(data.scenes[1], proposals=None)
    assert model._masks_of(scene).masks.sum() == 2 * HEIGHT


def test_a_generator_that_is_not_asked_prepares_nothing() -> None:
    generator = ByNumber()
    data = Data([make_scene(0, ["take 0"])])
    ZeroShotRIS(proposals=generator).check(data, SimpleNamespace(world_size=1, limit_predict_batches=1.0))
    assert not hasattr(generator, "known")
