"""What a run was made of: the files that bear on its figures, by their SHA-256."""

import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gl_ris.hashes import files_in, listed, sha256_of

# A file to be hashed, a hash that is known already, or None for what is not there to be hashed.
Input = Path | str | None

# What some file of a repository on the hub is called, which leads to its others.
_HUB_FILES = (
    *("config.json", "open_clip_config.json", "tokenizer.json", "vocab.txt", "model.safetensors"),
    *("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "pytorch_model.bin"),
)


def inputs_of(module: Any, data: Any) -> dict[str, dict[str, str | None]]:
    """Return the SHA-256 of everything that a configured `Evaluator` and its data module read but the images.

    By what it is ("annotations", "lists" of expressions, "clip", "parser", "proposals", "predictions",
    "weights", "model") and its name. None stands for what could not be found to be hashed. A large file is
    read once and then known by size and time of change; downloads of the Hugging Face hub are known by the
    hash that its cache keeps them under.
    """
    lists = by_name(data.filter.files.values())
    files: dict[str, Mapping[str, Input]] = {"annotations": data.input_files(), "lists": lists}
    files |= module.input_files(data)
    return {
        what: {name: sha256_of(of) if isinstance(of, Path) else of for name, of in own.items()}
        for what, own in files.items()
        if own
    }


def by_name(paths: Iterable[Path]) -> dict[str, Path]:
    """Return files by their names; those of one name in several folders by their paths, so that none is lost.

    Example:
        >>> list(by_name([Path("a/x"), Path("b/x"), Path("b/y")]))
        ['a/x', 'b/x', 'y']
    """
    found = [*dict.fromkeys(paths)]
    names = [path.name for path in found]
    return {
        str(path) if names.count(name) > 1 else name: path for path, name in zip(found, names, strict=True)
    }


def hub_files(repository: str) -> dict[str, Input]:
    """Return what the cache of the Hugging Face hub has of a repository's newest version, by name."""
    from huggingface_hub import try_to_load_from_cache

    for name in _HUB_FILES:
        found = try_to_load_from_cache(repository, name)
        if isinstance(found, str):
            return {f"{repository}/{own}": path for own, path in files_in(Path(found).parent).items()}
    return {repository: None}


def source_files(source: str) -> dict[str, Input]:
    """Return the files of a model that is named by a file, a folder, or a name of timm or the hub."""
    path = Path(source).expanduser()
    if path.is_dir():
        return {f"{path.name}/{name}": file for name, file in files_in(path).items()}
    if path.is_file():
        return {path.name: path}
    if "/" in source:
        return hub_files(source)
    import timm

    config = timm.get_pretrained_cfg(source, allow_unregistered=False)
    return hub_files(config.hf_hub_id) if config and config.hf_hub_id else {source: None}


def shipped_files(name: str) -> dict[str, Input]:
    """Return the files of a folder of weights that comes with the package."""
    from gl_ris.clip.loading import ASSETS

    return {f"{name}/{own}": path for own, path in listed(ASSETS / name).items()}


def clip_files(name: str, pretrained: str | None) -> dict[str, Input]:
    """Return the files of a CLIP model that `gl_ris.load_clip` has loaded by these names."""
    from gl_ris.clip.loading import HUB, LOCAL, SHIPPED

    if name in SHIPPED:
        return shipped_files(name)
    if name.startswith(LOCAL):
        return source_files(name.removeprefix(LOCAL))
    if name.startswith(HUB):
        return hub_files(name.removeprefix(HUB))
    if pretrained is None:
        return {}
    if Path(pretrained).expanduser().is_file():
        return source_files(pretrained)
    from open_clip.pretrained import get_pretrained_cfg

    config = get_pretrained_cfg(name, pretrained)
    on_hub = hub_files(str(config.get("hf_hub", "")).rpartition("/")[0]) if config.get("hf_hub") else {}
    # where open_clip puts what it fetches from elsewhere
    fetched = Path("~/.cache/clip").expanduser() / Path(str(config.get("url", ""))).name
    if None in on_hub.values() and fetched.is_file():
        return {fetched.name: fetched}
    return on_hub or {f"{name}/{pretrained}": fetched if fetched.is_file() else None}


def parser_files(parser: str | None) -> dict[str, Input]:
    """Return the folder of a pipeline that `gl_ris.text.load_parser` has loaded by this name."""
    from gl_ris.text import SHIPPED

    if parser is None:
        return {"shipped": SHIPPED}
    if Path(parser).is_dir():
        return {Path(parser).resolve().name: Path(parser)}
    place = importlib.util.find_spec(parser)
    return {parser: Path(place.origin).parent if place and place.origin else None}
