"""The program that measured: its versions and its commit."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from importlib import metadata
from pathlib import Path

_LIBRARIES = (
    *("gl-ris", "torch", "torchvision", "lightning", "torchmetrics", "open_clip_torch"),
    *("transformers", "spacy", "scikit-image", "pycocotools", "numpy", "pillow"),
)


def versions() -> dict[str, str | None]:
    """Look up the versions of Python and of the libraries that can change a figure; None if not installed."""
    found: dict[str, str | None] = {"python": platform.python_version(), **dict.fromkeys(_LIBRARIES)}
    for library in _LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            found[library] = metadata.version(library)
    return found


def git_commit(folder: Path | None = None) -> str | None:
    """Find the hash of the commit of the checkout that ``folder`` (ours) is in, or None; never raises."""
    folder = folder or Path(__file__).resolve().parent
    # "." is known to git only if a file in it is tracked: not so for site-packages inside another project
    if not _git(folder, "ls-files", "--", "."):
        return None
    return _git(folder, "rev-parse", "--verify", "HEAD")


def _git(folder: Path, *arguments: str) -> str | None:
    # inside a git hook GIT_DIR and others point to the hook's repository
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *arguments]
    try:
        answer = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return None
    return answer.stdout.strip() or None
