"""The Hugging Face hub is reached, or said once not to be, in a few seconds."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants, hf_hub_download
from torch import nn

from gl_ris import hub
from gl_ris.clip import load_clip
from gl_ris.errors import UserError
from gl_ris.hub import reaching_hub
from gl_ris.proposals.sam_network import find_model
from gl_ris.supervised.starting import load_bert, load_classifier, load_tokenizer


@pytest.fixture(autouse=True)
def nobody_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A hub at a port where nobody listens, and an empty cache."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        place = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", place)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    hub._trouble.cache_clear()
    yield
    hub._trouble.cache_clear()


NEEDY: dict[str, Callable[[], object]] = {
    "weights": lambda: load_clip("ViT-B-32-quickgelu", "openai"),
    "repository": lambda: load_clip("hf-hub:someone/tiny"),
    "tokenizer": lambda: load_tokenizer("someone/tokenizer"),
    "bert": lambda: load_bert(nn.Linear(1, 1), "someone/bert"),
    "timm": lambda: load_classifier(nn.Linear(1, 1), "vit_tiny_patch16_224"),
    "sam": lambda: find_model("someone/sam"),
}


@pytest.mark.parametrize("what", NEEDY)
def test_without_a_network_there_is_a_line_and_a_sentence_at_once(
    what: str, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    began = time.monotonic()
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:\d+ cannot be reached, and its cache ") as told:
        NEEDY[what]()
    assert time.monotonic() - began < 15  # retries take 24 to 60 seconds; most of this is a slow import
    assert "\n" not in str(told.value)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.endswith("only what is in the cache is used.")


def test_a_user_who_is_offline_is_asked_nothing_and_told_why(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"HF_HUB_OFFLINE is set, and its cache .* lacks it"):
        find_model("someone/sam")
    assert capfd.readouterr().err == ""
    assert constants.HF_HUB_OFFLINE is True


def test_what_is_in_the_cache_is_used(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--someone--sam" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    with reaching_hub():
        assert constants.HF_HUB_OFFLINE
        assert Path(hf_hub_download("someone/sam", "config.json", cache_dir=tmp_path)).read_text() == "{}"
    assert not constants.HF_HUB_OFFLINE


def test_a_hub_that_answers_is_used_and_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Session:
        def head(self, url: str, timeout: float) -> None:
            assert 0 < timeout <= 5
            asked.append(url)

    monkeypatch.setattr("huggingface_hub.utils.get_session", Session)
    for _ in range(3):
        with reaching_hub():
            assert not constants.HF_HUB_OFFLINE
    assert asked == [constants.ENDPOINT]


def test_other_errors_and_what_needs_no_hub_pass(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), reaching_hub():
        raise ZeroDivisionError
    hub._trouble.cache_clear()
    capfd.readouterr()
    with reaching_hub(needed=False):
        assert not constants.HF_HUB_OFFLINE
    assert load_clip("refshapes-vit").name == "refshapes-vit"
    assert capfd.readouterr().err == ""


def test_the_root_logger_is_left_as_it_was() -> None:
    before = list(logging.getLogger().handlers)
    with pytest.raises(UserError):
        load_clip("ViT-B-32-quickgelu", "openai")
    assert logging.getLogger().handlers == before
