"""LAVT as a whole: its measures, the names of its checkpoints, what is trained."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gl_ris.errors import UserError
from gl_ris.supervised import LAVT
from gl_ris.supervised.lavt.network import LAVTDecoder, LAVTSize, from_official
from tiny_baselines import TINY_LAVT

STAGE_LINEARS = {"attn.qkv": 3, "attn.proj": 1, "mlp.fc1": 4}


def official_names(size: LAVTSize, words: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the entry ``model`` of a published checkpoint, as its layout is documented."""
    names: dict[str, tuple[int, ...]] = {}
    stages = len(size.depths)

    def norm(name: str, channels: int) -> None:
        names[f"{name}.weight"] = names[f"{name}.bias"] = (channels,)

    width = size.embed_dim
    names["backbone.patch_embed.proj.weight"] = (width, 3, size.patch_size, size.patch_size)
    names["backbone.patch_embed.proj.bias"] = (width,)
    norm("backbone.patch_embed.norm", width)
    for i, depth in enumerate(size.depths):
        c, prefix = width * 2**i, f"backbone.layers.{i}"
        for j in range(depth):
            at = f"{prefix}.blocks.{j}"
            norm(f"{at}.norm1", c)
            norm(f"{at}.norm2", c)
            names[f"{at}.attn.relative_position_bias_table"] = (
                (2 * size.window_size - 1) ** 2,
                size.num_heads[i],
            )
            names[f"{at}.attn.relative_position_index"] = (size.window_size**2,) * 2
            for layer, factor in STAGE_LINEARS.items():
                names[f"{at}.{layer}.weight"], names[f"{at}.{layer}.bias"] = (factor * c, c), (factor * c,)
            names[f"{at}.mlp.fc2.weight"], names[f"{at}.mlp.fc2.bias"] = (c, 4 * c), (c,)
        for part, incoming in {
            "vis_project": c,
            "image_lang_att.f_key": words,
            "image_lang_att.f_query": c,
            "image_lang_att.f_value": words,
            "image_lang_att.W": c,
            "project_mm": c,
        }.items():
            names[f"{prefix}.fusion.{part}.0.weight"] = (c, incoming, 1)
            names[f"{prefix}.fusion.{part}.0.bias"] = (c,)
        names[f"{prefix}.res_gate.0.weight"] = names[f"{prefix}.res_gate.2.weight"] = (c, c)
        if i < stages - 1:
            norm(f"{prefix}.downsample.norm", 4 * c)
            names[f"{prefix}.downsample.reduction.weight"] = (2 * c, 4 * c)
        norm(f"backbone.norm{i}", c)
    top = width * 2 ** (stages - 1)
    hidden = top // 2
    for level, incoming in zip(
        (4, 3, 2), (top + top // 2, hidden + top // 4, hidden + top // 8), strict=True
    ):
        for number, channels in ((1, incoming), (2, hidden)):
            names[f"classifier.conv{number}_{level}.weight"] = (hidden, channels, 3, 3)
            bn = f"classifier.bn{number}_{level}"
            norm(bn, hidden)
            names[f"{bn}.running_mean"] = names[f"{bn}.running_var"] = (hidden,)
            names[f"{bn}.num_batches_tracked"] = ()
    names["classifier.conv1_1.weight"], names["classifier.conv1_1.bias"] = (2, hidden, 1, 1), (2,)
    return names


def tensors(names: dict[str, tuple[int, ...]], device: str = "cpu") -> dict[str, Tensor]:
    return {
        name: torch.zeros(shape, dtype=torch.long, device=device)
        if name.endswith(("index", "tracked"))
        else torch.randn(shape, device=device)
        for name, shape in names.items()
    }


@pytest.fixture
def tiny() -> LAVT:
    torch.manual_seed(0)
    return LAVT(TINY_LAVT).eval()


@pytest.fixture
def official(tiny: LAVT) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    words = tiny.text.config.hidden_size
    return tensors(official_names(TINY_LAVT, words)), {
        k: torch.randn_like(v) for k, v in tiny.text.state_dict().items()
    }


def count(*modules: torch.nn.Module) -> float:
    return sum(p.numel() for module in modules for p in module.parameters()) / 1e6


def test_the_published_size_has_the_published_numbers_of_parameters_and_names() -> None:
    with torch.device("meta"):
        model = LAVT()
    backbone = count(model.visual, model.pwam, model.gate, model.out_norm)
    assert (round(backbone, 3), round(count(model.decoder), 3)) == (98.197, 20.651)
    assert round(count(model.text), 3) == 108.892
    names = official_names(LAVTSize(), 768)
    assert sum(name.startswith("backbone.") for name in names) == 413
    assert sum(name.startswith("classifier.") for name in names) == 38
    loaded = from_official(tensors(names, "meta"), model.text.state_dict())
    own = model.state_dict()
    assert {key: value.shape for key, value in loaded.items()} == {key: v.shape for key, v in own.items()}


def test_official_weights_arrive_where_they_belong(
    tiny: LAVT, official: tuple[dict[str, Tensor], dict[str, Tensor]]
) -> None:
    model, text = official
    tiny.load_official_state_dict(model, text)
    for name, theirs in {
        "visual.layers.1.downsample.reduction.weight": "backbone.layers.0.downsample.reduction.weight",
        "visual.layers.2.blocks.1.mlp.fc1.bias": "backbone.layers.2.blocks.1.mlp.fc1.bias",
        "pwam.3.out.weight": "backbone.layers.3.fusion.image_lang_att.W.0.weight",
        "gate.0.2.weight": "backbone.layers.0.res_gate.2.weight",
        "out_norm.2.bias": "backbone.norm2.bias",
        "decoder.block4.0.weight": "classifier.conv1_4.weight",
        "decoder.block2.4.running_var": "classifier.bn2_2.running_var",
        "decoder.head.bias": "classifier.conv1_1.bias",
    }.items():
        assert torch.equal(tiny.state_dict()[name], model[theirs]), name


def test_a_checkpoint_in_one_piece_loads_too(
    tiny: LAVT, official: tuple[dict[str, Tensor], dict[str, Tensor]]
) -> None:
    model, text = official
    tiny.load_official_state_dict(model | {f"text_encoder.{key}": value for key, value in text.items()})
    assert torch.equal(tiny.text.state_dict()["embeddings.LayerNorm.bias"], text["embeddings.LayerNorm.bias"])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda m: m.pop("backbone.norm2.bias"), r"[Mm]issing.*out_norm\.2\.bias"),
        (lambda m: m.update({"backbone.extra": torch.zeros(1)}), r"[Uu]nexpected.*backbone\.extra"),
        (
            lambda m: m.update({"classifier.conv1_1.bias": torch.zeros(3)}),
            r"another shape .*decoder\.head\.bias",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(
    tiny: LAVT, official: tuple[dict[str, Tensor], dict[str, Tensor]], change: object, expected: str
) -> None:
    change(official[0])  # type: ignore[operator]
    with pytest.raises(UserError, match=expected):
        tiny.load_official_state_dict(*official)


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (60, 72), (36, 100)])
def test_logits_have_the_size_of_the_image(tiny: LAVT, size: tuple[int, int]) -> None:
    ids = torch.randint(1, 500, (2, 20))
    assert tiny(torch.randn(2, 3, *size), ids, torch.ones_like(ids)).shape == (2, 2, *size)


