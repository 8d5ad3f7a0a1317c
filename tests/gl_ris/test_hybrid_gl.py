"""HybridGL against its streams written out for one mask at a time, and its guidance step by step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.functional as TF
from torch import Tensor

from by_hand import covered, embedded, pixels_of, run_block
from gl_ris.clip import RegionCLIP
from gl_ris.errors import UserError
from gl_ris.heat import heat_maps
from gl_ris.masks import tight_boxes
from gl_ris.recipe import Recipe
from gl_ris.rerank.hybridgl import relation
from gl_ris.scorers.hybrid_gl import HybridGL, place_of
from gl_ris.text import load_parser
from toy_scenes import Data, make_scene, run

EXPRESSIONS = ["the red star on the left of a dog", "a blue square", "the star above the green circle"]
PHRASES = ["the red star", "a blue square", "the star"]


def fused(clip: RegionCLIP, mode: str, pixels: tuple[Tensor, Tensor], grid: Tensor) -> Tensor:
    """The feature of one mask: global and local pixels (1, 3, h, w), its grid (rows, columns)."""
    visual = clip.model.visual
    wide, near = (embedded(clip, each) for each in pixels)
    *blocks, third, second, first = visual.transformer.resblocks
    for block in blocks:
        wide, near = run_block(block, wide), run_block(block, near)
    share = torch.cat([torch.ones(1), grid.flatten()])[:, None]
    bias = torch.zeros(17, 17)
    bias[0, share[:, 0] == 0] = -torch.inf
    both_near, both_wide = near, wide
    for block in (third, second, first):
        old_near, old_wide = near, wide
        if mode == "g2l":
            near, wide = run_block(block, near + 2 * old_wide * share), run_block(block, wide, bias)
        elif mode == "l2g":
            near, wide = run_block(block, near), run_block(block, old_near + 2 * wide, bias)
        else:
            near, wide = run_block(block, near), run_block(block, wide, bias)
            both_near = run_block(block, both_near + 2 * old_wide * share)
            both_wide = run_block(block, old_near + 2 * both_wide, bias)
    read = {"g2l": [near], "l2g": [wide], "both": [both_near, both_wide]}[mode]
    return torch.stack([visual.ln_post(tokens[0]) @ visual.proj for tokens in read]).sum(dim=0)


def published_pictures(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Global and local pixels as the published code makes them, with another library's blur."""
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    blurred = TF.gaussian_blur(image.float(), [15, 15], [2.6, 2.6]).round()
    wide = TF.normalize(
        TF.resize(torch.where(mask, image.float(), blurred) / 255, [32, 32], antialias=False), mean, std
    )
    fill = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    whole = TF.normalize(image.float() / 255, mean, std)
    return wide[None], TF.resize(whole * mask + fill * ~mask, [32, 32], antialias=False)[None]


@pytest.mark.parametrize("mode", ["g2l", "l2g", "both"])
@torch.no_grad()
def test_features_are_the_streams_of_each_mask(
    mode: str, clips: dict[str, RegionCLIP], image: Tensor, masks: Tensor
) -> None:
    clip = clips["vit"]
    small = torch.zeros(1, 45, 70, dtype=torch.bool)
    small[0, 0, 0] = True  # vanishes on the grid: the class token sees itself alone
    masks = torch.cat([masks, small])
    grids = [TF.resize(mask[None].float(), [4, 4], antialias=False)[0] for mask in masks]
    assert not grids[-1].any()
    pictures = [published_pictures(image, mask) for mask in masks]
    expected = torch.stack([fused(clip, mode, *each) for each in zip(pictures, grids, strict=True)])
    scorer = HybridGL(clip, mode=mode, recipe="published")
    torch.testing.assert_close(scorer.visual_features(image, masks), expected, rtol=1e-4, atol=2e-4)
    wide, near = (torch.cat(each) for each in zip(*pictures, strict=True))
    torch.testing.assert_close(scorer.fuse(wide, near, masks), expected, rtol=1e-4, atol=1e-4)
    assert expected.std(dim=0).mean() > 1e-2


@torch.no_grad()
def test_clean_features_have_the_mean_colour_around_masks_and_no_lost_mask(
    clips: dict[str, RegionCLIP], image: Tensor, masks: Tensor
) -> None:
    clip, scorer = clips["vit"], HybridGL(clips["vit"], recipe="clean")
    mean = torch.tensor(clip.mean)[:, None, None]
    blurred = TF.gaussian_blur(image.float(), [15, 15], [2.6, 2.6]).round() / 255
    grid = covered(masks, (4, 4))
    for row in (1, 5):
        pictures = [torch.where(masks[row], image.float() / 255, other) for other in (blurred, mean)]
        whole = [
            F.interpolate(one[None], (32, 32), mode="bicubic", antialias=True).clamp(0, 1) for one in pictures
        ]
        std = torch.tensor(clip.std)[:, None, None]
        wide, near = ((one - mean) / std for one in whole)
        actual = scorer.visual_features(image, masks)[row]
        torch.testing.assert_close(actual, fused(clip, "g2l", (wide, near), grid[row]), rtol=1e-4, atol=2e-4)


