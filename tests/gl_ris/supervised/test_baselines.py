"""What baselines start from, and which files of weights they take."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gl_ris
from gl_ris.errors import UserError
from gl_ris.supervised import CRISBaseline, LAVTBaseline
from gl_ris.supervised.cris.network import CRISSize
from gl_ris.supervised.lavt.network import LAVTSize, swin
from gl_ris.supervised.segmenter import Baseline
from gl_ris.weights import read_weights

WORDS = {"vocab_size": 641, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {**WORDS, "intermediate_size": 32, "max_position_embeddings": 20}
LAVT = LAVTSize(32, 4, 8, (1, 1), (1, 2), 4, frozen_text_layers=1, text=TEXT)
CRIS = CRISSize((64, 128, 256), 1, 4, 32, projector=64)


def lavt(**options: Any) -> LAVTBaseline:
    return LAVTBaseline(LAVT, **{"swin": None, "bert": None, "tokenizer": "refshapes-rn", **options})


def cris(**options: Any) -> CRISBaseline:
    return CRISBaseline("refshapes-rn", None, 20, CRIS, 32, **options)


SMALL: dict[str, Baseline] = {"lavt": lavt(), "cris": cris()}


@pytest.mark.parametrize("baseline", SMALL.values(), ids=SMALL)
def test_a_baseline_is_made_when_it_is_asked_for(baseline: Baseline) -> None:
    segmenter = baseline.make()
    assert segmenter.title == baseline.title
    image = torch.randint(0, 256, (3, 30, 40), dtype=torch.uint8)
    masks = segmenter.eval().segment(image, ["a red star", "the blue one"])
    assert masks.shape == (2, 30, 40)
    assert masks.dtype == torch.bool


@torch.no_grad()
@pytest.mark.parametrize("name", SMALL)
def test_an_image_is_encoded_once_for_all_its_expressions(name: str) -> None:
    torch.manual_seed(0)
    segmenter = SMALL[name].make().eval()
    network = segmenter.network
    stem = network.backbone.visual.conv1 if name == "cris" else network.visual.patch_embed
    seen: list[int] = []
    stem.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    image = torch.randint(0, 256, (3, 30, 40), dtype=torch.uint8)
    texts = ["a red star", "the blue one", "moon", "a striped circle on the left", "square"]
    masks = segmenter.segment(image, texts, batch_size=2)
    assert seen == [1]
    pixels = segmenter.read_image(image)[None]
    for row, text in enumerate(texts):
        # the whole network for the one expression
        own = segmenter.read_texts([text])
        expected = network(pixels, **own)
        found = segmenter.ground(segmenter.encode_image(pixels), **segmenter.read_texts(texts))[row]
        torch.testing.assert_close(found.flatten(), expected.flatten(), atol=1e-5, rtol=1e-5)
        assert torch.equal(masks[row], segmenter.answer(found[None], 30, 40)[0])
    rows = segmenter.ground(segmenter.encode_image(pixels), **segmenter.read_texts(texts)).flatten(1)
    assert not torch.allclose(rows[0], rows[1:], atol=1e-4)


def test_a_network_that_shares_nothing_sees_the_image_with_every_expression() -> None:
    class Plain(nn.Module):
        def forward(self, pixels: Tensor, **texts: Tensor) -> Tensor:
            return pixels.mean(1) + texts["input_ids"].sum(1)[:, None, None]

    segmenter = SMALL["lavt"].make()
    segmenter.network = Plain()
    pixels, ids = torch.rand(1, 3, 4, 4), torch.tensor([[1, 2], [3, 4], [5, 6]])
    expected = torch.stack([pixels[0].mean(0) + number for number in (3, 7, 11)])
    assert torch.equal(segmenter.ground(segmenter.encode_image(pixels), input_ids=ids), expected)


def test_the_published_settings_are_the_defaults() -> None:
    assert (LAVTBaseline().epochs, LAVTBaseline().batch_size) == (40, 32)
    assert (CRISBaseline().epochs, CRISBaseline().batch_size) == (50, 64)
    assert (LAVTBaseline().learning_rate, LAVTBaseline().weight_decay) == (5e-5, 1e-2)


def test_cris_starts_with_what_its_clip_knows() -> None:
    made = cris().make().network
    clip = gl_ris.load_clip("refshapes-rn").model
    assert torch.equal(made.backbone.token_embedding.weight, clip.token_embedding.weight)  # type: ignore[union-attr]
    assert all(p.requires_grad for p in made.parameters())  # type: ignore[union-attr]


def saved(network: nn.Module, path: Path, **more: Tensor) -> str:
    torch.save({**network.state_dict(), **more}, path)
    return str(path)


def test_lavt_starts_from_a_classifier_and_a_bert(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    torch.manual_seed(1)
    classifier = swin(LAVT)
    head = {"head.fc.weight": torch.zeros(5, 16), "norm.weight": torch.zeros(16)}
    file = saved(classifier, tmp_path / "swin.pth", **head)
    BertModel(BertConfig(**TEXT)).save_pretrained(tmp_path / "bert")
    bert = BertModel.from_pretrained(tmp_path / "bert", add_pooling_layer=False)
    network = lavt(swin=file, bert=str(tmp_path / "bert")).make().network
    for name, tensor in classifier.state_dict().items():
        assert torch.equal(network.visual.state_dict()[name], tensor), name  # type: ignore[union-attr]
    for name, tensor in bert.state_dict().items():
        assert torch.equal(network.text.state_dict()[name], tensor), name  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda state: state | {"layers.9.x": torch.zeros(1)},
            r"swin.pth'.* do not fit the network: 1 unexpected \(layers.9.x\)",
        ),
        (
            lambda state: {k: v for k, v in state.items() if "qkv" not in k},
            r"missing \(layers.0.blocks.0.attn.qkv.weight, .*\)\. .* baseline.swin=null for random ones\.$",
        ),
        (
            lambda state: state | {"patch_embed.proj.weight": torch.zeros(9, 3, 4, 4)},
            r"1 of another shape \(patch_embed.proj.weight is ",
        ),
    ],
    ids=["unknown", "missing", "shape"],
)
def test_weights_that_do_not_fit_are_told(tmp_path: Path, change: Any, expected: str) -> None:
    torch.save(change(dict(swin(LAVT).state_dict())), tmp_path / "swin.pth")
    with pytest.raises(UserError, match=expected):
        lavt(swin=str(tmp_path / "swin.pth")).make()


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: lavt(swin="no_such_swin").make(), r"timm's 'no_such_swin' cannot be loaded"),
        (lambda: lavt(swin="/nowhere/swin.pth").make(), r"there is no file of weights /nowhere/swin.pth"),
        (lambda: lavt(bert="/nowhere/bert").make(), r"BERT '/nowhere/bert' cannot be loaded"),
        (lambda: lavt(tokenizer="/nowhere/bert").make(), r"tokenizer '/nowhere/bert' cannot be loaded"),
    ],
    ids=["timm", "file", "bert", "tokenizer"],
)
def test_what_cannot_be_loaded_is_told(make: Any, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        make()


@pytest.mark.parametrize("baseline", SMALL.values(), ids=SMALL)
def test_our_own_weights_come_back(baseline: Baseline, tmp_path: Path) -> None:
    before, after = baseline.make(), baseline.make()
    with torch.no_grad():
        for parameter in before.parameters():
            parameter.add_(0.25)
    torch.save(before.state_dict(), tmp_path / "weights.pt")
    after.load_weights(read_weights(tmp_path / "weights.pt", "X"))
    assert all(torch.equal(after.state_dict()[n], t) for n, t in before.state_dict().items())


def test_published_checkpoints_are_known_by_their_form(tmp_path: Path) -> None:
    made = cris().make()
    state = {f"module.{name}": tensor + 1 for name, tensor in made.network.state_dict().items()}  # type: ignore[union-attr, operator]
    torch.save({"epoch": 50, "state_dict": state, "args": argparse.Namespace(lr=1e-4)}, tmp_path / "cris.pth")
    made.load_weights(read_weights(tmp_path / "cris.pth", "X"))
    own = made.network.state_dict()  # type: ignore[union-attr, operator]
    assert all(torch.equal(own[name.removeprefix("module.")], tensor) for name, tensor in state.items())


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("lavt", {"some": torch.zeros(1)}, "neither 'network.*' nor 'model'"),
        ("lavt", {"model": {"x": torch.zeros(1)}}, "LAVT: these weights do not fit the network"),
        ("cris", {"x": torch.zeros(1)}, "CRIS: these weights do not fit the network"),
        ("lavt", {"network.x": torch.zeros(1)}, "LAVT: these weights do not fit the network"),
        ("cris", [1, 2], "holds names and tensors, not list"),
    ],
)
def test_weights_of_something_else_are_told(name: str, content: Any, expected: str) -> None:
    with pytest.raises(UserError, match=expected.replace("*", r"\*")):
        SMALL[name].make().load_weights(content)


class Bad:
    """Runs a command when it is unpickled as pickles are by default."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize(
    "content", [b"", b"no weights", b"PK\x03\x04 cut off"], ids=["empty", "text", "cut off"]
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_damaged_files_are_told(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        read_weights(path, "X")


def test_a_file_of_weights_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Bad()}, tmp_path / "bad.pt")
    with pytest.raises(UserError, match="cannot be read"):
        read_weights(tmp_path / "bad.pt", "X")
    assert not (tmp_path / "pwned").exists()
