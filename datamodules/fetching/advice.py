"""What to do by hand when no source gives an item, and what would be done when it is only asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from datamodules.fetching.catalogue import Download, Item
from datamodules.fetching.receipts import DOWNLOADS
from datamodules.fetching.space import in_words

Failure = tuple[str, str]
"""A source and the reason why it gave nothing."""


def by_hand(item: Item, root: Path, failures: Sequence[Failure]) -> str:
    """Say why an item could not be fetched and exactly what to put where instead.

    Args:
        item: The item.
        root: The root folder.
        failures: Each source that was tried, with the reason.
    """
    lines = [f"{item.name} could not be fetched:"]
    lines += [f"  {source}\n      {reason}" for source, reason in failures]
    if item.makes:
        lines += ["", "To get it by hand, bring these files into this place:"]
        lines += [f"  {line}" for line in tree(root, item)]
    for download in item.downloads:
        lines += ["", *_archive(download, root)]
    if item.by_hand:
        lines += ["", "Other places to look:", *(f"  {place}" for place in item.by_hand)]
    lines += ["", f"Then run the same command again: it checks what is there ({item.name})."]
    return "\n".join(lines)


def _archive(download: Download, root: Path) -> list[str]:
    known = [f"{download.size:,} bytes"] if download.size else [f"about {in_words(download.about)}"]
    known += [f"{name} {value}" for name, value in hashes(download).items()]
    return [
        f"Or only the file {download.file} ({', '.join(known)}), as",
        f"  {root / DOWNLOADS / download.file}",
    ]


def hashes(download: Download) -> dict[str, str]:
    """Return the published hashes of a download by algorithm."""
    return {name: value for name in ("sha256", "md5") if (value := getattr(download, name))}


def tree(root: Path, item: Item) -> list[str]:
    """Draw the folders and files that an item makes.

    Example:
        >>> from datamodules.fetching.catalogue import find_item
        >>> print(*tree(Path("data"), find_item("refcoco+")), sep=chr(10))
        data/
          refcoco+/
            instances.json
            refs(unc).p
    """
    lines, drawn = [f"{root}/"], set()
    for made in item.makes:
        path = PurePosixPath(made.path)
        for parent in reversed(path.parents[:-1]):
            if parent not in drawn:
                drawn.add(parent)
                lines.append("  " * len(parent.parts) + f"{parent.name}/")
        indent = "  " * len(path.parts)
        other = f"   (or {PurePosixPath(made.either).name})" if made.either else ""
        lines.append(f"{indent}{path.name}{'/' if made.files else ''}{other}")
        if made.files:
            lines.append(f"{indent}  {made.files}   ({made.count:,} or more)")
    return lines


def sources(item: Item) -> list[str]:
    """Return the sources of an item in the order in which they are tried."""
    urls = [url for download in item.downloads for url in download.urls]
    hub = [f"{item.hub.page} ({', '.join(item.hub.pick)})"] if item.hub else []
    clip = [f"open_clip: {m} ({item.clip.pretrained})" for m in item.clip.models] if item.clip else []
    return [*urls, *hub, *clip]


def plan(item: Item, root: Path, state: str) -> str:
    """Say what would be done for an item."""
    size = f"{item.bytes:,} bytes" if item.exact else f"about {in_words(item.bytes)}"
    known = [f"{d.file}: {name} {value}" for d in item.downloads for name, value in hashes(d).items()]
    lines = [
        f"{item.name}: {item.title}",
        f"  state   {state}",
        f"  size    {size}",
        *_labelled("from", sources(item)),
        *_labelled("hash", known),
        *_labelled("makes", tree(root, item) if item.makes else ["files in open_clip's own cache"]),
        f"  terms   {item.terms}",
        *_labelled("known", item.facts),
        *_labelled("needs", [f"{', '.join(item.needs)}, to be used"] if item.needs else []),
    ]
    return "\n".join(lines)


def _labelled(label: str, lines: Iterable[str]) -> list[str]:
    heads = [label]
    return [f"  {heads.pop() if heads else '':<7} {line}" for line in lines]


def _folder(path: str) -> PurePosixPath:
    """Return the folder of a data set, or of weights: at most two names deep."""
    parts = PurePosixPath(path).parts
    return PurePosixPath(*(parts[:2] if len(parts) > 2 else parts[:1]))


def listing(items: Iterable[Item], root: Path) -> str:
    """List what can be fetched: names, sizes, places, terms."""
    lines = []
    for item in items:
        size = ("" if item.exact else "~") + in_words(item.bytes)
        places = {(root / _folder(made.path)).as_posix() for made in item.makes}
        place = ", ".join(sorted(places)) or "open_clip's cache"
        lines += [f"{item.name:<18}{size:>9}  {place:<30}  {item.title}", f"{'':<29}terms: {item.terms}"]
    return "\n".join(lines)
