"""Whether a folder has the weights that its configuration speaks of, before memory is asked for them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gl_ris.errors import UserError

_MOST_LAYERS = 1_000
# values beyond the bytes of the weights: attention masks, and positions that open_clip enlarges
_SLACK = 1 << 25


def check_measures(name: str, config: Mapping[str, Any], folder: Path, mend: str) -> None:
    """Raise a `UserError` if a model has more values than the weights in its folder have bytes.

    It is made without values, layer by layer, so that their number has a bound of its own.
    """
    from open_clip import create_model

    for tower in ("vision_cfg", "text_cfg"):
        layers = config[tower].get("layers")
        for count in layers if isinstance(layers, list) else [layers]:
            if isinstance(count, int | float) and count > _MOST_LAYERS:
                raise UserError(f"The configuration of CLIP model '{name}' says {count} layers; {mend}.")
    with torch.device("meta"):
        model = create_model(f"local-dir:{folder}", load_weights=False, device="meta", pretrained_text=False)
    values = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    if values > size + _SLACK:
        raise UserError(
            f"The configuration of CLIP model '{name}' speaks of {values:,} values, and its folder has "
            f"{size:,} bytes; {mend}."
        )
