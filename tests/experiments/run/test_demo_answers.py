"""What the demo answers, without a page: the same as `gl_ris.segment`, from features that are kept."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import gl_ris
from experiments.demo import drawn_examples
from experiments.run import demo_answers
from experiments.run.demo_answers import Answer, Asked, Desk, Models, as_html, prepared, said
from gl_ris.clip.resnet import ResNetTower
from gl_ris.errors import UserError
from gl_ris.proposals import Felzenszwalb
from gl_ris.visualize import overlay


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    return drawn_examples(tmp_path_factory.mktemp("examples"))


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts how often the image tower is asked for something."""
    calls: Counter[str] = Counter()
    for name in ("encode", "image_state", "region_features"):
        own = getattr(ResNetTower, name)

        def counted(*given: Any, own: Any = own, name: str = name) -> Any:
            calls[name] += 1
            return own(*given)

        monkeypatch.setattr(ResNetTower, name, counted)
    return calls


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"alpha": 0.0},
        {"alpha": 1.0, "beta": 0.2},
        {"rerank": "full"},
        {"method": "cropping"},
        {"method": "grad_cam"},
        {"proposals": "felzenszwalb"},
    ],
)
def test_answers_are_those_of_segment(examples: list[list[str]], changes: dict[str, Any]) -> None:
    file, text = examples[1]
    found = Desk(Models()).answer(file, text, Asked(**changes))
    settings = changes | ({"proposals": Felzenszwalb()} if "proposals" in changes else {})
    own = gl_ris.segment(file, text, clip="refshapes-rn", **settings)
    image = torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1)
    assert found.picture is not None
    assert found.picture.tobytes() == overlay(image, own.mask, None).tobytes()
    captions = [
        f"{place}: {score:.3f}" for place, score in enumerate(sorted(own.scores, reverse=True)[:6], 1)
    ]
    assert [caption for _, caption in found.ranking] == captions
    assert found.understood["noun phrase"] == own.noun_phrase
    assert not found.failed


def test_the_examples_are_found(examples: list[list[str]], tmp_path: Path) -> None:
    from datamodules.shapes.scenes import make_picture

    for number, (file, text) in enumerate(examples):
        drawn = make_picture(f"demo {number}", "val", tmp_path / "again.png")
        said = {one.text: place for place, own in drawn.utterances["refshapesg"].items() for one in own}
        target, mask = drawn.masks[said[text]], gl_ris.segment(file, text, clip="refshapes-rn").mask.numpy()
        assert (target & mask).sum() > 0.5 * (target | mask).sum(), text


def test_controls_answer_from_kept_features(examples: list[list[str]], encoded: Counter[str]) -> None:
    desk, (file, text) = Desk(Models()), examples[0]
    assert "anew" in desk.answer(file, text, Asked()).sentences[-1]
    before = encoded.copy()
    assert before["encode"]
    assert before["image_state"]
    for changes in ({"alpha": 0.1}, {"beta": 0.9}, {"rerank": "full"}, {"method": "cropping"}):
        found = desk.answer(file, "the smallest thing", Asked(**changes))  # type: ignore[arg-type]
        assert "kept features" in found.sentences[-1]
    assert encoded == before
    desk.answer(file, text, Asked(proposals="felzenszwalb"))
    assert encoded["encode"] > before["encode"]


def test_features_of_few_pictures_are_kept(
    examples: list[list[str]], encoded: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_answers, "_KEPT", 2)
    desk, files = Desk(Models()), [file for file, _ in examples[:3]]
    how = [desk.answer(file, "a star", Asked()).sentences[-1] for file in (*files, files[2], files[0])]
    assert ["anew" in line for line in how] == [True, True, True, False, True]
    assert encoded["image_state"] == 4