@torch.no_grad()
def test_blocks_that_someone_listens_to_are_called(
    clips: dict[str, RegionCLIP], image: Tensor, masks: Tensor
) -> None:
    scorer = HybridGL(clips["vit"], mode="both", recipe="clean")
    pixels = torch.randn(2, 6, 3, 32, 32)
    expected = scorer.fuse(pixels[0], pixels[1], masks)
    handle = clips["vit"].model.visual.transformer.resblocks[-2].register_forward_hook(lambda *_: None)
    try:
        torch.testing.assert_close(scorer.fuse(pixels[0], pixels[1], masks), expected, rtol=1e-4, atol=1e-4)
    finally:
        handle.remove()


@pytest.mark.parametrize(
    ("guidance", "shares"), [("full", (0.4, 0.6)), ("relation", (1.0, 0.0)), ("coherence", (0.0, 1.0))]
)
@torch.no_grad()
def test_the_three_best_are_scored_anew_and_others_stand_behind(
    guidance: str, shares: tuple[float, float], clips: dict[str, RegionCLIP], image: Tensor, masks: Tensor
) -> None:
    clip, recipe = clips["vit"], Recipe(hybrid_guidance=guidance)  # type: ignore[arg-type]
    visual = F.normalize(HybridGL(clip, recipe=recipe).visual_features(image, masks), dim=-1)
    actual = HybridGL(clip, recipe=recipe)(image, masks, EXPRESSIONS, PHRASES)
    said = [(["a photo of a dog"], "left", 1 - torch.linspace(0, 1, 70)), ([], "none", torch.ones(70))]
    said += [(["a photo of the green circle"], "up", (1 - torch.linspace(0, 1, 45))[:, None])]
    sentences, phrases = (F.normalize(clip.encode_texts(each), dim=-1) for each in (EXPRESSIONS, PHRASES))
    text = F.normalize((sentences + phrases) / 2, dim=-1)
    maps = heat_maps(
        clip, "gem", pixels_of(clip, image), clip.encode_texts([f"a photo of a {p}." for p in PHRASES])
    )
    for row, (anchors, flag, place) in enumerate(said):
        p = (100 * text[row] @ visual.T).double().softmax(dim=0)
        mean = F.normalize(clip.encode_texts(anchors).mean(dim=0), dim=0) if anchors else None
        q = None if mean is None else (100 * mean @ visual.T).double().softmax(dim=0)
        found, weights = relation(p, q, tight_boxes(masks).double(), flag)
        heat = F.interpolate(maps[row][None, None], (32, 32), mode="bilinear", align_corners=False)
        heat = F.interpolate(heat, (45, 70), mode="bilinear", align_corners=False, antialias=True)[0, 0]
        heat = (heat - heat.min()) / (heat.max() - heat.min()) * place
        heat = heat / heat.mean()
        coherence = [0.2 * heat[m].mean() - 1.8 * (heat[~m].mean() if (~m).any() else 1) for m in masks]
        anew = shares[0] * weights + shares[1] * torch.stack(coherence)[found]
        torch.testing.assert_close(actual[row, found].double(), anew, rtol=1e-3, atol=1e-4)
        others = [column for column in p.argsort(descending=True).tolist() if column not in found.tolist()]
        assert actual[row].argsort(descending=True).tolist()[3:] == others


def test_without_guidance_the_cosine_counts(
    clips: dict[str, RegionCLIP], image: Tensor, masks: Tensor
) -> None:
    scorer = HybridGL(clips["vit"], recipe=Recipe(hybrid_guidance="none"))
    text, visual = scorer.text_features(EXPRESSIONS, PHRASES), scorer.visual_features(image, masks)
    expected = F.cosine_similarity(text[:, None], visual[None], dim=-1)
    torch.testing.assert_close(scorer(image, masks, EXPRESSIONS, PHRASES), expected)
    # what goes on from them takes them for cosines, as those of Global-Local
    scale = float(clips["vit"].model.logit_scale.exp())
    torch.testing.assert_close(scorer.probabilities(expected), (scale * expected.double()).softmax(dim=1))
    assert scorer.texts(EXPRESSIONS, PHRASES) == [*EXPRESSIONS, *PHRASES]


