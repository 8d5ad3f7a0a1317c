from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.shapes.speakers import Caption
from experiments.run.contrastive import (
    END,
    LEVEL,
    PAD,
    START,
    ContrastiveCLIP,
    contrastive_loss,
    train_tokenizer,
)
from experiments.run.training_towers import covered, random_boxes
from gl_ris.clip import load_clip
from gl_ris.clip.kernels import Layers
from gl_ris.clip.tower import open_tower
from gl_ris.supervised.lavt.network import LAVTSize

CAPTIONS = [
    "a red star",
    "the small blue circle below a red star",
    "left star",
    "A Red star, and a blue circle",
]
TEXT = {
    "context_length": 20,
    "vocab_size": 280,
    "width": 16,
    "heads": 2,
    "layers": 2,
    "hf_tokenizer_name": "x",
}
VISION: dict[str, dict[str, Any]] = {
    "vit": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
    "rn": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16},
}
PREPROCESS = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "interpolation": "bicubic",
    "resize_mode": "squash",
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(CAPTIONS * 5, folder, 280)
    return folder


def make(tower: str, tokenizer: Path, **options: Any) -> ContrastiveCLIP:
    torch.manual_seed(0)
    model_cfg = {"embed_dim": 16, "vision_cfg": VISION[tower], "text_cfg": TEXT}
    module = ContrastiveCLIP(model_cfg, PREPROCESS, **options)
    module.use_tokenizer(tokenizer)
    return module


def images(tower: str, count: int) -> Tensor:
    size = VISION[tower]["image_size"]
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8)


def test_end_token_has_the_highest_id_and_padding_zero(tokenizer: Path) -> None:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tokenizer)
    assert loaded.convert_tokens_to_ids(PAD) == 0
    assert loaded.convert_tokens_to_ids(END) == len(loaded) - 1 == 279
    ids = loaded("a red star").input_ids
    assert (ids[0], ids[-1]) == (loaded.convert_tokens_to_ids(START), 279)
    assert loaded("A RED star").input_ids == ids
    # no word is unknown: it is spelt in bytes
    assert loaded.decode(loaded("zebra café").input_ids, skip_special_tokens=True).strip() == "zebra café"


