"""The scorer Heat map against maps resized, scaled and counted by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from by_hand import pixels_of
from gl_ris.clip import RegionCLIP
from gl_ris.errors import UserError
from gl_ris.heat import heat_maps
from gl_ris.recipe import Recipe
from gl_ris.scorers.heat_map import HeatMap

EXPRESSIONS = ["the red star", "a striped square left of the dog", "green"]


@pytest.mark.parametrize(
    ("heat", "way"), [("auto", None), ("maskclip", "maskclip"), ("clearclip", "clearclip")]
)
@pytest.mark.parametrize("base", ["clean", "published"])
def test_masks_are_scored_by_the_map_at_the_size_of_the_image(
    heat: str, way: str | None, base: str, clip: RegionCLIP, image: Tensor, masks: Tensor
) -> None:
    kind = clip.tower.kind
    if kind == "resnet" and heat == "clearclip":
        pytest.skip("a ResNet has no such map")
    recipe = Recipe.named(base, heat=heat, heat_size=None)
    actual = HeatMap(clip, recipe=recipe)(image, masks, EXPRESSIONS)
    name = way or {"vit": "gem", "resnet": "maskclip"}[kind]
    # whatever the recipe says, the image is read as the weights were made for
    text = HeatMap(clip, recipe=recipe).text_features(EXPRESSIONS)
    for row, found in enumerate(heat_maps(clip, name, pixels_of(clip, image), text)):
        large = F.interpolate(found[None, None], clip.image_size, mode="bilinear", align_corners=False)
        # the tiny tower's input is smaller than the image on one side and larger on the other
        picture = F.interpolate(large, (45, 70), mode="bilinear", align_corners=False, antialias=True)[0, 0]
        picture = (picture - picture.min()) / (picture.max() - picture.min())
        for column, mask in enumerate(masks):
            outside = picture[~mask].mean() if (~mask).any() else picture.mean()
            torch.testing.assert_close(
                actual[row, column], picture[mask].mean() - outside, rtol=1e-4, atol=1e-5
            )
    assert actual.std(dim=1).min() > 1e-3


def test_a_larger_input_and_another_rule_change_the_scores(
    clips: dict[str, RegionCLIP], image: Tensor, masks: Tensor
) -> None:
    recipes = [Recipe(), Recipe(heat_size=64), Recipe(heat_rule="peak"), Recipe(heat="sclip")]
    found = [HeatMap(clips["vit"], recipe=recipe)(image, masks, EXPRESSIONS) for recipe in recipes]
    for other in found[1:]:
        assert (other - found[0]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("vit", {"heat_size": 60}, "recipe.heat_size=60 must be a multiple of 8"),
        ("resnet", {"heat_size": 100}, "recipe.heat_size=100 must be a multiple of 32"),
        ("resnet", {"heat": "gem"}, "'gem' does not fit .* has a ResNet"),
        ("vit", {"heat_size": 0}, "recipe.heat_size=0 must be a length in pixels or null"),
        ("vit", {"heat": "gemm"}, "recipe field 'heat' 'gemm'. Did you mean 'gem'"),
    ],
)
def test_what_does_not_fit_is_told(
    kind: str, changes: dict[str, object], message: str, clips: dict[str, RegionCLIP]
) -> None:
    with pytest.raises(UserError, match=message):
        HeatMap(clips[kind], recipe=Recipe(**changes))  # type: ignore[arg-type]
