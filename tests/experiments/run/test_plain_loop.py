"""The plain loop gives what the scorer gives, and does the work that the published code does."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from experiments.run.plain_loop import PlainLoop, Ref
from experiments.run.synthetic_scenes import Sizes, make_scenes
from gl_ris.clip import load_clip
from gl_ris.clip.loading import load_tokenizer
from gl_ris.scorers.global_local import GlobalLocal

REFS = [
    Ref(["the red star left", "a small star"], ["the red star", "a small star"]),
    Ref(["the blue circle above the square"], ["the blue circle"]),
]
SENTENCES = [text for ref in REFS for text in ref.sentences]
PHRASES = [text for ref in REFS for text in ref.phrases]


@pytest.fixture(scope="module")
def scene() -> tuple[torch.Tensor, torch.Tensor]:
    (drawn,) = make_scenes(Sizes(1, 6, 70, 110), seed=3)
    return drawn.image, drawn.masks


@pytest.mark.parametrize("kind", ["vit", "resnet"])
@pytest.mark.parametrize(
    "settings", [{}, {"masked_blocks": 5, "alpha": 0.3, "beta": 0.9}, {"masked_blocks": 0}]
)
def test_the_loop_scores_and_chooses_like_the_scorer(
    kind: str, settings: dict[str, Any], clip_dirs: dict[str, str], scene: tuple[torch.Tensor, torch.Tensor]
) -> None:
    name = clip_dirs[kind]
    loop = PlainLoop(load_clip(name).model, load_tokenizer(name), **settings)
    ours = GlobalLocal(load_clip(name), recipe="clean", **settings)(*scene, SENTENCES, PHRASES)
    theirs = loop(*scene, REFS)
    torch.testing.assert_close(theirs, ours, atol=2e-6, rtol=0)
    assert ours.std(dim=1).min() > 1e-4, "masks can be told apart"
    assert torch.equal(theirs.argmax(dim=1), ours.argmax(dim=1))


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_the_loop_works_ref_by_ref_and_text_by_text(
    kind: str,
    clip_dirs: dict[str, str],
    scene: tuple[torch.Tensor, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clip = load_clip(clip_dirs[kind])
    images, texts = [], []
    encode_image, encode_text = clip.model.encode_image, clip.model.encode_text
    monkeypatch.setattr(clip.model, "encode_image", lambda x: images.append(len(x)) or encode_image(x))
    monkeypatch.setattr(clip.model, "encode_text", lambda x: texts.append(tuple(x.shape)) or encode_text(x))
    PlainLoop(clip.model, load_tokenizer(clip_dirs[kind]))(*scene, REFS)
    assert images == [6, 1, 6, 1]
    assert texts == [(1, 12)] * 6
    assert not any(module._forward_pre_hooks for module in clip.model.modules())
