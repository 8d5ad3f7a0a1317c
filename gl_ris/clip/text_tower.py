"""Text through a CLIP model at its true length, in batches that do not depend on who encodes them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from gl_ris.clip.blocks import run_blocks
from gl_ris.clip.kernels import Layers


class TokenBatch(NamedTuple):
    """Texts that are encoded together."""

    texts: tuple[str, ...]  # the texts, sorted
    # int64 ``(B, L)``; every row is ``L`` tokens long, so there is no padding where the tower is causal. Rows
    # beyond the texts make a last batch as large as those before it.
    tokens: Tensor


class TextTower:
    """The text side of an open_clip ``CLIP`` or ``CustomTextCLIP``.

    A causal tower reads a text at its true length: the pooled token does not see what comes after it. Towers
    that are not causal, or pool elsewhere, read the full context, by open_clip's own code.
    """

    def __init__(self, model: nn.Module, tokenizer: Callable[..., Tensor], layers: Layers) -> None:
        self.model: Any = model
        self.tokenizer, self.layers = tokenizer, layers
        self.tower: Any = self.model if hasattr(model, "token_embedding") else self.model.text
        # CLIP keeps the settings of the text tower under names of its own.
        self.pool_type = getattr(self.tower, "text_pool_type", getattr(self.tower, "pool_type", None))
        self.eos_id: Any = getattr(self.tower, "text_eos_id", getattr(self.tower, "eos_id", None))
        # Hugging Face towers do not say how much they read, their tokenizers do.
        limits = [getattr(source, "context_length", None) for source in (tokenizer, self.tower)]
        self.context_length: int = next(limit for limit in limits if limit)
        self.trimmed = (
            getattr(self.tower, "attn_mask", None) is not None
            and getattr(self.tower, "cls_emb", None) is None
            and self.pool_type in ("argmax", "eos")
        )

    def batches(self, texts: Iterable[str], batch_size: int) -> tuple[list[TokenBatch], int]:
        """Group the distinct texts by length; say also how many are longer than the context and so cut.

        The result depends on the set of texts alone; a batch has ``batch_size`` texts at most.
        """
        distinct = sorted(set(texts))
        if not distinct:
            return [], 0
        tokens = self.tokenizer(distinct, context_length=self.context_length)
        groups: dict[int, list[int]] = {}
        for row, length in enumerate(self._lengths(tokens)):
            groups.setdefault(length, []).append(row)
        batches = [
            TokenBatch(tuple(distinct[row] for row in part), tokens[part + missing, :length])
            for length, group in sorted(groups.items())
            for part in (group[i : i + batch_size] for i in range(0, len(group), batch_size))
            # oneDNN keeps megabytes for each number of rows that it has met
            for missing in [part[:1] * (min(len(group), batch_size) - len(part))]
        ]
        return batches, self._count_cut(distinct)

    def encode(self, batch: TokenBatch) -> Tensor:
        """Encode a batch to float32 ``(len(batch.texts), D)``, not normalised (Eqs. 6, 7)."""
        return self._encode(batch)[: len(batch.texts)].float()

    def _encode(self, batch: TokenBatch) -> Tensor:
        tokens = batch.tokens.to(next(self.model.parameters()).device)
        if not self.trimmed:
            return self.model.encode_text(tokens, normalize=False)
        tower, length = self.tower, tokens.shape[1]
        dtype = tower.transformer.get_cast_dtype()
        hidden = tower.token_embedding(tokens).to(dtype) + tower.positional_embedding[:length].to(dtype)
        mask = tower.attn_mask[:length, :length]
        last = slice(length - 1, length)
        hidden = run_blocks(self.layers, tower.transformer.resblocks, hidden, last, mask)
        pooled = tower.ln_final(hidden[:, 0])
        if isinstance(tower.text_projection, nn.Linear):
            return tower.text_projection(pooled)
        return pooled if tower.text_projection is None else pooled @ tower.text_projection

    def _lengths(self, tokens: Tensor) -> list[int]:
        """Tokens up to and with the pooled one, row by row; the full context if the tower needs it."""
        if not self.trimmed:
            return [tokens.shape[1]] * len(tokens)
        end = tokens if self.pool_type == "argmax" else tokens.eq(self.eos_id).int()
        return (end.argmax(dim=1) + 1).tolist()

    def _count_cut(self, texts: Sequence[str]) -> int:
        """Count the texts that would still fill a context of one token more."""
        wider = self.tokenizer([*texts, ""], context_length=self.context_length + 1)[:, -1]
        return int((wider[:-1] != wider[-1]).sum())
