from __future__ import annotations

import copy
import inspect
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gl_ris.errors import UserError
from gl_ris.masks import projection_boxes
from gl_ris.proposals import GENERATORS, FreeSOLO, Proposals, find_generator
from gl_ris.proposals import freesolo_network as network

SIZE = (48, 64)


@pytest.fixture(autouse=True)
def few_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay coarse grids: the network is the same, and ten times as fast."""
    monkeypatch.setattr(network, "GRIDS", (6, 5, 4, 3, 2))


@pytest.fixture(scope="module")
def shared() -> FreeSOLO:
    """Make a generator for tests that leave it as it is."""
    torch.manual_seed(0)
    generator = FreeSOLO(depth=50, short_side=64)
    generator.load_detectron2_state_dict(generator.named_weights())
    return generator


@pytest.fixture
def generator(shared: FreeSOLO) -> FreeSOLO:
    """Copy it for tests that do not."""
    return copy.deepcopy(shared)


def image(height: int = 48, width: int = 64, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 5, 6, generator=random) * 255
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0].byte()


def same(one: Proposals, other: Proposals) -> bool:
    pairs = ((one.masks, other.masks), (one.boxes, other.boxes), (one.scores, other.scores))
    return all(torch.equal(*pair) for pair in pairs)


def test_an_image_gives_proposals(shared: FreeSOLO) -> None:
    proposals = shared(image())
    assert len(proposals) > 3
    assert proposals.masks.shape == (len(proposals), 48, 64)
    assert proposals.masks.flatten(1).any(dim=1).all()
    assert torch.equal(proposals.boxes, projection_boxes(proposals.masks))
    assert proposals.scores.dtype == torch.float32
    assert (proposals.scores.diff() <= 0).all()
    assert 0.05 <= proposals.scores.min() <= proposals.scores.max() <= 1
    assert not proposals.scores.requires_grad


def test_an_image_is_resized_by_pillow_and_normalised_once(shared: FreeSOLO) -> None:
    from PIL import Image

    given = image(48, 70)
    # the long side is cut to an integer: 64 * 70 / 48 is 93.3
    resized = Image.fromarray(given.permute(1, 2, 0).numpy()).resize((93, 64), Image.Resampling.BILINEAR)
    pixels = np.asarray(resized, dtype=np.float64) / 255
    pixels = (pixels - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    wanted = shared.infer(torch.tensor(pixels, dtype=torch.float32).permute(2, 0, 1), (48, 70))
    got = shared(given)
    assert len(got) == len(wanted) > 3
    torch.testing.assert_close(got.scores, wanted.scores, atol=1e-4, rtol=0)
    assert (got.masks == wanted.masks).float().mean() > 0.999


@pytest.mark.parametrize("size", [(64, 64), (33, 70), (1, 5)], ids=str)
def test_any_size_is_padded_at_the_right_and_the_bottom(generator: FreeSOLO, size: tuple[int, int]) -> None:
    pixels = torch.randn(3, *size)
    canvas = torch.zeros(3, -(-size[0] // 32) * 32, -(-size[1] // 32) * 32)
    canvas[:, : size[0], : size[1]] = pixels
    seen = []
    generator.network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    assert generator.infer(pixels, (10, 12)).masks.shape[1:] == (10, 12)
    assert torch.equal(seen[0][0], canvas)


def test_nothing_is_random_and_the_surroundings_do_not_matter(generator: FreeSOLO) -> None:
    given = image()
    wanted = generator(given)
    assert same(generator(given), wanted)
    with torch.inference_mode():
        assert same(generator(given), wanted)
    with torch.autocast("cpu", torch.bfloat16):
        assert same(generator(given), wanted)
    generator.train().requires_grad_(True)
    assert same(generator(given), wanted)


def test_a_gpu_is_kept_from_rounding_and_left_as_it_was(generator: FreeSOLO) -> None:
    conv: Any = getattr(torch.backends.cudnn, "conv", None)
    if conv is None:
        pytest.skip("this version of torch has no precision for each operation")
    seen = []
    generator.network.register_forward_pre_hook(lambda *_: seen.append(conv.fp32_precision))
    before = conv.fp32_precision
    generator(image())
    assert seen == ["ieee"]
    assert conv.fp32_precision == before != "ieee"


def test_a_generator_made_in_inference_mode_takes_weights_outside_of_it() -> None:
    with torch.inference_mode():
        generator = FreeSOLO(depth=50, short_side=64)
    generator.load_detectron2_state_dict(generator.named_weights())
    assert generator(image()).masks.shape[1:] == SIZE


def test_weights_of_another_type_are_refused(generator: FreeSOLO) -> None:
    with pytest.raises(UserError, match=r"FreeSOLO computes in float32.*bfloat16.*trainer\.precision"):
        generator.to(torch.bfloat16)(image())


@pytest.mark.parametrize("shape", [(48, 64), (1, 3, 48, 64), (4, 48, 64)], ids=str)
def test_pixels_of_another_shape_are_refused(shared: FreeSOLO, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"pixels must be \(3, h, w\)"):
        shared.infer(torch.zeros(shape), SIZE)


def test_no_candidate_gives_no_proposals(generator: FreeSOLO) -> None:
    weights = generator.named_weights()
    weights["ins_head.cate_pred.bias"] = torch.tensor([-99.0, -99.0])
    generator.load_detectron2_state_dict(weights)
    proposals = generator(image())
    assert proposals.masks.shape == (0, *SIZE)
    assert proposals.boxes.shape == (0, 4)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: tensors,
        lambda tensors: {"model": tensors, "iteration": 3},
        lambda tensors: {**tensors, "_iter": torch.zeros(1)},
        lambda tensors: {"model": {name: tensor.numpy() for name, tensor in tensors.items()}},
    ],
    ids=["plain", "checkpoint", "counter", "numpy"],
)
def test_weights_come_in_many_wrappings(generator: FreeSOLO, wrap: Any) -> None:
    weights = {name: tensor + 1 for name, tensor in generator.named_weights().items()}
    generator.load_detectron2_state_dict(wrap(weights))
    loaded = generator.named_weights()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("ins_head.emb_pred.bias"), r"1 missing \(ins_head\.emb_pred\.bias\)"),
        (lambda w: w.update(extra=torch.zeros(1)), r"1 unexpected \(extra\)"),
        (
            lambda w: w.update({"backbone.fpn_lateral2.bias": torch.zeros(3)}),
            r"backbone\.fpn_lateral2\.bias is \(3,\) instead of \(256,\)",
        ),
        (lambda w: w.clear(), r"without any"),
    ],
    ids=["missing", "unexpected", "shape", "nothing"],
)
def test_weights_that_do_not_fit_are_refused_and_change_nothing(
    generator: FreeSOLO, change: Any, message: str
) -> None:
    before = {name: tensor.clone() for name, tensor in generator.named_weights().items()}
    weights = {name: torch.zeros_like(tensor) for name, tensor in generator.named_weights().items()}
    change(weights)
    with pytest.raises(UserError, match=rf"FreeSOLO: .*{message}"):
        generator.load_detectron2_state_dict(weights)
    assert all(torch.equal(tensor, before[name]) for name, tensor in generator.named_weights().items())


def test_weights_of_another_depth_are_refused(shared: FreeSOLO) -> None:
    with pytest.raises(UserError, match=r"missing \(backbone\.bottom_up\.res4\.6\."):
        FreeSOLO(depth=101).load_detectron2_state_dict(shared.named_weights())


def test_weights_come_from_a_file(shared: FreeSOLO, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"model": {**shared.named_weights(), "_iter": torch.zeros(1)}, "iteration": 1}, path)
    other = FreeSOLO(path, depth=50, short_side=64)
    assert other.settings() == shared.settings()
    assert same(other(image()), shared(image()))
    with pytest.raises(UserError, match=r"FreeSOLO: there is no file of weights nowhere\.pth"):
        FreeSOLO("nowhere.pth")


def test_random_weights_are_announced_and_loaded_ones_are_not(shared: FreeSOLO) -> None:
    with pytest.warns(UserWarning, match="FreeSOLO has random weights.*weights=FILE"):
        FreeSOLO(depth=50, short_side=32)(image())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shared(image())


def test_settings_are_all_and_tell_weights_apart(generator: FreeSOLO) -> None:
    settings = generator.settings()
    assert json.loads(json.dumps(settings)) == settings
    assert set(settings) - {"weights_sha256"} == set(inspect.signature(FreeSOLO).parameters) - {"weights"}
    assert len(settings["weights_sha256"]) == 64
    assert (settings["depth"], settings["short_side"], settings["max_count"]) == (50, 64, 100)
    weights = generator.named_weights()
    weights["mask_head.conv_pred.1.bias"] = weights["mask_head.conv_pred.1.bias"] + 1
    generator.load_detectron2_state_dict(weights)
    assert generator.settings()["weights_sha256"] != settings["weights_sha256"]


@pytest.mark.parametrize(
    ("setting", "value"), [("max_count", 3), ("score_threshold", 0.7), ("short_side", 32)]
)
def test_every_setting_reaches_the_proposals(shared: FreeSOLO, setting: str, value: float) -> None:
    other = FreeSOLO(depth=50, **{"short_side": 64, setting: value})  # type: ignore[arg-type]
    other.load_detectron2_state_dict(shared.named_weights())
    assert other.settings()[setting] == value
    assert not same(other(image()), shared(image()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 34}, r"Unknown depth of FreeSOLO, '34'.*101, 50"),
        ({"short_side": 0}, r"FreeSOLO: short_side is 0, it must be at least 1\."),
        ({"max_count": 0}, r"FreeSOLO: max_count is 0, it must be at least 1\."),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        FreeSOLO(**settings)


def test_it_has_a_name() -> None:
    assert GENERATORS["freesolo"] is FreeSOLO
    assert isinstance(find_generator("freesolo"), FreeSOLO)
