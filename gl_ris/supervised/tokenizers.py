"""Tokenizers of the supervised models: texts in, rows of ids out, special tokens included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gl_ris.errors import UserError
from gl_ris.supervised.segmenter import Tokenize


def bert_tokenizer(source: str = "google-bert/bert-base-uncased") -> Tokenize:
    """Load a Hugging Face tokenizer, whose padding must be id 0.

    Args:
        source: A name on the hub, or a folder.

    Raises:
        UserError: It cannot be loaded, or pads with another id.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"The tokenizer '{source}' cannot be loaded ({reason:.160}). Give a folder that holds its files "
            "(tokenizer.json and tokenizer_config.json), or run once with a connection."
        ) from error
    if tokenizer.pad_token_id != 0:
        raise UserError(f"The tokenizer '{source}' pads with id {tokenizer.pad_token_id}; it must be 0.")

    def tokenize(expressions: Sequence[str]) -> list[list[int]]:
        return [list(row) for row in tokenizer(list(expressions))["input_ids"]] if expressions else []

    return tokenize


def clip_tokenizer(name: str) -> Tokenize:
    """Return the tokenizer of an open_clip model, without its padding.

    Args:
        name: As for `gl_ris.load_clip`; one of the shipped models, an architecture or ``local-dir:FOLDER``.
    """
    from open_clip import get_tokenizer

    from gl_ris.clip.loading import ASSETS, LOCAL, SHIPPED

    tokenizer = get_tokenizer(f"{LOCAL}{Path(ASSETS) / name}" if name in SHIPPED else name)

    def tokenize(expressions: Sequence[str]) -> list[list[int]]:
        if not expressions:
            return []
        rows = tokenizer(list(expressions)).tolist()
        # the end of text is the largest id; what follows is padding
        return [row[: row.index(max(row)) + 1] for row in rows]

    return tokenize
