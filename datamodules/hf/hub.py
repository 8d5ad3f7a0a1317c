"""Finding the parquet files of a Hugging Face repository on this machine, or fetching them."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gl_ris.errors import UserError

_LAYOUTS = (
    "data/{}-*.parquet",  # as in the repositories
    "{}-*.parquet",
    "data/{}.parquet",
    "{}.parquet",
    "default/{}/*.parquet",  # the branch refs/convert/parquet
)
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})(?:-[0-9a-f]+)?\.parquet$")


@dataclass(frozen=True)
class Repository:
    """A data set repository on the Hugging Face hub.

    Attributes:
        name: ``owner/name``.
    """

    name: str

    def find(self, root: Path, split: str) -> list[Path]:
        """Return the files of a split, in order, wherever they are on this machine; nothing is fetched.

        Looked at are ``<root>/<owner>/<name>``, ``<root>/<name>``, ``root`` itself, and then the cache of the
        hub (``$HF_HUB_CACHE``, else ``$HF_HOME/hub``).

        Args:
            root: The user's folder.
            split: Name of the split in the repository's files.

        Returns:
            The files, or none if there are none.

        Raises:
            UserError: If the parts of the split are not whole.
        """
        for folder in itertools.chain(self._folders(root), self._cached(split)):
            for layout in _LAYOUTS:
                files = sorted(folder.glob(layout.format(split)))
                if files:
                    _check_whole(files)
                    return files
        return []

    def others(self, root: Path) -> Iterator[Path]:
        """Yield every parquet file in the folders below ``root`` where this repository's could be."""
        for folder in self._folders(root):
            for layout in _LAYOUTS:
                yield from sorted(folder.glob(layout.format("*")))

    def fetch(self, root: Path, split: str) -> None:
        """Fetch a split into the cache of the hub, with progress bars; whole files already there stay.

        Raises:
            UserError: If that fails, e.g. without a connection or with ``HF_HUB_OFFLINE=1``.
        """
        from huggingface_hub import snapshot_download

        try:
            snapshot_download(self.name, repo_type="dataset", allow_patterns=f"data/{split}-*")
        except Exception as error:  # every layer below the hub has exceptions of its own
            reason = str(error.__cause__ or error).strip().partition("\n")[0].rstrip(".")
            raise UserError(
                f"'{split}' of {self.name} cannot be fetched ({reason or type(error).__name__:.200}). "
                f"{self.remedy(root, split)}."
            ) from error

    def absent(self, root: Path, split: str) -> UserError:
        """Build the error for a split that is nowhere, with what to put where."""
        tried = ", ".join(f"'{folder}'" for folder in self._folders(root))
        return UserError(
            f"No parquet files of '{split}' of {self.name}: they are not in {tried} nor in the Hugging Face "
            f"cache '{_cache()}'. {self.remedy(root, split)}, or set data.download=true."
        )

    def remedy(self, root: Path, split: str) -> str:
        """Return how to put the files of a split where they are looked for."""
        folder = root / self.name
        return (
            f"Put data/{split}-*.parquet of the repository into '{folder / 'data'}': hf download {self.name} "
            f"--repo-type dataset --include 'data/{split}-*' --local-dir '{folder}'"
        )

    def _folders(self, root: Path) -> list[Path]:
        return [root / self.name, root / self.name.partition("/")[2], root]

    def _cached(self, split: str) -> Iterator[Path]:
        """Yield the newest snapshot in the cache of the hub, if it is whole as far as ``split`` goes."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            yield Path(
                snapshot_download(
                    self.name,
                    repo_type="dataset",
                    allow_patterns=f"data/{split}-*",
                    local_files_only=True,
                )
            )
        except LocalEntryNotFoundError:
            return


def _cache() -> str:
    from huggingface_hub import constants

    return os.fspath(constants.HF_HUB_CACHE)


def _check_whole(files: list[Path]) -> None:
    """Check that files named as parts of a split are all of its parts, each once.

    Revisions of one repository add their files under new names, so a folder that was fetched twice may hold
    two versions of a part.
    """
    parts = [match for file in files if (match := _SHARD.search(file.name))]
    if len(parts) != len(files):
        return
    totals = {int(part[2]) for part in parts}
    numbers = sorted(int(part[1]) for part in parts)
    where = f"'{files[0].parent}'"
    if len(totals) > 1 or len(set(numbers)) < len(numbers):
        names = ", ".join(file.name for file in files)
        raise UserError(f"{where} holds several versions of one split ({names}); keep the files of one.")
    missing = sorted(set(range(totals.pop())) - set(numbers))
    if missing:
        raise UserError(
            f"{where} lacks part {missing[0]:05d} of a split in {parts[0][2]} parts; fetch it too."
        )
