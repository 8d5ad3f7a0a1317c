"""What a supervised baseline starts from: builds a model with its recipe when it is asked to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from gl_ris.supervised.cris import CRISSize
from gl_ris.supervised.lavt import LAVTSize
from gl_ris.supervised.segmenter import Segmenter, Tokenize
from gl_ris.supervised.tseg import TSEGSize


class Baseline(ABC):
    """The settings of a supervised model; nothing is loaded before `make`.

    Attributes:
        title: Name of the model in results.
        epochs: Of a training.
        batch_size: Of a step, over all devices.
    """

    title: ClassVar[str]
    epochs: int
    batch_size: int

    @abstractmethod
    def make(self) -> Segmenter:
        """Build the model with its starting weights.

        Raises:
            UserError: Weights or tokenizer cannot be loaded, or the settings do not go together.
        """


class LAVTBaseline(Baseline):
    """LAVT, from an ImageNet Swin and a pre-trained BERT.

    Args:
        size: Measures of the network.
        swin: timm's name of the Swin to start from, or a file of weights; null starts from random ones.
        bert: Hugging Face name or folder of the BERT to start from; null starts from random weights.
        tokenizer: Hugging Face name or folder of the tokenizer, or a shipped CLIP for its tokenizer.
        learning_rate: At the first step.
        weight_decay: Of everything but the Swin's normalisations and position biases.
        text_dropout: Train BERT with dropout, which the published code does not.
        epochs: Of a training.
        batch_size: Of a step, over all devices.
    """

    title = "LAVT"

    def __init__(
        self,
        size: LAVTSize = LAVTSize(),  # noqa: B008  frozen
        swin: str | None = "swin_base_patch4_window12_384.ms_in22k",
        bert: str | None = "google-bert/bert-base-uncased",
        tokenizer: str = "google-bert/bert-base-uncased",
        learning_rate: float = 5e-5,
        weight_decay: float = 1e-2,
        text_dropout: bool = False,
        epochs: int = 40,
        batch_size: int = 32,
    ) -> None:
        self.size, self.swin, self.bert, self.tokenizer = size, swin, bert, tokenizer
        self.rates = {"learning_rate": learning_rate, "weight_decay": weight_decay}
        self.text_dropout, self.epochs, self.batch_size = text_dropout, epochs, batch_size

    def make(self) -> Segmenter:
        """Build it; see `Baseline.make`."""
        from gl_ris.supervised.lavt import LAVT
        from gl_ris.supervised.lavt_recipe import LAVTSegmenter
        from gl_ris.supervised.starting import load_bert, load_swin

        tokenize = _tokenizer(self.tokenizer)
        network = LAVT(self.size, self.text_dropout)
        if self.swin is not None:
            load_swin(network.visual, self.swin)
        if self.bert is not None:
            load_bert(network.text, self.bert)
        return LAVTSegmenter(network, tokenize, **self.rates)


class CRISBaseline(Baseline):
    """CRIS, from a CLIP with a ModifiedResNet.

    Args:
        clip: The CLIP, as for `gl_ris.load_clip`: the paper's zero-shot ResNet is RN50-quickgelu.
        pretrained: Its weights, e.g. openai; null for folders and shipped models, which bring their own.
        word_length: Token ids of an expression: 17 for RefCOCO and RefCOCO+, 22 for RefCOCOg.
        size: Measures of what is added to the CLIP.
        side: Side of the input in pixels, a multiple of 32.
        learning_rate: Of what was not in the CLIP, and of its position embeddings.
        backbone_rate: Of the rest of the CLIP.
        first_epoch_at_full_rate: Train the CLIP at learning_rate in the first epoch, as the published code
            does by an oversight.
        epochs: Of a training.
        batch_size: Of a step, over all devices.
    """

    title = "CRIS"

    def __init__(
        self,
        clip: str = "RN50-quickgelu",
        pretrained: str | None = "openai",
        word_length: int = 22,
        size: CRISSize = CRISSize(),  # noqa: B008  frozen
        side: int = 416,
        learning_rate: float = 1e-4,
        backbone_rate: float = 1e-5,
        first_epoch_at_full_rate: bool = False,
        epochs: int = 50,
        batch_size: int = 64,
    ) -> None:
        self.clip, self.pretrained, self.word_length, self.size = clip, pretrained, word_length, size
        self.recipe: dict[str, Any] = {
            "side": side,
            "learning_rate": learning_rate,
            "backbone_rate": backbone_rate,
            "first_epoch_at_full_rate": first_epoch_at_full_rate,
        }
        self.epochs, self.batch_size = epochs, batch_size

    def make(self) -> Segmenter:
        """Build it; see `Baseline.make`."""
        from gl_ris.clip import load_clip
        from gl_ris.supervised.cris import CRIS
        from gl_ris.supervised.cris_recipe import CRISSegmenter
        from gl_ris.supervised.tokenizers import clip_tokenizer

        clip = load_clip(self.clip, self.pretrained)
        network = CRIS(clip.model.requires_grad_(True), self.word_length, self.size)
        return CRISSegmenter(network, clip_tokenizer(self.clip), clip.mean, clip.std, **self.recipe)


class TSEGBaseline(Baseline):
    """A reconstruction of TSEG, which learns from images and their expressions without masks.

    Args:
        size: Measures of the network.
        vit: timm's name of the ViT to start from, or a file of weights; null starts from random ones.
        bert: Hugging Face name or folder of the BERT to start from; null starts from random weights.
        tokenizer: Hugging Face name or folder of the tokenizer, or a shipped CLIP for its tokenizer.
        learning_rate: At the first step, of all but the text encoder, which has a tenth.
        weight_decay: Of everything.
        threshold: A pixel is the object's if its probability is above this.
        epochs: Of a training.
        batch_size: Images of a step, over all devices.
    """

    title = "TSEG (reconstruction)"

    def __init__(
        self,
        size: TSEGSize = TSEGSize(),  # noqa: B008  frozen
        vit: str | None = "vit_small_patch16_384.augreg_in21k_ft_in1k",
        bert: str | None = "google-bert/bert-base-uncased",
        tokenizer: str = "google-bert/bert-base-uncased",
        learning_rate: float = 1e-4,
        weight_decay: float = 1e-2,
        threshold: float = 0.5,
        epochs: int = 20,
        batch_size: int = 16,
    ) -> None:
        self.size, self.vit, self.bert, self.tokenizer = size, vit, bert, tokenizer
        self.recipe = {"learning_rate": learning_rate, "weight_decay": weight_decay, "threshold": threshold}
        self.epochs, self.batch_size = epochs, batch_size

    def make(self) -> Segmenter:
        """Build it; see `Baseline.make`."""
        from gl_ris.supervised.starting import load_bert, load_vit
        from gl_ris.supervised.tseg import TSEG
        from gl_ris.supervised.tseg_recipe import TSEGSegmenter

        tokenize = _tokenizer(self.tokenizer)
        network = TSEG(self.size)
        if self.vit is not None:
            load_vit(network.visual, self.vit)
        if self.bert is not None:
            load_bert(network.text, self.bert)
        return TSEGSegmenter(network, tokenize, **self.recipe)


def _tokenizer(source: str) -> Tokenize:
    from gl_ris.clip.loading import SHIPPED
    from gl_ris.supervised.tokenizers import bert_tokenizer, clip_tokenizer

    return clip_tokenizer(source) if source in SHIPPED else bert_tokenizer(source)
