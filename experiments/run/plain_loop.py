"""Global-Local CLIP as a plain loop in the shape of the published code: what the benchmark compares with.

One ref after the other, as annotations list them: the crops of all masks in one batch, the global features
again for each ref, and for each sentence two texts at the full length of the context. open_clip's own model
and nothing of `gl_ris`, so that it is also an independent statement of what the recipe ``clean`` computes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Ref(NamedTuple):
    """An object that is referred to: its sentences, and the noun phrase of each."""

    sentences: Sequence[str]
    phrases: Sequence[str]


class PlainLoop:
    """Scores the masks of an image for every sentence of its refs, in float32.

    Args:
        model: An open_clip ``CLIP`` with a VisionTransformer (class token) or a ModifiedResNet.
        tokenizer: Its tokenizer; called with a list of texts it fills the context.
        alpha: Share of the global visual feature, in [0, 1] (Eq. 5).
        beta: Share of the sentence, in [0, 1] (Eq. 8).
        masked_blocks: ``k``, the last blocks of a ViT in which tokens are masked (Eq. 3).
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Callable[[list[str]], Tensor],
        alpha: float = 0.85,
        beta: float = 0.5,
        masked_blocks: int = 3,
    ) -> None:
        from open_clip.model import get_model_preprocess_cfg

        self.model, self.tokenizer = model, tokenizer
        self.alpha, self.beta, self.masked_blocks = alpha, beta, masked_blocks
        settings = get_model_preprocess_cfg(model)
        self.mean, self.std = (
            torch.tensor(settings[name], device=self.device).view(3, 1, 1) for name in ("mean", "std")
        )
        self.mode: str = settings.get("interpolation", "bicubic")
        size = model.visual.image_size
        self.size: tuple[int, int] = (size, size) if isinstance(size, int) else tuple(size)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @torch.no_grad()
    def __call__(self, image: Tensor, masks: Tensor, refs: Sequence[Ref]) -> Tensor:
        """Score every mask for every sentence, ref by ref: float32 ``(E, N)``, cosines in [-1, 1] (Eq. 1).

        The image is uint8 ``(3, H, W)`` RGB, the masks are bool ``(N, H, W)``, each with a pixel or more, and
        its refs have ``E`` sentences in all, one or more.
        """
        scores = []
        for ref in refs:
            visual = self.visual_features(image, masks)
            for sentence, phrase in zip(ref.sentences, ref.phrases, strict=True):
                scores.append(visual @ self.text_feature(sentence, phrase))
        return torch.stack(scores)

    @torch.no_grad()
    def visual_features(self, image: Tensor, masks: Tensor) -> Tensor:
        """Global and local feature of every mask, mixed (Eq. 5) and of length 1: float32 ``(N, D)``."""
        pixels = image.to(self.device).float() / 255
        masks = masks.to(self.device)
        local = self.model.encode_image(torch.stack([self._crop(pixels, mask) for mask in masks]))
        mixed = self.alpha * _unit(self._global(pixels, masks)) + (1 - self.alpha) * _unit(local)
        return _unit(mixed)

    @torch.no_grad()
    def text_feature(self, sentence: str, phrase: str) -> Tensor:
        """Sentence and noun phrase, mixed (Eq. 8) and of length 1: float32 ``(D,)``."""
        whole, part = (
            _unit(self.model.encode_text(self.tokenizer([text]).to(self.device)))[0]
            for text in (sentence, phrase)
        )
        return _unit(self.beta * whole + (1 - self.beta) * part)

    def _global(self, pixels: Tensor, masks: Tensor) -> Tensor:
        """Encode the whole image, its tokens or its last map multiplied by each mask (Eqs. 2, 3)."""
        with masked(self.model.visual, masks, self.masked_blocks):
            return self.model.encode_image(self._input(pixels)[None]).expand(len(masks), -1)

    def _crop(self, pixels: Tensor, mask: Tensor) -> Tensor:
        """Cut the box around a mask out of the image, the mean colour outside of the mask (Eq. 4)."""
        rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
        box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
        return self._input(torch.where(mask, pixels, self.mean)[:, *box])

    def _input(self, pixels: Tensor) -> Tensor:
        resized = F.interpolate(pixels[None], self.size, mode=self.mode, align_corners=False, antialias=True)
        return (resized[0].clamp(0, 1) - self.mean) / self.std


@contextmanager
def masked(visual: Any, masks: Tensor, blocks: int) -> Iterator[None]:
    """Inside, have an image tower multiply by every mask what enters its last ``blocks`` or its pooling.

    The batch of one image becomes a batch of masks there. The class token of a ViT is never masked.
    """
    is_vit = hasattr(visual, "transformer")
    grid = tuple(visual.grid_size) if is_vit else (visual.image_size // 32,) * 2
    keep = F.adaptive_avg_pool2d(masks[:, None].float(), grid)
    if is_vit:
        keep = F.pad(keep.flatten(2), (1, 0), value=1.0).transpose(1, 2)
    layers = visual.transformer.resblocks if is_vit else [visual.attnpool]
    with ExitStack() as hooks:
        for layer in list(layers)[len(layers) - blocks :] if is_vit else layers:
            handle = layer.register_forward_pre_hook(lambda _, inputs: (inputs[0] * keep, *inputs[1:]))
            hooks.callback(handle.remove)
        yield


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features.float(), dim=-1)
