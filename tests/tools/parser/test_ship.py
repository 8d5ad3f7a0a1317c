from __future__ import annotations

import json
from pathlib import Path

import pytest
import spacy

from gl_ris.errors import UserError
from gl_ris.text import SHIPPED
from tools.parser.ship import ship


def test_shipped_pipeline_names_its_data_and_no_path_of_the_machine() -> None:
    meta = json.loads((SHIPPED / "meta.json").read_text(encoding="utf-8"))
    assert "UD English-EWT text (CC BY-SA 4.0), annotated with en_core_web_sm 2.2.5 (MIT)" in meta["notes"]
    paths = spacy.util.load_config(SHIPPED / "config.cfg")["paths"]
    assert paths["train"] is None
    assert paths["dev"] is None


def test_ship_writes_a_pipeline_and_keeps_the_model_card(tmp_path: Path) -> None:
    trained, target = tmp_path / "model-best", tmp_path / "parser"
    blank = spacy.blank("en", config={"paths": {"train": "somewhere/train.spacy", "dev": "dev"}})
    blank.add_pipe("sentencizer")
    blank.to_disk(trained)
    target.mkdir()
    (target / "README.md").write_text("card", encoding="utf-8")
    ship(trained, target)
    assert (target / "README.md").read_text(encoding="utf-8") == "card"
    loaded = spacy.load(target)
    assert loaded.pipe_names == ["sentencizer"]
    assert loaded.meta["name"] == "gl_ris_noun_phrases"
    assert "somewhere" not in (target / "config.cfg").read_text(encoding="utf-8")


def test_ship_wants_a_pipeline(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No pipeline in '.*nothing'"):
        ship(tmp_path / "nothing", tmp_path / "parser")
    assert not (tmp_path / "parser").exists()
