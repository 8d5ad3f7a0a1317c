"""Files and folders of every kind are data: no code of theirs runs, and nothing is asked at the terminal."""

from __future__ import annotations

import importlib.util
import json
import pickle
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from experiments.cli.config_file import read_config
from gl_ris.clip import load_clip
from gl_ris.errors import UserError
from gl_ris.proposals.sam_network import SamNetwork, find_model
from gl_ris.recipe import Recipe
from gl_ris.supervised.starting import load_bert, load_classifier, load_tokenizer
from gl_ris.text import SHIPPED, load_parser
from gl_ris.weights import read_weights

AUTO_MAP = dict.fromkeys(
    ("AutoConfig", "AutoModel", "AutoModelForMaskGeneration", "AutoImageProcessor", "AutoProcessor"),
    "hostile.Hostile",
) | {"AutoTokenizer": ["hostile.Hostile", "hostile.Hostile"]}


class Call:
    """Pickles as a call that leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        import os

        return os.system, (f"touch {self.mark}",)


@pytest.fixture(autouse=True)
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What hostile code would leave; whatever a test tries, it must not be there in the end."""
    mark, questions = tmp_path / "code-ran", []

    def ask(question: str = "") -> str:
        questions.append(question)
        return "y"

    monkeypatch.setattr("builtins.input", ask)
    monkeypatch.syspath_prepend(
        str(tmp_path)
    )  # a module of the folder that is imported by name would be found
    (tmp_path / "hostile.py").write_text(f"open({str(mark)!r}, 'w')\nclass Hostile: pass\n")
    yield mark
    assert not mark.exists()
    assert questions == []


def refused(read: Callable[[], object], message: str = "") -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UserError, match=message) as told:
            read()
    assert "\n" not in str(told.value)


