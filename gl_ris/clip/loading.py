"""Loading any fitting open_clip model, with one clear sentence where that fails."""

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gl_ris.clip.measures import check_measures
from gl_ris.clip.region_clip import RegionCLIP
from gl_ris.clip.torchscript import is_archive, quick_gelu_of, read_archive
from gl_ris.clip.tower import check_tower
from gl_ris.errors import UserError, did_you_mean, in_short, unknown_name
from gl_ris.hashes import check_shipped
from gl_ris.hub import reaching_hub
from gl_ris.no_code import refuse_code

ASSETS = Path(__file__).parent.parent / "assets"
SHIPPED = ("refshapes-vit", "refshapes-rn")
SWIN = "refshapes-swin"  # no CLIP: what LAVT-tiny starts from
LOCAL, HUB = "local-dir:", "hf-hub:"
CONFIG = "open_clip_config.json"

# What a model's configuration may ask of its tokenizer: how texts are cleaned. All else would be handed to
# transformers, which runs code out of the model's folder when it is told to.
TOKENIZER_OPTIONS = ("clean", "strip_sep_token", "language", "additional_special_tokens")

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def load_clip(
    name: str,
    pretrained: str | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> RegionCLIP:
    """Load a CLIP model that can encode regions.

    Args:
        name: An architecture of open_clip, ``"local-dir:FOLDER"`` or ``"hf-hub:ORG/REPO"``, whose image
            tower is a VisionTransformer with a class token or a ModifiedResNet; or one of the shipped
            ``"refshapes-vit"`` and ``"refshapes-rn"``.
        pretrained: For an architecture: a tag of open_clip or a file of weights, also one of OpenAI's own
            (``RN50.pt``, TorchScript), of which only tensors are read. None gives random weights, with a
            warning. Folders and repositories bring their own weights.
        device: Where to put the model; ``"meta"`` gives shapes without values, at no cost of memory.
        dtype: float32 (also None), bfloat16 or float16 of the weights; norms stay in float32.

    Returns:
        The model, frozen and in evaluation mode.

    Raises:
        UserError: Unknown name or tag, a model that does not fit, a QuickGELU mismatch between weights and
            architecture, a missing or damaged file, or a device that is not there.
    """
    source = f"{LOCAL}{ASSETS / name}" if name in SHIPPED else name
    if brings_weights(name) and pretrained is not None:
        raise UserError(f"CLIP model '{name}' brings its own weights: leave out pretrained='{pretrained}'.")
    if pretrained is not None and os.path.isfile(os.path.expanduser(pretrained)):
        pretrained = os.path.expanduser(pretrained)
    mend = _mend(name, source, pretrained)
    config = _model_config(name, source, mend)
    if not isinstance(config.get("vision_cfg"), dict):
        raise UserError(f"The configuration of CLIP model '{name}' says no image tower (vision_cfg); {mend}.")
    if name in SHIPPED:
        check_shipped(ASSETS / name)
    check_tower(name, config["vision_cfg"])
    check_text(name, config.get("text_cfg"), mend)
    for folder in (source.removeprefix(LOCAL), str(config["text_cfg"].get("hf_model_name"))):
        refuse_code(folder, f"CLIP model '{name}'")
    if not brings_weights(name):
        _check_pretrained(name, pretrained, config)
    from open_clip import create_model

    place, precision = _device(device), _precision(dtype)
    meta = place if place.type == "meta" else nullcontext()
    archive = pretrained if pretrained is not None and is_archive(pretrained) else None
    failure = f"The weights of CLIP model '{name}' cannot be loaded"
    # Weights made in inference mode could never take part in a gradient, which Grad-CAM needs.
    with _reading(failure, mend, _asks_hub(source, pretrained, config)), torch.inference_mode(False), meta:
        if source.startswith(LOCAL) and name not in SHIPPED:
            check_measures(name, config, Path(source.removeprefix(LOCAL)), mend)
        model = create_model(
            source,
            None if archive else pretrained,
            precision=precision,
            device=place,
            pretrained_text=False,
            require_pretrained=brings_weights(name) or (pretrained is not None and archive is None),
        )
        if archive and place.type != "meta":
            model.load_state_dict(read_archive(archive))
    return RegionCLIP(model, load_tokenizer(name), name)


def load_tokenizer(name: str) -> Callable[..., Tensor]:
    """Load the tokenizer of a model named as for `load_clip`, whose configuration that has checked."""
    from open_clip import get_tokenizer

    source = f"{LOCAL}{ASSETS / name}" if name in SHIPPED else name
    mend = _mend(name, source, None)
    own = _model_config(name, source, mend)["text_cfg"].get("hf_tokenizer_name")
    if name in SHIPPED:
        check_shipped(ASSETS / name)
    # Said explicitly, or transformers asks at the terminal; open_clip's own tokenizer does not know it.
    options = {"trust_remote_code": False} if own else {}
    hub = source.startswith(HUB) or (bool(own) and not source.startswith(LOCAL))
    with _reading(f"The tokenizer of CLIP model '{name}' cannot be loaded", mend, hub):
        return get_tokenizer(source, **options)


def _asks_hub(source: str, pretrained: str | None, config: dict[str, Any]) -> bool:
    """Say whether anything of a model but its tokenizer is not on this machine for certain."""
    is_tag = not source.startswith(LOCAL) and pretrained is not None and not os.path.isfile(pretrained)
    tower = config["text_cfg"].get("hf_model_name")
    return source.startswith(HUB) or is_tag or bool(tower and not os.path.isdir(str(tower)))


def brings_weights(name: str) -> bool:
    """Say whether a model is one with weights of its own: shipped, a folder or a repository."""
    return name in SHIPPED or name.startswith((LOCAL, HUB))


def _model_config(name: str, source: str, mend: str) -> dict[str, Any]:
    """Read the open_clip configuration of a model before anything large is touched."""
    import open_clip

    if source.startswith(LOCAL):
        return _local_config(name, Path(source.removeprefix(LOCAL)), mend)
    if source.startswith(HUB):
        with _reading(f"The configuration of CLIP model '{name}' cannot be read", mend, hub=True):
            return open_clip.get_model_config(source)
    config = open_clip.get_model_config(name)
    if config is None:
        hint = did_you_mean(name, [*SHIPPED, *open_clip.list_models()])
        raise UserError(
            f"Unknown CLIP model '{name}'.{hint} Available: {', '.join(SHIPPED)}, '{LOCAL}FOLDER', "
            f"'{HUB}ORG/REPO', and the architectures that open_clip.list_models() lists."
        )
    return config


def _local_config(name: str, folder: Path, mend: str) -> dict[str, Any]:
    if not folder.is_dir():
        raise UserError(f"CLIP model '{name}': there is no folder {folder}; {mend}.")
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"CLIP model '{name}': {path} is missing; {mend}.")
    if not [file for file in folder.iterdir() if file.suffix in (".safetensors", ".bin", ".pth")]:
        raise UserError(f"CLIP model '{name}': no weights (open_clip_model.safetensors) in {folder}; {mend}.")
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["model_cfg"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f"CLIP model '{name}': {path} is damaged ({in_short(error)}); {mend}.") from error


