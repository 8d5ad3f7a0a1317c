"""Files from the Hugging Face hub and through open_clip, by their own libraries."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from datamodules.fetching.catalogue import Clip, Hub
from datamodules.fetching.errors import SourceFailed
from datamodules.fetching.unpack import name_fault
from datamodules.fetching.verify import SUFFIXES, Expected, check_file


def fetch_hub(hub: Hub, draft: Path, say: Callable[[str], None]) -> tuple[str, str]:
    """Fetch the files that are wanted of a hub repository, checked against the hub's own sizes and hashes.

    Args:
        hub: The repository.
        draft: Folder that gets them, as ``<draft>/<hub.into>/...``; what an interrupted call left is used.
        say: Takes lines to print.

    Returns:
        The source with its revision, and what was checked, in words.

    Raises:
        SourceFailed: If the hub, the repository or one of the files cannot be had, or came damaged.
    """
    from huggingface_hub import HfApi, hf_hub_download

    api = HfApi(endpoint=hub.endpoint)
    listing = _asked(api.repo_info, hub.repo, repo_type=hub.type, files_metadata=True)
    files = picked(hub, listing.siblings or [])
    known = sum(file.size or 0 for file in files)
    say(f"  {len(files)} files, {known:,} bytes, revision {listing.sha}")
    hashed, places = 0, {}
    for file in files:
        came = Path(
            _asked(
                hf_hub_download,
                hub.repo,
                file.rfilename,
                repo_type=hub.type,
                revision=listing.sha,
                local_dir=draft / ".hub",
                endpoint=hub.endpoint,
            )
        )
        hashes = {"sha256": file.lfs.sha256} if file.lfs else {}
        hashed += bool(hashes)
        try:
            check_file(came, Expected(SUFFIXES.get(came.suffix, "any"), file.size, hashes=hashes), True)
        except SourceFailed as failure:
            came.unlink()
            raise SourceFailed(f"{file.rfilename}: {failure}") from failure
        places[came] = draft / hub.into / (came.name if hub.flat else file.rfilename)
    for came, target in places.items():  # not before all have come: the library finds again what it left
        target.parent.mkdir(parents=True, exist_ok=True)
        came.replace(target)
    return (
        f"{hub.page} at {listing.sha}",
        f"the hub's sizes, and its sha256 of {hashed} of {len(files)} files",
    )


def picked(hub: Hub, siblings: list[Any]) -> list[Any]:
    """Return the files of a repository that are wanted.

    Raises:
        SourceFailed: If there is none, or one whose name leads out of the folder.
    """
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
    """Fetch models by open_clip's own download, into its own cache; those that are there are left.

    Returns:
        Where they lie, and what was checked, in words.

    Raises:
        SourceFailed: If one cannot be had.
    """
    from open_clip.pretrained import download_pretrained, get_pretrained_cfg

    places = []
    for model in clip.models:
        config = get_pretrained_cfg(model, clip.pretrained)
        if not config:
            raise SourceFailed(f"open_clip knows no weights '{clip.pretrained}' of {model}")
        place = _asked(download_pretrained, config)
        say(f"  {model} ({clip.pretrained}): {place}")
        places.append(str(place))
    return ", ".join(places), "by open_clip"


def _asked(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a library that answers to a bad network with nearly every exception there is."""
    try:
        return function(*arguments, **options)
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise SourceFailed(f"{type(error).__name__}: {text}") from error
