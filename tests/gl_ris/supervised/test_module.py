"""A supervised model in training and in measurement: its figures, records, misses and its learning."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gl_ris.errors import EvaluationError, UserError
from gl_ris.masks import decode_rle
from gl_ris.supervised.module import SupervisedRIS
from gl_ris.supervised.segmenter import Baseline, Example, Segmenter
from toy_scenes import HEIGHT, WIDTH, Data, make_scene, run


class Threshold(Segmenter):
    """Marks the pixels brighter than a learnt level; fails on an image of value 13."""

    def read_image(self, image: Tensor) -> Tensor:
        if int(image[0, 0, 0]) == 13:
            raise RuntimeError("unlucky\nimage")
        return image.float() / 255

    def read_target(self, target: Tensor) -> Tensor:
        return target.float()

    def read_texts(self, expressions: Any) -> dict[str, Tensor]:
        return {"lengths": torch.tensor([len(text) for text in expressions])}

    def logits(self, pixels: Tensor, **texts: Tensor) -> Tensor:
        return 20 * (pixels[:, 0] - self.network["level"])

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(logits, targets)

    def answer(self, logits: Tensor, height: int, width: int) -> Tensor:
        return logits > 0

    def optimization(self, steps: int, epochs: int) -> dict[str, Any]:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05)
        schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class ThresholdBaseline(Baseline):
    title = "Threshold"
    epochs, batch_size = 1, 2

    def __init__(self, level: float = 0.5) -> None:
        self.level = level

    def make(self) -> Threshold:
        network = nn.ParameterDict({"level": torch.tensor(self.level)})
        return Threshold(network, lambda texts: [[] for _ in texts], self)


def bright(index: int, texts: list[str], level: int = 200, **changes: Any) -> Any:
    """A scene whose first target is brighter than the rest, which is at 100."""
    scene = make_scene(index, texts)
    image = scene.image.clone()
    image[:, scene.targets[0]] = level
    return make_scene(index, texts, **{"image": image, **changes})


def measured(scenes: list[Any], level: float = 0.5) -> tuple[SupervisedRIS, list[Any]]:
    model = SupervisedRIS(ThresholdBaseline(level))
    return model, [record for records in run(model, Data(scenes, None)) for record in records]


def test_figures_and_records_are_those_of_counting_pixels() -> None:
    model, records = measured([bright(0, ["a", "b"]), bright(1, ["c"])])
    assert model.evaluation is not None
    # the first target is found as it is; of the second nothing is, and the first is marked in vain
    sizes = [36, 36 + 128, 42]
    assert [(r.intersection, r.union) for r in records] == [(36, 36), (0, sizes[1]), (42, 42)]
    figures = model.evaluation.methods["Threshold"]
    assert figures["oIoU"] == pytest.approx(100 * (36 + 42) / sum(sizes))
    assert figures["mIoU"] == pytest.approx(100 * 2 / 3)
    assert figures["Pr@0.9"] == pytest.approx(100 * 2 / 3)
    assert all(value != value for value in model.evaluation.upper_bound.values())  # nan: nothing to choose
    assert [r.method for r in records] == ["Threshold"] * 3
    assert [r.choice for r in records] == [None] * 3
    scene = bright(0, ["a", "b"])
    segmentation = records[1].segmentation
    assert segmentation is not None
    assert torch.equal(decode_rle(segmentation), scene.targets[0])
    assert (model.evaluation.n_images, model.evaluation.n_evaluated) == (2, 3)


def test_the_title_names_the_cell() -> None:
    model = SupervisedRIS(ThresholdBaseline())
    model.title = "Threshold k=4"
    records = run(model, Data([bright(0, ["a"])], None))
    assert records[0][0].method == "Threshold k=4"
    assert model.evaluation is not None
    assert list(model.evaluation.methods) == ["Threshold k=4"]


def test_scenes_that_fail_are_misses_with_their_reason() -> None:
    bad = make_scene(1, ["b"], value=13)
    unreadable = make_scene(2, ["c", "d"], error="image: damaged")
    model, records = measured([bright(0, ["a"]), bad, unreadable])
    assert [r.failure for r in records] == [
        None,
        "Threshold: RuntimeError: unlucky",
        *["image: damaged"] * 2,
    ]
    assert [r.segmentation is None for r in records] == [False, True, True, True]
    assert [r.intersection for r in records[1:]] == [0, 0, 0]
    assert [r.union for r in records[2:]] == [48, 128]
    assert model.evaluation is not None
    assert model.evaluation.failures == {"Threshold: RuntimeError: unlucky": 1, "image: damaged": 2}


def test_a_run_of_failures_alone_is_an_error() -> None:
    with pytest.raises(EvaluationError, match=r"Not one expression .* unlucky \(1\)"):
        measured([make_scene(0, ["a"], value=13)])


def test_subsets_are_counted_beside_all() -> None:
    class Marked(Data):
        def __init__(self, scenes: list[Any]) -> None:
            super().__init__(scenes, None)
            self.subset_sizes = {"unseen": 1}

    class WithSubsets:
        def __init__(self, scene: Any) -> None:
            self._scene = scene
            self.subsets = {"unseen": torch.tensor([False, True])}

        def __getattr__(self, name: str) -> Any:
            return getattr(self._scene, name)

        def to(self, device: Any, **_: Any) -> Any:
            return self

    model = SupervisedRIS(ThresholdBaseline())
    scene = bright(0, ["a", "b"])
    records = run(model, Marked([WithSubsets(scene)]))[0]
    assert [record.subsets for record in records] == [(), ("unseen",)]
    assert model.evaluation is not None
    assert model.evaluation.subsets["unseen"].methods["Threshold"]["oIoU"] == 0.0
    assert model.evaluation.subsets["unseen"].n_evaluated == 1


def train(model: SupervisedRIS, batches: Any, epochs: int = 1) -> None:
    model.configure_model()
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(model, batches)


def test_training_lowers_the_loss_and_finds_the_object() -> None:
    model = SupervisedRIS(ThresholdBaseline(0.95))
    model.configure_model()
    scenes = [bright(index, ["a"], 200 + index) for index in range(4)]
    read = model.segmenter
    examples = [
        Example(read.read_image(s.image), "a", read.read_target(s.targets[0]))  # type: ignore[attr-defined]
        for s in scenes
    ]
    loader = DataLoader(examples, batch_size=2, collate_fn=read.collate)  # type: ignore[arg-type]
    before = read.training_loss(read.collate(examples)).item()
    train(model, loader, epochs=20)
    assert read.training_loss(read.collate(examples)).item() < before / 2
    run(model, Data(scenes, None))
    assert model.evaluation is not None
    assert model.evaluation.methods["Threshold"]["oIoU"] == 100.0


def test_a_loss_that_is_no_number_stops_the_training() -> None:
    model = SupervisedRIS(ThresholdBaseline(float("nan")))
    example = Example(torch.zeros(3, HEIGHT, WIDTH), "a", torch.zeros(HEIGHT, WIDTH))
    model.configure_model()
    loader = DataLoader([example], batch_size=1, collate_fn=model.segmenter.collate)  # type: ignore[arg-type, type-var]
    with pytest.raises(FloatingPointError, match="The loss is nan in step 0"):
        train(model, loader)


def test_without_a_published_form_only_our_own_weights_are_taken() -> None:
    with pytest.raises(UserError, match="no weights of Threshold, for which none are published"):
        ThresholdBaseline().make().load_weights({"x": torch.zeros(1)})


def test_without_a_baseline_there_is_nothing_to_run() -> None:
    with pytest.raises(UserError, match="baseline=NAME"):
        SupervisedRIS()
