"""How LAVT and CRIS read, are trained and answer, number by number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import gl_ris
from gl_ris.supervised import CRIS, LAVT
from gl_ris.supervised.cris.recipe import CRISBaseline, CRISSegmenter
from gl_ris.supervised.lavt.recipe import LAVTBaseline, LAVTSegmenter
from gl_ris.supervised.segmenter import Segmenter
from tiny_baselines import TINY_CRIS, TINY_LAVT

START, END = 1, 500


def by_characters(expressions: list[str]) -> list[list[int]]:
    return [[START, *(2 + ord(c) for c in text), END] for text in expressions]


def tiny_lavt(side: int = 128) -> LAVTSegmenter:
    torch.manual_seed(0)
    return LAVTSegmenter(LAVT(replace(TINY_LAVT, image_size=side)), by_characters, LAVTBaseline()).eval()


def tiny_cris(side: int = 128, **settings: bool) -> CRISSegmenter:
    torch.manual_seed(0)
    clip = gl_ris.load_clip("refshapes-rn")
    network = CRIS(clip.model.requires_grad_(True), size=TINY_CRIS)
    return CRISSegmenter(
        network, by_characters, CRISBaseline(side=side, **settings), clip.mean, clip.std
    ).eval()


@pytest.fixture
def image() -> Tensor:
    return torch.randint(0, 256, (3, 90, 130), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_published_sizes_are_optimised_in_the_published_groups() -> None:
    with torch.device("meta"):
        lavt = LAVTSegmenter(LAVT(), by_characters, LAVTBaseline())
        cris = CRISSegmenter(CRIS("RN50"), by_characters, CRISBaseline(), (0.5,) * 3, (0.5,) * 3)
    groups = lavt.optimization(100, 40)["optimizer"].param_groups
    assert [len(group["params"]) for group in groups] == [136, 253, 20, 160]
    assert [group["weight_decay"] for group in groups] == [0.0, 0.01, 0.01, 0.01]
    assert {group["lr"] for group in groups} == {5e-5}
    groups = cris.optimization(100, 50)["optimizer"].param_groups
    assert len(groups[0]["params"]) == 325
    assert [group["lr"] for group in groups] == pytest.approx([1e-5, 1e-4])
    shapes = [tuple(p.shape) for p in groups[1]["params"][:2]]
    assert sorted(shapes) == [(50, 2048), (77, 512)]


def test_the_rate_of_lavt_falls_at_every_step() -> None:
    made = tiny_lavt().optimization(steps=10, epochs=2)
    assert made["lr_scheduler"]["interval"] == "step"
    for step in range(10):
        expected = 5e-5 * (1 - step / 10) ** 0.9
        assert [g["lr"] for g in made["optimizer"].param_groups] == pytest.approx([expected] * 4)
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()
    assert made["optimizer"].param_groups[0]["lr"] == 0


@pytest.mark.parametrize("oversight", [False, True])
def test_the_rates_of_cris_fall_after_seven_tenths_of_the_epochs(oversight: bool) -> None:
    made = tiny_cris(first_epoch_at_full_rate=oversight).optimization(steps=500, epochs=50)
    assert made["lr_scheduler"]["interval"] == "epoch"
    rates = []
    for _ in range(50):
        rates.append([group["lr"] for group in made["optimizer"].param_groups])
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()
    assert rates[0] == pytest.approx([1e-4 if oversight else 1e-5, 1e-4])
    assert all(rate == pytest.approx([1e-5, 1e-4]) for rate in rates[1:35])
    assert all(rate == pytest.approx([1e-6, 1e-5]) for rate in rates[35:])


def test_lavt_reads_an_image_as_pillow_squashes_it(image: Tensor) -> None:
    read = tiny_lavt().read_image(image)
    squashed = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((128, 128), Image.Resampling.BILINEAR)
    expected = (np.asarray(squashed) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(read.permute(1, 2, 0).numpy(), expected, atol=1e-5)


def test_lavt_reads_a_mask_as_pillow_does_to_the_nearest(image: Tensor) -> None:
    mask = image[0] > 128
    expected = Image.fromarray(mask.numpy().astype(np.uint8)).resize((128, 128), Image.Resampling.NEAREST)
    assert torch.equal(tiny_lavt().read_target(mask), torch.from_numpy(np.array(expected)).long())


def test_lavt_cuts_long_expressions_the_end_token_with_them() -> None:
    texts = tiny_lavt().read_texts(["ab", "x" * 40])
    assert texts["input_ids"].shape == (2, 20)
    assert texts["input_ids"][0].tolist() == [START, 99, 100, END] + [0] * 16
    assert texts["attention_mask"].sum(1).tolist() == [4, 20]
    assert END not in texts["input_ids"][1].tolist()


def test_cris_cuts_long_expressions_before_the_end_token() -> None:
    ids = tiny_cris().read_texts([" ab ", "x" * 40])["token_ids"]
    assert ids[0].tolist() == [START, 99, 100, END] + [0] * 13
    assert ids[1].tolist() == [START] + [122] * 15 + [END]


def test_the_loss_of_lavt_weighs_the_object_more() -> None:
    logits, target = torch.randn(2, 2, 4, 4), torch.randint(0, 2, (2, 4, 4))
    chance = logits.softmax(1)
    weights = torch.where(target == 1, 1.1, 0.9)
    own = torch.where(target == 1, chance[:, 1], chance[:, 0])
    expected = -(weights * own.log()).sum() / weights.sum()
    torch.testing.assert_close(tiny_lavt().loss(logits, target), expected)


def test_the_loss_of_cris_takes_soft_targets() -> None:
    logits, target = torch.randn(2, 1, 4, 4), torch.rand(2, 1, 4, 4)
    chance = logits.sigmoid()
    expected = -(target * chance.log() + (1 - target) * (1 - chance).log()).mean()
    torch.testing.assert_close(tiny_cris().loss(logits, target), expected)


def test_lavt_answers_with_the_higher_logit_at_the_size_of_the_image() -> None:
    logits = torch.randn(3, 2, 8, 8)
    wide = nn.Upsample((20, 13), mode="bilinear", align_corners=False)(logits)
    assert torch.equal(tiny_lavt().answer(logits, 20, 13), wide.argmax(1).bool())


def test_cris_answers_where_the_probability_is_above_its_threshold() -> None:
    segmenter = tiny_cris()
    logits = torch.full((1, 1, 32, 32), -9.0)
    logits[..., 12:20, 8:24] = 9.0  # of a letterboxed image of 100 x 200: its middle
    mask = segmenter.answer(logits, 100, 200)[0]
    assert mask[45:55, 60:140].all()
    assert not mask[:20].any()
    level = torch.full((1, 1, 32, 32), 0.36).logit()
    assert segmenter.answer(level, 128, 128)[0, 8:-8, 8:-8].all()
    assert not segmenter.answer(torch.full((1, 1, 32, 32), 0.34).logit(), 128, 128).any()


def test_cris_reads_targets_at_a_quarter_of_the_size() -> None:
    mask = torch.zeros(128, 128, dtype=torch.bool)
    mask[64:, 32:96] = True
    target = tiny_cris().read_target(mask)
    assert target.shape == (1, 32, 32)
    assert target[0, 16:, 8:24].min() == 1
    assert target.sum() == 16 * 16


@pytest.mark.parametrize("make", [tiny_lavt, tiny_cris])
def test_answers_are_one_mask_for_each_expression_whatever_stands_beside_it(
    make: object, image: Tensor
) -> None:
    segmenter: Segmenter = make()  # type: ignore[operator]
    together = segmenter.segment(image, ["red", "blue star", "left"], batch_size=2)
    assert together.shape == (3, 90, 130)
    assert together.dtype == torch.bool
    assert torch.equal(segmenter.segment(image, ["left"])[0], together[2])
    assert segmenter.segment(image, []).shape == (0, 90, 130)


@pytest.mark.parametrize("make", [tiny_lavt, tiny_cris])
def test_four_refs_can_be_learnt_by_heart(make: object) -> None:
    segmenter: Segmenter = make(96)  # type: ignore[operator]
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 60, (4, 3, 96, 96), dtype=torch.uint8, generator=generator)
    masks = torch.zeros(4, 96, 96, dtype=torch.bool)
    for row in range(4):
        top, left = 16 * row, (37 * row) % 56
        masks[row, top : top + 32, left : left + 40] = True
        images[row, row % 3][masks[row]] = 220
    expressions = [f"object {'abcd'[row]}" for row in range(4)]
    pixels = torch.stack([segmenter.read_image(image) for image in images])
    targets = torch.stack([segmenter.read_target(mask) for mask in masks])
    texts = segmenter.read_texts(expressions)
    optimizer = torch.optim.AdamW([p for p in segmenter.parameters() if p.requires_grad], lr=1e-3)

    def learnt() -> bool:
        segmenter.eval()
        found = torch.cat([segmenter.segment(images[r], [expressions[r]]) for r in range(4)])
        segmenter.train()
        return bool((found & masks).sum() > 0.6 * (found | masks).sum())

    segmenter.train()
    for step in range(60):
        if step % 10 == 9 and learnt():
            break
        loss = segmenter.loss(segmenter.logits(pixels, **texts), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert learnt()