def check_text(name: str, text: Any, mend: str) -> None:
    """Raise a `UserError` unless ``text_cfg`` says a text tower whose tokenizer brings no code along."""
    if not isinstance(text, dict):
        raise UserError(f"The configuration of CLIP model '{name}' says no text tower (text_cfg); {mend}.")
    options = text.get("tokenizer_kwargs") or {}
    unknown = sorted(set(options) - set(TOKENIZER_OPTIONS)) if isinstance(options, dict) else ["a list"]
    if unknown:
        raise UserError(
            f"The configuration of CLIP model '{name}' sets text_cfg.tokenizer_kwargs {', '.join(unknown)}, "
            f"which is not handed on: a model brings no code. Allowed: {', '.join(TOKENIZER_OPTIONS)}."
        )


def _check_pretrained(name: str, pretrained: str | None, config: dict[str, Any]) -> None:
    """Check a tag or file against the architecture before anything is downloaded."""
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    if pretrained is None:
        warnings.warn(
            f"CLIP model '{name}' has random weights: give pretrained=... for weights that know anything.",
            stacklevel=3,
        )
        return
    weights = get_pretrained_cfg(name, pretrained)
    if not weights and not os.path.isfile(pretrained):
        tags = list_pretrained_tags_by_model(name)
        raise unknown_name(f"weights (tag or file) of CLIP model '{name}',", pretrained, tags)
    wants = bool(weights.get("quick_gelu")) if weights else quick_gelu_of(pretrained)
    if wants is None:
        warnings.warn(
            f"A weights file does not say its activation and preprocessing: {pretrained} is read with the "
            f"activation of '{name}' and OpenAI's preprocessing. '{LOCAL}FOLDER' with {CONFIG} states both.",
            stacklevel=3,
        )
        return
    has = bool(config.get("quick_gelu"))
    if wants != has:
        other = f"{name}-quickgelu" if wants else name.removesuffix("-quickgelu")
        fix = f"use '{other}'" if other in open_clip.list_models() else "choose another architecture"
        raise UserError(
            f"QuickGELU mismatch: the weights '{pretrained}' were trained {'with' if wants else 'without'} "
            f"QuickGELU and the architecture '{name}' is {'with' if has else 'without'} it; {fix}."
        )