def test_cut_texts_are_encoded_as_whole_ones(tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = make("vit", tokenizer)
    # in three parts, none of them in the order that was asked for
    monkeypatch.setattr("experiments.run.contrastive.TEXTS_TOGETHER", 2)
    texts = [CAPTIONS[1], *CAPTIONS]
    tokens = module.tokenize(texts)
    assert tokens.shape[1] < TEXT["context_length"]
    whole = torch.nn.functional.pad(tokens, (0, TEXT["context_length"] - tokens.shape[1]))
    expected = module.model.encode_text(whole, normalize=True)
    assert torch.allclose(module.encode_texts(texts), expected, atol=1e-6)


@pytest.mark.parametrize("tower", VISION)
def test_images_are_encoded_as_by_open_clip(tower: str, tokenizer: Path) -> None:
    module, pictures = make(tower, tokenizer).eval(), images(tower, 3)
    pixels = (pictures.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    expected = module.model.encode_image(pixels, normalize=True)
    assert torch.allclose(module.encode_images(pictures), expected, atol=1e-5)


@pytest.mark.parametrize("tower", VISION)
def test_exported_model_loads_and_encodes_alike(tower: str, tokenizer: Path, tmp_path: Path) -> None:
    module = make(tower, tokenizer).eval()
    module.export(tmp_path / "model", tokenizer)
    clip = load_clip(f"local-dir:{tmp_path / 'model'}")
    texts = torch.nn.functional.normalize(clip.encode_texts(CAPTIONS), dim=-1)
    assert torch.allclose(texts, module.encode_texts(CAPTIONS), atol=5e-3)  # stored in half precision
    pixels = torch.randn(2, 3, *[VISION[tower]["image_size"]] * 2)
    assert torch.allclose(clip.model.encode_image(pixels), module.model.encode_image(pixels), atol=2e-2)


def test_loss_is_that_of_all_visits_and_of_the_kinds_of_change(
    tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, scale = make("vit", tokenizer).eval(), 1 / 0.07
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    pictures = images("vit", 4)
    first = [Caption(CAPTIONS[0], "a blue star", "word"), *(Caption(text) for text in CAPTIONS[1:])]
    second = [
        *(Caption(text) for text in CAPTIONS[:2]),
        Caption(CAPTIONS[2], "right star", "place"),
        first[0],
    ]
    image = module.encode_images(pictures).detach()
    expected, leads = 0.0, {"word": [], "place": []}
    for visit in (first, second):
        own = module.encode_texts([caption.text for caption in visit])
        false = module.encode_texts([caption.false for caption in visit if caption.false])
        expected += float(contrastive_loss(image, own, false, torch.tensor(scale))) / 2
        for k, caption in enumerate(visit):
            if caption.false:
                wrong = module.encode_texts([caption.false])[0]
                leads[caption.change].append(scale * float(image[k] @ own[k] - image[k] @ wrong))
    for lead in leads.values():
        expected += sum(math.log(1 + math.exp(-one)) for one in lead) / len(lead)
    assert {kind: len(lead) for kind, lead in leads.items()} == {"word": 2, "place": 1}
    assert float(module.training_step((pictures, [first, second]), 0)) == pytest.approx(expected, rel=1e-4)


def test_images_have_to_refuse_false_texts_and_texts_have_no_further_images() -> None:
    image, text, false = (torch.nn.functional.normalize(torch.randn(n, 8), dim=-1) for n in (3, 3, 2))
    scale, expected = torch.tensor(5.0), 0.0
    for k in range(3):
        among = [math.exp(5 * float(image[k] @ other)) for other in (*text, *false)]
        back = [math.exp(5 * float(other @ text[k])) for other in image]
        expected -= (math.log(among[k] / sum(among)) + math.log(back[k] / sum(back))) / 2 / 3
    assert float(contrastive_loss(image, text, false, scale)) == pytest.approx(expected, abs=1e-5)
    # without false texts it is CLIP's own
    from open_clip.loss import ClipLoss

    plain = contrastive_loss(image, text, false[:0], scale)
    assert torch.allclose(plain, ClipLoss()(image, text, scale))


@pytest.mark.parametrize("tower", VISION)
def test_windows_are_pooled_as_regions_are(tower: str, tokenizer: Path) -> None:
    module, pictures = make(tower, tokenizer).eval(), images(tower, 1)
    keeps = covered(random_boxes(2), *module.grid)
    keeps = keeps.ceil() if tower == "vit" else keeps
    views = module.encode_views(pictures, keeps)
    assert torch.allclose(views[:, 0], module.encode_images(pictures), atol=1e-6)
    # the evaluation's own way to pool a region; a weight bears on a layer norm by its epsilon alone
    model: Any = open_tower(module.model.visual, Layers())
    state = model.image_state((pictures.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25, 1)
    expected = torch.nn.functional.normalize(model.region_features(state, keeps, 1), dim=-1)
    assert torch.allclose(views[0], expected, atol=2e-6)
    assert not torch.allclose(views[0, 1], views[0, 2], atol=1e-5)


def test_views_count_together_and_the_best_most() -> None:
    views = torch.nn.functional.normalize(torch.randn(1, 4, 16), dim=-1)
    text = torch.nn.functional.normalize(torch.randn(1, 16), dim=-1)
    false = torch.nn.functional.normalize(torch.randn(2, 16), dim=-1)
    fits = [sum(math.exp(5 * float(view @ one)) for view in views[0]) for one in (*text, *false)]
    expected = math.log(sum(fits) / fits[0]) / 2
    assert float(contrastive_loss(views, text, false, torch.tensor(5.0))) == pytest.approx(expected, abs=1e-5)


def test_windows_are_the_covered_shares_of_boxes() -> None:
    torch.manual_seed(0)
    boxes = random_boxes(50)
    whole, *windows = covered(boxes, 5, 4)
    assert torch.equal(whole, torch.ones(5, 4))
    # on a finer grid they are the same boxes
    finer = covered(boxes, 10, 8).unflatten(2, (4, 2)).unflatten(1, (5, 2))
    assert torch.allclose(finer.mean(dim=(2, 4))[1:], torch.stack(windows), atol=1e-6)
    for window in windows:
        assert window.min() >= 0
        assert window.max() <= 1 + 1e-6
        # a box is the product of what it covers of rows and of columns, which are connected
        rows, columns = window.amax(1) / window.max(), window.sum(0) / 5
        assert torch.allclose(window, rows[:, None] * window.amax(0), atol=1e-6)
        assert 0.2**2 - 1e-6 <= float(window.mean()) <= 0.5**2 + 1e-6
        for line in (rows, columns):
            touched = line.nonzero().flatten().tolist()
            assert touched == list(range(touched[0], touched[-1] + 1))


def test_pictures_are_brought_to_the_size_that_a_tower_reads(tokenizer: Path) -> None:
    module, small = make("rn", tokenizer).eval(), images("rn", 2)
    # each pixel twice in both directions: half the size gives them back, near enough
    twice = small.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    pictures = torch.full_like(twice, 90)
    assert torch.allclose(
        module.encode_images(pictures), module.encode_images(pictures[:, ::2, ::2]), atol=1e-6
    )
    near = torch.nn.functional.interpolate(
        twice.permute(0, 3, 1, 2).float(), (64, 64), mode="bilinear", antialias=True
    )
    expected = module.encode_images(near.permute(0, 2, 3, 1))
    assert torch.allclose(module.encode_images(twice), expected, atol=1e-6)
    assert not torch.allclose(module.encode_images(twice), module.encode_images(pictures), atol=1e-6)


def test_parts_of_a_swin_are_weighted_means_of_its_last_map(tokenizer: Path) -> None:
    size = LAVTSize(image_size=48, patch_size=3, embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4)
    module = make("vit", tokenizer, swin=size).eval()
    assert module.grid == (8, 8)
    keeps, pictures = covered(random_boxes(1), 8, 8), torch.randint(0, 256, (3, 48, 48, 3), dtype=torch.uint8)
    visual: Any = module.model.visual
    maps = visual.trunk.patch_embed((pictures.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25)
    for layer in visual.trunk.layers:
        maps = layer(maps)
    for view, keep in zip(module.encode_views(pictures, keeps).unbind(1), keeps, strict=True):
        mean = (visual.norm(maps) * keep[None, :, :, None]).sum(dim=(1, 2)) / keep.sum()
        expected = torch.nn.functional.normalize(mean @ visual.proj.weight.T, dim=-1)
        assert torch.allclose(view, expected, atol=1e-5)


@pytest.mark.parametrize("tower", VISION)
def test_a_training_with_windows_reaches_all_weights(
    tower: str, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = make(tower, tokenizer, windows=2)
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    visits = [[Caption(text, "a blue star", "word") for text in CAPTIONS]]
    module.training_step((images(tower, 4), visits), 0).backward()
    without = [name for name, p in module.model.named_parameters() if p.grad is None]
    assert without == []


def test_a_teacher_is_imitated_in_the_same_parts_of_the_same_images(
    tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = make("rn", tokenizer).eval()
    teacher.export(tmp_path, tokenizer)
    visits, pictures = [[Caption(text) for text in CAPTIONS]], images("rn", 4)
    losses, modules = [], []
    for options in ({}, {"teacher": f"local-dir:{tmp_path}"}):
        module = make("rn", tokenizer, windows=2, **options).eval()
        module.model.visual.attnpool.c_proj.weight.data.mul_(-1)
        monkeypatch.setattr(module, "log", lambda *_, **__: None)
        torch.manual_seed(1)
        losses.append(module.training_step((pictures, visits), 0))
        modules.append(module)
    torch.manual_seed(1)
    boxes = random_boxes(2)
    pair = [one.encode_boxes(pictures, boxes) for one in (modules[1], teacher)]
    distance = 1 - torch.nn.functional.cosine_similarity(*pair, dim=-1)
    assert float(losses[1] - losses[0]) == pytest.approx(20 * float(distance.mean()), rel=1e-2)
    assert distance.min() > 0.5
    # it is not trained, and no part of a checkpoint
    assert modules[1].state_dict().keys() == modules[0].state_dict().keys()
    losses[1].backward()
    assert all(p.grad is None for p in modules[1].teachers[0].parameters())


def test_captions_are_counted_right_by_kind_of_change(
    tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = make("vit", tokenizer)
    east, north = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    monkeypatch.setattr(
        module, "encode_texts", lambda texts: torch.stack([{"e": east, "n": north}[t[0]] for t in texts])
    )
    visits = [
        [Caption("e", "n", "turned"), Caption("n", "e", "turned")],
        [Caption("n", "e", "turned"), Caption("e", "")],
        [Caption("e", "east again", "exchanged"), Caption("n", "e", "exchanged")],
    ]
    shares = module.told_apart(torch.stack([east, north])[:, None], visits)
    # a caption that fits no better than its false version is not counted right
    assert shares == {"exchanged": 1 / 2, "turned": 2 / 3}
    # two parts outweigh a whole that looks elsewhere
    views = torch.stack([torch.stack([east, north, north]), torch.stack([north, east, east])])
    assert module.told_apart(views, visits) == {"exchanged": 0, "turned": 1 / 3}


def test_held_out_pictures_are_measured_whole_and_in_the_same_parts_each_time(tokenizer: Path) -> None:
    module, found = make("rn", tokenizer, windows=2), []
    module.log = lambda name, value, **_: logged.update({name: float(value)})  # type: ignore[method-assign]
    images = torch.randint(0, 255, (4, 64, 64, 3), dtype=torch.uint8)
    batch = images, [[Caption("a red star", "a star", "turned")] * 4]
    for seed in (1, 2):
        logged: dict[str, float] = {}
        torch.manual_seed(seed)
        module.validation_step(batch, 0)
        found.append((logged, torch.rand(()), torch.manual_seed(seed), torch.rand(())))
    assert found[0][0] == found[1][0]
    assert {"val/turned", "val/parts/turned"} <= found[0][0].keys()
    # what a training draws next does not hang on having been measured
    assert all(after == expected for _, after, _, expected in found)


def test_other_batches_are_drawn_after_a_resumption(tokenizer: Path) -> None:
    module, orders = make("vit", tokenizer), []
    for step in (0, 400, 400):
        torch.manual_seed(3)
        module._trainer = SimpleNamespace(global_step=step)  # type: ignore[assignment]
        module.on_train_start()
        orders.append(torch.randperm(100).tolist())
    assert orders[0] != orders[1] == orders[2]


def test_rate_rises_stays_and_falls(tokenizer: Path) -> None:
    module = make("vit", tokenizer, learning_rate=1.0, warmup=10)
    module._trainer = SimpleNamespace(estimated_stepping_batches=100)  # type: ignore[assignment]
    parts = module.configure_optimizers()
    rate = parts["lr_scheduler"]["scheduler"].lr_lambdas[0]
    assert rate(0) == pytest.approx(0.1)
    assert [rate(step) for step in (9, 40, int(100 * LEVEL))] == [1, 1, 1]
    assert rate(100) == 0
    assert rate(int(100 * LEVEL) + 5) == pytest.approx(0.8)


def test_a_resumption_takes_the_learning_rate_that_it_is_given(tokenizer: Path) -> None:
    rates = []
    checkpoint: dict[str, Any] = {}
    for given in (1.0, 0.25):
        module = make("vit", tokenizer, learning_rate=given, warmup=1)
        module._trainer = SimpleNamespace(estimated_stepping_batches=100)  # type: ignore[assignment]
        parts = module.configure_optimizers()
        optimizer, schedule = parts["optimizer"], parts["lr_scheduler"]["scheduler"]
        if checkpoint:
            module.on_load_checkpoint(checkpoint)
            schedule.load_state_dict(checkpoint["lr_schedulers"][0])
        optimizer.step()
        schedule.step()
        checkpoint = {"lr_schedulers": [schedule.state_dict()]}
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == [1.0, 0.25]


def test_gains_biases_and_embeddings_do_not_decay(tokenizer: Path) -> None:
    module = make("vit", tokenizer, weight_decay=0.3)
    module._trainer = SimpleNamespace(estimated_stepping_batches=10)  # type: ignore[assignment]
    groups = module.configure_optimizers()["optimizer"].param_groups
    names = {id(p): name for name, p in module.model.named_parameters()}
    decayed = {names[id(p)] for group in groups if group["weight_decay"] == 0.3 for p in group["params"]}
    spared = {names[id(p)] for group in groups if group["weight_decay"] == 0 for p in group["params"]}
    assert decayed | spared == set(names.values())
    assert {"logit_scale", "token_embedding.weight", "visual.class_embedding", "ln_final.weight"} <= spared
    assert {"visual.conv1.weight", "transformer.resblocks.0.mlp.c_fc.weight", "text_projection"} <= decayed
