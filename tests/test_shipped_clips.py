from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import gl_ris.assets
from datamodules.shapes.pairs import family
from gl_ris.clip import load_clip

ASSETS = Path(gl_ris.assets.__file__).parent
NAMES = ("refshapes-vit", "refshapes-rn")


@pytest.mark.parametrize("name", NAMES)
def test_shipped_model_is_an_ordinary_folder_of_at_most_eight_megabytes(name: str) -> None:
    files = {path.name: path.stat().st_size for path in (ASSETS / name).iterdir()}
    assert {"open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json", "README.md"} <= set(
        files
    )
    assert sum(files.values()) < 8_000_000
    config = json.loads((ASSETS / name / "open_clip_config.json").read_text())
    assert config["preprocess_cfg"]["resize_mode"] == "squash"


@pytest.mark.parametrize("name", NAMES)
def test_shipped_model_finds_the_captions_of_new_pictures(name: str) -> None:
    """A model whose weights, tokenizer or preprocessing were mixed up would be right once in 48 times."""
    clip = load_clip(name)
    made = [family(f"never trained on {number}", clip.image_size[0], 1) for number in range(12)]
    pictures = torch.cat([torch.from_numpy(images) for images, _ in made]).permute(0, 3, 1, 2)
    pixels = (pictures.float() / 255 - torch.tensor(clip.mean).view(3, 1, 1)) / torch.tensor(clip.std).view(
        3, 1, 1
    )
    captions = [texts[0].text for _, families in made for texts in families]
    with torch.no_grad():
        image = torch.nn.functional.normalize(clip.encode_image(pixels), dim=-1)
        text = torch.nn.functional.normalize(clip.encode_texts(captions), dim=-1)
    right = ((image @ text.T).argmax(1) == torch.arange(len(captions))).float().mean()
    assert right > 5 / 48