def _mend(name: str, source: str, pretrained: str | None) -> str:
    """Say what to do about a model that cannot be loaded."""
    if name in SHIPPED:
        return "install gl-ris again, or make it anew with `python -m experiments.train_refshapes_clip`"
    if source.startswith(LOCAL):
        return f"the folder must hold {CONFIG}, complete weights of that very model, and its tokenizer files"
    if source.startswith(HUB) or not (pretrained and os.path.isfile(pretrained)):
        return (
            "check the name and the network, or set HF_HUB_OFFLINE=1 to use a download already in the cache, "
            f"or give a '{LOCAL}FOLDER'"
        )
    return "check that the file is complete and holds weights of that very architecture"


@contextmanager
def _reading(what: str, mend: str, hub: bool = False) -> Iterator[None]:
    """Turn what open_clip and transformers raise into a `UserError`, and let neither ask at the terminal.

    ``hub`` says that they may fetch from the Hugging Face hub; see `reaching_hub`.
    """
    from transformers import dynamic_module_utils

    # open_clip makes text towers of transformers without saying ``trust_remote_code``, and then transformers
    # asks whether to run a repository's code, unless it has no seconds to wait for an answer: it refuses.
    before = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    # open_clip logs on the root logger; without a handler there, all lines of others are doubled from then on
    silent = logging.NullHandler()
    logging.getLogger().addHandler(silent)
    try:
        with reaching_hub(hub):
            yield
    except UserError:
        raise
    except Exception as error:  # tokenizers, for one, raises no other class
        raise UserError(f"{what} ({in_short(error)}); {mend}.") from error
    finally:
        logging.getLogger().removeHandler(silent)
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = before


def _precision(dtype: torch.dtype | None) -> str:
    names = {dtype: name for name, dtype in PRECISIONS.items()}
    dtype = dtype or torch.float32
    if dtype not in names:
        raise unknown_name("dtype of a CLIP model", dtype, names)
    return names[dtype]


def _device(device: str | torch.device) -> torch.device:
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"Unknown device '{device}': give 'cpu', 'cuda' or 'cuda:0'.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"Device '{device}' was asked for, but torch sees no GPU here; use 'cpu'.")
    return device