def odd(folder: Path, name: str) -> str:
    path = folder / name
    if name == "text.png":
        path.write_text("this is no picture")
    elif name == "cut.png":
        Image.effect_noise((90, 90), 80).save(path)
        path.write_bytes(path.read_bytes()[:2000])
    else:
        size = {
            "dot.png": (1, 1),
            "bomb.png": (20000, 10000),
            "large.png": (3000, 1500),
            "line.png": (2, 900),
        }
        Image.new("1" if name == "bomb.png" else "RGB", size[name], 1).save(path)
    return str(path)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        (None, "a star", "Choose a picture first"),
        ("dot.png", "", "Say what to look for"),
        ("dot.png", " \n\t", "Say what to look for"),
        ("dot.png", None, "Say what to look for"),
        ("dot.png", "a" * 501, "has 501 characters; up to 500"),
        ("dot.png", "a star", "proposed no masks"),
        ("line.png", "a star", "proposed no masks"),
        ("text.png", "a star", "it is none of JPEG, PNG"),
        ("cut.png", "a star", "cannot be read"),
        ("bomb.png", "a star", "exceeds limit of 178956970 pixels"),
    ],
)
def test_what_is_wrong_is_a_sentence(tmp_path: Path, name: str | None, text: Any, reason: str) -> None:
    found = Desk(Models()).answer(name and odd(tmp_path, name), text, Asked())
    assert found.failed
    assert found.picture is None
    assert found.ranking == []
    (sentence,) = found.sentences
    assert reason in sentence
    assert str(tmp_path) not in sentence, "where files lie is nobody's business"


@pytest.mark.parametrize(
    "text", ["🌟🌟", "النجمة الحمراء", "כוכב", "<b>star</b>", "\u202e\x00star", "a " * 250]
)
def test_any_text_is_answered_and_stays_text(examples: list[list[str]], text: str) -> None:
    found = Desk(Models()).answer(examples[0][0], text, Asked(rerank="full"))
    assert found.picture is not None
    notice, table = as_html(found)
    assert "<b>" not in notice + table
    assert 'dir="auto"' in table


def test_a_defect_is_a_sentence_and_a_line_in_the_terminal(
    examples: list[list[str]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("at /secret/place")

    monkeypatch.setattr(demo_answers, "shown", broken)
    found = Desk(Models()).answer(examples[0][0], "a star", Asked())
    assert found.sentences == ["This did not work (ZeroDivisionError); the terminal of the demo says more."]
    assert "/secret/place" in caplog.text


def test_a_photograph_is_reduced_and_needs_real_weights(tmp_path: Path) -> None:
    pixels, remarks = prepared(odd(tmp_path, "large.png"), "refshapes-vit")
    assert tuple(pixels.shape) == (3, 512, 1024)
    assert "Photographs need real weights: clip=ViT-B-32-quickgelu" in remarks[0]
    assert remarks[1] == "The picture of 3,000 x 1,500 pixels was reduced to 1,024 x 512."
    assert len(prepared(odd(tmp_path, "large.png"), "ViT-B-32-quickgelu")[1]) == 1


def test_a_drawing_needs_no_remark(examples: list[list[str]]) -> None:
    assert [prepared(file, "refshapes-rn")[1] for file, _ in examples] == [[]] * len(examples)


def test_scorers_are_those_that_fit_the_model() -> None:
    by_resnet, by_vit = (Models(clip).methods() for clip in ("refshapes-rn", "refshapes-vit"))
    assert by_resnet[0] == by_vit[0] == "global_local"
    assert "region_token" in by_vit
    assert "region_token" not in by_resnet
    assert not {"score_file", "heat_files"} & set(by_resnet)


@pytest.mark.parametrize(
    ("models", "names"),
    [
        (Models(), ["slic", "felzenszwalb", "felzenszwalb-photo"]),
        (Models("ViT-B-32-quickgelu"), ["sam2", "slic", "felzenszwalb", "felzenszwalb-photo"]),
        (Models(proposals=Felzenszwalb(scale=9)), ["felzenszwalb", "slic", "felzenszwalb-photo"]),
    ],
)
def test_masks_that_were_asked_for_come_first(models: Models, names: list[str]) -> None:
    made = models.generators()
    assert list(made) == names
    assert made[names[0]] is models.proposals


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(UserError, match="rerank"):
        Models().segmenter(Asked(rerank="nothing"))


def test_relations_are_written_as_words() -> None:
    relations = [{"kind": "left", "anchor": 0}, {"kind": "above", "anchor": 1, "of": 0, "negated": True}]
    assert said({"head": "star", "anchors": ["a dog", "a cat"], "relations": relations, "count": 2}) == {
        "head": "star",
        "anchors": "a dog, a cat",
        "relations": "left: a dog, not above: a cat (said of a dog)",
        "count": "2",
    }


def test_what_failed_is_marked() -> None:
    notice, table = as_html(Answer(["<x> & y"], failed=True))
    assert notice == '<div role="status"><p class="failed" dir="auto">&lt;x&gt; &amp; y</p></div>'
    assert table == ""
