"""Measures of supervised models that are small enough for tests."""

from __future__ import annotations

from pathlib import Path

import yaml

from gl_ris.supervised.cris.network import CRISSize
from gl_ris.supervised.lavt.network import LAVTSize

TEXT = {
    "vocab_size": 641,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 256,
    "max_position_embeddings": 20,
}
# every mechanism of LAVT, in as many stages as the published one has
TINY_LAVT = LAVTSize(128, 4, 24, (2, 2, 2, 2), (1, 2, 4, 8), 4, 0.1, frozen_text_layers=1, text=TEXT)


def _shipped_cris() -> CRISSize:
    file = Path(__file__).parents[1] / "configs" / "baseline" / "cris-tiny.yaml"
    size = yaml.safe_load(file.read_text())["model"]["baseline"]["init_args"]["size"]
    return CRISSize(**{**size, "neck": tuple(size["neck"])})


TINY_CRIS = _shipped_cris()
