"""Global-Local over a grid of alpha, beta and masked blocks, from one encoding of each image and text."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from gl_ris.bits import Bits
from gl_ris.choices import Choices
from gl_ris.clip.image import ImageContext
from gl_ris.clip.region_clip import RegionCLIP
from gl_ris.defaults import usual_shares
from gl_ris.errors import UserError
from gl_ris.evaluator import Records, SceneLike
from gl_ris.scorers import Scorer
from gl_ris.scorers.base import check_shares
from gl_ris.scorers.global_local import GlobalLocal
from gl_ris.zero_shot import ZeroShotRIS


@dataclass(frozen=True)
class Cell:
    """One point of the grid."""

    alpha: float  # Share of the global visual feature (Eq. 5).
    beta: float  # Share of the global text feature (Eq. 8).
    masked_blocks: int  # ``k``; a ResNet ignores it

    @property
    def title(self) -> str:
        """What the tally calls it."""
        return " ".join(f"{name}={value}" for name, value in asdict(self).items())


class GlobalLocalGrid(GlobalLocal):
    """`GlobalLocal` at every pair of shares; each pair's scores have the bits of a `GlobalLocal` of its own.

    Called like a scorer, it gives ``(len(alphas) * len(betas) * E, N)``: pair by pair, beta running faster,
    and within a pair expression by expression. ``settings``: those of a `GlobalLocal` behind its shares.
    """

    def __init__(
        self, clip: RegionCLIP, alphas: Sequence[float], betas: Sequence[float], *settings: Any
    ) -> None:
        super().__init__(clip, alphas[0], betas[0], *settings)
        # In tuples, not modules: all of them hold the same model, which is registered once.
        self._visuals = tuple(GlobalLocal(clip, alpha, betas[0], *settings) for alpha in alphas)
        self._texts = tuple(GlobalLocal(clip, alphas[0], beta, *settings) for beta in betas)
        self.settings_at_once = len(alphas) * len(betas)

    def texts(self, expressions: Sequence[str], noun_phrases: Sequence[str] | None = None) -> list[str]:
        """Everything that will be encoded for these expressions at any beta."""
        return [text for scorer in self._texts for text in scorer.texts(expressions, noun_phrases)]

    def prepare(self, context: ImageContext) -> None:
        """Compute the visual features that some alpha needs."""
        for scorer in self._visuals:
            scorer.prepare(context)

    def score(
        self, context: ImageContext, expressions: Sequence[str], noun_phrases: Sequence[str] | None
    ) -> Tensor:
        """Score at all pairs; what depends on one share alone is computed once for it."""
        texts = [self.queries(s.text_features(expressions, noun_phrases)) for s in self._texts]
        visuals = [self.comparable(s.mixed_features(context)) for s in self._visuals]
        return torch.cat([text @ visual.T for visual in visuals for text in texts])


class Sweep(ZeroShotRIS):
    """Measures Global-Local at every alpha, beta and number of masked blocks.

    An image is encoded once for all alphas and betas (its last blocks once per number of masked blocks), a
    text once for everything; the cells of the grid are then sums and products of small matrices. Misses count
    as in `ZeroShotRIS`; there are no records, and no figures of subsets. `evaluation` has a method per cell.

    Args:
        alphas: Shares of the global visual feature from 0 to 1 (Eq. 5): a list, or a number of evenly spaced
            ones, both ends included.
        betas: Shares of the global text feature from 0 to 1 (Eq. 8), likewise.
        masked_blocks: Numbers of blocks of a ViT with masked tokens (k in the paper), one or a list. A ResNet
            masks its last map instead, so it takes one, which has no influence.
        **run: Options of `ZeroShotRIS` but methods; alpha and beta are those of the cell that is pointed out
            as the default (the paper has 0.5, and 0.85 for RefCOCOg, 0.95 for RefCOCO and RefCOCO+).

    Attributes:
        cells: The grid, in the order of ``evaluation.methods``: k, alpha, beta, the last running fastest.

    Raises:
        UserError: An axis is empty, has a value twice or out of range; or an error of `ZeroShotRIS`.
    """

    def __init__(
        self,
        alphas: list[float] | int = 21,
        betas: list[float] | int = 21,
        masked_blocks: list[int] | int = 3,
        **run: Any,
    ) -> None:
        # whether they fit the tower shows when it is loaded
        given = [masked_blocks] if isinstance(masked_blocks, int) else masked_blocks
        blocks = _in_order("masked_blocks", given, "number")
        super().__init__(methods="global_local", masked_blocks=blocks[0], **run)
        self.alphas, self.betas, self.blocks = axis("alphas", alphas), axis("betas", betas), blocks
        self.cells = [Cell(a, b, k) for k, a, b in itertools.product(self.blocks, self.alphas, self.betas)]

    @property
    def methods(self) -> list[str]:
        """Titles of the cells."""
        return [cell.title for cell in self.cells]

    def make_scorers(self, clips: Mapping[Any, Any]) -> list[Scorer]:
        """Make a grid for each number of masked blocks; a `UserError` for several and a ResNet."""
        (variant,) = self.variants
        clip = clips[variant.model]
        if clip.tower.kind == "resnet" and len(self.blocks) > 1:
            raise UserError(
                f"masked_blocks={self.blocks} makes no difference to a ResNet, which has no blocks to mask; "
                "give one number."
            )
        axes = (self.alphas, self.betas)
        grids = [GlobalLocalGrid(clip, *axes, blocks, variant.recipe, self.parser) for blocks in self.blocks]
        return [variant.finish(grid) for grid in grids]

    @property
    def default(self) -> Cell | None:
        """The default cell; None if it is not on the grid."""
        wanted = [cell for cell in self.cells if (cell.alpha, cell.beta) == (self.alpha, self.beta)]
        (variant,) = self.variants
        usual = usual_shares(variant.clip).masked_blocks
        return next((cell for cell in wanted if cell.masked_blocks == usual), wanted[0] if wanted else None)

    def _judge(self, scene: SceneLike, masks: Bits, chosen: list[Choices], failure: str | None) -> Records:
        """Count without records and without subsets."""
        self._count(scene, masks, chosen, failure, {})
        return Records()


def axis(name: str, values: Sequence[float] | int) -> list[float]:
    """Return an axis of shares in order, of values or a number of steps; a `UserError` for one twice."""
    if isinstance(values, int):
        if values < 2:
            raise UserError(f"{name}={values} is no number of steps from 0 to 1: give 2 or more, or a list.")
        return [step / (values - 1) for step in range(values)]
    found = [float(value) for value in _in_order(name, values, "value")]
    for value in found:
        check_shares(**{name: value})
    return found


def _in_order(name: str, values: Sequence[Any], what: str) -> list[Any]:
    found = sorted(values)
    if not found or len(set(found)) < len(found):
        raise UserError(f"{name}={list(values)} must hold one {what} or more, each once.")
    return found
