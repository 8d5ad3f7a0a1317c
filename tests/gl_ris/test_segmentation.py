from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import gl_ris
from gl_ris.clip import RegionCLIP
from gl_ris.clip.image import ImageContext
from gl_ris.errors import UserError
from gl_ris.masks import decode_rle, encode_rle
from gl_ris.predictions import Prediction
from gl_ris.proposals import SLIC, PostProcessing, Proposals
from gl_ris.scorers import Scorer
from gl_ris.zero_shot import ZeroShotRIS
from toy_scenes import Data, make_scene


class ByRedness(Scorer):
    """Scores a mask by how red the image is inside: the choice is known beforehand."""

    name = "by_redness"
    title = "By redness"

    def score(
        self, context: ImageContext, expressions: Sequence[str], noun_phrases: Sequence[str] | None
    ) -> Tensor:
        red = torch.stack([context.image[0][mask].float().mean() for mask in context.masks])
        return red.repeat(len(expressions), 1)


def masks() -> Proposals:
    found = torch.zeros(2, 60, 80, dtype=torch.bool)
    found[0, 5:25, 5:25] = True
    found[1, 20:50, 40:70] = True
    return Proposals.from_masks(found)


def test_drawn_objects_are_found_and_ranked(clip: RegionCLIP, picture: Image.Image) -> None:
    found = gl_ris.segment(picture, "the red square", clip=clip, proposals=masks())
    assert found.mask.shape == (60, 80)
    assert sorted(found.ranking.tolist()) == [0, 1]
    assert found.score == pytest.approx(float(found.scores.max()))
    assert found.scores[found.ranking[0]] >= found.scores[found.ranking[1]]
    assert torch.equal(found.mask, masks().masks[found.ranking[0]])


@pytest.mark.parametrize("form", ["file", "path", "bytes", "pil", "array", "tensor"])
def test_every_form_of_image_gives_the_same(
    form: str, clip: RegionCLIP, picture: Image.Image, tmp_path: Path
) -> None:
    picture.save(tmp_path / "a.png")
    array = np.array(picture)
    forms = {
        "file": str(tmp_path / "a.png"),
        "path": tmp_path / "a.png",
        "bytes": (tmp_path / "a.png").read_bytes(),
        "pil": picture,
        "array": array,
        "tensor": torch.from_numpy(array).permute(2, 0, 1),
    }
    found = gl_ris.segment(forms[form], "red", clip=clip, proposals=SLIC())
    expected = gl_ris.segment(picture, "red", clip=clip, proposals=SLIC())
    assert torch.equal(found.mask, expected.mask)
    assert found.score == expected.score


def test_a_photo_of_a_phone_is_seen_upright(clip: RegionCLIP, picture: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees to show"
    picture.save(tmp_path / "phone.png", exif=exif)
    upright = picture.transpose(Image.Transpose.ROTATE_270)
    found = gl_ris.segment(tmp_path / "phone.png", "red", clip=clip, proposals=SLIC())
    assert found.mask.shape == (80, 60)
    assert torch.equal(found.mask, gl_ris.segment(upright, "red", clip=clip, proposals=SLIC()).mask)


@pytest.mark.parametrize("form", ["array", "integers", "tensor", "generate", "codes"])
def test_every_form_of_masks_gives_the_same(form: str, clip: RegionCLIP, picture: Image.Image) -> None:
    arrays = masks().masks.numpy()
    forms: dict[str, Any] = {
        "array": arrays,
        "integers": list(arrays.astype(np.uint8) * 255),
        "tensor": masks().masks,
        "generate": [{"segmentation": array, "predicted_iou": 0.9} for array in arrays],
        "codes": [{"segmentation": encode_rle(mask), "predicted_iou": 0.9} for mask in masks().masks],
    }
    found = gl_ris.segment(picture, "red", clip=clip, proposals=forms[form])
    assert torch.equal(found.scores, gl_ris.segment(picture, "red", clip=clip, proposals=masks()).scores)


EMPTY = Proposals.from_masks(torch.zeros(2, 60, 80, dtype=torch.bool))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"expression": "  "}, "The expression is empty", id="empty expression"),
        pytest.param({"expression": None}, "must be one text.* a NoneType", id="no expression"),
        pytest.param({"expression": ["a", "b"]}, "must be one text.* a list", id="several expressions"),
        pytest.param({"image": "no/such.png"}, "'no/such.png' cannot be read", id="no file"),
        pytest.param({"image": np.zeros((5, 5, 3))}, "uint8 RGB.*float64", id="float array"),
        pytest.param({"image": None}, "Expected `image` to be a file.*NoneType", id="no image"),
        pytest.param({"image": Image.new("RGB", (40, 40))}, "proposed no masks", id="no proposals"),
        pytest.param({"proposals": EMPTY}, "None of the 2 masks has a pixel", id="empty masks"),
        pytest.param({"proposals": []}, "proposed no masks", id="empty list"),
        pytest.param({"proposals": "slic"}, "must be a generator.*not str 'slic'", id="a name"),
        pytest.param({"proposals": np.ones((60, 80), bool)}, r"give masks\[None\]", id="one mask"),
        pytest.param(
            {"proposals": np.ones((1, 80, 60), bool)}, "of 80 x 60 .* the image is 60 x 80", id="turned"
        ),
        pytest.param({"method": "globl_local"}, "Did you mean 'global_local'", id="unknown method"),
        pytest.param({"alfa": 1.0}, "Unknown option of segment 'alfa'. Did you mean 'alpha'", id="option"),
    ],
)
def test_errors_are_told(
    arguments: dict[str, object], message: str, clip: RegionCLIP, picture: Image.Image
) -> None:
    given: dict[str, Any] = {"image": picture, "expression": "a star", "clip": clip, "proposals": SLIC()}
    with pytest.raises(UserError, match=message):
        gl_ris.segment(**{**given, **arguments})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("tower", ["visual", "transformer"])
