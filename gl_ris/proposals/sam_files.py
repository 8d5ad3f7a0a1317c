"""The files of a model of the SAM family: where they are, what they hold, and their hash."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

from gl_ris.errors import UserError

HINT = (
    "give the name of a model on the Hugging Face hub, such as facebook/sam-vit-base or "
    "facebook/sam2.1-hiera-tiny, or a folder with its config.json, preprocessor_config.json and "
    "model.safetensors"
)
_READ = ["*.json", "*.safetensors"]


def find_model(model: str) -> Path:
    """Return the folder of a model; one on the hub is downloaded first unless the hub's cache has it.

    Args:
        model: A folder, or a name on the hub; there, only configurations and safetensors are taken.

    Raises:
        UserError: There is no such model, it cannot be reached, or its files are incomplete.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        folder = _from_hub(model)
    missing = [kind for kind in ("config.json", "*.safetensors") if not any(folder.glob(kind))]
    if missing:
        raise UserError(f"SAM model '{model}': there is no {' and no '.join(missing)} in {folder}; {HINT}.")
    return folder


def _from_hub(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    if model.startswith((".", "/", "~")):
        raise UserError(f"SAM model '{model}': there is no such folder; {HINT}.")
    try:
        return Path(snapshot_download(model, allow_patterns=_READ))
    except (HFValidationError, OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"SAM model '{model}' is neither a folder nor in the hub's cache, and cannot be downloaded "
            f"({sentence(error)}); {HINT}."
        ) from error


def sentence(error: Exception) -> str:
    """Return the first sentence of an error, after its type."""
    first = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".:")
    return f"{type(error).__name__}: {first[:200]}"


def hash_of(folder: Path) -> str:
    """Return the SHA-256 of a model: of its weights and of what else decides its masks, its configuration."""
    digest = hashlib.sha256()
    names = {"config.json", "preprocessor_config.json", "processor_config.json"}
    for path in sorted(folder.iterdir()):
        if path.name in names or path.suffix == ".safetensors":
            status = path.stat()
            part = _file_hash(path, status.st_size, status.st_mtime_ns)
            digest.update(f"{path.name} {part}\n".encode())
    return digest.hexdigest()


@functools.lru_cache(maxsize=64)
def _file_hash(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def family_of(folder: Path) -> str:
    """Return the type of the model in a folder.

    Raises:
        UserError: Its configuration is damaged, or that of a model that makes no masks of points.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASK_GENERATION_MAPPING_NAMES as KNOWN

    try:
        family = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"SAM model: {folder / 'config.json'} is damaged ({error!r:.80}).") from error
    if family not in KNOWN:
        raise UserError(
            f"The model in {folder} is of type '{family}', which makes no masks of points; the types that do "
            f"are {', '.join(KNOWN)}."
        )
    return family
