"""A network of the SAM family out of transformers: its files, and the masks that it answers points with."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gl_ris.errors import UserError, in_short
from gl_ris.hashes import sha256_of
from gl_ris.hub import reaching_hub
from gl_ris.no_code import refuse_code

_HINT = (
    "give the name of a model on the Hugging Face hub, such as facebook/sam-vit-base or "
    "facebook/sam2.1-hiera-tiny, or a folder with its config.json, preprocessor_config.json and "
    "model.safetensors"
)


def find_model(model: str) -> Path:
    """Return the folder of a model; one on the hub is downloaded first unless the hub's cache has it.

    A `UserError` if there is no such model, it cannot be reached, or its files are incomplete.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        if model.startswith((".", "/", "~")):
            raise UserError(f"SAM model '{model}': there is no such folder; {_HINT}.")
        folder = _from_hub(model)
    missing = [kind for kind in ("config.json", "*.safetensors") if not any(folder.glob(kind))]
    if missing:
        raise UserError(f"SAM model '{model}': there is no {' and no '.join(missing)} in {folder}; {_HINT}.")
    refuse_code(folder, f"SAM model '{model}'")
    return folder


def _from_hub(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    wanted = ["*.json", "*.safetensors"]
    try:
        with suppress(LocalEntryNotFoundError):
            # first, so that what is there needs no network
            cached = Path(snapshot_download(model, allow_patterns=wanted, local_files_only=True))
            if _is_whole(cached):
                return cached
        with reaching_hub():
            return Path(snapshot_download(model, allow_patterns=wanted))
    except (HFValidationError, OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"SAM model '{model}' is neither a folder nor in the hub's cache, and cannot be downloaded "
            f"({in_short(error, typed=True)}); {_HINT}."
        ) from error


def _is_whole(folder: Path) -> bool:
    """Say whether a download was finished: the weights, in one file or in all of their parts, come last."""
    index = folder / "model.safetensors.index.json"
    try:
        parts = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        parts = {"model.safetensors"}
    settings = ("preprocessor_config.json", "processor_config.json")
    names = [*parts, "config.json", next((s for s in settings if (folder / s).is_file()), settings[0])]
    return all((folder / name).is_file() for name in names)


def hash_of(folder: Path) -> str:
    """Return the SHA-256 of a model: of its weights and of what else decides its masks, its configuration."""
    digest = hashlib.sha256()
    for path in files_of(folder):
        digest.update(f"{path.name} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def files_of(folder: Path) -> list[Path]:
    """Return a model's files: its weights and what else decides its masks, its configuration."""
    names = {"config.json", "preprocessor_config.json", "processor_config.json"}
    return sorted(path for path in folder.iterdir() if path.name in names or path.suffix == ".safetensors")


def family_of(folder: Path) -> str:
    """Return the type of the model in a folder; a `UserError` if it is none that makes masks of points."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASK_GENERATION_MAPPING_NAMES as KNOWN

    try:
        family = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"SAM model: {folder / 'config.json'} is damaged ({in_short(error, typed=True)})."
        ) from error
    if family not in KNOWN:
        raise UserError(
            f"The model in {folder} is of type '{family}', which makes no masks of points; the types that do "
            f"are {', '.join(KNOWN)}."
        )
    return family


@dataclass(frozen=True)
class Encoded:
    """An image as the network has taken it in."""

    inputs: dict[str, Any]  # What the network is given with points.
    size: tuple[int, int]  # (H, W) of the image, in pixels.
    extent: tuple[int, int]  # (h, w) that it fills of the network's input, in pixels.


class SamNetwork:
    """The model in a folder and its preprocessing; a `UserError` if its files are damaged or incomplete."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        self.processor, self.model = _load(folder, family_of(folder), dtype)

    def encode(self, image: Tensor) -> Encoded | None:
        """Take in an image, uint8 ``(3, H, W)`` RGB, on its device.

        None for an image so narrow that the network's own resize leaves nothing.
        """
        size = (image.shape[1], image.shape[2])
        longest = getattr(self.processor.size, "longest_edge", None)
        if longest and int(min(size) * longest / max(size) + 0.5) < 1:
            return None
        self.model.to(image.device)
        batch = self.processor(images=image, return_tensors="pt", input_data_format="channels_first")
        pixels = batch["pixel_values"].to(image.device, self.model.dtype)
        # A network that keeps the shape of the image says which part of its square input is image.
        extent = batch["reshaped_input_sizes"][0] if "reshaped_input_sizes" in batch else pixels.shape[-2:]
        embeddings = self.model.get_image_embeddings(pixels)
        names = ("image_embeddings", "intermediate_embeddings")
        parts = embeddings if isinstance(embeddings, tuple) else (embeddings,)
        return Encoded(dict(zip(names, parts, strict=False)), size, (int(extent[0]), int(extent[1])))

    def masks_at(self, encoded: Encoded, points: Tensor, multimask: bool) -> tuple[Tensor, Tensor]:
        """Return the masks at each point alone, several of them (whole, part, subpart) or one.

        Points are float32 ``(P, 2)``, x and y as shares of width and height. Logits, float32
        ``(P * M, h, w)`` in low resolution, and predicted IoUs, float32 ``(P * M,)``, come point by point.
        """
        height, width = encoded.extent
        scaled = points * points.new_tensor([width, height])
        labels = torch.ones(1, len(points), 1, dtype=torch.int64, device=points.device)
        asked = {"input_points": scaled[None, :, None], "input_labels": labels}
        answer = self.model(**encoded.inputs, **asked, multimask_output=multimask)
        return answer.pred_masks[0].float().flatten(0, 1), answer.iou_scores[0].float().flatten(0, 1)

    def upscale(self, logits: Tensor, encoded: Encoded) -> Tensor:
        """Bring logits ``(N, h, w)`` of `masks_at` to the size of the image, float32 ``(N, H, W)``."""
        if not len(logits):
            return logits.new_zeros(0, *encoded.size)
        (masks,) = self.processor.post_process_masks(
            [logits[:, None]], [encoded.size], reshaped_input_sizes=[encoded.extent], binarize=False
        )
        return masks[:, 0]


@contextmanager
def _no_bar() -> Iterator[None]:
    # transformers would draw a bar for the second that it takes to read a file.
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _load(folder: Path, family: str, dtype: torch.dtype) -> tuple[Any, Any]:
    from safetensors import SafetensorError
    from transformers import AutoImageProcessor, AutoModelForMaskGeneration

    safe: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        # What is made in inference mode could never be moved or read outside of it
        with torch.inference_mode(False), _no_bar():
            processor = AutoImageProcessor.from_pretrained(folder, **safe)
            model, report = AutoModelForMaskGeneration.from_pretrained(
                folder, **safe, use_safetensors=True, dtype=dtype, output_loading_info=True
            )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"The {family} model in {folder} cannot be loaded ({in_short(error, typed=True)}); {_HINT}."
        ) from error
    lacking = sorted(report["missing_keys"])
    if lacking:
        raise UserError(
            f"The weights in {folder} are not complete: {len(lacking)} tensors of the {family} model are "
            f"missing (the first: {', '.join(lacking[:3])})."
        )
    return processor, model.eval().requires_grad_(False)
