"""Finding scorers, writing one's own, and the random floor."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

import gl_ris
from gl_ris.clip import ImageContext, RegionCLIP
from gl_ris.errors import UserError
from gl_ris.scorers import Scorer, available_scorers, load_scorer
from gl_ris.scorers.floors import LargestProposal, RandomProposal
from gl_ris.scorers.global_local import Cropping, GlobalLocal
from gl_ris.scorers.grad_cam import GradCAM
from gl_ris.scorers.region_token import RegionToken
from gl_ris.scorers.score_map import ScoreMap


class LeftMost(Scorer):
    """A method from outside: the mask that reaches furthest left."""

    name = "leftmost"
    title = "Leftmost"

    def score(
        self, context: ImageContext, expressions: Sequence[str], noun_phrases: Sequence[str] | None
    ) -> Tensor:
        first = context.masks.any(dim=1).int().argmax(dim=1)
        return -first.float().expand(len(expressions), -1)


@pytest.mark.parametrize(
    ("name", "expected", "title"),
    [
        ("global_local", GlobalLocal, "Global-Local"),
        ("cropping", Cropping, "Cropping"),
        ("random", RandomProposal, "Random"),
        ("grad_cam", GradCAM, "Grad-CAM"),
        ("score_map", ScoreMap, "Score map"),
        ("region_token", RegionToken, "Region token"),
        ("largest", LargestProposal, "Largest"),
        ("gl_ris.scorers.global_local.Cropping", Cropping, "Cropping"),
    ],
)
def test_scorers_are_found_by_name_and_by_path(name: str, expected: type[Scorer], title: str) -> None:
    assert load_scorer(name) is expected
    assert expected.title == title


def test_every_method_has_a_name_of_its_own() -> None:
    known = available_scorers()
    assert len({scorer.title for scorer in known.values()}) == len(known)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("global-local", "Unknown method 'global-local'. Did you mean 'global_local'"),
        ("no_such_pkg.Thing", "module 'no_such_pkg' cannot be imported"),
        ("gl_ris.scorers.global_local.Croping", "'Croping'. Did you mean 'Cropping'"),
        ("gl_ris.recipe.Recipe", "'gl_ris.recipe.Recipe' is not a subclass of gl_ris.scorers.Scorer"),
        ("torch.zeros", "Unknown class in module 'torch', 'zeros'"),
    ],
)
def test_what_is_no_scorer_is_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_scorer(name)


def test_a_scorer_from_outside(
    clip: RegionCLIP, image: Tensor, masks: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "outside", sys.modules[__name__])
    scores = load_scorer("outside.LeftMost")(clip, recipe="clean")(image, masks, ["a", "b"])
    assert scores.dtype == torch.float32
    assert scores.tolist() == [[-12.0, -3.0, -5.0, 0.0, 0.0, -33.0]] * 2


def test_random_is_the_same_under_any_sharding_and_differs_otherwise(
    clip: RegionCLIP, image: Tensor, masks: Tensor
) -> None:
    scorer = RandomProposal(clip)
    scores = scorer(image, masks, ["a dog", "the star", "a dog"])
    torch.manual_seed(99)
    assert torch.equal(scorer(image, masks, ["the star"]), scores[1:2])
    assert torch.equal(scores[0], scores[2])
    assert not torch.equal(scores[0], scores[1])
    assert not torch.equal(scorer(image.flip(2), masks, ["the star"])[0], scores[1])
    assert scorer.texts(["a dog"]) == []


def test_random_is_uniform_over_the_proposals(clip: RegionCLIP, image: Tensor, masks: Tensor) -> None:
    choices = RandomProposal(clip)(image, masks, [str(i) for i in range(6000)]).argmax(dim=1)
    counts = torch.bincount(choices, minlength=6)
    # Six standard deviations of a binomial count.
    assert ((counts - 1000).abs() < 6 * (6000 * 5 / 36) ** 0.5).all()


def test_the_package_gives_its_names_on_first_use() -> None:
    for name in gl_ris.__all__:
        assert getattr(gl_ris, name) is not None
    assert gl_ris.metrics.OverallIoU.__module__ == "gl_ris.metrics"
    with pytest.raises(AttributeError, match="no attribute 'load_klip'"):
        gl_ris.load_klip  # noqa: B018


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, gl_ris; assert 'torch' not in sys.modules; gl_ris.GlobalLocal, gl_ris.load_clip, "
        "gl_ris.Recipe, gl_ris.load_scorer('random'); "
        "heavy = {'open_clip', 'spacy', 'transformers', 'torchvision', 'wandb', 'skimage', 'matplotlib'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    root = Path(gl_ris.__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