def test_everything_that_is_encoded_is_said_ahead(
    clips: dict[str, RegionCLIP], image: Tensor, masks: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = HybridGL(clips["vit"], recipe="clean")
    told = set(scorer.texts(EXPRESSIONS, PHRASES))
    asked: set[str] = set()
    encode = scorer.clip.encode_texts
    monkeypatch.setattr(scorer.clip, "encode_texts", lambda texts: asked.update(texts) or encode(texts))
    scorer(image, masks, EXPRESSIONS, PHRASES)
    assert asked == told
    assert "a photo of a dog" in told


def test_a_mask_of_the_whole_image_wins_by_the_published_code_alone(
    clips: dict[str, RegionCLIP], image: Tensor, masks: Tensor
) -> None:
    few = masks[[0, 3, 4]]
    for value, wins in (("wins", True), ("even", False)):
        scores = HybridGL(clips["vit"], recipe=Recipe(hybrid_full_frame=value))(
            image, few, EXPRESSIONS, PHRASES
        )  # type: ignore[arg-type]
        assert not wins or (scores.argmax(dim=1) == 1).all()
        assert (scores.max() > 1000) == wins


def test_fewer_candidates_after_a_small_image_by_the_published_code_alone(
    clips: dict[str, RegionCLIP], image: Tensor, masks: Tensor
) -> None:
    for value, same in (("run", False), ("image", True)):
        scorer = HybridGL(clips["vit"], recipe=Recipe(hybrid_candidates=value))  # type: ignore[arg-type]
        before = scorer(image, masks, EXPRESSIONS, PHRASES)
        scorer(image, masks[:1], EXPRESSIONS, PHRASES)
        assert torch.equal(scorer(image, masks, EXPRESSIONS, PHRASES), before) == same


@pytest.mark.parametrize(
    ("recipe", "rerank", "told"),
    [
        pytest.param("published", "none", 1, marks=pytest.mark.slow),
        ("published", "full", 1),
        ("clean", "none", 0),
    ],
)
def test_what_depends_on_the_order_of_images_is_told_where_a_run_goes_on(
    recipe: str, rerank: str, told: int, predict: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model, records = predict(
        Data([make_scene(0, EXPRESSIONS[:2])]), "hybrid_gl", recipe=recipe, rerank=rerank
    )
    assert len(records) == 2
    assert "by what came before" not in caplog.text
    model.finished = frozenset([99])
    run(model, Data([make_scene(0, EXPRESSIONS[:2])]))
    assert caplog.text.count("HybridGL scores an image by what came before it") == told


@pytest.mark.parametrize(("counts", "side"), [((2, 3, 2), 32), ((2, 2, 1), 32), ((2, 2, 2), 40)])
def test_pictures_that_do_not_fit_are_refused(
    counts: tuple[int, int, int], side: int, clips: dict[str, RegionCLIP]
) -> None:
    wide, near = (torch.zeros(count, 3, side, side) for count in counts[:2])
    with pytest.raises(ValueError, match=r"masks must be bool \(N, H, W\), and both pixels \(N, 3, 32, 32\)"):
        HybridGL(clips["vit"]).fuse(wide, near, torch.ones(counts[2], 9, 9, dtype=torch.bool))


def test_masks_without_a_pixel_are_no_candidates(
    clips: dict[str, RegionCLIP], image: Tensor, masks: Tensor
) -> None:
    scorer = HybridGL(clips["vit"], recipe="clean")
    some = torch.cat([masks[:2], torch.zeros_like(masks[:3])])
    scores = scorer(image, some, EXPRESSIONS, PHRASES)
    torch.testing.assert_close(scores[:, :2], scorer(image, masks[:2], EXPRESSIONS, PHRASES))
    assert (scores[:, 2:] == -torch.inf).all()


@pytest.mark.parametrize(
    ("text", "which", "place"),
    [
        ("the man on the left", "all", "left"),
        ("right cat", "horizontal", "right"),
        ("the middle cup", "all", "middle"),
        ("the top shelf", "all", "top"),
        ("the top shelf", "horizontal", None),
        ("the bottom cup", "all", "bottom"),
        ("the left cup", "none", None),
        ("a red cup", "all", None),
    ],
)
def test_the_place_that_an_expression_names(text: str, which: str, place: str | None) -> None:
    assert place_of(load_parser()(text), which) == place


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("resnet", {}, "'hybrid_gl' needs the class token of a VisionTransformer"),
        ("vit", {"mode": "g21"}, "recipe field 'hybrid_mode' 'g21'. Did you mean 'g2l'"),
        ("vit", {"masked_blocks": 9}, "masked_blocks=9 does not fit"),
        ("vit", {"recipe": {"hybrid_fill": [1, 2]}}, "recipe.hybrid_fill=.* must be three numbers"),
    ],
)
def test_what_does_not_fit_is_told(
    kind: str, settings: dict[str, Any], message: str, clips: dict[str, RegionCLIP]
) -> None:
    with pytest.raises(UserError, match=message):
        HybridGL(clips[kind], **settings)
