from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import gl_ris
from gl_ris.clip import RegionCLIP
from gl_ris.clip.image import ImageContext
from gl_ris.errors import UserError
from gl_ris.proposals import Proposals
from gl_ris.scorers import Scorer


class ByRedness(Scorer):
    """Scores a mask by how red the image is inside: the choice is known beforehand."""

    name = "by_redness"
    title = "By redness"

    def score(
        self, context: ImageContext, expressions: Sequence[str], noun_phrases: Sequence[str] | None
    ) -> Tensor:
        red = torch.stack([context.image[0][mask].float().mean() for mask in context.masks])
        return red.repeat(len(expressions), 1)


@pytest.fixture
def picture() -> Image.Image:
    image = Image.new("RGB", (80, 60), (90, 90, 90))
    image.paste((20, 20, 230), (5, 5, 25, 25))
    image.paste((230, 20, 20), (40, 20, 70, 50))
    return image


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


@pytest.mark.parametrize("form", ["file", "path", "pil", "array", "tensor"])
def test_every_form_of_image_gives_the_same(
    form: str, clip: RegionCLIP, picture: Image.Image, tmp_path: Path
) -> None:
    picture.save(tmp_path / "a.png")
    array = np.array(picture)
    forms = {
        "file": str(tmp_path / "a.png"),
        "path": tmp_path / "a.png",
        "pil": picture,
        "array": array,
        "tensor": torch.from_numpy(array).permute(2, 0, 1),
    }
    found = gl_ris.segment(forms[form], "red", clip=clip)
    expected = gl_ris.segment(picture, "red", clip=clip)
    assert torch.equal(found.mask, expected.mask)
    assert found.score == expected.score


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"expression": "  "}, "The expression is empty", id="empty expression"),
        pytest.param({"image": "no/such.png"}, "'no/such.png' cannot be read", id="no file"),
        pytest.param({"image": np.zeros((5, 5, 3))}, "uint8 RGB.*float64", id="float array"),
        pytest.param({"image": Image.new("RGB", (40, 40))}, "proposed no masks", id="no proposals"),
        pytest.param({"method": "globl_local"}, "Did you mean 'global_local'", id="unknown method"),
    ],
)
def test_errors_are_told(
    arguments: dict[str, object], message: str, clip: RegionCLIP, picture: Image.Image
) -> None:
    given = {"image": picture, "expression": "a star", "clip": clip, **arguments}
    with pytest.raises(UserError, match=message):
        gl_ris.segment(**given)


def test_the_best_is_what_the_method_says(
    clip: RegionCLIP, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gl_ris.segmentation.load_scorer", lambda _: ByRedness)
    found = gl_ris.segment(picture, "anything", clip=clip, method="by_redness")
    rows, columns = np.nonzero(found.mask.numpy())
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx((20, 49, 40, 69), abs=1)
    assert found.box.tolist() == pytest.approx([40, 20, 70, 50], abs=1)
