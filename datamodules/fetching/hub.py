"""Files from the Hugging Face hub and through open_clip, by their own libraries."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from datamodules.fetching.archive import name_fault
from datamodules.fetching.catalogue import Clip, Hub
from datamodules.fetching.transfer import MAGIC_OF_SUFFIX, Expected, SourceFailed, check_file
from gl_ris.errors import in_short


def fetch_hub(hub: Hub, draft: Path, say: Callable[[str], None]) -> tuple[str, str]:
    """Fetch the files that are wanted of a hub repository, checked against the hub's own sizes and hashes.

    They go to ``<draft>/<hub.into>/...``; what an interrupted call left there is used. Returns the source
    with its revision, and what was checked, in words; `SourceFailed` if a file cannot be had, or is damaged.
    """
    from huggingface_hub import HfApi

    listing = _call(HfApi(hub.endpoint).repo_info, hub.repo, repo_type=hub.type, files_metadata=True)
    files = picked(hub, listing.siblings or [])
    say(f"  {len(files)} files, {sum(file.size or 0 for file in files):,} bytes, revision {listing.sha}")
    came = {file.rfilename: _fetch_file(hub, listing.sha, file, draft / ".hub") for file in files}
    # not before all have come: the library finds again what it left
    for name, path in came.items():
        target = draft / hub.into / (path.name if hub.flat else name)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    shutil.rmtree(draft / ".hub")
    hashed = sum(bool(file.lfs) for file in files)
    checked = f"the hub's sizes, and its sha256 of {hashed} of {len(files)} files"
    return f"{hub.page} at {listing.sha}", checked


def _fetch_file(hub: Hub, revision: str, file: Any, folder: Path) -> Path:
    from huggingface_hub import hf_hub_download

    place = {"repo_type": hub.type, "revision": revision, "local_dir": folder, "endpoint": hub.endpoint}
    path = Path(_call(hf_hub_download, hub.repo, file.rfilename, **place))
    hashes = {"sha256": file.lfs.sha256} if file.lfs else {}
    try:
        check_file(path, Expected(MAGIC_OF_SUFFIX.get(path.suffix, "any"), file.size, hashes=hashes))
    except SourceFailed as failure:
        path.unlink()
        raise SourceFailed(f"{file.rfilename}: {failure}") from failure
    return path


def picked(hub: Hub, siblings: list[Any]) -> list[Any]:
    """Return the files that are wanted; `SourceFailed` if none is there, or a name leads out."""
    names = [PurePosixPath(s.rfilename).name if hub.flat else s.rfilename for s in siblings]
    chosen = [n for n, name in enumerate(names) if any(fnmatch(name, pattern) for pattern in hub.pick)]
    if not chosen:
        there = ", ".join(sorted(names)[:8]) or "nothing"
        raise SourceFailed(f"it holds none of the files {', '.join(hub.pick)}; it holds {there}")
    files = [siblings[n] for n in chosen]
    for file in files:
        if fault := name_fault(file.rfilename):
            raise SourceFailed(f"it was refused: {file.rfilename!r} {fault}")
    if len({names[n] for n in chosen}) < len(files):
        raise SourceFailed("it holds several files of one name that is wanted")
    return files


def fetch_clip(clip: Clip, say: Callable[[str], None]) -> tuple[str, str]:
    """Fetch models by open_clip itself, into its own cache; returns and raises as `fetch_hub`."""
    from open_clip.pretrained import download_pretrained, get_pretrained_cfg

    places = []
    for model in clip.models:
        config = get_pretrained_cfg(model, clip.pretrained)
        if not config:
            raise SourceFailed(f"open_clip knows no weights '{clip.pretrained}' of {model}")
        places.append(str(_call(download_pretrained, config)))
        say(f"  {model} ({clip.pretrained}): {places[-1]}")
    return ", ".join(places), "by open_clip"


def _call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    try:
        return function(*arguments, **options)
    except Exception as error:  # these libraries answer to a bad network with nearly every exception there is
        raise SourceFailed(in_short(error, 300, typed=True)) from error