@torch.no_grad()
def test_padding_of_the_expression_changes_nothing(tiny: LAVT) -> None:
    pixels, ids, mask = torch.randn(1, 3, 64, 64), torch.randint(1, 500, (1, 20)), torch.ones(1, 20).long()
    mask[:, 7:] = 0
    other = torch.where(mask.bool(), ids, 0)
    torch.testing.assert_close(tiny(pixels, ids, mask), tiny(pixels, other, mask), atol=1e-5, rtol=1e-4)
    changed = other.clone()
    changed[:, 3] += 1
    assert not torch.allclose(tiny(pixels, changed, mask), tiny(pixels, other, mask), atol=1e-3)


def test_what_is_never_trained_gets_no_gradient_and_the_last_gate_none_either() -> None:
    model = LAVT(replace(TINY_LAVT, depths=(1, 1, 1, 1)))
    ids = torch.randint(1, 500, (2, 20))
    model(torch.randn(2, 3, 64, 64), ids, torch.ones_like(ids)).mean().backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    last = len(model.text.encoder.layer) - 1
    expected = {
        name
        for name, _ in model.named_parameters()
        if name.startswith(("text.embeddings.", f"text.encoder.layer.{last}.", "gate.3."))
    }
    assert without == expected


def test_bert_has_dropout_only_if_asked() -> None:
    small = replace(TINY_LAVT, depths=(1, 1, 1, 1))
    assert not LAVT(small).train().text.training
    model = LAVT(small, text_dropout=True).train()
    assert model.text.training
    assert not model.eval().text.training


@torch.no_grad()
def test_the_decoder_goes_from_coarse_to_fine() -> None:
    decoder = LAVTDecoder([4, 8, 16, 32]).eval()
    stages = [torch.randn(1, 4 * 2**i, 16 // 2**i, 16 // 2**i) for i in range(4)]
    x = stages[3]
    for level, finer in zip((4, 3, 2), (stages[2], stages[1], stages[0]), strict=True):
        x = torch.nn.Upsample(finer.shape[2:], mode="bilinear", align_corners=True)(x)
        block = getattr(decoder, f"block{level}")
        for conv, bn in ((block[0], block[1]), (block[3], block[4])):
            incoming = torch.cat([x, finer], 1) if conv is block[0] else x
            x = bn(torch.conv2d(incoming, conv.weight, padding=1)).relu()
    torch.testing.assert_close(decoder(stages), torch.conv2d(x, decoder.head.weight, decoder.head.bias))
