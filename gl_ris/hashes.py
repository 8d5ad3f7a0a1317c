"""Hashes of files: large ones are read once, and shipped ones are compared with their list."""

import functools
import hashlib
import json
import re
import time
from contextlib import suppress
from pathlib import Path

from gl_ris.errors import UserError
from gl_ris.files import cache_folder, file_hash, write_json

LIST = "SHA256SUMS"  # The list of what is shipped, in the form of ``sha256sum``.
_NOT_LISTED = (".md", ".csv", ".py")  # Of a shipped folder, what nothing is computed from.
# The hub's cache keeps a large file under its SHA-256, and small ones under another hash.
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LARGE = 16 << 20  # The hashes of files of so many bytes are kept in the cache folder for other processes.
# In seconds: a file that changed later than this ago may change again within one tick of its time of change.
_SETTLED = 2.0


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder: of the lines that ``sha256sum`` writes of its files."""
    if path.is_dir():
        lines = (f"{sha256_of(file)}  {name}\n" for name, file in files_in(path).items())
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    real = path.resolve()
    if real.parent.name == "blobs" and _SHA256.fullmatch(real.name) and (real.parents[1] / "refs").is_dir():
        return real.name
    status = real.stat()
    return _known(real, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _known(path: Path, size: int, changed: int) -> str:
    if size < _LARGE:
        return file_hash(path)
    name = hashlib.sha256(str(path).encode()).hexdigest()[:32]
    note, stamp = cache_folder() / "hashes" / f"{name}.json", [str(path), size, changed]
    with suppress(OSError, ValueError, LookupError, TypeError):
        known = json.loads(note.read_bytes())
        if known["file"] == stamp and _SHA256.fullmatch(known["sha256"]):
            return str(known["sha256"])
    found = file_hash(path)
    if time.time() - changed / 1e9 > _SETTLED:
        # where nothing can be kept, the next process reads the file again
        with suppress(OSError):
            write_json(note, {"file": stamp, "sha256": found})
    return found


def files_in(folder: Path) -> dict[str, Path]:
    """Return the files below a folder by their names in it, in order, without hidden ones."""
    names = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: names[name] for name in sorted(names) if not re.search(r"(^|/)(\.|__pycache__/)", name)}


def listed(folder: Path) -> dict[str, Path]:
    """Return the files of a shipped folder that the list names, which are those that anything is made of."""
    return {name: path for name, path in files_in(folder).items() if path.suffix not in _NOT_LISTED}


def list_of(assets: Path) -> str:
    """Return the list of all shipped files, a line each, as it stands in `LIST` beside their folders."""
    names = {
        f"{folder.name}/{name}": path
        for folder in sorted(assets.iterdir())
        if folder.is_dir()
        for name, path in listed(folder).items()
    }
    return "".join(f"{file_hash(path)}  {name}\n" for name, path in names.items())


def check_shipped(folder: Path) -> None:
    """Raise a `UserError` if a shipped folder is not, file by file, what the list beside it says."""
    path = folder.parent / LIST
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    wanted = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    own = {name: digest for name, digest in wanted.items() if name.startswith(f"{folder.name}/")}
    found = {f"{folder.name}/{name}": file_hash(file) for name, file in listed(folder).items()}
    changed = sorted(name for name in own.keys() | found.keys() if own.get(name) != found.get(name))
    if changed:
        file = folder.parent / changed[0]
        raise UserError(
            f"The shipped file '{file}' is not as it was released (see {LIST}); reinstall gl-ris."
        )
