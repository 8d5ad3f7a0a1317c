"""What is visited in a training: refs, sentences, their order, and what stands in for damage."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from datamodules import RefCOCO
from datamodules.fewshot import universe
from datamodules.learning import FewShotTraining, LearningSet, Sample, Visits
from datamodules.refer import write_refer
from gl_ris.errors import UserError
from gl_ris.supervised.segmenter import Example

CATEGORIES = {1: "cat", 2: "dog"}
# id of the ref, of its annotation, of its image, its category, its sentences
REFS = [
    (1, 11, 1, 1, ["a cat", "cat left"]),
    (2, 12, 1, 2, ["a dog"]),
    (3, 13, 2, 1, ["one cat"]),
    (4, 14, 2, 1, ["other cat"]),
    (5, 14, 2, 1, ["same cat again"]),  # a second ref of one annotation
    (6, 16, 3, 2, ["third dog"]),
]


class Reads:
    """Stands for a model: keeps images and masks as they are, and counts what it reads."""

    def __init__(self, reads_raw: bool = False) -> None:
        self.reads_raw = reads_raw
        self.read: Counter[str] = Counter()

    def read_image(self, image: Tensor) -> Tensor:
        self.read["images"] += 1
        return image

    def read_target(self, target: Tensor) -> Tensor:
        self.read["targets"] += 1
        return target

    def collate(self, examples: list[Example]) -> list[Example]:
        return examples


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three images of 20 x 30 pixels; the square of annotation 1x is at column x."""
    refs: list[dict[str, Any]] = []
    annotations: dict[int, dict[str, Any]] = {}
    for ref_id, ann_id, image_id, category, texts in REFS:
        left = float(ann_id - 10)
        square = [left, 2.0, left + 4, 2.0, left + 4, 6.0, left, 6.0]
        annotations[ann_id] = {
            "id": ann_id,
            "image_id": image_id,
            "category_id": category,
            "segmentation": [square],
            "area": 16.0,
            "bbox": [left, 2.0, 4.0, 4.0],
            "iscrowd": 0,
        }
        sentences = [
            {"sent_id": 10 * ref_id + n, "sent": text, "raw": f"{text.upper()}!", "tokens": text.split()}
            for n, text in enumerate(texts)
        ]
        keys = {"ref_id": ref_id, "ann_id": ann_id, "image_id": image_id, "category_id": category}
        names = {"split": "train", "file_name": f"{image_id}.png"}
        refs.append({**keys, **names, "sentences": sentences, "sent_ids": [s["sent_id"] for s in sentences]})
    images = [{"id": i, "file_name": f"{i}.png", "height": 20, "width": 30} for i in (1, 2, 3)]
    categories = [{"id": number, "name": name} for number, name in CATEGORIES.items()]
    instances = {"images": images, "annotations": list(annotations.values()), "categories": categories}
    write_refer(tmp_path / "toy", "unc", refs, instances)
    (tmp_path / "toy" / "images").mkdir()
    for i in (1, 2, 3):
        pixels = np.full((20, 30, 3), 10 * i, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "toy" / "images" / f"{i}.png")
    return tmp_path


def learning(root: Path, model: Reads, seed: int = 0, **choice: Any) -> FewShotTraining:
    data = RefCOCO(root, "toy", split="train")
    return FewShotTraining(data, model, choice.pop("k", "all"), seed, **choice)  # type: ignore[arg-type]


def test_the_universe_has_every_ref_with_its_class_and_the_places_of_its_annotation(root: Path) -> None:
    keys, places = universe(RefCOCO(root, "toy", split="train").records, "toy")
    assert [(key.ref_id, key.ann_id, key.category, key.image_id, key.sentences) for key in keys] == [
        (ref_id, ann_id, CATEGORIES[category], image_id, len(texts))
        for ref_id, ann_id, image_id, category, texts in REFS
    ]
    assert places == {11: [(0, 0)], 12: [(0, 1)], 13: [(1, 0)], 14: [(1, 1), (1, 2)], 16: [(2, 0)]}


def test_a_visit_is_an_image_a_sentence_of_one_ref_and_its_mask(root: Path) -> None:
    data = learning(root, Reads()).data
    assert len(data) == 5  # two refs of one annotation are one instance
    found = {}
    for index in range(5):
        example = data[index, 0]
        column = int(example.target.any(dim=0).nonzero()[0])
        assert int(example.target.sum()) == 16
        found[10 + column] = (int(example.pixels[0, 0, 0]) // 10, example.expression)
    assert {ann: image for ann, (image, _) in found.items()} == {11: 1, 12: 1, 13: 2, 14: 2, 16: 3}
    texts = {ann: [t for _, a, _, _, own in REFS if a == ann for t in own] for ann in found}
    assert all(text in texts[ann] for ann, (_, text) in found.items())


def test_sentences_are_drawn_anew_every_epoch_and_the_same_in_every_process(root: Path) -> None:
    def drawn(seed: int) -> list[str]:
        data = learning(root, Reads(), seed).data
        return [data[index, epoch].expression for epoch in range(40) for index in range(5)]

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)
    counts = Counter(text for text in drawn(0))
    assert counts["a dog"] == 40
    for pair in (("a cat", "cat left"), ("other cat", "same cat again")):
        assert sum(counts[text] for text in pair) == 40
        assert min(counts[text] for text in pair) >= 8


