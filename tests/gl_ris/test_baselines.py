"""The baselines, each computed anew: by forward passes by hand, plain autograd, convolutions and loops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gl_ris
from gl_ris.clip import RegionCLIP, load_clip
from gl_ris.clip.region_tokens import tokens_of
from gl_ris.errors import UserError
from gl_ris.recipe import Recipe
from gl_ris.scorers import Scorer
from gl_ris.scorers.global_local import GlobalLocal
from gl_ris.scorers.grad_cam import GradCAM
from gl_ris.scorers.largest import LargestProposal
from gl_ris.scorers.region_token import RegionToken
from gl_ris.scorers.score_map import ScoreMap

EXPRESSIONS = ["the red star", "a striped square left of the dog", "green"]
BASELINES: list[type[Scorer]] = [GradCAM, ScoreMap, RegionToken, LargestProposal]


def fits(method: type[Scorer], clip: RegionCLIP) -> bool:
    return method is not RegionToken or clip.tower.kind == "vit"


def pixels_of(clip: RegionCLIP, image: Tensor) -> Tensor:
    """The tower's input under recipe clean, which test_global_local checks against Pillow."""
    return clip.context(image, torch.ones(1, *image.shape[1:]).bool()).pixels(Recipe())


def embedded(clip: RegionCLIP, pixels: Tensor) -> Tensor:
    """The tokens before the first block of a ViT, by hand: (1 + cells, width)."""
    visual = clip.model.visual
    patches = F.conv2d(pixels, visual.conv1.weight, stride=visual.conv1.stride)[0].flatten(1).T
    return visual.ln_pre(torch.cat([visual.class_embedding[None], patches]) + visual.positional_embedding)


