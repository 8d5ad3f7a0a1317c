"""Global-Local scores against both recipes written out step by step, one mask and one text at a time."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import spacy
import torch
import torch.nn.functional as F
import torchvision.transforms.functional as TF
from PIL import Image
from torch import Tensor

from by_hand import published_picture
from gl_ris.clip import RegionCLIP, load_clip
from gl_ris.recipe import Recipe
from gl_ris.scorers.global_local import GlobalLocal

EXPRESSIONS = ["the red star left of a big circle", "Dog", "a striped square"]


PHRASES = ["the red star", "Dog", "a striped square"]


BLANK = spacy.blank("en")


def published_inputs(clip: RegionCLIP, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Tower input, grid mask and crop as the published code makes them, in normalised space throughout."""
    size = list(clip.image_size)
    grid = TF.resize(mask[None].float(), list(clip.tower.grid_size), antialias=False)[0]
    original = published_picture(clip, image, list(mask.shape))
    fill = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    masked = original * mask + fill * ~mask
    rows, columns = (mask.any(dim).nonzero().flatten().double() for dim in (1, 0))
    left, right = (int(columns.mean() + sign * len(columns) / 2) for sign in (-1, 1))
    top, bottom = (int(rows.mean() + sign * len(rows) / 2) for sign in (-1, 1))
    crop = TF.resized_crop(
        masked, top, left, max(bottom - top, 1), max(right - left, 1), size, antialias=False
    )
    return published_picture(clip, image), grid, crop


