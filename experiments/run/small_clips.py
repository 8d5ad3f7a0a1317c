"""Small CLIPs that a training starts from: shipped ones, and those of other trainings."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from gl_ris.clip.loading import ASSETS, LOCAL, SHIPPED
from gl_ris.errors import UserError
from gl_ris.no_code import refuse_code

TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
MEND = f"Name {' or '.join(SHIPPED)}, or {LOCAL}FOLDER of a training (its folder model)."


def folder_of(name: str) -> Path:
    """Return the folder of a small CLIP, which is named as for `gl_ris.load_clip`."""
    return ASSETS / name if name in SHIPPED else Path(name.removeprefix(LOCAL))


def take_weights(model: nn.Module, name: str) -> str:
    """Take from a small CLIP all weights of the names and shapes of a model's; say how many those are.

    Raises:
        UserError: It is not there, cannot be read, or nothing of it fits.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    refuse_code(folder_of(name), f"The small CLIP {name}")
    try:
        state = load_file(folder_of(name) / "open_clip_model.safetensors")
    except (OSError, SafetensorError) as error:
        raise UserError(f"The small CLIP {name} cannot be read: {error}. {MEND}") from error
    own = model.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
    if not fitting:
        raise UserError(f"The small CLIP {name} has no weight of a name and shape that are asked for. {MEND}")
    missing = [file for file in TOKENIZER if not (folder_of(name) / file).is_file()]
    words = "token_embedding.weight"
    if missing or (words in own and words not in fitting):
        lack = f"no {missing[0]}" if missing else f"{len(state.get(words, ())):,} tokens"
        wanted = f"model.model_cfg.text_cfg.vocab_size={len(own[words]):,} goes with its tokenizer"
        raise UserError(
            f"The small CLIP {name} has {lack}; {MEND if missing else wanted + '; make them equal.'}"
        )
    model.load_state_dict(fitting, strict=False)
    towers = [sum(key.startswith("visual.") for key in part) for part in (fitting, own)]
    return (
        f"{towers[0]} of {towers[1]} tensors of the image tower of {name}, "
        f"{len(fitting) - towers[0]} of {len(own) - towers[1]} others; the rest from random values"
    )
