"""A CLIP folder is data: whatever its files say, no code of it runs and nothing is asked at the terminal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gl_ris.clip import load_clip
from gl_ris.errors import UserError

AUTO_MAP = {
    "AutoTokenizer": ["hostile.Hostile", None],
    "AutoConfig": "hostile.Hostile",
    "AutoModel": "hostile.Hostile",
}


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What the code of the hostile folder would leave."""
    return tmp_path / "code-ran"


@pytest.fixture
def folder(
    clip_folder: Callable[..., Path], tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A tiny CLIP with a Python file beside it; a question at the terminal fails the test."""
    questions: list[str] = []

    def ask(question: str = "") -> str:
        # noted, since transformers catches what is raised here, and takes it for a system without questions
        questions.append(question)
        return "n"

    monkeypatch.setattr("builtins.input", ask)
    folder = Path(shutil.copytree(clip_folder("vit"), tmp_path / "clip"))
    (folder / "hostile.py").write_text(f"open({str(mark)!r}, 'w').write('ran')\nclass Hostile: pass\n")
    yield folder
    assert questions == []


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(path.read_text()) if path.exists() else {}
    edit(document)
    path.write_text(json.dumps(document))


def text(**settings: object) -> Callable[[dict[str, Any]], object]:
    return lambda document: document["model_cfg"]["text_cfg"].update(settings)


@pytest.mark.parametrize("trust", [True, None])
@pytest.mark.parametrize("file", ["tokenizer_config.json", "config.json"])
def test_an_auto_map_is_refused_by_name(folder: Path, mark: Path, file: str, trust: bool | None) -> None:
    change(folder / file, lambda document: document.update(auto_map=AUTO_MAP, model_type="hostile"))
    if trust:
        change(folder / "open_clip_config.json", text(tokenizer_kwargs={"trust_remote_code": True}))
    with pytest.raises(UserError, match=r"auto_map|trust_remote_code"):
        load_clip(f"local-dir:{folder}")
    assert not mark.exists()


def test_no_option_reaches_transformers_that_is_not_known_to_be_harmless(folder: Path, mark: Path) -> None:
    change(folder / "open_clip_config.json", text(tokenizer_kwargs={"code_revision": "x", "clean": "lower"}))
    with pytest.raises(UserError, match=r"tokenizer_kwargs code_revision, which .* Allowed: clean,"):
        load_clip(f"local-dir:{folder}")
    change(folder / "open_clip_config.json", text(tokenizer_kwargs={"clean": "lower"}))
    assert load_clip(f"local-dir:{folder}").name == f"local-dir:{folder}"
    assert not mark.exists()


def test_a_text_tower_of_transformers_is_made_without_its_code_and_without_a_question(
    folder: Path, tmp_path: Path, mark: Path
) -> None:
    other = tmp_path / "text-model"
    other.mkdir()
    shutil.copy(folder / "hostile.py", other)
    change(other / "config.json", lambda document: document.update(auto_map=AUTO_MAP, model_type="hostile"))
    change(folder / "open_clip_config.json", text(hf_model_name=str(other)))
    with pytest.raises(UserError, match=r"cannot be loaded .*custom code"):
        load_clip(f"local-dir:{folder}")
    assert not mark.exists()


def test_a_model_without_a_text_tower_is_told(folder: Path) -> None:
    change(folder / "open_clip_config.json", lambda document: document["model_cfg"].pop("text_cfg"))
    with pytest.raises(UserError, match="says no text tower"):
        load_clip(f"local-dir:{folder}")