def clean_inputs(clip: RegionCLIP, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same by the weights' preprocessing: Pillow's antialiased resize, mean colour as background."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (clip.mean, clip.std))
    mode = getattr(Image.Resampling, clip.interpolation.upper())

    def read(pixels: Tensor) -> Tensor:
        channels = [
            Image.fromarray(channel.numpy()).resize(clip.image_size[::-1], mode) for channel in pixels
        ]
        resized = torch.from_numpy(np.stack([np.asarray(channel) for channel in channels]))
        return (resized.clamp(0, 1) - mean) / std

    pixels = image.float() / 255
    rows, columns = (mask.any(dim).nonzero().flatten() for dim in (1, 0))
    masked = pixels * mask + mean * ~mask
    crop = masked[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    grid = F.interpolate(mask[None, None].float(), clip.tower.grid_size, mode="area")[0, 0]
    return read(pixels), grid, read(crop.contiguous())


def region_feature(clip: RegionCLIP, pixels: Tensor, grid: Tensor, unit_map: bool) -> Tensor:
    """The global feature by hooks (ViT, last 3 blocks) or by open_clip's pooling (ResNet)."""
    visual = clip.model.visual
    if clip.tower.kind == "resnet":
        feature_map = clip.tower.feature_map(pixels[None])  # type: ignore[attr-defined]
        return visual.attnpool((F.normalize(feature_map, dim=1) if unit_map else feature_map) * grid)[0]
    factor = torch.cat([torch.ones(1), grid.flatten()])[None, :, None]
    hooks = [
        block.register_forward_pre_hook(lambda _, inputs: (inputs[0] * factor,))
        for block in visual.transformer.resblocks[-3:]
    ]
    try:
        return visual(pixels[None])[0]
    finally:
        for hook in hooks:
            hook.remove()


def unit(feature: Tensor) -> Tensor:
    return feature / feature.norm()


@torch.no_grad()
def naive_scores(
    clip: RegionCLIP, image: Tensor, masks: Tensor, expressions: list[str], recipe: str, alpha: float
) -> Tensor:
    resnet, published = clip.tower.kind == "resnet", recipe == "published"
    inputs = published_inputs if published else clean_inputs
    tokenizer = clip._text_tower.tokenizer
    scores = torch.zeros(len(expressions), len(masks))
    for column, mask in enumerate(masks):
        pixels, grid, crop = inputs(clip, image, mask)
        whole = region_feature(clip, pixels, grid, unit_map=published and resnet)
        local = clip.model.visual(crop[None])[0]
        if not published:
            whole, local = unit(whole), unit(local)
        elif resnet:
            local = unit(local)
        visual = alpha * whole + (1 - alpha) * local
        for row, texts in enumerate(zip(expressions, PHRASES, strict=True)):
            sentence, phrase = (clip.model.encode_text(tokenizer([text]))[0] for text in texts)
            if resnet or not published:
                sentence, phrase = unit(sentence), unit(phrase)
            text = (sentence + phrase) / 2
            scores[row, column] = text @ visual
            if not (resnet and published):
                scores[row, column] /= text.norm() * visual.norm()
    return scores


@pytest.mark.parametrize("alpha", [0.85, 0.0, 1.0])
@pytest.mark.parametrize("recipe", ["clean", "published"])
def test_scores_equal_the_recipe_written_out(
    clip: RegionCLIP, image: Tensor, masks: Tensor, recipe: str, alpha: float
) -> None:
    # The tokenizer of these models is case-sensitive, so lower case shows.
    expressions = [text.lower() for text in EXPRESSIONS] if recipe == "published" else EXPRESSIONS
    expected = naive_scores(clip, image, masks, expressions, recipe, alpha)
    scorer = GlobalLocal(clip, alpha=alpha, recipe=recipe, parser=BLANK)
    with torch.inference_mode():
        actual = scorer(image, masks, EXPRESSIONS, PHRASES)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    assert actual.std(dim=1).min() > 5e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B-32-quickgelu", "RN50-quickgelu"])
def test_published_on_the_papers_towers(name: str, image: Tensor, masks: Tensor) -> None:
    """Features to 1e-4 of their length, scores and choices equal; random weights."""
    with pytest.warns(UserWarning, match="random weights"):
        clip = load_clip(name)
    scorer, resnet = GlobalLocal(clip, parser=BLANK), clip.tower.kind == "resnet"
    features = scorer.visual_features(image, masks)
    for mask, *actual in zip(masks, *features, strict=True):
        pixels, grid, crop = published_inputs(clip, image, mask)
        with torch.no_grad():
            local = clip.model.visual(crop[None])[0]
            whole = region_feature(clip, pixels, grid, unit_map=resnet)
        for ours, expected in zip(actual, (whole, unit(local) if resnet else local), strict=True):
            assert (ours - expected).norm() < 1e-4 * expected.norm()
    scores = scorer(image, masks, EXPRESSIONS, PHRASES)
    expected = naive_scores(clip, image, masks, EXPRESSIONS, "published", 0.85)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(scores.argmax(dim=1), expected.argmax(dim=1))


SCORING_FIELDS = [
    field.name
    for field in dataclasses.fields(Recipe)
    if field.name not in ("skip_images_without_proposals", "target_overlap", "unseen", "negative_texts")
    and not field.name.startswith(("region_token", "score_map", "grad_cam", "heat", "hybrid"))
]


# of which both recipes have the same
LATER = {"local_prompt": "blur", "local_frame": "full", "negatives": 0.5}


@pytest.mark.parametrize("field", SCORING_FIELDS)
def test_each_field_changes_the_scores_of_the_tower_it_speaks_of(
    clip: RegionCLIP, image: Tensor, masks: Tensor, field: str
) -> None:
    # Tight boxes are whole already, so there is nothing to round.
    recipe = Recipe(boxes="projection" if field == "box_rounding" else "tight")
    value = getattr(recipe, field)
    changed: Any = (
        not value
        if field.startswith(("vit", "resnet"))
        else LATER.get(field, getattr(Recipe.named("published"), field))
    )
    other = {"vit": "resnet", "resnet": "vit"}[clip.tower.kind]
    scores = [
        GlobalLocal(clip, alpha=0.5, recipe=recipe, parser=BLANK)(image, masks, EXPRESSIONS, PHRASES)
        for recipe in (recipe, recipe.replace(**{field: changed}))
    ]
    assert torch.equal(*scores) == field.startswith(other)


def test_published_reads_lower_case_tokens(clip: RegionCLIP, image: Tensor, masks: Tensor) -> None:
    scorer = GlobalLocal(clip, beta=1, parser=BLANK)
    assert scorer.texts(["The RED  star, left"]) == ["the red star , left"]
    expected = scorer(image, masks, ["the red star , left"])
    assert torch.equal(scorer(image, masks, ["The RED  star, left"]), expected)
