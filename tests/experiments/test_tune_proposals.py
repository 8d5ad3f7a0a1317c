from __future__ import annotations

from pathlib import Path

import pytest
import torch

from experiments import tune_proposals
from experiments.tune_proposals import read_photos, tune_on_photos
from gl_ris.errors import UserError
from real_data import write_real_data


def photo(left: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A light picture with a dark square of 60 x 60 pixels, and the mask of that."""
    mask = torch.zeros(1, 100, 160, dtype=torch.bool)
    mask[:, 20:80, left : left + 60] = True
    image = torch.full((3, 100, 160), 230, dtype=torch.uint8)
    image[:, mask[0]] = 20
    return image, mask


def test_photos_are_measured_by_every_setting_and_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tune_proposals, "read_photos", lambda _: [photo(10), photo(80)])
    # nothing of a tenth of the picture at most is half of a square of a quarter of it
    tune_on_photos("felzenszwalb", "somewhere", {"max_area": [0.1, 0.9]})
    title, _, _, best, worst, _, _, _, left_out = capsys.readouterr().out.splitlines()
    assert title == "2 photos, 2 objects of 2000 pixels or more, felzenszwalb"
    assert [float(cell) for cell in best.split()[:3]] == [0.9, 100, 100]
    assert [float(cell) for cell in worst.split()[:3:2]] == [0.1, 0]
    assert [float(cell) for cell in left_out.split()[:2]] == [100, 100]


def test_photos_without_a_larger_object_are_told(tmp_path: Path) -> None:
    write_real_data(tmp_path)
    with pytest.raises(UserError, match=r"not one of its instances has 2,000 pixels"):
        read_photos(str(tmp_path))
