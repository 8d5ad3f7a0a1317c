"""An open_clip model opened up for regions."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gl_ris.bits import Bits
from gl_ris.clip.image import ImageContext
from gl_ris.clip.kernels import Kernels, Layers, kernels_here
from gl_ris.clip.text_tower import TextTower, TokenBatch
from gl_ris.clip.tower import map_batches, one_thread_per_operation, open_tower
from gl_ris.errors import UserError
from gl_ris.progress import bar

Gather = Callable[[list[Any]], list[list[Any]]]


class RegionCLIP(nn.Module):
    """A CLIP model that encodes regions of an image, and texts at their true length.

    It is frozen and always in evaluation mode. On a CPU the features are bit for bit the same for any
    number of threads. What it remembers (the texts it encoded, the last image, weights as the processor's
    fastest kernels read them) is forgotten when its weights change.

    Attributes:
        model: The open_clip model; its ``state_dict`` may be loaded from outside.
        name: The name it was loaded by.
        tower: Its image tower, opened.
        image_size: Height and width of the tower's input in pixels; images are squashed to it.
        feature_dim: Length ``D`` of the features.
        mean: RGB mean of the weights' preprocessing, in [0, 1].
        std: RGB standard deviation of the weights' preprocessing, in [0, 1].
        interpolation: ``"bicubic"`` or ``"bilinear"``, of the weights' preprocessing.
        batch_size: Masks or crops that go through the tower together, which bounds the memory; None is 8 on
            a CPU and 64 elsewhere.
        text_batch_size: Texts that are encoded together.

    Args:
        model: An open_clip model.
        tokenizer: Its tokenizer, callable as ``tokenizer(texts, context_length=n)``.
        name: A name for messages and results.

    Raises:
        UserError: The image tower cannot be opened.
    """

    def __init__(self, model: nn.Module, tokenizer: Callable[..., Tensor], name: str = "custom") -> None:
        super().__init__()
        self.model: Any = model.requires_grad_(False).eval()
        self.name = name
        self._layers = Layers()
        self.tower = open_tower(self.model.visual, self._layers)
        self.image_size = self.tower.image_size
        self.feature_dim = self.tower.feature_dim
        self._read_preprocessing(getattr(self.model.visual, "preprocess_cfg", {}))
        self._text_tower = TextTower(model, tokenizer, self._layers)
        self.batch_size: int | None = None
        self.text_batch_size = 64
        self._texts: dict[str, Tensor] = {}
        self._context: ImageContext | None = None
        self._seen_weights = self._weights()
        self._warned = False
        self.eval()

    def _read_preprocessing(self, config: dict[str, Any]) -> None:
        from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

        self.mean = self._colour("mean", config.get("mean", OPENAI_DATASET_MEAN))
        self.std = self._colour("std", config.get("std", OPENAI_DATASET_STD))
        self.interpolation: Any = config.get("interpolation", "bicubic")
        if self.interpolation not in ("bicubic", "bilinear"):
            raise UserError(
                f"CLIP model '{self.name}' asks for interpolation '{self.interpolation}' in preprocess_cfg; "
                "set it to 'bicubic' or 'bilinear' in open_clip_config.json."
            )

    def _colour(self, name: str, values: Any) -> tuple[float, ...]:
        """Check three numbers; a standard deviation of zero would make every feature not a number."""
        given = tuple(values) if isinstance(values, list | tuple) else ()
        usable = [isinstance(value, int | float) and math.isfinite(value) for value in given]
        if len(given) != 3 or not all(usable) or (name == "std" and min(given) <= 0):
            raise UserError(
                f"CLIP model '{self.name}' has {name} {values!s:.60} in preprocess_cfg; it should be three "
                f"numbers{', all positive' if name == 'std' else ''}, in open_clip_config.json."
            )
        return given

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def image_batch(self) -> int:
        """Masks or crops that go through the tower together."""
        return self.batch_size or (8 if self.device.type == "cpu" else 64)

    @property
    def kernels(self) -> dict[str, str]:
        """How its ``"linear"`` layers and convolutions are computed, see `gl_ris.clip.kernels`."""
        on_cpu = self.device.type == "cpu"
        chosen = kernels_here(self.model.visual.conv1.weight.dtype) if on_cpu else Kernels()
        return chosen._asdict() if self.tower.kind == "resnet" else {"linear": chosen.linear}

    def train(self, mode: bool = True) -> RegionCLIP:
        """Stay in evaluation mode, whatever the module around it does."""
        return super().train(False)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Encode whole images, standardised float ``(B, 3, *image_size)``, in batches.

        Returns float32 ``(B, D)``, not normalised.
        """
        with one_thread_per_operation(self.device):
            features = map_batches(self.tower.encode, pixels.split(self.image_batch))
        return torch.cat(features).float()

    def context(self, image: Tensor, masks: Tensor | Bits, boxes: Tensor | None = None) -> ImageContext:
        """Return the shared work on an image and its masks; the last one is kept for who asks next.

        The image is uint8 ``(3, H, W)`` RGB at its original size. Masks, bool ``(N, H, W)``, are copied, and
        compared by value when they are given again; `gl_ris.bits.Bits` of such need neither, as nobody writes
        into them. Boxes to crop by are float ``(N, 4)`` XYXY pixels, or None for the recipe's own.
        `ValueError` if a shape or dtype is not so.
        """
        self._forget_if_weights_changed()
        if self._context is None or not self._context.is_about(image, masks, boxes):
            self._context = ImageContext(self, image, masks, boxes)
            self._context.weights = self._seen_weights
        return self._context

    def again(self, context: ImageContext) -> ImageContext:
        """Go on with an earlier `context`; it is made anew if the weights have changed since."""
        self._forget_if_weights_changed()
        if context.weights == self._seen_weights:
            self._context = context
        return self.context(context.image, context.bits, context.boxes)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Encode texts, any number with any repeats; each distinct text once, then remembered.

        Returns float32 ``(len(texts), D)``, not normalised, on the model's device. A text longer than the
        context loses its end, which is warned about once.
        """
        self._forget_if_weights_changed()
        missing = [text for text in texts if text not in self._texts]
        if missing:
            self.prepare_texts(missing)
        rows = [self._texts[text] for text in texts]
        return (torch.stack(rows) if rows else torch.zeros(0, self.feature_dim)).to(self.device)

    # Outside inference mode, so that a remembered feature can take part in a gradient later.
    @torch.inference_mode(False)
    @torch.no_grad()
    def prepare_texts(
        self, texts: Iterable[str], rank: int = 0, world_size: int = 1, gather: Gather | None = None
    ) -> None:
        """Encode the texts of a whole split ahead, each once over all processes.

        The batches are made of the sorted distinct texts, the same on every process, so the features are bit
        for bit the same for any number of processes. This one encodes batches ``rank, rank + world_size``
        and so on. ``gather`` turns this process's list into the lists of all processes, e.g. by
        ``torch.distributed.all_gather_object``; `ValueError` for several processes without it.
        """
        if world_size > 1 and gather is None:
            raise ValueError(f"gather is needed to share texts between {world_size} processes.")
        self._forget_if_weights_changed()
        batches, cut = self._text_tower.batches(texts, self.text_batch_size)
        if cut and not self._warned:
            self._warned = True
            warnings.warn(
                f"{cut} of the texts are longer than the {self._text_tower.context_length} tokens that CLIP "
                f"model '{self.name}' reads; their ends are cut off.",
                stacklevel=3,
            )
        own = batches[rank::world_size]
        count = sum(len(batch.texts) for batch in own)
        with one_thread_per_operation(self.device), bar("encoding texts", "text", total=count) as shown:

            def encode(batch: TokenBatch) -> Tensor:
                features = self._text_tower.encode(batch)
                shown.update(len(batch.texts))
                return features

            features = map_batches(encode, own)
        encoded = [(batch.texts, rows.cpu()) for batch, rows in zip(own, features, strict=True)]
        for keys, rows in itertools.chain.from_iterable(gather(encoded) if gather else [encoded]):
            self._texts.update(zip(keys, rows, strict=True))

    def _weights(self) -> tuple[tuple[int, int], ...]:
        """Identify the weights: where each lies, and how often it was written to."""
        tensors = itertools.chain(self.model.parameters(), self.model.buffers())
        return tuple((part.data_ptr(), 0 if part.is_inference() else part._version) for part in tensors)

    def _forget_if_weights_changed(self) -> None:
        weights = self._weights()
        if weights != self._seen_weights:
            self._seen_weights = weights
            self._texts.clear()
            self._context = None
            self._layers.forget()
