"""Any scorer with a re-ranker behind it: what takes part, what follows, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import gl_ris
from gl_ris.clip import RegionCLIP
from gl_ris.clip.image import ImageContext
from gl_ris.errors import UserError
from gl_ris.parsing import Parsed
from gl_ris.recipe import Recipe
from gl_ris.rerank import Regions, Reranked, Reranker, load_reranker, reranked
from gl_ris.rerank.full import Full
from gl_ris.scorers import available_scorers
from gl_ris.scorers.base import Texts
from gl_ris.scorers.floors import LargestProposal
from gl_ris.scorers.global_local import Cropping, GlobalLocal
from gl_ris.scorers.grad_cam import GradCAM
from gl_ris.scorers.heat_map import HeatMap
from gl_ris.sweep import GlobalLocalGrid
from gl_ris.variants import resolve_variants
from gl_ris.zero_shot import ZeroShotRIS

TEXTS = ["the red star left of the blue square", "a star", "the second star from the left"]


class Worst(Reranker):
    """Turns the order round."""

    def rerank(self, sentence: Tensor, phrases: Tensor, parsed: Any, regions: Regions) -> Tensor:
        return -sentence


class Noted(Worst):
    """Notes what it is given."""

    seen: list[tuple[Tensor, Tensor, Any, Regions]]

    def rerank(self, sentence: Tensor, phrases: Tensor, parsed: Any, regions: Regions) -> Tensor:
        self.seen = [*getattr(self, "seen", []), (sentence, phrases, parsed, regions)]
        return sentence


class Alone(Worst):
    """Turns the order round, and scores nothing beside the sentence."""

    def phrases(self, parsed: Any) -> list[str]:
        return []


class Odd(Worst):
    """Gives a score too few."""

    def rerank(self, sentence: Tensor, phrases: Tensor, parsed: Any, regions: Regions) -> Tensor:
        return sentence[1:]


def order(scores: Tensor) -> list[list[int]]:
    return scores.argsort(dim=1, descending=True, stable=True).tolist()


@pytest.mark.parametrize("top", [1, 2, 4, 6, 99])
def test_those_outside_the_best_follow_in_their_order(
    top: int, clip: RegionCLIP, image: Tensor, masks: Tensor
) -> None:
    inner = GlobalLocal(clip, recipe="clean")
    plain = inner(image, masks, TEXTS)
    found = Reranked(inner, Worst(top=top))(image, masks, TEXTS)
    assert order(found) == [[*row[:top][::-1], *row[top:]] for row in order(plain)]


@pytest.mark.parametrize("name", ["full", "reclip", "hybridgl", "hybridgl_fixed"])
@pytest.mark.parametrize("method", sorted(n for n, one in available_scorers().items() if not one.reads_file))
def test_every_preset_follows_every_scorer(
    name: str, method: str, clips: dict[str, RegionCLIP], image: Tensor, masks: Tensor
) -> None:
    masks = torch.cat([masks, torch.zeros_like(masks[:1])])
    inner = available_scorers()[method](clips["vit"], recipe="clean")
    scorer = reranked(inner, name, None)
    found = scorer(image, masks, TEXTS)
    assert (scorer.name, scorer.title) == (inner.name, inner.title)
    assert torch.isfinite(found[:, :-1]).all()
    assert torch.isneginf(found[:, -1]).all()
    # nothing to go by: as the scorer has it
    assert order(found[1:2]) == order(inner(image, masks, TEXTS[1:2]))
    assert scorer(image, masks[:1], TEXTS).shape == (3, 1)
    assert scorer(image, masks[:0], TEXTS).shape == (3, 0)
    assert torch.isneginf(scorer(image, masks[-1:], TEXTS)).all()


def test_a_reranker_is_given_probabilities_of_sentence_head_and_anchors(
    clip: RegionCLIP, image: Tensor, masks: Tensor
) -> None:
    noted, inner = Noted(), GlobalLocal(clip, beta=0.5, recipe="clean")
    Reranked(inner, noted)(image, masks, TEXTS[:1], ["the red star"])
    ((sentence, phrases, parsed, regions),) = noted.seen
    assert (parsed.head, parsed.anchors) == ("red star", ("blue square",))
    texts = [TEXTS[0], "red star", "blue square"]
    scores = inner(image, masks, texts, ["the red star", *texts[1:]]).double()
    scale = float(clip.model.logit_scale.exp())
    torch.testing.assert_close(torch.stack([sentence, *phrases]), (scores * scale).softmax(dim=1))
    assert regions.size == (45, 70)
    assert regions.boxes[0].tolist() == [12, 8, 41, 30]


def test_scores_that_are_no_cosines_are_standardised(clips: dict[str, RegionCLIP]) -> None:
    row = torch.tensor([[5.0, 300, 20, 7]])
    expected = (3 * (row - row.mean()) / row.std(correction=0)).double().softmax(dim=1)
    plain = [GradCAM(clips["vit"]), GlobalLocal(clips["resnet"], recipe="published")]
    for scorer in plain:
        torch.testing.assert_close(scorer.probabilities(row), expected)
        even = scorer.probabilities(torch.ones(1, 4)).tolist()
        assert even == [[0.25] * 4]


def test_all_texts_are_told_ahead(clips: dict[str, RegionCLIP]) -> None:
    scorer = reranked(GlobalLocal(clips["vit"], beta=0.5, recipe="clean"), "full", None)
    told = scorer.texts(TEXTS, ["x", "y", "z"])
    assert {*TEXTS, "x", "y", "z", "red star", "blue square", "star"} <= set(told)
    assert not {"x", "y"} & set(reranked(Cropping(clips["vit"]), "full", None).texts(TEXTS, ["x", "y", "z"]))


class Partial(LargestProposal):
    """Leaves masks out, as a file of scores may."""

    known: tuple[int, ...]

    def score(self, context: ImageContext, expressions: Texts, noun_phrases: Texts | None) -> Tensor:
        scores = torch.full((len(expressions), len(context.masks)), -torch.inf)
        for number in self.known:
            scores[:, number] = number
        return scores


@pytest.mark.parametrize("top", [None, 2])
@pytest.mark.parametrize("known", [(3, 5), (4,), ()])
@pytest.mark.parametrize("name", ["full", "reclip", "hybridgl"])
def test_what_a_scorer_leaves_out_is_never_chosen(
    name: str, known: tuple[int, ...], top: int | None, clip: RegionCLIP, image: Tensor, masks: Tensor
) -> None:
    inner = Partial(clip)
    inner.known = known
    for row in reranked(inner, name, top)(image, masks, TEXTS):
        assert tuple(row.isfinite().nonzero().flatten().tolist()) == known
        assert row[~row.isfinite()].isneginf().all()


def test_maps_are_those_of_the_scorer_if_it_has_any(
    clips: dict[str, RegionCLIP], image: Tensor, masks: Tensor
) -> None:
    inner = HeatMap(clips["vit"], recipe="clean")
    context = inner.clip.context(image, masks)
    found: Any = reranked(inner, "full", None)
    torch.testing.assert_close(found.maps(context, TEXTS), inner.maps(context, TEXTS))
    assert not hasattr(reranked(GlobalLocal(clips["vit"]), "full", None), "maps")


def test_settings_scored_at_once_are_ranked_each(clip: RegionCLIP, image: Tensor, masks: Tensor) -> None:
    grid = GlobalLocalGrid(clip, [0.2, 0.9], [0.5], 3, "clean")
    found = reranked(grid, "full", 3)(image, masks, TEXTS)
    apart = [
        reranked(GlobalLocal(clip, a, 0.5, 3, "clean"), "full", 3)(image, masks, TEXTS) for a in (0.2, 0.9)
    ]
    torch.testing.assert_close(found, torch.cat(apart))


def test_none_is_the_scorer_itself(clips: dict[str, RegionCLIP]) -> None:
    inner = GlobalLocal(clips["vit"])
    assert reranked(inner, "none", 3) is inner


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rerank": "ful"}, "Unknown rerank 'ful'. Did you mean 'full'"),
        ({"rerank": "full", "top": 0}, "top=0 must be 1 or more"),
        ({"rerank": "no_such.Thing"}, "Re-ranker 'no_such.Thing': module 'no_such' cannot be imported"),
        ({"rerank": "gl_ris.rerank.Reranker"}, "is not a subclass of gl_ris.rerank.Reranker"),
        ({"rerank": "."}, "module '' cannot be imported"),
        ({"top": 0}, "top=0 must be 1 or more"),
        ({"rerank": "gl_ris.recipe.Recipe"}, "is not a subclass of gl_ris.rerank.Reranker"),
        (
            {"methods": [{"method": "cropping", "rerank": 1}]},
            "'rerank' of method 'cropping' must be none, reclip",
        ),
        ({"methods": [{"method": "cropping", "top": 1.5}]}, "must be a whole number, or null"),
        ({"top": 5}, "top=5 says how many .* rerank=none ranks none"),
        ({"methods": [{"method": "cropping", "top": 5}]}, "top=5 .* rerank=none ranks none"),
        ({"rerank": "full", "methods": [{"method": "cropping", "rerank": "none", "top": 5}]}, "rerank=none"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_loaded(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ZeroShotRIS(**settings)


def test_a_method_has_its_own_reranker() -> None:
    defaults = {**ZERO, "rerank": "full", "top": 5}
    first, second = resolve_variants(["cropping", {"method": "random", "rerank": "none"}], defaults)
    assert (first.rerank, first.top, second.rerank) == ("full", 5, "none")


ZERO = {
    "alpha": 0.5,
    "beta": 0.5,
    "masked_blocks": 3,
    "recipe": Recipe(),
    "clip": "refshapes-vit",
    "pretrained": None,
}


def test_a_wrong_result_is_told(clip: RegionCLIP, image: Tensor, masks: Tensor) -> None:
    with pytest.raises(ValueError, match=r"Odd.rerank gave \(5,\), expected is a score for each of 6 masks"):
        Reranked(GlobalLocal(clip), Odd())(image, masks, TEXTS)


def test_classes_are_found() -> None:
    assert load_reranker("full") is Full
    assert load_reranker("gl_ris.rerank.full.Full") is Full


def test_segment_ranks_anew(
    clip: RegionCLIP, image: Tensor, masks: Tensor, clip_folder: Callable[..., Path]
) -> None:
    asked = {"clip": clip, "proposals": masks}
    plain = gl_ris.segment(image, TEXTS[0], **asked)
    found = gl_ris.segment(image, TEXTS[0], rerank=f"{__name__}.Worst", top=2, **asked)
    assert found.ranking[:2].tolist() == plain.ranking[:2].tolist()[::-1]
    with pytest.raises(UserError, match="Unknown rerank 'fool'"):
        gl_ris.segment(image, TEXTS[0], rerank="fool", **asked)


def test_an_empty_head_is_the_whole_text() -> None:
    assert Worst().phrases(Parsed("left", "")) == ["left"]


def test_a_run_says_how_it_ranked(predict: Callable[..., Any]) -> None:
    from toy_scenes import Data, make_scene

    scenes = Data([make_scene(0, ["take 1", "take 0"])])
    _, plain = predict(scenes)
    model, turned = predict(scenes, rerank=f"{__name__}.Alone")
    assert [record.method for record in turned] == [record.method for record in plain]
    assert [record.choice for record in plain] == [1, 0]
    assert all(a.choice != b.choice for a, b in zip(plain, turned, strict=True))
    assert isinstance(model.scorers[0], Reranked)


def test_the_number_of_the_run_is_for_those_of_its_methods_that_rank_anew() -> None:
    methods = ["cropping", {"method": "global_local", "rerank": "full"}]
    found = ZeroShotRIS(methods=methods, top=5).variants
    assert [(variant.rerank, variant.top) for variant in found] == [("none", None), ("full", 5)]