def test_broken_weights_choose_nothing(
    value: float, tower: str, clip_folder: Callable[..., Path], picture: Image.Image
) -> None:
    clip = gl_ris.load_clip(f"local-dir:{clip_folder('vit')}")
    weight = next(p for name, p in clip.model.named_parameters() if name.startswith(tower) and p.ndim > 1)
    weight.data.fill_(value)
    with pytest.raises(UserError, match=r"No mask can be chosen: .* NaN or infinite"):
        gl_ris.segment(picture, "red", clip=clip, proposals=masks())


def with_an_empty_mask() -> Proposals:
    found = make_scene(0, [""]).proposals
    assert found is not None
    masks = torch.cat([torch.zeros_like(found.masks[:1]), found.masks])
    return Proposals.from_masks(masks, torch.tensor([0.9, 0.2, 0.8, 0.5]))


Predict = Callable[..., tuple[ZeroShotRIS, list[Prediction]]]


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="as it is"),
        pytest.param({"alpha": 0.3, "beta": 0.9, "masked_blocks": 1}, id="shares"),
        pytest.param({"recipe": "published"}, id="published"),
        pytest.param({"recipe": {"base": "published", "boxes": "tight", "text": "as_given"}}, id="fields"),
        pytest.param({"recipe": {"grid_mask": "sampled", "vit_unit_visual": False}}, id="fields of clean"),
        pytest.param({"method": "cropping"}, id="cropping"),
        pytest.param({"method": "grad_cam"}, id="Grad-CAM"),
        pytest.param({"method": "score_map"}, id="score map"),
        pytest.param({"method": "region_token", "recipe": "published"}, id="region token"),
        pytest.param({"method": "largest"}, id="largest"),
        pytest.param({"method": "random"}, id="random"),
        pytest.param({"post": PostProcessing(top=2)}, id="the two best"),
        pytest.param({"post": PostProcessing(merge=0.8, min_area=5)}, id="merged"),
        pytest.param({"post": PostProcessing(nms=0.3)}, id="suppressed"),
        pytest.param({"proposals": with_an_empty_mask()}, id="with an empty mask"),
        pytest.param({"proposals": with_an_empty_mask(), "recipe": "published"}, id="published with one"),
        pytest.param({"proposals": with_an_empty_mask(), "post": PostProcessing(nms=0.9)}, id="all at once"),
    ],
)
def test_segment_does_what_a_run_does(settings: dict[str, Any], predict: Predict) -> None:
    texts = ["the Man's red hat, below a star", "two blue squares", "it is left of the dog"]
    image = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)
    given = dict(settings)
    method, proposals = given.pop("method", "global_local"), given.pop("proposals", None)
    scene = replace(make_scene(0, texts), image=image)
    scene = scene if proposals is None else replace(scene, proposals=proposals)
    model, records = predict(Data([scene]), methods=[method], **given)
    for text, record in zip(texts, records, strict=True):
        found = gl_ris.segment(
            image, text, clip=model.variants[0].clip, method=method, proposals=scene.proposals, **given
        )
        assert record.choice == int(found.ranking[0])
        assert record.score == pytest.approx(found.score, abs=1e-6)
        assert record.noun_phrase == found.noun_phrase
        assert record.segmentation is not None
        assert torch.equal(decode_rle(record.segmentation), found.mask)
        occupied = found.proposals.masks.flatten(1).any(dim=1)
        assert occupied[found.ranking].tolist() == sorted(occupied.tolist(), reverse=True)