def test_a_model_may_read_sentences_as_they_were_typed(root: Path) -> None:
    data = learning(root, Reads(reads_raw=True)).data
    assert all(data[index, 0].expression.endswith("!") for index in range(5))


def test_images_and_masks_are_read_once(root: Path) -> None:
    model = Reads()
    data = learning(root, model).data
    for epoch in range(3):
        for index in range(5):
            data[index, epoch]
    assert model.read == {"images": 3, "targets": 5}


def test_memory_that_is_full_reads_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datamodules.learning.KEPT", 0)
    model = Reads()
    data = learning(root, model).data
    for _ in range(2):
        data[0, 0]
    assert model.read == {"images": 2, "targets": 2}


def test_the_next_ref_stands_in_for_one_that_cannot_be_read(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (root / "toy" / "images" / "3.png").write_bytes(b"no image")
    data = learning(root, Reads()).data
    bad = next(i for i, sample in enumerate(data.chosen) if sample.record == 2)
    with caplog.at_level(logging.WARNING):
        got = [data[bad, epoch] for epoch in range(3)]
    assert [int(example.pixels[0, 0, 0]) for example in got] != [30] * 3
    assert data.unusable == 3
    assert caplog.text.count("Image 3 cannot be learnt from") == 1


def test_nothing_that_can_be_read_is_an_error(root: Path) -> None:
    for i in (1, 2, 3):
        (root / "toy" / "images" / f"{i}.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="Not one of 5 refs"):
        learning(root, Reads()).data[0, 0]


def test_data_without_classes_can_be_learnt_from_as_a_whole_only(root: Path) -> None:
    import json

    path = root / "toy" / "instances.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "categories": []}))
    assert len(learning(root, Reads()).data) == 5
    with pytest.raises(UserError, match=r"does not tell the class of ref 1.*k=all"):
        learning(root, Reads(), k=1)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_share_an_epoch_out(processes: int) -> None:
    data = LearningSet([], [Sample(i, (0,)) for i in range(11)], lambda record: None, Reads())  # type: ignore[arg-type, return-value]
    shares = [Visits(data, 7, rank, processes) for rank in range(processes)]
    for epoch in (0, 3):
        for share in shares:
            share.set_epoch(epoch)
        visits = [list(share) for share in shares]
        assert {len(own) for own in visits} == {11 // processes} == {len(share) for share in shares}
        seen = [index for own in visits for index, _ in own]
        assert len(set(seen)) == len(seen)
        assert {number for own in visits for _, number in own} == {epoch}
    first = Visits(data, 7)
    orders = []
    for epoch in range(3):
        first.set_epoch(epoch)
        orders.append(tuple(first))
    assert len({tuple(index for index, _ in order) for order in orders}) == 3
    whole = [index for index, _ in orders[0]]
    shares[0].set_epoch(0)
    assert [index for index, _ in shares[0]] == whole[0 : 11 // processes * processes : processes]


@pytest.mark.parametrize(
    ("size", "processes", "accumulate", "steps"), [(2, 1, 1, 2), (4, 2, 1, 1), (4, 1, 2, 1), (99, 1, 1, 1)]
)
def test_steps_of_an_epoch(root: Path, size: int, processes: int, accumulate: int, steps: int) -> None:
    data = learning(root, Reads(), batch_size=size, accumulate=accumulate)
    assert data.batch_size == min(size, 5)
    assert data.steps_per_epoch(processes) == steps


def test_too_many_processes_for_a_batch(root: Path) -> None:
    with pytest.raises(UserError, match=r"A batch of 2 refs cannot be shared by 3 processes"):
        learning(root, Reads(), batch_size=2).steps_per_epoch(3)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_gives_whole_batches(root: Path, workers: int) -> None:
    class Trainer:
        global_rank, world_size = 0, 1

    source = RefCOCO(root, "toy", split="train", num_workers=workers)
    data = FewShotTraining(source, Reads(), "all", 0, 2)  # type: ignore[arg-type]
    data.trainer = Trainer()  # type: ignore[assignment]
    loader = data.train_dataloader()
    batches = list(loader)
    assert [len(batch) for batch in batches] == [2, 2]
    alone = [data.data[visit] for visit in list(Visits(data.data, 0))[:4]]
    got = [example for batch in batches for example in batch]
    assert [example.expression for example in got] == [example.expression for example in alone]
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(got, alone, strict=True))
