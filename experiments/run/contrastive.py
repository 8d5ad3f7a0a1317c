"""Contrastive training of an open_clip model on image-caption pairs, as a LightningModule."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F

Tokenize = Callable[[list[str]], Tensor]
Batch = tuple[Tensor, list[list[str]]]

START, END, PAD = "<start>", "<end>", "<pad>"

# Share of the steps before the learning rate falls; a run stopped before that can go on to fewer steps.
LEVEL = 0.75


class ContrastiveCLIP(LightningModule):
    """Train a CLIP with open_clip's own model class and loss.

    Args:
        model_cfg: open_clip's ``model_cfg``: ``embed_dim``, ``vision_cfg``, ``text_cfg``.
        preprocess_cfg: open_clip's ``preprocess_cfg``; its mean and std are used in training.
        learning_rate: Peak of the schedule: linear warm-up, level, then linearly to zero over the last
            quarter of the trainer's ``max_steps``.
        weight_decay: On matrices; gains, biases, embeddings and the temperature have none.
        warmup: Number of steps to the peak.
    """

    mean: Tensor
    std: Tensor
    # set by `use_tokenizer`
    tokenize: Tokenize

    def __init__(
        self,
        model_cfg: dict[str, Any],
        preprocess_cfg: dict[str, Any],
        learning_rate: float = 1e-3,
        weight_decay: float = 0.1,
        warmup: int = 150,
    ) -> None:
        super().__init__()
        from open_clip.loss import ClipLoss
        from open_clip.model import CLIP

        self.model_cfg, self.preprocess_cfg = model_cfg, preprocess_cfg
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.warmup = warmup
        self.model = CLIP(model_cfg["embed_dim"], model_cfg["vision_cfg"], model_cfg["text_cfg"])
        self.model.to(memory_format=torch.channels_last)
        self.loss = ClipLoss()
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(preprocess_cfg[name]).view(1, 3, 1, 1), persistent=False)

    def use_tokenizer(self, folder: Path) -> None:
        """Read texts with a Hugging Face tokenizer whose end token has the highest id."""
        from open_clip.tokenizer import HFTokenizer

        tokenizer = HFTokenizer(str(folder), context_length=self.model_cfg["text_cfg"]["context_length"])

        def tokenize(texts: list[str]) -> Tensor:
            tokens = tokenizer(texts)
            # the text tower is causal: padding behind the longest text adds nothing
            return tokens[:, : int((tokens != 0).sum(1).max())]

        self.tokenize = tokenize

    def features(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """Encode uint8 images ``(B, H, W, 3)`` and lists of B captions: ``(B, D)`` each, all of length 1."""
        from gl_ris.supervised.cris.network import text_states

        images, captions = batch
        pixels = (images.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        texts = [text_states(self.model, self.tokenize(texts).to(pixels.device))[1] for texts in captions]
        return self.model.encode_image(pixels, normalize=True), [F.normalize(text, dim=-1) for text in texts]

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """One step of open_clip's ClipLoss, averaged over the sets of captions."""
        image, texts = self.features(batch)
        scale = self.model.logit_scale.exp()
        loss = torch.stack([self.loss(image, text, scale) for text in texts]).mean()
        self.log("train/loss", loss, prog_bar=True)
        self.log("train/retrieval@1", _retrieval(image, texts[0]), prog_bar=True)
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        """Clamp the temperature, as CLIP does."""
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, math.log(100))

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Retrieval among the held-out pairs: the share whose own partner comes first."""
        image, (text, *_) = self.features(batch)
        self.log("val/loss", self.loss(image, text, self.model.logit_scale.exp()), batch_size=len(image))
        self.log("val/caption_retrieval@1", _retrieval(image, text), prog_bar=True, batch_size=len(image))
        self.log("val/image_retrieval@1", _retrieval(text, image), prog_bar=True, batch_size=len(image))

    def configure_optimizers(self) -> Any:
        """AdamW with CLIP's betas; warm-up, level, decay."""
        total = int(self.trainer.estimated_stepping_batches)
        groups = _decay_groups(self.model.named_parameters(), self.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate, betas=(0.9, 0.98))
        warmup, decay = self.warmup, (1 - LEVEL) * total
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: max(0.0, min((step + 1) / warmup, 1.0, (total - step) / decay))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def export(self, folder: Path, tokenizer: Path) -> None:
        """Write an open_clip ``local-dir:`` folder: configuration, fp16 weights, tokenizer files."""
        from safetensors.torch import save_file

        shutil.copytree(tokenizer, folder, dirs_exist_ok=True)
        state = {name: value.contiguous().cpu() for name, value in self.model.state_dict().items()}
        halved = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
        save_file(halved, folder / "open_clip_model.safetensors")
        config = {"model_cfg": self.model_cfg, "preprocess_cfg": self.preprocess_cfg}
        (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")


def train_tokenizer(texts: Iterable[str], folder: Path, vocabulary: int) -> None:
    """Train a lower-casing byte-level BPE tokenizer of so many tokens, and save it in a folder."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - 1,
        special_tokens=[PAD, START],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # padding has id 0, the end the highest id, where CLIP's text tower looks for it (pool_type argmax)
    tokenizer.add_special_tokens([END])
    ids = [(token, tokenizer.token_to_id(token)) for token in (START, END)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{START} $A {END}", special_tokens=ids)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, bos_token=START, eos_token=END)
    fast.save_pretrained(folder)


def _retrieval(queries: Tensor, keys: Tensor) -> Tensor:
    best = (queries @ keys.T).argmax(1)
    return (best == torch.arange(len(best), device=best.device)).float().mean()


def _decay_groups(parameters: Iterable[tuple[str, nn.Parameter]], decay: float) -> list[dict[str, Any]]:
    named = list(parameters)
    spared = ("embedding", "logit_scale")
    decayed = [p for name, p in named if p.ndim >= 2 and not any(word in name for word in spared)]
    chosen = {id(p) for p in decayed}
    rest = [p for _, p in named if id(p) not in chosen]
    return [{"params": decayed, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]
