"""Zero-shot referring segmentation as a LightningModule: nothing to train, `predict_step` chooses."""

from __future__ import annotations

import functools
import itertools
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from gl_ris.bits import Bits
from gl_ris.choices import NOT_A_NUMBER, Choices, choose
from gl_ris.clip.kernels import asked as asked_kernels
from gl_ris.errors import UserError
from gl_ris.evaluator import (
    Evaluator,
    Records,
    SceneLike,
    best_proposals,
    chosen_areas,
    faults_of,
    follow_rules,
    make_records,
    target_reasons,
)
from gl_ris.evidence import with_facts, with_unions
from gl_ris.inputs import Input, clip_files, parser_files
from gl_ris.masks import encode_rle, pairwise_areas
from gl_ris.predictions import NO_PROPOSALS, SKIPPED
from gl_ris.progress import bar
from gl_ris.proposals.base import ProposalGenerator, Proposals
from gl_ris.proposals.post import AS_MADE, PostProcessing
from gl_ris.proposals.source import COUNTS, ProposalSource, give_to, open_source
from gl_ris.proposals.store import StoreKey
from gl_ris.recipe import Recipe
from gl_ris.scorers import Scorer
from gl_ris.split_texts import SplitTexts
from gl_ris.tally import absent_in, gather_objects, subsets_of, targeted_in
from gl_ris.variants import resolve_variants

log = logging.getLogger(__name__)


