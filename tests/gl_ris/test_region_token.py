"""Region token against the tower run anew for every mask."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from by_hand import covered, embedded, pixels_of, run_block
from gl_ris.clip import RegionCLIP
from gl_ris.clip.vit import tokens_of
from gl_ris.errors import UserError
from gl_ris.scorers.region_token import RegionToken

EXPRESSIONS = ["the red star", "a striped square left of the dog", "green"]


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
    expected = F.cosine_similarity(
        clip.encode_texts(EXPRESSIONS)[:, None], torch.stack(features)[None], dim=-1
    )
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
