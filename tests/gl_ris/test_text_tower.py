"""Texts at their true length against open_clip's own full-length encoding."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from torch import Tensor

from gl_ris.clip import RegionCLIP, load_clip

TEXTS = [
    "dog",
    "the red star",
    "a big circle",
    "the small blue square left of a star",
    "dog",
    "",
    "a a a a a a",
]


def full_length(clip: RegionCLIP, texts: list[str]) -> Tensor:
    """One text at a time through open_clip, padding and all."""
    tokenizer = clip._text_tower.tokenizer
    with torch.no_grad():
        return torch.cat([clip.model.encode_text(tokenizer([text])) for text in texts])


def fresh(folder: Path) -> RegionCLIP:
    return load_clip(f"local-dir:{folder}")


@pytest.fixture(scope="module")
def folder(clip_folder: Callable[..., Path]) -> Path:
    return clip_folder("vit")


def test_true_length_equals_full_length(folder: Path) -> None:
    clip = fresh(folder)
    expected = full_length(clip, TEXTS)
    with torch.inference_mode():
        actual = clip.encode_texts(TEXTS)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    assert (actual[1] - actual[2]).abs().max() > 1e-2


@pytest.mark.parametrize(
    "text_cfg",
    [
        pytest.param({"pool_type": "eos", "eos_id": 21}, id="pooled at the end token"),
        pytest.param({"pool_type": "last"}, id="pooled at the last position"),
        pytest.param({"no_causal_mask": True}, id="not causal"),
        pytest.param({"embed_cls": True}, id="class token behind the padding"),
        pytest.param({"proj_bias": True}, id="projection with bias"),
        pytest.param({"proj_type": "none", "width": 24}, id="no projection"),
    ],
)
def test_other_text_towers(clip_folder: Callable[..., Path], text_cfg: dict[str, object]) -> None:
    base = {
        "context_length": 12,
        "vocab_size": 22,
        "width": 16,
        "heads": 2,
        "layers": 2,
        "hf_tokenizer_name": "x",
    }
    clip = fresh(clip_folder("vit", custom_text=True, text_cfg={**base, **text_cfg}))
    torch.testing.assert_close(clip.encode_texts(TEXTS), full_length(clip, TEXTS), rtol=1e-5, atol=1e-5)


def test_the_widely_used_tokenizer_and_an_ordinary_architecture() -> None:
    with pytest.warns(UserWarning, match="random weights"):
        clip = load_clip("ViT-S-32-alt")
    texts = [
        "a dark brown leather sofa behind a foot stool that has a laptop computer on it",
        "man",
        "word " * 90,
    ]
    with pytest.warns(UserWarning, match="1 of the texts are longer than the 77 tokens"):
        actual = clip.encode_texts(texts)
    with torch.no_grad():
        expected = clip.model.encode_text(open_clip.get_tokenizer("ViT-S-32-alt")(texts))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_a_cut_text_is_warned_about_once_and_keeps_its_beginning(folder: Path) -> None:
    clip = fresh(folder)
    fits = " ".join(["a"] * 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clip.encode_texts([fits])
    with pytest.warns(UserWarning, match="2 of the texts are longer than the 12 tokens"):
        features = clip.encode_texts([fits + " dog", fits + " a dog", fits])
    assert torch.equal(features[0], features[1])
    torch.testing.assert_close(features[0], features[2], rtol=1e-5, atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clip.encode_texts([fits + " star"])


def test_each_distinct_text_is_encoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = fresh(folder)
    seen: list[str] = []
    encode = clip._text_tower.encode
    monkeypatch.setattr(
        clip._text_tower, "encode", lambda batch: (seen.extend(batch.texts), encode(batch))[1]
    )
    clip.encode_texts(TEXTS)
    clip.encode_texts([*TEXTS, "a dog"])
    assert sorted(seen) == sorted({*TEXTS, "a dog"})


def test_a_batch_holds_one_length_and_depends_on_the_set_alone(folder: Path) -> None:
    # three of three words: a batch of two, and one that is filled up
    tower, texts = fresh(folder)._text_tower, [*TEXTS, "the blue star"]
    batches, _ = tower.batches(texts, 2)
    again, _ = tower.batches([*reversed(texts), *texts], 2)
    assert [batch.texts for batch in batches] == [batch.texts for batch in again]
    assert sorted(text for batch in batches for text in batch.texts) == sorted(set(texts))
    assert any(len(batch.texts) < len(batch.tokens) for batch in batches)
    for batch in batches:
        # the last of several of a length is as large as the others, and gives features of its texts alone
        alike = [other for other in batches if other.tokens.shape[1] == batch.tokens.shape[1]]
        assert len(batch.texts) <= len(batch.tokens) == (2 if len(alike) > 1 else len(batch.texts)) <= 2
        assert len(tower.encode(batch)) == len(batch.texts)
        assert {len(text.split()) + 2 for text in batch.texts} == {batch.tokens.shape[1]}


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_prepared_texts_are_the_same_bits_for_any_number_of_processes(folder: Path, world_size: int) -> None:
    reference = fresh(folder)
    reference.text_batch_size = 2
    reference.prepare_texts(TEXTS)
    clips = [fresh(folder) for _ in range(world_size)]
    parts: dict[int, list[object]] = {}

    def send(rank: int, own: list[object]) -> list[list[object]]:
        parts[rank] = own
        return []

    def receive(own: list[object]) -> list[list[object]]:
        return [parts[rank] for rank in range(world_size)]

    for rank, clip in enumerate(clips):
        clip.text_batch_size = 2
        clip.prepare_texts(TEXTS, rank, world_size, lambda own, rank=rank: send(rank, own))
    encoded = [text for part in parts.values() for texts, _ in part for text in texts]  # type: ignore[attr-defined]
    assert sorted(encoded) == sorted(set(TEXTS))
    for rank, clip in enumerate(clips):
        clip.prepare_texts(TEXTS, rank, world_size, receive)
        assert torch.equal(clip.encode_texts(TEXTS), reference.encode_texts(TEXTS))


def test_several_processes_need_a_way_to_gather(folder: Path) -> None:
    with pytest.raises(ValueError, match="gather is needed to share texts between 2 processes"):
        fresh(folder).prepare_texts(TEXTS, 0, 2)


def test_no_texts(folder: Path) -> None:
    clip = fresh(folder)
    clip.prepare_texts([])
    assert clip.encode_texts([]).shape == (0, 24)


def test_features_can_take_part_in_gradients(folder: Path) -> None:
    clip = fresh(folder)
    with torch.inference_mode():
        clip.encode_texts(["dog"])
    weight = torch.ones(24, requires_grad=True)
    (clip.encode_texts(["dog"]) @ weight).sum().backward()
    assert weight.grad is not None


def test_new_weights_forget_the_texts(folder: Path) -> None:
    clip = fresh(folder)
    before = clip.encode_texts(["dog"]).clone()
    state = {key: value * 1.5 for key, value in clip.model.state_dict().items()}
    clip.model.load_state_dict(state)
    after = clip.encode_texts(["dog"])
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(after, full_length(clip, ["dog"]), rtol=1e-5, atol=1e-5)
