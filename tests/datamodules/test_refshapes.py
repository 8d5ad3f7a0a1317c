from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import datamodules.refshapes as refshapes
from datamodules.files import written_whole
from datamodules.refshapes import PROBES, REGISTERS, RefShapes, RefShapesPhrases
from datamodules.shapes.world import COLORS, CURVED_CATEGORIES, SEEN_FILLS, UNSEEN_CATEGORIES, UNSEEN_FILLS
from gl_ris.errors import UserError

EVALUATION = "refshapes-v3-seed0-val-testA-testB"


@pytest.fixture(scope="module")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RefShapes in small, drawn by the real code into a cache of its own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GL_RIS_CACHE", str(folder))
        patch.setattr(refshapes, "SIZES", {"train": 4, "val": 6, "testA": 5, "testB": 5})
        patch.setattr(refshapes, "PHRASE_SIZES", {"val": 10, "test": 4})
        RefShapes(split="val").prepare_data()
        RefShapes(split="train").prepare_data()
        RefShapes(PROBES[0]).prepare_data()
        RefShapesPhrases().prepare_data()
    return folder


@pytest.fixture(autouse=True)
def cache(small_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GL_RIS_CACHE", str(small_world))


@pytest.mark.parametrize("register", REGISTERS)
@pytest.mark.parametrize(("split", "images"), [("train", 4), ("val", 6), ("testA", 5), ("testB", 5)])
def test_every_image_of_a_split_is_there_and_has_expressions(register: str, split: str, images: int) -> None:
    scenes = list(RefShapes(register, split, proposals="ground_truth").predict_dataloader())
    assert len(scenes) == images
    for scene in scenes:
        assert scene.error is None
        assert scene.expressions
        assert scene.image.shape[0] == 3
        assert 3 <= len(scene.proposals.masks) <= 7


def test_probing_registers_have_files_of_their_own_and_the_same_images(small_world: Path) -> None:
    usual = {record.image_id: record.file_name for record in RefShapes("refshapes", "testB").records}
    found = set()
    for register in PROBES:
        module = RefShapes(register, "testB", proposals="ground_truth")
        for record, scene in zip(module.records, module.predict_dataloader(), strict=True):
            assert usual[record.image_id] == record.file_name
            assert scene.error is None
            assert scene.expressions
            found.add(record.file_name)
    made = small_world / "refshapes-probes-v3.1-seed0-val-testA-testB"
    assert sorted(path.name for path in made.iterdir()) == sorted(["images", *PROBES])
    assert found
    for name in found:
        assert (made / "images" / name).read_bytes() == (
            small_world / EVALUATION / "images" / name
        ).read_bytes()


def test_targets_are_among_the_ground_truth_proposals() -> None:
    for scene in RefShapes("refshapes+", "val", proposals="ground_truth").predict_dataloader():
        for target in scene.targets:
            assert (scene.proposals.masks == target).all(dim=(1, 2)).any()


def test_an_expression_that_is_only_a_color_is_about_that_color() -> None:
    """Image, mask and words must have stayed together on their way through the files."""
    seen = 0
    for split in ("train", "val", "testA", "testB"):
        for scene in RefShapes("refshapes+", split).predict_dataloader():
            for text, row in zip(scene.expressions, scene.referents, strict=True):
                color = next((name for name in COLORS if text.startswith(name)), None)
                if color is None or "with" in text or color in ("white", "black"):
                    continue
                pixels = scene.image[:, scene.targets[row]].float().T
                near = (pixels - torch.tensor(COLORS[color])).abs().amax(1) < 40
                seen += 1
                assert near.float().mean() > 0.12, text
    assert seen >= 3


def test_a_and_b_split_by_outline(small_world: Path) -> None:
    refs = pickle.loads((small_world / EVALUATION / "refshapesg" / "refs(shapes).p").read_bytes())
    curved = {name: i for i, name in enumerate(refshapes.SIZES)}
    from datamodules.shapes.world import CATEGORIES

    names = {
        split: {CATEGORIES[r["category_id"] - 1] for r in refs if r["split"] == split} for split in curved
    }
    assert names["testA"] <= CURVED_CATEGORIES
    assert not names["testB"] & CURVED_CATEGORIES


def test_phrases_name_what_the_registers_never_show() -> None:
    module = RefShapesPhrases("val")
    words = " ".join(module.expressions())
    assert any(name in words for name in (*UNSEEN_CATEGORIES, *UNSEEN_FILLS))
    several = [int(s.targets[0].sum()) for s in module.predict_dataloader()]
    assert all(several)
    registers = " ".join(
        text for register in REGISTERS for text in RefShapes(register, "train").expressions()
    )
    assert not any(name in registers.split() for name in UNSEEN_CATEGORIES)


def test_phrases_about_unseen_categories_and_fills_are_subsets() -> None:
    module = RefShapesPhrases("val")
    counts = dict.fromkeys(("unseen", "unseen_fills"), 0)
    for scene in module.predict_dataloader():
        assert list(scene.subsets) == list(counts)
        for row, text in enumerate(scene.expressions):
            words = set(text.split())
            assert bool(scene.subsets["unseen"][row]) == bool(words & set(UNSEEN_CATEGORIES)), text
            # fills are also said in other words ("with a pale inside")
            assert scene.subsets["unseen_fills"][row] or not words & set(UNSEEN_FILLS), text
            assert not (scene.subsets["unseen_fills"][row] and words & set(SEEN_FILLS)), text
            for name, members in scene.subsets.items():
                counts[name] += int(members[row])
    assert module.subset_sizes == counts
    assert all(0 < count < module.n_expressions for count in counts.values())


def test_phrase_polygons_keep_the_objects(small_world: Path) -> None:
    """The ink of an object is not the ground's: its polygon must lie on it to within its rim."""
    scene = next(iter(RefShapesPhrases("test").predict_dataloader()))
    inside = scene.image[:, scene.targets[0]].float()
    outside = scene.image[:, ~scene.targets.any(0)].float().median(dim=1).values
    far = (inside - outside[:, None]).abs().amax(0) > 25
    assert far.float().mean() > 0.8


def test_miniv_is_a_part_of_val() -> None:
    mini, val = RefShapesPhrases("miniv"), RefShapesPhrases("val")
    assert mini.n_images == 1
    assert set(mini.expressions()) <= set(val.expressions())


def test_pictures_depend_on_the_seed_alone(small_world: Path, tmp_path: Path) -> None:
    from datamodules.shapes.scenes import make_picture

    again = make_picture("refshapes 0 val 0", "val", tmp_path / "again.png")
    scene = RefShapes("refshapesg", "val")
    first = scene.records[0]
    kept = np.asarray(Image.open(small_world / EVALUATION / "images" / first.file_name))
    assert (np.asarray(Image.open(tmp_path / "again.png")) == kept).all()
    said = [u.text for utterances in again.utterances["refshapesg"].values() for u in utterances]
    assert [t for ref in first.referents for t in ref.sentences] == said


@pytest.mark.parametrize(
    ("build", "message"),
    [
        pytest.param(
            lambda: RefShapes("refshapsg"), "Unknown register.*Did you mean 'refshapesg'", id="register"
        ),
        pytest.param(
            lambda: RefShapes(split="test"), "Unknown split of RefShapes 'test'.*testA, testB", id="split"
        ),
        pytest.param(lambda: RefShapesPhrases("testA"), "Unknown split of RefShapes phrases", id="phrases"),
        pytest.param(
            lambda: RefShapes(proposals="felzenswalb"), "Did you mean 'felzenszwalb'", id="proposals"
        ),
    ],
)
def test_unknown_names_are_told(build: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()  # type: ignore[operator]


def test_a_build_that_breaks_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GL_RIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "datamodules.shapes.build._in_parallel", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        RefShapes().prepare_data()
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_first_to_finish_a_folder_wins(tmp_path: Path) -> None:
    with written_whole(tmp_path / "made") as slow:
        (slow / "who").write_text("slow")
        with written_whole(tmp_path / "made") as quick:
            (quick / "who").write_text("quick")
    assert (tmp_path / "made" / "who").read_text() == "quick"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_damaged_cache_says_so(small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    shutil.copytree(small_world, tmp_path / "cache")
    monkeypatch.setenv("GL_RIS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "ids").write_text("nowhere")
    with pytest.raises(UserError, match=r"nowhere is no expression of the split; .* data= and split=\.$"):
        RefShapes(sentences=tmp_path / "ids").setup()
    refs = tmp_path / "cache" / EVALUATION / "refshapesg" / "refs(shapes).p"
    refs.write_bytes(refs.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"refs\(shapes\)\.p.*Delete the folder"):
        _ = RefShapes().records
    with pytest.raises(UserError, match=r"refs\(shapes\)\.p.*Delete the folder") as caught:
        RefShapes().setup()
    assert str(caught.value).count("Delete the folder") == 1
    shutil.rmtree(tmp_path / "cache" / EVALUATION / "images")
    with pytest.raises(UserError, match=r"None of the images .*Delete the folder .* drawn anew"):
        RefShapes("refshapes").setup()