class ZeroShotRIS(Evaluator):
    """Chooses for each expression the proposal that a method scores highest, and measures the choices.

    Nothing is loaded until `configure_model`. `predict_step` takes one scene (an image with all its
    expressions), so shards are by image. After ``trainer.predict``, `evaluation` has the figures.

    Args:
        clip: The CLIP model: refshapes-vit, refshapes-rn, an open_clip name such as ViT-B-32-quickgelu, or
            local-dir:FOLDER.
        pretrained: Weights for an open_clip name, e.g. openai or a file; folders bring their own.
        methods: Scoring methods, one or a list: global_local, cropping, grad_cam, score_map, region_token,
            heat_map, hybrid_gl, largest, random, or the path of a class. A method with settings of its own is
            a mapping such as {method: global_local, title: "local only", alpha: 0.0}; what it leaves out of
            alpha, beta, masked_blocks, recipe, clip, pretrained, precision, rerank, top, abstain and union is
            as for the others. One pass over the images serves all. Scores of another program are {method:
            score_file, file: FILE}, its heat maps {method: heat_files, file: FOLDER}.
        alpha: Share of the global visual feature, from 0 to 1 (Eq. 5).
        beta: Share of the global text feature, from 0 to 1 (Eq. 8).
        masked_blocks: Blocks of a ViT with masked tokens, counted from the last (k in the paper).
        recipe: clean, published, or the fields of a recipe.
        proposals: What makes the masks of images that bring none.
        parser: What finds noun phrases: null for the shipped pipeline of spaCy, any installed one such as
            en_core_web_trf, or a folder.
        precision: Of the CLIP model's weights: fp32, bf16 or fp16. Similarities and figures are not touched
            by it. bf16 is faster on GPUs and on CPUs that have it (avx512_bf16, AMX), fp16 on GPUs; another
            CPU may be slower with them.
        store: Where proposals are kept, so that they are made once: true for the usual place (the folder
            proposals in the cache folder), a folder, or false to keep none.
        post: What is done to proposals, wherever they come from, before one is chosen; stores keep them as
            they were made.
        rerank: What ranks the masks anew by the places, relations and ordinals of an expression: none, full,
            reclip, hybridgl, hybridgl_fixed, or the path of a class (docs/rerank.md).
        top: How many of the best masks are ranked anew; null for the re-ranker's own number.
        abstain: Nothing is chosen where the best score is below this number; or a file that
            experiments.calibrate has written. Null chooses always (docs/gres.md).
        union: All masks with at least this score are chosen together, the best alone where there is none; or
            a file. Null chooses the best alone.

    Attributes:
        source: Where a run takes proposals from, once it is set up; None if the data bring them.
        proposal_counts: How many images of the last run had their proposals read, generated, and failed.

    Raises:
        UserError: An unknown method or field of one, one title given twice, a share out of range, an unknown
            recipe, or one that differs between methods in what belongs to the whole run (see
            `gl_ris.variants`).
    """

    def __init__(
        self,
        clip: str = "refshapes-rn",
        pretrained: str | None = None,
        methods: list[str | dict[str, Any]] | dict[str, Any] | str = "global_local",
        alpha: float = 0.85,
        beta: float = 0.5,
        masked_blocks: int = 3,
        recipe: Recipe | str = "clean",
        proposals: ProposalGenerator | None = None,
        parser: str | None = None,
        precision: str = "fp32",
        store: bool | str = True,
        post: PostProcessing = AS_MADE,
        rerank: str = "none",
        top: int | None = None,
        abstain: float | str | None = None,
        union: float | str | None = None,
    ) -> None:
        asked_kernels()  # a wrong word is refused before anything is made or read
        resolved = Recipe.resolve(recipe)
        shared = {"alpha": alpha, "beta": beta, "masked_blocks": masked_blocks, "recipe": resolved}
        model = {"clip": clip, "pretrained": pretrained, "precision": precision}
        shared |= {"rerank": rerank, "top": top, "abstain": abstain, "union": union}
        super().__init__()
        self.variants = resolve_variants(methods, {**shared, **model})
        self.alpha, self.beta, self.recipe = alpha, beta, resolved
        self.proposals, self.parser, self.store, self.post = proposals, parser, store, post
        self.source: ProposalSource | None = None
        self.proposal_counts: dict[str, int] = {}
        self._outcome: str | None = None
        self._outcomes: Counter[str | None] = Counter()
        self.clips = nn.ModuleList()
        self.scorers = nn.ModuleList()
        self._texts = SplitTexts(parser)

    @property
    def methods(self) -> list[str]:
        """Titles of the methods that are measured."""
        return [variant.title for variant in self.variants]

    def configure_model(self) -> None:
        """Load the CLIP models and the parser, and make the scorers; harmless when repeated."""
        if len(self.scorers):
            return
        from gl_ris.parsing import check_parser
        from gl_ris.text import load_parser

        # by the published rule the tokeniser writes the sentences, too, which are not kept
        writes = any(variant.recipe.text == "tokens" for variant in self.variants)
        (load_parser if writes else check_parser)(self.parser)
        # variants of one model share it, and with it the work on an image
        loaders = {variant.model: variant.load for variant in self.variants}
        loading = bar("loading models", "model", loaders.items(), delay=0)
        clips = {model: load() for model, load in loading}
        self.clips.extend(clips.values())
        self.scorers.extend(self.make_scorers(clips))

    def make_scorers(self, clips: Mapping[Any, Any]) -> list[Scorer]:
        """Make the scorers, in the order of `methods`, of the loaded models by `Variant.model`."""
        return [variant.make(clips[variant.model], self.parser) for variant in self.variants]

    def setup(self, stage: str) -> None:
        """Raise a `UserError` unless data, trainer and settings fit; open the store of proposals."""
        data = self.data()
        if data is not None:
            self.check(data, self.trainer)
        self.source = self.open_source(data)
        if self.source is not None:
            self.source.began = self.began
            if data is not None:
                data.share_by(self.source.stored)

    def check(self, data: Any, trainer: Trainer) -> None:
        """Check that ``data``, a data module, can be evaluated by ``trainer``; raises as `setup` does."""
        super().check(data, trainer)
        if data.proposals_name is not None:
            return
        if self.proposals is None:
            raise UserError("There is nothing to choose from; give proposals=slic or proposals=ground_truth.")
        self.proposals.prepare(data.image_ids())
        self.proposals.check_sizes(data.image_sizes())

    def open_source(self, data: Any) -> ProposalSource | None:
        """Open what proposals are taken from; a `UserError` if the store is damaged."""
        own = getattr(data, "proposals", None)
        generator = self.proposals if getattr(data, "proposals_name", None) is None else own
        if not isinstance(generator, ProposalGenerator):
            return None
        source = open_source(generator, self.store, data)
        give_to(data, source)
        return source

    def proposals_name(self, data: Any) -> str:
        """Name the proposals and what is done to them, e.g. "slic (nms=0.5)"."""
        name = data.proposals_name or cast("ProposalGenerator", self.proposals).name
        done = str(self.post)
        return f"{name} ({done})" if done else name

    def stored(self) -> dict[str, Any] | None:
        """Say how a finished run came by its proposals: store and numbers; None if the data brought them."""
        if self.source is None:
            return None
        store = self.source.store
        place = {"store": store and store.name, "folder": store and str(store.folder)}
        return {**place, **self.proposal_counts}

    def kernels(self) -> dict[str, dict[str, str]]:
        """Say how each CLIP model is computed, by its name and precision."""
        scorers = cast("list[Scorer]", self.scorers)
        return {
            f"{variant.clip} {variant.precision}": scorer.clip.kernels
            for variant, scorer in zip(self.variants, scorers, strict=False)
        }

    def rules(self) -> dict[str, dict[str, Any]]:
        """Say by which thresholds each method chooses, and which file they are of."""
        return {own.title: own.said_rule for own in self.variants if own.said_rule}

    def input_files(self, data: Any) -> dict[str, Mapping[str, Input]]:
        """Return the files of the CLIP models, the parser and the generator, and the key of its proposals."""
        clips = (clip_files(variant.clip, variant.pretrained).items() for variant in self.variants)
        generator = getattr(data, "proposals", None) or self.proposals
        made: dict[str, Input] = {}
        if isinstance(generator, ProposalGenerator):
            key = StoreKey.of(generator, data.dataset_name, data.partition, data.split)
            made = {**generator.input_files(), str(key.path): key.sha256}
        parts = {"clip": dict(itertools.chain.from_iterable(clips)), "parser": parser_files(self.parser)}
        read = {own.title: Path(own.file).expanduser() for own in self.variants if own.file is not None}
        rules = {str(file): file for own in self.variants for file in own.rule_files}
        return {**parts, "proposals": made, "scores": read, "thresholds": rules}

    def on_predict_start(self) -> None:
        """Start the clock; parse and encode every expression of the split, each in one process."""
        super().on_predict_start()
        self._outcomes = Counter(image["proposals"] for image in self.taken_over)
        if self.finished or self.trainer.world_size > 1:
            self._warn_of_order()
        data = self.data()
        if data is not None:
            with self._watch("text"):
                self._prepare_texts(data.expressions())

    def counted(self) -> dict[str, Any]:
        """Say also how the proposals were come by: one of `gl_ris.proposals.source.COUNTS`, or None."""
        return {**super().counted(), "proposals": self._outcome}

    def predict_step(self, scene: SceneLike, batch_idx: int = 0) -> Records:
        """Choose a proposal for every expression of a scene, by every method, and measure the choices.

        An expression without a usable proposal, or in a scene that cannot be used or scored, is a miss: it
        counts with intersection 0 and the target's area as union, and its record says why. (A recipe can
        leave images without proposals out of ``methods``, as the published evaluation does; in ``every_miss``
        they are.) Where a target is damaged, its expressions alone are misses. Records are by expression,
        each in the order of the methods.
        """
        if scene.index in self.finished:
            return Records()
        masks, failure = self._propose(scene)
        chosen: list[Choices] = []
        for scorer in cast("list[Scorer]", self.scorers):
            chosen += self._choose(scorer, scene, masks, failure)
        with self._watch("metrics"):
            reasons = target_reasons(scene)
            chosen = [choices.on_targets(reasons) for choices in chosen]
            return self._judge(scene, masks, chosen, failure)

    def on_predict_epoch_end(self) -> None:
        """Add up all processes, also how each came by its proposals."""
        parts = gather_objects(self._outcomes)
        self.proposal_counts = {} if self.source is None else {n: sum(p[n] for p in parts) for n in COUNTS}
        if self.source is not None and self.source.store is not None:
            self.source.store.close()
        if self.source is not None and self.source.generator is self.proposals:
            give_to(self.data(), None)  # who looks at a scene later has no use for them
        super().on_predict_epoch_end()

    def _warn_of_order(self) -> None:
        for scorer in cast("list[Scorer]", self.scorers):
            if scorer.in_order:
                rank_zero_only(log.warning)(
                    "%s scores an image by what came before it, which is not the same for several processes "
                    "and a run that goes on as for one run; hybrid_candidates=image in its recipe does not.",
                    scorer.title,
                )

    def _propose(self, scene: SceneLike) -> tuple[Bits, str | None]:
        proposals, failure = Proposals.from_masks(torch.zeros_like(scene.targets[:0])), scene.error
        if getattr(scene, "fatal", False):
            raise UserError(scene.error)
        # of what was made in another process, the scene says it
        self._outcome = getattr(scene, "outcome", None)
        if failure is None:
            with self._watch("proposals"):
                proposals, failure = self.attempt(
                    "proposals", scene, lambda: self.post(self._masks_of(scene)), proposals
                )
        masks = Bits(proposals.masks)  # what scorers and figures count of the masks is counted once
        if failure is None and not masks.areas.any():
            failure = SKIPPED if self.recipe.skip_images_without_proposals else NO_PROPOSALS
        self._outcomes[self._outcome] += 1
        return masks, failure

    def _masks_of(self, scene: SceneLike) -> Proposals:
        if scene.proposals is not None:
            return scene.proposals
        if self.proposals is None:
            raise UserError(
                f"Image {scene.image_id} brings no proposals, and the model has nothing to make them."
            )
        if self.source is None:
            return self.proposals.for_image(scene.image_id, scene.image).to(self.device)
        try:
            return self.source(scene.image_id, scene.image).to(self.device)
        finally:
            self._outcome = self.source.outcome

    def _choose(self, scorer: Scorer, scene: SceneLike, masks: Bits, failure: str | None) -> list[Choices]:
        methods, count = len(self.methods) // len(self.scorers), len(scene.expressions)
        # a sweep's scorer gives the scores of several methods, one after the other
        chosen: list[Choices] = []
        if failure is None:
            chosen, failure = self.attempt(
                scorer.title,
                scene,
                lambda: [
                    choose(part, scorer.missing or NOT_A_NUMBER, scorer.rule)
                    for part in self._scores(scorer, scene, masks).split(count)
                ],
                chosen,
            )
        return chosen if failure is None else [Choices.none(count, failure)] * methods

    def _scores(self, scorer: Scorer, scene: SceneLike, masks: Bits) -> Tensor:
        phrases = self._texts.phrases(scene.expressions, scorer.recipe.text)
        with self._watch("image"):
            context = scorer.clip.context(scene.image, masks)
            context.scene = scene
            scorer.prepare(context)
        with self._watch("score"):
            return scorer(scene.image, masks, scene.expressions, phrases)

    def _judge(self, scene: SceneLike, masks: Bits, chosen: list[Choices], failure: str | None) -> Records:
        found = self._count(scene, masks, chosen, failure, subsets_of(scene))
        # methods often choose the same proposal
        encode = functools.cache(lambda rows: rows and encode_rle(masks.masks[list(rows)].any(dim=0)))
        said = [one.said() for one in self._texts.parsed(scene.expressions)]
        columns = []
        for variant, choices, *areas in zip(self.variants, chosen, *found, strict=False):
            phrases = self._texts.phrases(scene.expressions, variant.recipe.text)
            codes = [encode(rows) for rows in choices.chosen]
            own = make_records(variant.title, scene, choices, (areas[0], areas[1]), phrases, codes, said)
            columns.append(with_unions(own, choices.chosen, masks, scene) if choices.unions else own)
        records = [record for row in zip(*columns, strict=True) for record in row]
        return Records(with_facts(records, scene, masks))

    def _count(
        self,
        scene: SceneLike,
        masks: Bits,
        chosen: list[Choices],
        failure: str | None,
        subsets: dict[str, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Count the choices and the best ones possible; return their areas, ``(methods + 1, E)``."""
        count = len(scene.expressions)
        areas = pairwise_areas(masks, scene.targets)
        best = [None] * count if failure else best_proposals(*areas)[scene.referents].tolist()
        best = [None if fault else row for row, fault in zip(best, faults_of(scene), strict=True)]
        rows = [row for choices in chosen for row in choices.rows]
        intersection, union = (
            area.view(len(chosen) + 1, count).cpu()  # the records need them as numbers, row by row
            for area in chosen_areas([*rows, *best], areas, scene)
        )
        follow_rules((intersection, union), chosen, masks.masks, scene)
        more: dict[str, Any] = {"skipped": failure == SKIPPED, "targeted": targeted_in(scene)}
        more |= {"absent": absent_in(scene), "abstained": [choices.abstained for choices in chosen]}
        failures, ties = [choices.failures for choices in chosen], [choices.ties for choices in chosen]
        self.tally.add_scene(intersection, union, failures, subsets, ties=ties, **more)
        return intersection, union

    def _prepare_texts(self, expressions: Sequence[str]) -> None:
        from gl_ris.parsing import counts

        rank, world_size = self.global_rank, self.trainer.world_size
        distinct = sorted(set(expressions))  # sorted, so that every process takes its own share
        rules = dict.fromkeys(variant.recipe.text for variant in self.variants)
        self._texts.prepare(distinct[rank::world_size], rules)
        self.parsed = counts(self._texts.parsed(expressions))
        scorers = [cast("Scorer", scorer) for scorer in self.scorers]
        for clip in self.clips:
            texts = [
                text
                for scorer in scorers
                if scorer.clip is clip
                for text in scorer.texts(distinct, self._texts.phrases(distinct, scorer.recipe.text))
            ]
            cast("Any", clip).prepare_texts(texts, rank, world_size, gather_objects)
