"""A model's folder is data: what its configuration may not ask of the libraries that read it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gl_ris.errors import UserError


def refuse_code(folder: str | Path, what: str) -> None:
    """Refuse a folder that is to be read by code of its own, or of a repository that it names.

    Whoever reads it says ``trust_remote_code=False`` as well; this says which file asks, and for what. A name
    that is no folder passes. `UserError` if a ``*config.json`` has ``auto_map``, or attention by a kernel out
    of a repository.
    """
    for path in sorted(Path(folder).glob("*config.json")) if Path(folder).is_dir() else ():
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue  # a damaged file is told of by who reads it
        for name, value in _entries(said):
            kernel = name.endswith("attn_implementation") and "/" in str(value)
            if name == "auto_map" or kernel:
                raise UserError(
                    f"{what} cannot be loaded since it asks for custom code ({path.name}: {name}), which is "
                    "never run; use a model that is made of transformers' own classes."
                )


def _entries(said: Any) -> Iterator[tuple[str, Any]]:
    for name, value in said.items() if isinstance(said, Mapping) else ():
        yield name, value
        yield from _entries(value)
    for value in said if isinstance(said, list) else ():
        yield from _entries(value)
