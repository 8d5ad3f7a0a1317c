"""Tokenizers give rows of ids with special tokens and no padding."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gl_ris.errors import UserError
from gl_ris.supervised.lavt.recipe import LAVTBaseline
from gl_ris.supervised.starting import clip_tokenizer, load_tokenizer

CONFIGS = Path(__file__).parents[3] / "configs" / "baseline"
SHIPPED = Path(__file__).parents[3] / "gl_ris" / "assets" / "refshapes-rn"


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    from transformers import BertTokenizer

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "star", "##s"]
    BertTokenizer(vocab={token: i for i, token in enumerate(tokens)}).save_pretrained(tmp_path)
    return tmp_path


def test_bert_reads_words_in_pieces_between_its_special_tokens(bert: Path) -> None:
    assert load_tokenizer(str(bert))(["Red stars", "moon"]) == [[2, 5, 6, 7, 3], [2, 1, 3]]
    assert load_tokenizer(str(bert))([]) == []


def test_the_shipped_tokenizer_serves_both_kinds_of_model() -> None:
    by_clip, by_bert = clip_tokenizer("refshapes-rn"), load_tokenizer(str(SHIPPED))
    texts = ["the red star", "a moon"]
    assert by_clip(texts) == by_bert(texts)
    for row in by_clip(texts):
        assert row[0] == 1
        assert row[-1] == 515 == max(row)
        assert 0 not in row
    assert by_clip([]) == []


def test_a_tokenizer_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match="no/such"):
        load_tokenizer("no/such")


def test_the_shipped_swin_is_what_lavt_tiny_starts_from() -> None:
    from safetensors.torch import load_file

    from gl_ris.supervised.lavt.network import LAVT, LAVTSize
    from gl_ris.supervised.starting import load_classifier

    settings = yaml.safe_load((CONFIGS / "lavt-tiny.yaml").read_text())["model"]["baseline"]["init_args"]
    network = LAVT(LAVTSize(**settings["size"]))
    load_classifier(network.visual, "refshapes-swin")
    state = load_file(SHIPPED.parent / "refshapes-swin" / "swin.safetensors")
    assert len(state) > 50
    assert all(network.visual.state_dict()[name].equal(tensor) for name, tensor in state.items())
    baseline = LAVTBaseline(swin="refshapes-swin", bert=None, tokenizer="refshapes-rn")
    names = set(baseline.input_files())
    assert {"refshapes-swin/swin.safetensors", "refshapes-rn/tokenizer.json"} <= names