def edit(path: Path, **changes: object) -> None:
    said = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**said, **changes}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder of a model with a Python file in it."""
    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copy(tmp_path / "hostile.py", folder)
    return folder


@pytest.fixture
def bert(folder: Path) -> Path:
    from transformers import BertConfig, BertModel, BertTokenizer

    measures = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=6, **measures)).save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red"]
    BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained(folder)
    return folder


@pytest.fixture
def sam(folder: Path) -> Path:
    place = Path(__file__).parents[1] / "tiny_sams.py"
    spec = importlib.util.spec_from_file_location("tiny_sams_of_hostile", place)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.save_sam(folder, "sam")
    return folder


@pytest.mark.parametrize("asks", [{"auto_map": AUTO_MAP}, {"attn_implementation": "someone/kernels"}])
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_folder_of_a_bert(bert: Path, file: str, asks: dict[str, object]) -> None:
    edit(bert / file, **asks, model_type="hostile", tokenizer_class="Hostile")
    refused(lambda: load_bert(nn.Linear(1, 1), str(bert)), f"asks for custom code .* {next(iter(asks))}")
    refused(lambda: load_tokenizer(str(bert)), f"asks for custom code .* {next(iter(asks))}")


def test_pickled_weights_of_a_bert(bert: Path, mark: Path) -> None:
    (bert / "model.safetensors").unlink()
    torch.save({"a": Call(mark)}, bert / "pytorch_model.bin")
    refused(lambda: load_bert(nn.Linear(1, 1), str(bert)))


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json", "processor_config.json"])
def test_a_folder_of_a_sam(sam: Path, file: str) -> None:
    edit(sam / file, auto_map=AUTO_MAP, image_processor_type="Hostile", processor_class="Hostile")
    refused(lambda: SamNetwork(find_model(str(sam))), "asks for custom code .* auto_map")


def test_pickled_weights_of_a_sam_are_not_even_looked_at(sam: Path, mark: Path) -> None:
    (sam / "model.safetensors").unlink()
    torch.save({"a": Call(mark)}, sam / "pytorch_model.bin")
    refused(lambda: SamNetwork(find_model(str(sam))), "no .*safetensors")


WRITERS: dict[str, Callable[[Path, object], object]] = {
    "weights.pt": lambda path, value: torch.save({"model": value}, path),
    "weights.pth": lambda path, value: torch.save(value, path, _use_new_zipfile_serialization=False),
    "weights.bin": lambda path, value: path.write_bytes(pickle.dumps({"state_dict": value})),
    "weights.safetensors": lambda path, value: path.write_bytes(pickle.dumps(value)),
    "weights.npz": lambda path, value: np.savez(path, a=np.array([value], dtype=object)),
    "weights.pkl": lambda path, value: path.write_bytes(pickle.dumps(value)),
}
READERS: dict[str, Callable[[str], object]] = {
    "CLIP": lambda path: load_clip("ViT-S-32-alt", path),
    "classifier": lambda path: load_classifier(nn.Linear(1, 1), path),
    "networks": lambda path: read_weights(path, "X"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("file", WRITERS)
def test_a_file_of_weights(file: str, reader: str, tmp_path: Path, mark: Path) -> None:
    WRITERS[file](tmp_path / file, Call(mark))
    refused(lambda: READERS[reader](str(tmp_path / file)))


@pytest.mark.parametrize("suffix", ["bin", "pth"])
def test_pickled_weights_of_a_clip(
    clip_folder: Callable[..., Path], tmp_path: Path, mark: Path, suffix: str
) -> None:
    folder = Path(shutil.copytree(clip_folder("vit"), tmp_path / "clip"))
    (folder / "open_clip_model.safetensors").unlink()
    torch.save({"state_dict": {"a": Call(mark)}}, folder / f"open_clip_pytorch_model.{suffix}")
    refused(lambda: load_clip(f"local-dir:{folder}"), "weights of CLIP model .* cannot be loaded")


ODD = '\n[components.odd]\nfactory = "{}"\n'


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("pipeline = [", 'pipeline = ["odd",', "hostile_part"),
        ("before_creation = null", 'before_creation = {"@callbacks": "hostile.v1"}', "hostile.v1"),
        (
            "after_creation = null",
            'after_creation = {"@callbacks": "spacy.copy_from_base_model.v1", "tokenizer": "hostile"}',
            "copy_from_base_model",
        ),
        ('"spacy.Tokenizer.v1"', '"hostile.Tokenizer"', "hostile.Tokenizer"),
        ('factory = "tagger"', 'source = "hostile"', "source hostile"),
        ("moves = null", 'moves = {"@misc": "hostile.v1"}', "hostile.v1"),
        ("moves = null", 'moves = [{"@misc": "hostile.v1"}]', "hostile.v1"),
    ],
)
def test_the_configuration_of_a_spacy_folder(tmp_path: Path, old: str, new: str, name: str) -> None:
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "parser"))
    shutil.copy(tmp_path / "hostile.py", folder)
    config = (folder / "config.cfg").read_text()
    assert old in config
    odd = ODD.format("hostile_part") if "odd" in new else ""
    (folder / "config.cfg").write_text(config.replace(old, new) + odd)
    refused(lambda: load_parser(folder), f"asks for '.*{name}")


FILES_OF_SPACY = ("vocab/vectors", "vocab/key2row", "vocab/lookups.bin", "vocab/strings.json", "tokenizer")
FILES_OF_SPACY += ("parser/cfg", "parser/model", "parser/moves", "tagger/model", "attribute_ruler/patterns")
FILES_OF_SPACY += ("meta.json", "config.cfg")


@pytest.mark.parametrize("file", FILES_OF_SPACY)
def test_a_pickle_in_place_of_a_file_of_a_spacy_folder(tmp_path: Path, mark: Path, file: str) -> None:
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "parser"))
    if file == "vocab/vectors":
        with (folder / file).open("wb") as stream:
            np.save(stream, np.array([Call(mark)], dtype=object), allow_pickle=True)
    else:
        (folder / file).write_bytes(pickle.dumps(Call(mark)))
    refused(lambda: load_parser(folder), "is damaged")


def test_parts_of_a_spacy_folder_that_are_not_needed_are_not_read(tmp_path: Path, mark: Path) -> None:
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "parser"))
    config = (folder / "config.cfg").read_text().replace("pipeline = [", 'pipeline = ["odd",')
    (folder / "config.cfg").write_text(config + ODD.format("lemmatizer"))
    (folder / "odd").mkdir()
    (folder / "odd" / "lookups").write_bytes(pickle.dumps(Call(mark)))
    assert load_parser(folder).pipe_names == ["tok2vec", "tagger", "attribute_ruler", "parser"]


@pytest.mark.parametrize(
    "tag", ["python/object/apply:os.system", "python/object/new:os.system", "python/name:os.x"]
)
def test_yaml_with_tags_of_python(tmp_path: Path, mark: Path, tag: str) -> None:
    text = f'!!python/{tag} ["touch {mark}"]'
    (tmp_path / "config.yaml").write_text(f"model: {text}\n")
    refused(lambda: read_config(tmp_path / "config.yaml"), "is not YAML")
    refused(lambda: Recipe.resolve(f"{{base: {text}}}"), "recipe")