def attend(block: nn.Module, queries: Tensor, keys: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multi-head attention written out, queries (n, width) over keys (m, width), both normalised already."""
    attention, width, heads = block.attn, queries.shape[1], block.attn.num_heads  # type: ignore[union-attr]
    weight, shift = attention.in_proj_weight, attention.in_proj_bias
    q, k, v = (
        (source @ weight[part * width : (part + 1) * width].T + shift[part * width : (part + 1) * width])
        for part, source in enumerate((queries, keys, keys))
    )
    outputs = []
    for q_head, k_head, v_head in zip(*(x.chunk(heads, dim=1) for x in (q, k, v)), strict=True):
        logits = q_head @ k_head.T / (width // heads) ** 0.5
        outputs.append((logits if bias is None else logits + bias).softmax(dim=1) @ v_head)
    return attention.out_proj(torch.cat(outputs, dim=1))


def run_block(block: nn.Module, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
    normed = block.ln_1(tokens)  # type: ignore[operator]
    tokens = tokens + attend(block, normed, normed, bias)
    return tokens + block.mlp(block.ln_2(tokens))  # type: ignore[operator]


def pooled_map(clip: RegionCLIP, feature_map: Tensor) -> Tensor:
    """Attention pooling of (C, rows, columns) written out, to (D,)."""
    pool = clip.model.visual.attnpool
    tokens = feature_map.flatten(1).T
    tokens = torch.cat([tokens.mean(0, keepdim=True), tokens]) + pool.positional_embedding
    q, k, v = pool.q_proj(tokens[:1]), pool.k_proj(tokens), pool.v_proj(tokens)
    outputs = [
        (a @ b.T / a.shape[1] ** 0.5).softmax(dim=1) @ c
        for a, b, c in zip(*(x.chunk(pool.num_heads, dim=1) for x in (q, k, v)), strict=True)
    ]
    return pool.c_proj(torch.cat(outputs, dim=1))[0]


def feature_map(clip: RegionCLIP, pixels: Tensor) -> Tensor:
    """What enters the attention pooling of an ordinary forward pass, (C, rows, columns)."""
    caught: list[Tensor] = []
    hook = clip.model.visual.attnpool.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    clip.model.visual(pixels)
    hook.remove()
    return caught[0][0]


def grad_cam(clip: RegionCLIP, image: Tensor, text: Tensor) -> Tensor:
    """Grad-CAM's map (rows, columns) by plain autograd over a whole hand-written pass."""
    pixels = pixels_of(clip, image)
    if clip.tower.kind == "resnet":
        last = feature_map(clip, pixels).clone().requires_grad_()
        feature = pooled_map(clip, last)
    else:
        visual = clip.model.visual
        tokens = embedded(clip, pixels)
        for block in visual.transformer.resblocks[:-1]:
            tokens = run_block(block, tokens)
        last = tokens[1:].T.reshape(-1, *clip.tower.grid_size).detach().requires_grad_()
        tokens = torch.cat([tokens[:1], last.flatten(1).T])
        feature = visual.ln_post(run_block(visual.transformer.resblocks[-1], tokens)[0]) @ visual.proj
    (feature @ text / feature.norm() / text.norm()).backward()
    assert last.grad is not None
    cam = sum(last.grad[c].mean() * last[c] for c in range(len(last)))
    return torch.relu(cam).detach()  # type: ignore[arg-type]


def dense(clip: RegionCLIP, image: Tensor) -> Tensor:
    """MaskCLIP's features (D, rows, columns): value and output layers made convolutions of size 1x1."""
    pixels, visual = pixels_of(clip, image), clip.model.visual

    def convolved(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        layer = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
        layer.weight.data, layer.bias.data = weight[:, :, None, None], bias  # type: ignore[union-attr]
        return layer(inputs[None])[0]

    if clip.tower.kind == "resnet":
        pool = visual.attnpool
        value = convolved(feature_map(clip, pixels), pool.v_proj.weight, pool.v_proj.bias)
        return convolved(value, pool.c_proj.weight, pool.c_proj.bias)
    tokens = embedded(clip, pixels)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        tokens = run_block(block, tokens)
    width, grid = tokens.shape[1], clip.tower.grid_size
    tokens = tokens[1:]
    inputs = last.ln_1(tokens).T.reshape(width, *grid)
    value = convolved(inputs, last.attn.in_proj_weight[2 * width :], last.attn.in_proj_bias[2 * width :])
    output = convolved(value, last.attn.out_proj.weight, last.attn.out_proj.bias)
    tokens = tokens + output.flatten(1).T
    tokens = tokens + last.mlp(last.ln_2(tokens))
    return (visual.ln_post(tokens) @ visual.proj).T.reshape(-1, *grid)


def covered(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    return F.interpolate(masks[:, None].float(), grid, mode="area")[:, 0]


def texts_of(clip: RegionCLIP, expressions: list[str]) -> Tensor:
    return clip.encode_texts(expressions)


def test_grad_cam_is_plain_autograds(clip: RegionCLIP, image: Tensor, masks: Tensor) -> None:
    with torch.inference_mode():
        actual = GradCAM(clip, recipe="clean")(image, masks, EXPRESSIONS)
    maps = [grad_cam(clip, image, text) for text in texts_of(clip, EXPRESSIONS)]
    assert sum(int(cam.max() > 0) for cam in maps) >= 2
    for scores, cam in zip(actual, maps, strict=True):
        pixels = F.interpolate(cam[None, None], masks.shape[1:], mode="bilinear", align_corners=False)[0, 0]
        expected = torch.stack([pixels[mask].sum() for mask in masks])
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-6)


def test_grad_cam_favours_larger_masks(clip: RegionCLIP, image: Tensor, masks: Tensor) -> None:
    scores = GradCAM(clip, recipe="clean")(image, masks, EXPRESSIONS)
    assert (scores >= 0).all()
    assert (scores[:, 3:4] >= scores).all()  # the mask of everything
    positive = scores[:, 3] > 0
    assert positive.any()
    assert (scores[:, 3] > scores[:, 5])[positive].all()


@pytest.mark.parametrize(
    "mode", [torch.inference_mode, torch.no_grad, torch.enable_grad], ids=["inference", "no-grad", "grad"]
)
def test_grad_cam_works_in_every_mode_and_leaves_no_gradient(
    clip: RegionCLIP, image: Tensor, masks: Tensor, mode: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = GradCAM(clip, recipe="clean")(image, masks, EXPRESSIONS)
    monkeypatch.setattr(clip, "_context", None)
    scorer = GradCAM(clip, recipe="clean")
    with mode():
        scorer.prepare(clip.context(image, masks))
        scores = scorer(image, masks, EXPRESSIONS)
    assert torch.equal(scores, expected)
    assert not scores.requires_grad
    assert all(value.grad is None for value in clip.parameters())


def test_grad_cam_of_weights_that_were_loaded_in_inference_mode(
    clip_folder: Callable[..., Path], image: Tensor, masks: Tensor
) -> None:
    with torch.inference_mode():
        clip = load_clip(f"local-dir:{clip_folder('vit')}")
        assert GradCAM(clip, recipe="clean")(image, masks, EXPRESSIONS).max() > 0


def test_grad_cam_runs_the_image_once_and_goes_back_once_for_each_expression(
    clip: RegionCLIP, image: Tensor, masks: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip, "_context", None)
    passes = {"image_state": 0, "pool": 0, "backward": 0}
    for name in ("image_state", "pool"):
        work = getattr(clip.tower, name)

        def counted(*a: object, name: str = name, work: Callable = work) -> object:
            passes[name] += 1
            return work(*a)

        monkeypatch.setattr(clip.tower, name, counted)
    backward = torch.autograd.grad
    monkeypatch.setattr(
        torch.autograd,
        "grad",
        lambda *a, **k: (passes.update(backward=passes["backward"] + 1), backward(*a, **k))[1],
    )
    GradCAM(clip, recipe="clean")(image, masks, EXPRESSIONS)
    assert passes == {"image_state": 1, "pool": 1, "backward": len(EXPRESSIONS)}


@torch.no_grad()
def test_score_map_is_two_convolutions_and_a_mean(clip: RegionCLIP, image: Tensor, masks: Tensor) -> None:
    actual = ScoreMap(clip, recipe="clean")(image, masks, EXPRESSIONS)
    features, grid = dense(clip, image), covered(masks, clip.tower.grid_size)
    for row, text in enumerate(texts_of(clip, EXPRESSIONS)):
        score_map = F.cosine_similarity(features, text[:, None, None], dim=0)
        for column, weights in enumerate(grid):
            expected = (score_map * weights).sum() / weights.sum()
            torch.testing.assert_close(actual[row, column], expected, rtol=1e-4, atol=1e-5)
    assert actual.std(dim=1).min() > 1e-3


@torch.no_grad()
def test_region_token_is_the_tower_run_anew_for_every_mask(
    clips: dict[str, RegionCLIP], image: Tensor, masks: Tensor
) -> None:
    """Tokens [class, patches, region], with an attention mask to add for each mask."""
    clip = clips["vit"]
    start, visual = embedded(clip, pixels_of(clip, image)), clip.model.visual
    features = []
    for shares in covered(masks, clip.tower.grid_size).flatten(1):
        inside = shares >= 0.5 if (shares >= 0.5).any() else shares == shares.max()
        bias = torch.zeros(18, 18)
        bias[:17, 17] = -torch.inf  # nothing sees the region token ...
        bias[17, 0] = -torch.inf  # ... which sees no other class token
        bias[17, 1:17][~inside] = -torch.inf
        tokens = torch.cat([start, start[:1]])
        for block in visual.transformer.resblocks:
            tokens = run_block(block, tokens, bias)
        features.append(visual.ln_post(tokens[17]) @ visual.proj)
    expected = F.cosine_similarity(texts_of(clip, EXPRESSIONS)[:, None], torch.stack(features)[None], dim=-1)
    actual = RegionToken(clip, recipe="clean")(image, masks, EXPRESSIONS)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    assert actual.std(dim=1).min() > 1e-3
    # a region of everything is the image
    whole = visual(pixels_of(clip, image))[0]
    torch.testing.assert_close(features[3], whole, rtol=1e-4, atol=1e-5)


def test_region_tokens_pass_through_the_tower_together(
    clips: dict[str, RegionCLIP], image: Tensor, masks: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = clips["vit"]
    monkeypatch.setattr(clip, "_context", None)
    lengths: list[int] = []
    hook = clip.model.visual.transformer.resblocks[2].register_forward_hook(
        lambda _, inputs, __: lengths.append(inputs[0].shape[1])
    )
    many = masks.repeat(6, 1, 1)
    scores = RegionToken(clip, recipe="clean")(image, many, EXPRESSIONS)
    hook.remove()
    assert lengths == [17 + 16, 17 + 16, 17 + 4]
    torch.testing.assert_close(scores, scores[:, :6].repeat(1, 6), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([0.5, 0.49, 1.0], [True, False, True]),
        ([0.2, 0.1, 0.2], [True, False, True]),
        ([0.0, 1e-4, 0.0], [False, True, False]),
        ([1.0, 1.0, 1.0], [True, True, True]),
    ],
    ids=["half covered", "covered most", "one pixel", "everything"],
)
def test_the_tokens_of_a_region(shares: list[float], expected: list[bool]) -> None:
    assert tokens_of(torch.tensor([[shares]])).tolist() == [expected]


def test_region_token_refuses_a_resnet(clips: dict[str, RegionCLIP]) -> None:
    with pytest.raises(UserError, match=r"'region_token' needs .* has a ResNet; choose a ViT"):
        RegionToken(clips["resnet"])


def test_largest_is_the_area(clip: RegionCLIP, image: Tensor, masks: Tensor) -> None:
    scorer = LargestProposal(clip)
    areas = [sum(map(sum, mask.tolist())) for mask in masks]
    assert scorer(image, masks, EXPRESSIONS).tolist() == [areas] * 3
    assert scorer.texts(EXPRESSIONS) == []


@pytest.mark.parametrize("method", [ScoreMap, RegionToken])
def test_a_mask_that_vanishes_on_the_grid_still_has_a_score(
    clips: dict[str, RegionCLIP], image: Tensor, method: type[Scorer]
) -> None:
    clip = clips["vit"]
    masks = torch.zeros(2, 45, 70, dtype=torch.bool)
    masks[0, 22, 0] = True
    masks[1] = True
    recipe = Recipe(grid_mask="sampled")
    assert clip.context(image, masks).grid_masks(recipe)[0].sum() == 0
    scores = method(clip, recipe=recipe)(image, masks, EXPRESSIONS)
    expected = method(clip, recipe="clean")(image, masks, EXPRESSIONS)
    torch.testing.assert_close(scores, expected)
    assert scores.isfinite().all()


@pytest.mark.parametrize("method", BASELINES)
def test_baselines_know_no_noun_phrase_alpha_beta_or_mixing(
    clip: RegionCLIP, image: Tensor, masks: Tensor, method: type[Scorer]
) -> None:
    if not fits(method, clip):
        return
    other = Recipe(vit_unit_visual=False, resnet_unit_map=True, resnet_cosine=False, resnet_unit_text=False)
    plain = method(clip, recipe="clean")
    scores = plain(image, masks, EXPRESSIONS)
    changed = method(clip, alpha=0.1, beta=0.2, masked_blocks=1, recipe=other)
    torch.testing.assert_close(changed(image, masks, EXPRESSIONS, ["dog"] * 3), scores)
    assert plain.texts(EXPRESSIONS, ["dog"] * 3) in (EXPRESSIONS, [])


@pytest.mark.parametrize("method", BASELINES)
@pytest.mark.parametrize("recipe", ["clean", "published"])
def test_an_empty_mask_never_wins_and_nothing_gives_nothing(
    clip: RegionCLIP, image: Tensor, masks: Tensor, method: type[Scorer], recipe: str
) -> None:
    if not fits(method, clip):
        return
    scorer = method(clip, recipe=recipe)
    expected = scorer(image, masks, EXPRESSIONS)
    with_empty = torch.cat([masks[:2], torch.zeros(1, 45, 70).bool(), masks[2:]])
    scores = scorer(image, with_empty, EXPRESSIONS)
    assert scores.dtype == torch.float32
    assert (scores[:, 2] == -torch.inf).all()
    torch.testing.assert_close(scores[:, [0, 1, 3, 4, 5, 6]], expected, rtol=1e-4, atol=1e-5)
    assert scorer(image, masks[:0], EXPRESSIONS).shape == (3, 0)
    assert scorer(image, masks, []).shape == (0, 6)


def test_scorers_share_what_they_need_of_the_tower(
    clip: RegionCLIP, image: Tensor, masks: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One state for Grad-CAM and Score map; a ResNet's serves Global-Local as well."""
    monkeypatch.setattr(clip, "_context", None)
    states: list[int] = []
    work = clip.tower.image_state
    monkeypatch.setattr(clip.tower, "image_state", lambda *a: (states.append(a[1]), work(*a))[1])
    methods: list[type[Scorer]] = [GradCAM, ScoreMap, GlobalLocal]
    for method in methods * 2:
        method(clip, recipe="clean")(image, masks, EXPRESSIONS, EXPRESSIONS)
    assert states == ([1, 3] if clip.tower.kind == "vit" else [0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_lower_precision_scores_nearly_the_same(
    clip_folder: Callable[..., Path], kind: str, dtype: torch.dtype, image: Tensor, masks: Tensor
) -> None:
    name = f"local-dir:{clip_folder(kind)}"
    full, low = load_clip(name), load_clip(name, dtype=dtype)
    for method in (method for method in BASELINES if fits(method, full)):
        expected, scores = (method(clip, recipe="clean")(image, masks, EXPRESSIONS) for clip in (full, low))
        assert (scores - expected).abs().max() < 0.05 * expected.abs().max(), method.title


def test_their_names_are_in_the_package() -> None:
    assert (gl_ris.GradCAM, gl_ris.ScoreMap, gl_ris.RegionToken) == (GradCAM, ScoreMap, RegionToken)
    assert gl_ris.LargestProposal is LargestProposal
