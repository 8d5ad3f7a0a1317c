"""Global-Local: how its features mix, what it shares, and what changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gl_ris.bits import Bits, pack
from gl_ris.clip import RegionCLIP
from gl_ris.errors import UserError
from gl_ris.masks import tight_boxes
from gl_ris.recipe import Recipe
from gl_ris.scorers import Scorer
from gl_ris.scorers.global_local import Cropping, GlobalLocal
from gl_ris.scorers.grad_cam import GradCAM

EXPRESSIONS = ["the red star left of a big circle", "Dog", "a striped square"]


PHRASES = ["the red star", "Dog", "a striped square"]


def test_alpha_and_beta_mix_the_features(clip: RegionCLIP, image: Tensor, masks: Tensor) -> None:
    scorer = GlobalLocal(clip, alpha=0.3, beta=0.8, recipe="clean")
    whole, local = scorer.visual_features(image, masks)
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(len(masks)))
    sentences, phrases = (F.normalize(clip.encode_texts(texts), dim=1) for texts in (EXPRESSIONS, PHRASES))
    text = scorer.text_features(EXPRESSIONS, PHRASES)
    torch.testing.assert_close(text, 0.8 * sentences + 0.2 * phrases)
    expected = F.cosine_similarity(text[:, None], (0.3 * whole + 0.7 * local)[None], dim=-1)
    torch.testing.assert_close(scorer(image, masks, EXPRESSIONS, PHRASES), expected)


def test_cropping_is_local_visual_and_global_text(clip: RegionCLIP, image: Tensor, masks: Tensor) -> None:
    expected = GlobalLocal(clip, alpha=0, beta=1, recipe="clean")(image, masks, EXPRESSIONS)
    scorer = Cropping(clip, recipe="clean")
    assert torch.equal(scorer(image, masks, EXPRESSIONS), expected)
    assert scorer.texts(EXPRESSIONS) == EXPRESSIONS


def test_the_order_of_masks_and_texts_does_not_matter(clip: RegionCLIP, image: Tensor, masks: Tensor) -> None:
    scorer = GlobalLocal(clip, recipe="clean")
    order, turn = torch.tensor([3, 0, 5, 1, 4, 2]), [2, 0, 1]
    scores = scorer(image, masks, EXPRESSIONS, PHRASES)
    moved = scorer(image, masks[order], [EXPRESSIONS[i] for i in turn], [PHRASES[i] for i in turn])
    torch.testing.assert_close(moved, scores[turn][:, order], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_the_batch_size_does_not_matter(
    clip: RegionCLIP, image: Tensor, masks: Tensor, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = GlobalLocal(clip, recipe="clean")(image, masks, EXPRESSIONS, PHRASES)
    monkeypatch.setattr(clip, "batch_size", batch_size)
    monkeypatch.setattr(clip, "_context", None)
    actual = GlobalLocal(clip, recipe="clean")(image, masks, EXPRESSIONS, PHRASES)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_an_empty_mask_never_wins(clip: RegionCLIP, image: Tensor, masks: Tensor) -> None:
    scorer = GlobalLocal(clip, recipe="clean")
    expected = scorer(image, masks, EXPRESSIONS, PHRASES)
    scores = scorer(
        image, torch.cat([masks[:2], torch.zeros(1, 45, 70).bool(), masks[2:]]), EXPRESSIONS, PHRASES
    )
    assert (scores[:, 2] == -torch.inf).all()
    torch.testing.assert_close(scores[:, [0, 1, 3, 4, 5, 6]], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("n", "e"), [(0, 2), (3, 0), (0, 0)])
def test_nothing_to_score_gives_an_empty_table(clip: RegionCLIP, image: Tensor, n: int, e: int) -> None:
    scorer = GlobalLocal(clip, recipe="clean")
    masks = torch.ones(n, 45, 70, dtype=torch.bool)
    assert scorer(image, masks, EXPRESSIONS[:e], PHRASES[:e]).shape == (e, n)
    assert [part.shape for part in scorer.visual_features(image, masks)] == [(n, clip.feature_dim)] * 2


def test_given_boxes_are_cropped_by(clip: RegionCLIP, image: Tensor, masks: Tensor) -> None:
    scorer = GlobalLocal(clip, recipe="clean")
    tight = torch.tensor([[12.0, 8, 41, 30], [3, 5, 60, 40]])
    local = scorer.visual_features(image, masks[:2])[1]
    torch.testing.assert_close(scorer.visual_features(image, masks[:2], tight)[1], local)
    wide = tight + torch.tensor([-3.0, -3, 3, 3])
    assert (scorer.visual_features(image, masks[:2], wide)[1] - local).abs().max() > 1e-3


def count_encodes(clip: RegionCLIP, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    counts = {"encode": 0, "image_state": 0, "region_features": 0}

    def counted(name: str, rows: Callable[..., int]) -> None:
        original = getattr(clip.tower, name)

        def call(*args: Tensor) -> Tensor:
            counts[name] += rows(*args)
            return original(*args)

        monkeypatch.setattr(clip.tower, name, call)

    counted("encode", lambda pixels: len(pixels))
    counted("image_state", lambda *args: 1)
    counted("region_features", lambda state, grid, k: len(grid))
    return counts


def test_scorers_share_the_work_on_an_image(
    clip: RegionCLIP, image: Tensor, masks: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip, "_context", None)
    counts = count_encodes(clip, monkeypatch)
    scorers: list[Scorer] = [
        GlobalLocal(clip, recipe="clean"),
        Cropping(clip, recipe="clean"),
        GlobalLocal(clip, alpha=0.5, beta=1, recipe=Recipe.named("clean", vit_unit_visual=False)),
    ]
    for scorer in scorers:
        scorer(image.clone(), masks.clone(), EXPRESSIONS, PHRASES)
    assert counts == {"encode": 6, "image_state": 1, "region_features": 6}
    Cropping(clip, recipe=Recipe.named("clean", crop_fill=(1, 1, 1)))(image, masks, EXPRESSIONS)
    assert counts == {"encode": 12, "image_state": 1, "region_features": 6}


def test_a_changed_image_is_never_mistaken_for_the_last_one(
    clip: RegionCLIP, image: Tensor, masks: Tensor
) -> None:
    scorer = GlobalLocal(clip, recipe="clean")
    before = scorer(image, masks, EXPRESSIONS, PHRASES)
    image.mul_(0)
    assert (scorer(image, masks, EXPRESSIONS, PHRASES) - before).abs().max() > 1e-3
    masks.logical_not_()
    assert (scorer(image, masks, EXPRESSIONS, PHRASES)[:, 3] == -torch.inf).all()
    # of what numpy writes, torch knows nothing
    masks.numpy()[3, 20:30, 20:40] = True
    assert scorer(image, masks, EXPRESSIONS, PHRASES)[:, 3].isfinite().all()
    image.numpy()[:] = 99
    assert torch.equal(clip.context(image, masks).image, torch.full_like(image, 99))


def test_masks_of_a_copy_are_not_written_to_behind_a_context(
    clip: RegionCLIP, image: Tensor, masks: Tensor
) -> None:
    context, boxes = clip.context(image, masks), tight_boxes(masks)
    kept = masks.clone()
    masks.numpy()[:] = False
    assert torch.equal(context.masks, kept)
    assert torch.equal(tight_boxes(context.bits), boxes)


def test_bits_are_taken_as_they_are_and_counted_once(
    clip: RegionCLIP, image: Tensor, masks: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorers = [kind(clip, recipe=name) for kind in (GlobalLocal, GradCAM) for name in ("clean", "published")]
    expected = [scorer(image, masks, EXPRESSIONS, PHRASES) for scorer in scorers]
    monkeypatch.setattr(clip, "_context", None)
    packed = []
    monkeypatch.setattr("gl_ris.bits.pack", lambda given: (packed.append(given.ndim), pack(given))[1])
    bits = Bits(masks)
    for scorer, scores in zip(scorers, expected, strict=True):
        assert torch.equal(scorer(image, bits, EXPRESSIONS, PHRASES), scores)
    context = clip.context(image, bits)
    assert context.masks is masks
    # other packing is that of the columns of a grid
    assert packed.count(3) == 1
    # equal ones are known by their values, others are not the same
    assert clip.context(image.clone(), Bits(masks.clone())) is context
    assert clip.context(image, masks.clone()) is context
    assert clip.context(image, Bits(~masks)) is not context


@pytest.mark.parametrize("threads", [2, 3])
def test_scores_are_the_same_bits_for_any_number_of_threads(
    clip: RegionCLIP, image: Tensor, masks: Tensor, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, used = [], set()
    for tower, name in (
        (clip.tower, "encode"),
        (clip.tower, "image_state"),
        (clip.tower, "region_features"),
        (clip._text_tower, "encode"),
    ):
        work = getattr(tower, name)
        monkeypatch.setattr(
            tower, name, lambda *a, work=work: (used.add(torch.get_num_threads()), work(*a))[1]
        )
    before = torch.get_num_threads()
    for count in (1, threads):
        monkeypatch.setattr(clip, "_context", None)
        monkeypatch.setattr(clip, "_texts", {})
        monkeypatch.setattr(clip, "batch_size", 2)
        torch.set_num_threads(count)
        try:
            scorer = GlobalLocal(clip, recipe="clean")
            # as runs do, which tell the time of the image apart
            GradCAM(clip, recipe="clean").prepare(clip.context(image, masks))
            results.append(scorer(image, masks, EXPRESSIONS, PHRASES))
            assert torch.get_num_threads() == count
        finally:
            torch.set_num_threads(before)
    assert torch.equal(*results)
    assert used == {1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 1.5}, "alpha=1.5 is out of range"),
        ({"beta": -0.1}, "beta=-0.1 is out of range"),
        ({"recipe": "clear"}, "Unknown recipe 'clear'. Did you mean 'clean'"),
        ({"masked_blocks": 6}, "masked_blocks=6 does not fit a tower of 5 blocks"),
    ],
)
def test_impossible_settings_are_refused(
    clips: dict[str, RegionCLIP], change: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        GlobalLocal(clips["vit"], **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": torch.zeros(3, 45, 70)}, r"image must be uint8 \(3, H, W\), got torch.float32"),
        ({"masks": torch.zeros(2, 45, 71).bool()}, r"masks must be bool \(N, 45, 70\) like the image"),
        ({"masks": torch.zeros(2, 45, 70)}, "masks must be bool"),
        ({"boxes": torch.zeros(2, 4)}, r"boxes must be \(6, 4\) XYXY"),
        ({"noun_phrases": ["a"]}, "3 expressions but 1 noun phrases"),
    ],
)
def test_wrong_tensors_are_refused(
    clips: dict[str, RegionCLIP], image: Tensor, masks: Tensor, change: dict[str, object], message: str
) -> None:
    arguments = {"image": image, "masks": masks, "expressions": EXPRESSIONS, **change}
    with pytest.raises(ValueError, match=message):
        GlobalLocal(clips["vit"], recipe="clean")(**arguments)


def test_a_scorer_has_no_trainable_parameters(clip: RegionCLIP) -> None:
    scorer = GlobalLocal(clip).train()
    assert not [name for name, value in scorer.named_parameters() if value.requires_grad]
    assert not clip.model.visual.training
