"""CRIS as a whole: its measures, the names of its checkpoints, what length and padding mean."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import gl_ris
from gl_ris.errors import UserError
from gl_ris.supervised import CRIS
from gl_ris.supervised.cris.network import CRISSize
from gl_ris.supervised.segmenter import pad_ids
from gl_ris.supervised.starting import clip_tokenizer
from tiny_baselines import TINY_CRIS

NECK = {
    "f1_v_proj.0": "1024 E 1 1",
    "f2_v_proj.0": "512 1024 3 3",
    "f2_cat.0": "512 1536 1 1",
    "f3_v_proj.0": "256 512 3 3",
    "f3_cat.0": "512 768 1 1",
    "f4_proj5.0": "512 1024 3 3",
    "f4_proj4.0": "512 512 3 3",
    "f4_proj3.0": "512 512 3 3",
    "aggr.0": "512 1536 1 1",
    "coordconv.0.conv1.0": "512 514 3 3",
    "coordconv.1.0": "512 512 3 3",
    "txt_proj.0": "1024 E",
}
DECODER = {
    "self_attn.in_proj_weight": "1536 512",
    "multihead_attn.in_proj_bias": "1536",
    "self_attn.out_proj.weight": "512 512",
    "self_attn_norm.weight": "512",
    "cross_attn_norm.bias": "512",
    "norm3.weight": "512",
    "ffn.0.weight": "2048 512",
    "ffn.3.bias": "2048",
    "ffn.4.weight": "512 2048",
}
PROJECTOR = {
    "vis.1.0.weight": "512 512 3 3",
    "vis.1.1.running_var": "512",
    "vis.3.0.weight": "256 512 3 3",
    "vis.4.weight": "256 256 1 1",
    "vis.4.bias": "256",
    "txt.weight": "2305 E",
}


@pytest.mark.parametrize(
    ("name", "sentence", "total", "names"),
    [("RN50", 1024, 146.849, (495, 77, 74, 16)), ("RN101", 512, 161.252, (801, 77, 74, 16))],
)
def test_the_published_sizes_have_the_published_names_and_shapes(
    name: str, sentence: int, total: float, names: tuple[int, ...]
) -> None:
    with torch.device("meta"):
        model = CRIS(name)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 3) == total
    parts = (model.backbone, model.neck, model.decoder, model.proj)
    assert tuple(len(part.state_dict()) for part in parts) == names
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    expected = {f"neck.{key}.weight": shape for key, shape in NECK.items()}
    expected |= {f"decoder.layers.2.{key}": shape for key, shape in DECODER.items()}
    expected |= {f"proj.{key}": shape for key, shape in PROJECTOR.items()}
    expected |= {
        "decoder.norm.weight": "512",
        "backbone.visual.attnpool.connect.0.weight": "E 2048 1 1",
        "backbone.visual.attnpool.connect.1.running_mean": "E",
        "backbone.visual.attnpool.positional_embedding": "50 2048",
        "backbone.positional_embedding": "77 512",
        "backbone.token_embedding.weight": "49408 512",
        "backbone.transformer.resblocks.11.mlp.c_proj.weight": "512 2048",
        "backbone.visual.layer4.0.downsample.1.bias": "2048",
    }
    for key, shape in expected.items():
        assert shapes[key] == tuple(sentence if part == "E" else int(part) for part in shape.split()), key


@pytest.fixture
def tiny() -> CRIS:
    torch.manual_seed(0)
    return CRIS(gl_ris.load_clip("refshapes-rn").model, size=TINY_CRIS).eval()


def tokens(length: int) -> Tensor:
    row = [639, 12, 40, 7, 640]
    return torch.tensor([row + [0] * (length - len(row))] * 2)


@torch.no_grad()
def test_logits_come_at_a_quarter_of_the_size_whatever_the_length(tiny: CRIS) -> None:
    pixels = torch.randn(2, 3, 96, 128)
    short, long = tiny(pixels, tokens(17)), tiny(pixels, tokens(22))
    assert short.shape == (2, 1, 24, 32)
    torch.testing.assert_close(short, long, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_tiny_one_starts_from_sentences_of_length_one_and_little_object() -> None:
    torch.manual_seed(0)
    clip = gl_ris.load_clip("refshapes-rn")
    rows = clip_tokenizer("refshapes-rn")(["a red star", "the large green cross to the right of the moon"])
    ids = pad_ids(rows, clip.model.context_length)
    before = clip.model.encode_text(ids)
    tiny = CRIS(clip.model, size=TINY_CRIS)
    after = tiny.backbone.encode_text(ids)  # type: ignore[operator]
    torch.testing.assert_close(after, before / 16)
    assert after.norm(dim=1).sub(1).abs().max() < 0.1
    share = tiny.train()(torch.rand(4, 3, 64, 64), ids.repeat(2, 1)).sigmoid().mean()
    assert 0.03 < float(share) < 0.15


@torch.no_grad()
def test_the_words_matter_and_so_does_each_image_alone(tiny: CRIS) -> None:
    pixels, ids = torch.randn(2, 3, 64, 64), tokens(17)
    both = tiny(pixels, ids)
    torch.testing.assert_close(tiny(pixels[1:], ids[1:]), both[1:], atol=1e-4, rtol=1e-4)
    ids[0, 1] = 13
    assert not torch.allclose(tiny(pixels, ids)[0], both[0], atol=1e-3)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_of_the_published_layout_load_as_they_are(tiny: CRIS, prefix: str) -> None:
    state = {key: torch.randn_like(value.float()).to(value.dtype) for key, value in tiny.state_dict().items()}
    tiny.load_official_state_dict({prefix + key: value for key, value in state.items()})
    assert all(torch.equal(value, state[key]) for key, value in tiny.state_dict().items())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: s.pop("neck.aggr.0.weight"), r"[Mm]issing.*neck\.aggr\.0\.weight"),
        (lambda s: s.update(extra=torch.zeros(1)), r"[Uu]nexpected.*extra"),
        (lambda s: s.update({"proj.txt.bias": torch.zeros(3)}), r"another shape .*proj\.txt\.bias"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(tiny: CRIS, change: object, expected: str) -> None:
    state = dict(tiny.state_dict())
    change(state)  # type: ignore[operator]
    with pytest.raises(UserError, match=expected):
        tiny.load_official_state_dict(state)


@pytest.mark.parametrize(
    ("clip", "size", "expected"),
    [
        ("RN5", None, "RN50"),
        (None, CRISSize(), "128 wide"),
        (None, CRISSize(neck=(64, 128, 256), projector=32), "projector 64"),
        (None, CRISSize(neck=(64, 128, 256), projector=64, heads=3), "heads=3"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    clip: str | None, size: CRISSize | None, expected: str
) -> None:
    model: str | nn.Module = clip or gl_ris.load_clip("refshapes-rn").model
    with pytest.raises(UserError, match=expected):
        CRIS(model, size=size)