def test_the_best_is_what_the_method_says(
    clip: RegionCLIP, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gl_ris.segmentation.load_scorer", lambda _: ByRedness)
    found = gl_ris.segment(picture, "anything", clip=clip, method="by_redness", proposals=SLIC())
    rows, columns = np.nonzero(found.mask.numpy())
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx((20, 49, 40, 69), abs=1)
    assert found.box.tolist() == pytest.approx([40, 20, 70, 50], abs=1)


class CountingSLIC(SLIC):
    """Counts how often it is asked."""

    asked = 0

    def __call__(self, image: Tensor) -> Proposals:
        self.asked += 1
        return super().__call__(image)


TEXTS = ["the red square", "a blue thing on the left", "the red square"]


def other(picture: Image.Image) -> Image.Image:
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


@pytest.mark.parametrize("settings", [{}, {"method": "cropping", "rerank": "full"}, {"recipe": "published"}])
def test_a_segmenter_gives_what_segment_gives(
    settings: dict[str, Any], clip: RegionCLIP, picture: Image.Image
) -> None:
    segmenter = gl_ris.Segmenter(clip, proposals=SLIC(), **settings)
    opened = {False: segmenter.open(picture), True: segmenter.open(other(picture))}
    for text, flipped in itertools.product(TEXTS, (False, True)):
        image = other(picture) if flipped else picture
        wanted = gl_ris.segment(image, text, clip=clip, proposals=SLIC(), **settings)
        for found in (segmenter(image, text), opened[flipped](text)):
            assert torch.equal(found.scores, wanted.scores)
            assert torch.equal(found.mask, wanted.mask)
            assert (found.score, found.noun_phrase, found.parsed) == (
                wanted.score,
                wanted.noun_phrase,
                wanted.parsed,
            )
    for text, found in zip(TEXTS, opened[True].all(TEXTS), strict=True):
        torch.testing.assert_close(found.scores, opened[True](text).scores)
    assert opened[True].all([]) == []


def test_an_expression_costs_its_text_alone(
    clip: RegionCLIP, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither masks nor features are made again, whatever image was looked at in between."""
    generator, encoded = CountingSLIC(), []
    own = type(clip.tower).encode

    def encode(tower: Any, pixels: Tensor) -> Tensor:
        encoded.append(len(pixels))
        return own(tower, pixels)

    monkeypatch.setattr(type(clip.tower), "encode", encode)
    segmenter = gl_ris.Segmenter(clip, proposals=generator)
    first, second = segmenter.open(picture), segmenter.open(other(picture))
    done = len(encoded)
    assert (generator.asked, done > 0) == (2, True)
    for text in ("red", "blue", "green"):
        assert not torch.equal(first(text).mask, second(text).mask)
    assert (generator.asked, len(encoded)) == (2, done)
    segmenter(picture, "red")
    segmenter(np.array(picture), "blue")
    assert generator.asked == 3, "the image of the last call is not opened again"


def test_features_of_other_weights_are_made_anew(
    clip_folder: Callable[..., Path], picture: Image.Image
) -> None:
    clip = gl_ris.load_clip(f"local-dir:{clip_folder('vit')}")
    opened = gl_ris.Segmenter(clip, proposals=masks()).open(picture)
    before = opened("red").scores
    with torch.no_grad():
        clip.model.visual.conv1.weight.mul_(-1)
    after = opened("red").scores
    assert not torch.equal(before, after)
    assert torch.equal(after, gl_ris.segment(picture, "red", clip=clip, proposals=masks()).scores)
