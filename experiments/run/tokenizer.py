"""A small tokenizer for a small CLIP, as ordinary Hugging Face tokenizer files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

START, END, PAD = "<start>", "<end>", "<pad>"


def train_tokenizer(texts: Iterable[str], folder: Path, vocabulary: int) -> None:
    """Train a byte-level BPE tokenizer and save it.

    Args:
        texts: What to train on; lower-cased.
        folder: Where ``tokenizer.json`` and its configuration are written.
        vocabulary: Number of tokens. The padding has id 0 and the end token the highest id, where CLIP's text
            tower looks for it (``pool_type`` argmax).
    """
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
    tokenizer.add_special_tokens([END])
    ids = [(token, tokenizer.token_to_id(token)) for token in (START, END)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{START} $A {END}", special_tokens=ids)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, bos_token=START, eos_token=END)
    fast.save_pretrained(folder)
