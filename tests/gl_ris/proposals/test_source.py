"""The source: reads what is stored, makes and keeps the rest, and tells what it did."""

from __future__ import annotations

import errno
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from gl_ris.errors import UserError
from gl_ris.proposals.base import ProposalGenerator, Proposals
from gl_ris.proposals.source import ProposalSource, describe_stored, open_source
from gl_ris.proposals.store import ImageKey

DATA = SimpleNamespace(dataset_name="toy", partition="unc", split="val")


class Bright(ProposalGenerator):
    """The pixels above a level, in float64; fails on an image that is dark."""

    name, league = "bright", "unsupervised"

    def __init__(self, level: int = 100) -> None:
        self.level, self.calls, self.error = level, 0, RuntimeError("too dark")

    def settings(self) -> dict[str, Any]:
        return {"level": self.level}

    def __call__(self, image: Tensor) -> Proposals:
        self.calls += 1
        if not image.any():
            raise self.error
        masks = image > self.level
        return Proposals(masks, torch.full((3, 4), 1 / 3).double(), torch.tensor([3, 2, 1 / 3]).double())


def picture(seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (3, 8, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def run(folder: Path, images: dict[int, Tensor], **settings: Any) -> tuple[ProposalSource, list[Any]]:
    source = open_source(Bright(**settings), str(folder), DATA)
    found = []
    for number, image in images.items():
        try:
            made = source(number, image)
        except RuntimeError as error:
            found.append(str(error))
        else:
            assert {made.boxes.dtype, made.scores.dtype} == {torch.float32}
            found.append([made.masks.tolist(), made.boxes.tolist(), made.scores.tolist()])
    return source, found


def test_what_is_read_has_the_bits_of_what_was_generated(tmp_path: Path) -> None:
    images = {number: picture(number) for number in range(4)}
    some, few = run(tmp_path, dict(list(images.items())[:2]))
    rest, whole = run(tmp_path, images)
    again, read = run(tmp_path, images)
    assert few == whole[:2]
    assert whole == read
    assert [source.counts for source in (some, rest, again)] == [
        {"read": 0, "generated": 2, "failed": 0},
        {"read": 2, "generated": 2, "failed": 0},
        {"read": 4, "generated": 0, "failed": 0},
    ]
    assert again.generator.calls == 0  # type: ignore[attr-defined]
    other, different = run(tmp_path, images, level=50)
    assert other.counts["generated"] == 4
    assert different != whole


def test_a_failure_is_recorded_and_tried_again(tmp_path: Path) -> None:
    images = {1: picture(), 2: torch.zeros(3, 8, 9, dtype=torch.uint8)}
    for attempt in range(2):
        source, (_, told) = run(tmp_path, images)
        assert told == "too dark"
        assert source.counts == {"read": attempt, "generated": 1 - attempt, "failed": 1}
        assert source.store is not None
        assert source.store.failures == {ImageKey.of(2, images[2]): "RuntimeError: too dark"}
        assert source.store.image_ids == {1}


def test_what_the_user_can_mend_is_not_recorded(tmp_path: Path) -> None:
    source = open_source(Bright(), str(tmp_path), DATA)
    source.generator.error = UserError("install it")  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="install it"):
        source(1, torch.zeros(3, 8, 9, dtype=torch.uint8))
    assert source.counts == {"read": 0, "generated": 0, "failed": 0}
    assert not list(tmp_path.iterdir())


def test_a_changed_image_is_noticed_once_and_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(tmp_path, {1: picture(1), 2: picture(2)})
    changed = {1: picture(3), 2: picture(4)}
    source, made = run(tmp_path, changed)
    assert made == run(tmp_path / "other", changed)[1]
    assert source.counts["generated"] == 2
    assert [record.getMessage().partition(" when")[0] for record in caplog.records] == [
        "Image 1 is not as it was"
    ]
    assert run(tmp_path, {1: picture(1), 2: picture(4)})[0].counts["read"] == 2


@pytest.mark.parametrize("strict", [False, True])
def test_a_store_that_cannot_be_written(
    strict: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = open_source(Bright(), str(tmp_path), DATA, strict=strict)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(source.store, "put", full)
    if strict:
        with pytest.raises(UserError, match=r"No space left on device.* name another folder by store=FOLDER"):
            source(1, picture())
    else:
        assert len(source(1, picture())) == len(source(2, picture(2))) == 3
        assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize(("store", "data"), [(False, DATA), (True, None), (True, SimpleNamespace())])
def test_without_a_name_or_a_wish_nothing_is_stored(
    store: bool, data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GL_RIS_STORE", str(tmp_path))
    source = open_source(Bright(), store, data)
    source(1, picture())
    source(1, picture())
    assert (source.store, source.counts["generated"]) == (None, 2)
    assert not list(tmp_path.iterdir())


def test_the_usual_place_and_what_is_said_about_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GL_RIS_STORE")
    monkeypatch.setenv("GL_RIS_CACHE", str(tmp_path))
    said = []
    for known in ([], [1], [2, 3]):
        source = open_source(Bright(), True, DATA)
        for number in known:
            source(number, picture(number))
        said.append(describe_stored(open_source(Bright(), True, DATA), {1, 2, 3}))
    (folder,) = (tmp_path / "proposals" / "toy-unc-val").iterdir()
    assert folder.name.startswith("bright-")
    assert said == [
        f"proposals: none of 3 images stored, generating them into {folder}",
        f"proposals: 1 of 3 images stored, generating the rest into {folder}",
        f"proposals: all 3 images stored in {folder}",
    ]


def test_what_is_only_looked_up_is_not_called_generated() -> None:
    looked_up = Bright()
    looked_up.stored = False
    source = open_source(looked_up, True, DATA)
    assert describe_stored(source, {1, 2}) == "proposals: those of 2 images are looked up (bright)"
