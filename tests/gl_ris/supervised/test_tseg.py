"""Patch assignment, written out patch by patch; and a network whose answers do not hang on each other."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gl_ris.supervised.segmenter import Example
from gl_ris.supervised.tseg import TSEG, TSEGBaseline, TSEGSegmenter, assign, assignment_loss, pooled_scores
from tiny_baselines import TINY_TSEG


@pytest.fixture
def similarities() -> Tensor:
    return torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))


# image 0 has expressions 0 and 1, image 1 has 2 and 3; expression 3 has the words of expression 0
OWNERS, WORDS = torch.tensor([0, 0, 1, 1]), torch.tensor([7, 8, 9, 7])
PRESENT = [[0, 1], [2, 3]]
IGNORED = [[3], [0]]


def share_by_hand(s: Tensor, image: int, expression: int, patch: int, background: float) -> float:
    if expression in IGNORED[image]:
        return 0.0
    absent = [e for e in range(4) if e not in PRESENT[image] and e not in IGNORED[image]]
    rivals = math.exp(background) + sum(math.exp(s[image, e, patch]) for e in absent)
    own = math.exp(s[image, expression, patch])
    return own / (rivals + own if expression in PRESENT[image] else rivals)


def table(rows: list[list[int]]) -> Tensor:
    return torch.tensor([[e in row for e in range(4)] for row in rows])


def test_expressions_compete_with_the_background_and_what_is_absent(similarities: Tensor) -> None:
    shares = assign(similarities, table(PRESENT), table(IGNORED), torch.tensor(0.3))
    for image in range(2):
        for expression in range(4):
            for patch in range(3):
                expected = share_by_hand(similarities, image, expression, patch, 0.3)
                assert shares[image, expression, patch].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("focal", [True, False])
def test_the_loss_is_the_mean_over_pairs_that_are_known(similarities: Tensor, focal: bool) -> None:
    total, pairs = 0.0, 0
    for image in range(2):
        for expression in range(4):
            if expression in IGNORED[image]:
                continue
            shares = [share_by_hand(similarities, image, expression, p, 0.3) for p in range(3)]
            values = similarities[image, expression].tolist()
            score = sum(a * s for a, s in zip(shares, values, strict=True)) / (1 + sum(shares))
            if focal:
                size = sum(shares) / 3
                score += (1 - size) ** 3 * math.log(0.01 + size)
            chance = 1 / (1 + math.exp(-(score - 0.3)))
            total -= math.log(chance if expression in PRESENT[image] else 1 - chance)
            pairs += 1
    loss = assignment_loss(similarities, OWNERS, WORDS, torch.tensor(0.3), focal)
    assert loss.item() == pytest.approx(total / pairs, rel=1e-5)


def test_huge_similarities_stay_finite() -> None:
    s = torch.tensor([[[300.0, -300.0], [200.0, 0.0]]])
    shares = assign(s, torch.tensor([[True, False]]), torch.zeros(1, 2, dtype=torch.bool), torch.tensor(0.0))
    assert shares.isfinite().all()
    assert pooled_scores(s, shares).isfinite().all()


@torch.no_grad()
def test_an_expression_is_compared_by_itself_and_images_are_too() -> None:
    torch.manual_seed(0)
    network = TSEG(TINY_TSEG).eval()
    pixels, ids = torch.randn(2, 3, 128, 128), torch.randint(1, 600, (3, 20))
    mask = torch.ones_like(ids)
    whole = network(pixels, ids, mask)
    assert whole.shape == (2, 3, 256)
    torch.testing.assert_close(network(pixels[1:], ids[2:], mask[2:]), whole[1:, 2:], atol=1e-4, rtol=1e-4)
    assert whole.abs().max() <= 10 + 1e-4  # a cosine over a temperature of 0.1
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == 0.5


@torch.no_grad()
def test_padding_says_nothing() -> None:
    torch.manual_seed(0)
    network = TSEG(TINY_TSEG).eval()
    pixels, ids, mask = torch.randn(1, 3, 128, 128), torch.randint(1, 600, (1, 20)), torch.ones(1, 20).long()
    mask[:, 6:] = 0
    other = torch.where(mask.bool(), ids, 0)
    torch.testing.assert_close(network(pixels, ids, mask), network(pixels, other, mask), atol=1e-4, rtol=1e-4)


def words(expressions: list[str]) -> list[list[int]]:
    return [[1, *(2 + ord(c) for c in text), 500] for text in expressions]


def test_a_batch_knows_whose_expressions_are_whose() -> None:
    segmenter = TSEGSegmenter(TSEG(TINY_TSEG), words, TSEGBaseline())
    images = torch.randint(0, 256, (2, 3, 60, 80), dtype=torch.uint8)
    many = tuple(f"thing {n}" for n in range(12))
    batch = segmenter.collate(
        [
            Example(segmenter.read_image(image), texts)
            for image, texts in zip(images, [("red star", "moon"), ("moon", *many)], strict=True)
        ]
    )
    assert batch["owners"].tolist() == [0, 0] + [1] * 8
    assert batch["words"].tolist() == [0, 1, 1, *range(2, 9)]
    assert batch["pixels"].shape == (2, 3, 128, 128)
    assert batch["pixels"].abs().max() <= 1
    loss = segmenter.training_loss(batch)
    loss.backward()
    assert loss.isfinite()


def test_answers_are_masks_of_the_size_of_the_image() -> None:
    segmenter = TSEGSegmenter(TSEG(TINY_TSEG), words, TSEGBaseline()).eval()
    image = torch.randint(0, 256, (3, 60, 80), dtype=torch.uint8)
    both = segmenter.segment(image, ["red star", "moon"])
    assert both.shape == (2, 60, 80)
    assert torch.equal(segmenter.segment(image, ["moon"])[0], both[1])


def test_the_text_encoder_learns_at_a_tenth_of_the_rate() -> None:
    segmenter = TSEGSegmenter(TSEG(TINY_TSEG), words, TSEGBaseline())
    groups = segmenter.optimization(10, 1)["optimizer"].param_groups
    assert [group["lr"] for group in groups] == pytest.approx([1e-4, 1e-5])
    assert sum(len(g["params"]) for g in groups) == len(list(segmenter.parameters()))
