"""What a scoring method is, and how one is found by name."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gl_ris.bits import Bits
from gl_ris.choices import BEST, Rule
from gl_ris.clip.image import ImageContext
from gl_ris.clip.region_clip import RegionCLIP
from gl_ris.clip.tower import one_thread_per_operation
from gl_ris.errors import UserError, unknown_name
from gl_ris.recipe import Recipe

Texts = Sequence[str]


class Scorer(nn.Module, ABC):
    """Scores every mask of an image against every expression.

    A method is a subclass with a ``name``, a ``title`` and `score`. It has no trainable parameters of its
    own.

    Attributes:
        name: Short name on the command line.
        title: The paper's name, used in results unless a run gives another.

    Args:
        clip: The model; several scorers may share one, and then share its work on an image.
        alpha: Share of the global visual feature, in [0, 1] (Eq. 5).
        beta: Share of the global text feature, in [0, 1] (Eq. 8).
        masked_blocks: ``k``, the last blocks of a ViT in which tokens are masked (Eq. 3); a ResNet ignores
            it.
        recipe: ``"published"``, ``"clean"`` or a `Recipe`.
        parser: For noun phrases that are not given: see `gl_ris.text.noun_phrases`.

    Raises:
        UserError: A value out of range, no recipe of that name, or a model that the method cannot use.
    """

    name: str
    title: str
    # whether scores are cosines whatever the recipe says; None: where it compares by the cosine
    cosines: bool | None = None
    # of a method that compares with the whole sentence alone, whatever beta is
    whole_sentence: ClassVar[bool] = False
    # of a method whose scores come from ``file`` of a `gl_ris.variants.Variant`
    reads_file: ClassVar[bool] = False
    # whether scores depend on the images scored before
    in_order: bool = False
    # why a row is not a number, where that is how a method says that it has no scores
    missing: str | None = None
    rule: Rule = BEST  # what is chosen beside the best mask
    # how many rows `score` gives for each expression; more than one where several settings are scored at once
    settings_at_once: int = 1

    def __init__(
        self,
        clip: RegionCLIP,
        alpha: float = 0.85,
        beta: float = 0.5,
        masked_blocks: int = 3,
        recipe: str | Recipe = "published",
        parser: Any = None,
    ) -> None:
        super().__init__()
        check_shares(alpha=alpha, beta=beta)
        clip.tower.check_masked_blocks(masked_blocks)
        self.clip = clip
        self.alpha = alpha
        self.beta = beta
        self.masked_blocks = masked_blocks
        self.recipe = Recipe.resolve(recipe)
        self.mixing = self.recipe.mixing(clip.tower.kind)
        self.parser = parser
        self.check(clip)

    @abstractmethod
    def score(self, context: ImageContext, expressions: Texts, noun_phrases: Texts | None) -> Tensor:
        """Score the masks of ``context`` against the expressions.

        Runs without gradients; there is at least one mask and one expression.

        Args:
            context: The image and its masks, with the features that methods share.
            expressions: ``E`` referring expressions.
            noun_phrases: Their target noun phrases, if the caller has them.

        Returns:
            ``(E, N)`` of a real floating type, higher is better: a row for each expression, a column for each
            mask. (Where there are as many of both, nobody could tell ``(N, E)`` from it.)
        """

    def check(self, clip: RegionCLIP) -> None:
        """Raise a `UserError` if the method cannot use this model, by its recipe; by default it can."""

    def prepare(self, context: ImageContext) -> None:
        """Compute ahead what `score` needs of the image alone, to be kept in ``context``; maybe nothing."""

    @torch.no_grad()
    def forward(
        self,
        image: Tensor,
        masks: Tensor | Bits,
        expressions: Texts,
        noun_phrases: Texts | None = None,
        boxes: Tensor | None = None,
    ) -> Tensor:
        """Score every mask against every expression (Eq. 1 is the argmax of a row).

        Args:
            image: uint8 ``(3, H, W)`` RGB at its original size.
            masks: bool ``(N, H, W)``, or `gl_ris.bits.Bits` of such, see `RegionCLIP.context`.
            expressions: ``E`` referring expressions.
            noun_phrases: Their target noun phrases; found by the parser if None.
            boxes: float ``(N, 4)`` XYXY pixels to crop by; derived from the masks by the recipe if None.

        Returns:
            float32 ``(E, N)``; -inf for a mask without a pixel. Without masks or expressions it is empty.

        Raises:
            ValueError: A shape or dtype is not as above, or `score` gives others than it should.
        """
        if noun_phrases is not None and len(noun_phrases) != len(expressions):
            raise ValueError(f"{len(expressions)} expressions but {len(noun_phrases)} noun phrases.")
        context = self.clip.context(image, masks, boxes)
        if not len(masks) or not expressions:
            return torch.zeros(len(expressions), len(masks), device=self.clip.device)
        with one_thread_per_operation(self.clip.device):
            scores = self.score(context, expressions, noun_phrases)
        self._check_scores(scores, len(expressions), len(masks))
        return scores.float().masked_fill(~context.occupied, -torch.inf)

    def _check_scores(self, scores: Any, expressions: int, masks: int) -> None:
        rows, real = expressions * self.settings_at_once, isinstance(scores, Tensor)
        if real and scores.is_floating_point() and scores.shape == (rows, masks):
            return
        got = f"{scores.dtype}".removeprefix("torch.") if real else type(scores).__name__
        shape = f" ({', '.join(_in_letters(scores.shape, rows, masks))})" if real else ""
        raise ValueError(
            f"{self.title} gave {got}{shape}, expected are real floating scores (E, N), expressions by masks."
        )

    def text_weight(self) -> float:
        """The share of the global text feature that this method uses, ``beta`` unless it says otherwise."""
        return 1.0 if self.whole_sentence else self.beta

    @torch.no_grad()
    def text_features(self, expressions: Texts, noun_phrases: Texts | None = None) -> Tensor:
        """Global-local textual features (Eqs. 6 to 8).

        Args:
            expressions: ``E`` referring expressions.
            noun_phrases: Their target noun phrases; found by the parser if None and needed.

        Returns:
            float32 ``(E, D)``, mixed as the recipe says, not normalised after mixing.
        """
        return blend(
            self.text_weight(),
            lambda: self._encoded(self._sentences(expressions)),
            lambda: self._encoded(self._phrases(expressions, noun_phrases)),
        )

    def texts(self, expressions: Texts, noun_phrases: Texts | None = None) -> list[str]:
        """Everything that will be encoded for these expressions, to give to `RegionCLIP.prepare_texts`."""
        sentences = self._sentences(expressions) if self.text_weight() > 0 else []
        sentences += self._sentences(self.recipe.negative_texts) if self.recipe.negatives else []
        return sentences + (self._phrases(expressions, noun_phrases) if self.text_weight() < 1 else [])

    def similarity(self, text: Tensor, visual: Tensor) -> Tensor:
        """Compare text ``(E, D)`` with visual ``(N, D)`` as the recipe says (Eq. 1), to ``(E, N)``."""
        return self.queries(text) @ self.comparable(visual).T

    def queries(self, text: Tensor) -> Tensor:
        """Return text features ``(E, D)`` as they enter that dot product, less the weighted mean negative."""
        text, weight = self.comparable(text), self.recipe.negatives
        if not weight:
            return text
        negatives = self._encoded(self._sentences(self.recipe.negative_texts))
        return text - weight * self.comparable(negatives).mean(dim=0)

    def comparable(self, features: Tensor) -> Tensor:
        """Return mixed features ``(..., D)`` as they enter the dot product of `similarity`."""
        return unit_if(self.mixing.cosine, features)

    def probabilities(self, scores: Tensor) -> Tensor:
        """Turn scores ``(..., N)`` into probabilities of the masks, float64, for what goes on from there.

        The softmax of cosines times the scale that CLIP was trained to (100 in OpenAI's models). Scores of
        another kind are standardised over the masks first, to a mean of 0 and a deviation of 3.
        """
        scores = scores.double()
        if self.mixing.cosine if self.cosines is None else self.cosines:
            return (scores * float(self.clip.model.logit_scale.exp())).softmax(dim=-1)
        known = ~scores.isneginf()
        scores = scores - scores.where(known, 0).sum(dim=-1, keepdim=True) / known.sum(dim=-1, keepdim=True)
        squares = scores.square().where(known, 0).sum(dim=-1, keepdim=True)
        spread = (squares / known.sum(dim=-1, keepdim=True)).sqrt()
        return (3 * scores / spread.clamp(min=1e-12)).softmax(dim=-1)

    def _encoded(self, texts: list[str]) -> Tensor:
        return unit_if(self.mixing.unit_text, self.clip.encode_texts(texts))

    def _sentences(self, expressions: Texts) -> list[str]:
        if self.recipe.text == "as_given":
            return list(expressions)
        from gl_ris.text import published_texts

        return published_texts(expressions, self.parser)

    def _phrases(self, expressions: Texts, noun_phrases: Texts | None) -> list[str]:
        if noun_phrases is not None:
            return list(noun_phrases)
        from gl_ris.text import noun_phrases as find

        return find(expressions, self.parser, published=self.recipe.text == "tokens")


def check_class_token(scorer: Scorer, clip: RegionCLIP) -> None:
    """Raise a `UserError` if the image tower is a ResNet."""
    if clip.tower.kind != "vit":
        raise UserError(
            f"Method '{scorer.name}' needs the class token of a VisionTransformer, and CLIP model "
            f"'{clip.name}' has a ResNet; choose a ViT, or the method 'score_map' or 'cropping'."
        )


def _in_letters(shape: Sequence[int], rows: int, columns: int) -> list[str]:
    """Write a shape so that it reads alike for all images, however many expressions and masks they have."""
    meanings = [[(rows, "E"), (1, "1"), (columns, "N")], [(columns, "N"), (1, "1"), (rows, "E")]]
    return [
        next((letter for size, letter in meanings[place > 0] if side == size), "other")
        for place, side in enumerate(shape)
    ]


def check_shares(**shares: float) -> None:
    """Raise a `UserError` for a share that is not from 0 to 1."""
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise UserError(f"{name}={value} is out of range: it is a share from 0 to 1.")


def unit_if(wanted: bool, features: Tensor) -> Tensor:
    """L2-normalise features ``(..., D)`` if that is wanted."""
    return F.normalize(features, dim=-1) if wanted else features


def cosine(text: Tensor, visual: Tensor) -> Tensor:
    """Cosine of every text ``(E, D)`` with every visual feature ``(N, D)``, ``(E, N)`` in [-1, 1]."""
    return F.normalize(text, dim=-1) @ F.normalize(visual, dim=-1).T


def inside_masks(maps: Tensor, bits: Bits, pooling: str) -> Tensor:
    """Sum or mean in each mask of maps ``(E, rows, columns)`` resized to the masks (bilinear): ``(E, N)``."""
    pixels = F.interpolate(maps[:, None], bits.masks.shape[1:], mode="bilinear", align_corners=False)
    total = pixels.flatten(1) @ bits.masks.view(torch.uint8).flatten(1).float().T
    # the score of a mask without a pixel is replaced anyway
    return total if pooling == "sum" else total / bits.areas.clamp(min=1)


def blend(weight: float, first: Callable[[], Tensor], second: Callable[[], Tensor]) -> Tensor:
    """Mix two features, ``weight`` of the first; one that has no weight is not computed."""
    if weight == 1:
        return first()
    if weight == 0:
        return second()
    return weight * first() + (1 - weight) * second()


def load_scorer(name: str) -> type[Scorer]:
    """Find a scoring method.

    Args:
        name: A short name (``"global_local"``, ``"cropping"``, ``"grad_cam"``, ``"score_map"``,
            ``"region_token"``, ``"largest"``, ``"random"``), or the path of a class
            (``"package.module.Class"``).

    Returns:
        The class.

    Raises:
        UserError: There is none of that name, or the path does not lead to a `Scorer`.
    """
    if "." in name:
        found: type[Scorer] = class_by_path(name, "Method", Scorer)
        return found
    known = available_scorers()
    if name not in known:
        raise unknown_name("method", name, known)
    return known[name]


def available_scorers() -> dict[str, type[Scorer]]:
    """Return the methods of this package by their short names: every class in a file of `gl_ris.scorers`."""
    files = pkgutil.iter_modules([str(Path(__file__).parent)])
    modules = [importlib.import_module(f"{__package__}.{file.name}") for file in files]
    return {
        item.name: item
        for module in modules
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, Scorer) and item.__module__ == module.__name__
        if "name" in vars(item)
    }


def class_by_path(path: str, what: str, base: type) -> Any:
    """Return the class at a path; a `UserError`, which says ``what`` it is to be, if it is no ``base``."""
    module_name, _, class_name = path.rpartition(".")
    try:
        found = vars(importlib.import_module(module_name))
    except (ImportError, ValueError) as error:
        raise UserError(f"{what} '{path}': module '{module_name}' cannot be imported ({error}).") from error
    classes = {key: item for key, item in found.items() if isinstance(item, type)}
    if class_name not in classes:
        raise unknown_name(f"class in module '{module_name}',", class_name, classes)
    if not issubclass(classes[class_name], base) or classes[class_name] is base:
        where = base.__module__.removesuffix(".base")
        raise UserError(f"{what} '{path}' is not a subclass of {where}.{base.__name__}.")
    return classes[class_name]
