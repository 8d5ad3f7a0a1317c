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

from datamodules.shapes.speakers import Caption
from experiments.run.small_clips import MEND, folder_of
from experiments.run.training_towers import (
    SwinTower,
    covered,
    random_boxes,
    resnet_views,
    text_features,
    vit_views,
)
from gl_ris.errors import UserError
from gl_ris.supervised.lavt.network import LAVTSize

Tokenize = Callable[[list[str]], Tensor]
Batch = tuple[Tensor, list[list[Caption]]]

START, END, PAD = "<start>", "<end>", "<pad>"

# Share of the steps before the learning rate falls; a run stopped before that can go on to fewer steps.
LEVEL = 0.75

# Texts in one pass of the tower: few enough that short ones are not padded to the length of the longest.
TEXTS_TOGETHER = 128

# Weight of the cosine distance to a teacher's features, beside losses of two or three nats each.
IMITATION = 20.0


class ContrastiveCLIP(LightningModule):
    """Train a CLIP of open_clip's model class by CLIP's loss, on whole images and parts of them.

    Args:
        model_cfg: open_clip's ``model_cfg``: ``embed_dim``, ``vision_cfg``, ``text_cfg``.
        preprocess_cfg: open_clip's ``preprocess_cfg``; its mean and std are used in training.
        windows: Number of parts of each image that captions are held against besides the whole; which of
            them a caption is about is left open (MIL-NCE: Miech et al., CVPR 2020, "End-to-end learning of
            visual representations from uncurated instructional videos").
        swin: Measures of LAVT's Swin, to train it in the place of an image tower of open_clip: what a LAVT of
            these measures can start from.
        start: Another small CLIP, shipped or ``local-dir:FOLDER``, to take the tokenizer and all weights from
            whose names and shapes fit.
        locked_steps: Number of steps during which the text tower stays as it is: an image tower that starts
            from nothing would spoil one that has learnt.
        teacher: Another small CLIP, named as ``start`` is, whose image tower is imitated besides: its
            features of the same parts of the same images, by their cosine.
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
        swin: LAVTSize | None = None,
        windows: int = 0,
        start: str | None = None,
        locked_steps: int = 0,
        teacher: str | None = None,
    ) -> None:
        super().__init__()
        from open_clip.model import CLIP

        if windows < 0:
            raise UserError(f"model.windows={windows} must be 0 or more.")
        if locked_steps and start is None:
            raise UserError(
                f"model.locked_steps={locked_steps} keeps the texts as they are, which are random without "
                "model.start; give one, or leave locked_steps out."
            )

        self.model_cfg, self.preprocess_cfg = model_cfg, preprocess_cfg
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.warmup, self.windows = warmup, windows
        self.start, self.locked_steps = start, locked_steps
        self.model = CLIP(model_cfg["embed_dim"], model_cfg["vision_cfg"], model_cfg["text_cfg"])
        self.swin = swin
        if swin is not None:
            self.model.visual = SwinTower(swin, model_cfg["embed_dim"])
        self.model.to(memory_format=torch.channels_last)
        # in a list, lest it be taken for a part of what is trained
        self.teachers = [] if teacher is None else [trained(teacher)]
        for other in self.teachers:
            if (size := other.model_cfg["embed_dim"]) != model_cfg["embed_dim"]:
                raise UserError(
                    f"model.teacher={teacher} has features of {size} numbers, and model.model_cfg.embed_dim "
                    f"is {model_cfg['embed_dim']}; make them equal."
                )
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(preprocess_cfg[name]).view(1, 3, 1, 1), persistent=False)

    @property
    def image_size(self) -> int:
        """The side of the squares that the image tower reads, in pixels."""
        return int(self.swin.image_size if self.swin else self.model_cfg["vision_cfg"]["image_size"])

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the tower's patches, or of its last map."""
        stride = self.model_cfg["vision_cfg"]["patch_size"] if self._is_vit else 32
        if self.swin:
            stride = self.swin.patch_size * 2 ** (len(self.swin.depths) - 1)
        return self.image_size // stride, self.image_size // stride

    @property
    def _is_vit(self) -> bool:
        return "patch_size" in self.model_cfg["vision_cfg"]

    def use_tokenizer(self, folder: Path) -> None:
        """Read texts with a Hugging Face tokenizer whose end token has the highest id."""
        from open_clip.tokenizer import HFTokenizer

        context = self.model_cfg["text_cfg"]["context_length"]
        # the tokenizer within: captions need none of the cleaning around it
        tokenizer = HFTokenizer(str(folder), context_length=context).tokenizer

        def tokenize(texts: list[str]) -> Tensor:
            # the text tower is causal: padding behind the longest text adds nothing
            options = {"return_tensors": "pt", "padding": True, "truncation": True, "max_length": context}
            return tokenizer(texts, **options).input_ids

        self.tokenize = tokenize

    def encode_images(self, images: Tensor) -> Tensor:
        """Encode uint8 images ``(B, H, W, 3)`` to ``(B, D)`` of length 1."""
        return self.encode_views(images, torch.ones(1, *self.grid))[:, 0]

    def encode_views(self, images: Tensor, keeps: Tensor) -> Tensor:
        """Encode parts of images, brought to the tower's size, to ``(B, N, D)`` of length 1.

        ``keeps``, ``(N, rows, columns)`` in [0, 1], are the parts on the tower's grid.
        """
        pixels, side = images.permute(0, 3, 1, 2).float() / 255, (self.image_size,) * 2
        if pixels.shape[2:] != side:
            pixels = F.interpolate(pixels, side, mode="bilinear", antialias=True)
        pixels = (pixels - self.mean) / self.std
        visual, keeps = self.model.visual, keeps.to(pixels.device)
        if self.swin:
            return F.normalize(visual(pixels, keeps), dim=-1)
        views = vit_views if self._is_vit else resnet_views
        return F.normalize(views(visual, pixels, keeps), dim=-1)

    def encode_boxes(self, images: Tensor, boxes: Tensor) -> Tensor:
        """Encode parts of images, given as `random_boxes` gives them, to ``(B, N, D)`` of length 1."""
        return self.encode_views(images, covered(boxes, *self.grid))

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Encode texts to ``(len(texts), D)`` of length 1, those of like length together."""
        tokens = self.tokenize(texts).to(self.mean.device)
        order = (tokens != 0).sum(1).argsort()
        parts = []
        for rows in order.split(TEXTS_TOGETHER):
            length = int((tokens[rows] != 0).sum(1).max())
            parts.append(text_features(self.model, tokens[rows, :length]))
        return F.normalize(torch.cat(parts)[order.argsort()], dim=-1)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """One step: what captions lose on images and parts, and the distance to a teacher's features."""
        images, visits = batch
        boxes = random_boxes(self.windows)
        views = self.encode_boxes(images, boxes)
        loss = self._caption_loss(views, visits)
        for teacher in self.teachers:
            with torch.no_grad():
                wanted = teacher.to(self.mean.device).encode_boxes(images, boxes)
            loss = loss + IMITATION * (1 - (views * wanted).sum(-1)).mean()
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def _caption_loss(self, views: Tensor, visits: list[list[Caption]]) -> Tensor:
        """Sum what whole images lose, and with windows, what they and their parts lose together."""
        image, scale = views[:, 0], self.model.logit_scale.exp()
        said = [caption for visit in visits for caption in visit]
        false = [k for k, caption in enumerate(said) if caption.false]
        texts = self.encode_texts([c.text for c in said] + [said[k].false for k in false])
        own, untrue = texts.split([len(said), len(false)])
        parts = untrue.split([sum(bool(caption.false) for caption in visit) for visit in visits])
        pairs = list(zip(own.split(len(image)), parts, strict=True))
        changes = [said[k].change for k in false]
        owners = torch.tensor(false, dtype=torch.long) % len(image)
        loss = image.new_zeros(())
        for seen in [views[:, :1], views][: 1 + bool(self.windows)]:
            loss = loss + torch.stack([contrastive_loss(seen, *pair, scale) for pair in pairs]).mean()
            true, wrong = (
                (scale * (seen[owners] @ t[..., None])).logsumexp(dim=(1, 2)) for t in (own[false], untrue)
            )
            loss = loss + loss_by_change(true - wrong, changes)
        self.log("train/retrieval@1", _retrieval(image, own[: len(image)]), prog_bar=True)
        return loss

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the learning rate that is asked for now."""
        for schedule in checkpoint["lr_schedulers"]:
            schedule["base_lrs"] = [self.learning_rate] * len(schedule["base_lrs"])

    def on_train_batch_start(self, *_: Any) -> None:
        """Lock the text tower, or let it learn."""
        for name, parameter in self.model.named_parameters():
            if not name.startswith("visual.") and name != "logit_scale":
                parameter.requires_grad_(self.global_step >= self.locked_steps)

    def on_train_batch_end(self, *_: Any) -> None:
        """Clamp the temperature, as CLIP does."""
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, math.log(100))

    def on_train_start(self) -> None:
        """Draw other batches after a resumption than at the start."""
        torch.manual_seed(torch.initial_seed() + self.global_step)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Retrieval among the held-out pairs, and how often a caption beats its false version.

        Retrieval is the share whose own partner comes first, of each image's first caption; false versions
        are those of all captions, by kind of change, and once more where the image's parts count, too.
        """
        images, visits = batch
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same parts each time, and no other training for having been measured
            views = self.encode_boxes(images, random_boxes(self.windows))
        image = views[:, 0]
        for prefix, seen in (("", views[:, :1]), ("parts/", views))[: 1 + bool(self.windows)]:
            for change, share in self.told_apart(seen, visits).items():
                self.log(f"val/{prefix}{change}", share, prog_bar=not prefix, batch_size=len(image))
        text = self.encode_texts([caption.text for caption in visits[0]])
        loss = contrastive_loss(image, text, text[:0], self.model.logit_scale.exp())
        self.log("val/loss", loss, batch_size=len(image))
        self.log("val/caption_retrieval@1", _retrieval(image, text), prog_bar=True, batch_size=len(image))
        self.log("val/image_retrieval@1", _retrieval(text, image), prog_bar=True, batch_size=len(image))

    def told_apart(self, views: Tensor, visits: list[list[Caption]]) -> dict[str, float]:
        """Give for each kind of change the share of captions that fit their image better than falsified.

        Of several views ``(B, V, D)`` of an image all count, as in `contrastive_loss`.
        """
        pairs = [(k, said) for visit in visits for k, said in enumerate(visit) if said.false]
        if not pairs:
            return {}
        own, scale = views[[k for k, _ in pairs]], self.model.logit_scale.exp()
        true, false = (
            (scale * (own @ self.encode_texts(texts)[..., None])).logsumexp(dim=(1, 2))
            for texts in ([said.text for _, said in pairs], [said.false for _, said in pairs])
        )
        right: dict[str, list[bool]] = {}
        for (_, said), better in zip(pairs, (true > false).tolist(), strict=True):
            right.setdefault(said.change, []).append(better)
        return {change: sum(found) / len(found) for change, found in sorted(right.items())}

    def configure_optimizers(self) -> Any:
        """AdamW with CLIP's betas; warm-up, level, decay."""
        total = int(self.trainer.estimated_stepping_batches)
        groups = _decay_groups(self.model.named_parameters(), self.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate, betas=(0.9, 0.98))
        warmup, decay = self.warmup, (1 - LEVEL) * total
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: max(0.0, min((step + 1) / warmup, 1.0, (total - step) / max(decay, 1e-9)))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def export(self, folder: Path, tokenizer: Path) -> None:
        """Write an open_clip ``local-dir:`` folder: configuration, fp16 weights, tokenizer files.

        Of a Swin the weights alone, in a file that `gl_ris.supervised.LAVTBaseline` reads as ``swin``.
        """
        from safetensors.torch import save_file

        if self.swin is not None:
            folder.mkdir(parents=True, exist_ok=True)
            state = self.model.visual.trunk.state_dict()
            save_file({name: t.cpu().contiguous() for name, t in state.items()}, folder / "swin.safetensors")
            return
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


def contrastive_loss(image: Tensor, text: Tensor, false: Tensor, scale: Tensor) -> Tensor:
    """Compute CLIP's symmetric loss, where false texts are further texts for every image (NegCLIP).

    ``image`` and ``text`` are ``(B, D)``, ``false`` is ``(F, D)``, all of length 1. Of images as
    ``(B, V, D)`` the views count together, by the sum of their exponentials: the best ones most (MIL-NCE).
    """
    own = torch.arange(len(image), device=image.device)
    views = image if image.ndim == 3 else image[:, None]
    logits = (scale * (views @ torch.cat([text, false]).T)).logsumexp(dim=1)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits[:, : len(text)].T, own)) / 2


def trained(name: str) -> ContrastiveCLIP:
    """Load a small CLIP to be imitated; `UserError` if it cannot be read."""
    from gl_ris.clip.loading import CONFIG, load_clip

    if not (folder_of(name) / CONFIG).is_file():
        raise UserError(f"The small CLIP {name} cannot be read: it has no {CONFIG}. {MEND}")
    loaded = load_clip(name)  # which checks what the folder holds
    model_cfg = json.loads((folder_of(name) / CONFIG).read_text(encoding="utf-8"))["model_cfg"]
    colours = {"mean": loaded.mean, "std": loaded.std}
    clip = ContrastiveCLIP(model_cfg, colours).eval()
    clip.model.load_state_dict(loaded.model.state_dict())
    return clip.requires_grad_(False)


def loss_by_change(lead: Tensor, changes: list[str]) -> Tensor:
    """Compute how badly captions are told from their false versions, summed over the kinds of change.

    ``lead`` are the logits of captions less those of their false versions. Among hundreds of other texts the
    false version is told apart last, and most of them are but a word replaced: each kind counts alike.
    """
    losses, kinds = F.softplus(-lead), sorted(set(changes))
    rows = [[k for k, change in enumerate(changes) if change == kind] for kind in kinds]
    return sum((losses[own].mean() for own in rows), lead.new_zeros(()))


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
