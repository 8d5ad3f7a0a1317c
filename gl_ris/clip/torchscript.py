"""The tensors in a TorchScript archive, such as OpenAI's own CLIP files, read without running its code.

Such a file (``RN50.pt``, ``ViT-B-32.pt`` in ``~/.cache/clip``) is a zip of programs (``code/``), a pickle of
the modules (``data.pkl``) and the bytes of their tensors (``data/``). Here the programs are text, the pickle
may name nothing but tensors and modules, which become bare containers, and no more bytes are read than the
file has.
"""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gl_ris.errors import UserError, in_short

_STORAGES = {
    f"{name}Storage": dtype
    for name, dtype in {
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Float": torch.float32,
        "Double": torch.float64,
        "Byte": torch.uint8,
        "Char": torch.int8,
        "Short": torch.int16,
        "Int": torch.int32,
        "Long": torch.int64,
        "Bool": torch.bool,
    }.items()
}
# What a network computes from its measures, and the measures that OpenAI's files state beside the weights.
_NO_WEIGHTS = ("attn_mask", "input_resolution", "context_length", "vocab_size")
# Far above those of any CLIP; the longest is the longest name of a module with those that it is in.
_MOST_MODULES, _LONGEST, _MOST_CODE = 20_000, 1_000, 1 << 24


def is_archive(path: str | Path) -> bool:
    """Say whether a file is a TorchScript archive, and not one of plain tensors."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except Exception:  # a damaged zip shows as several kinds; whoever reads it tells
        return False


def quick_gelu_of(path: str | Path) -> bool | None:
    """Say whether the programs of an archive compute QuickGELU (``x * sigmoid(1.702 x)``), by their text.

    None for a file that is none, or computes neither that nor GELU; `UserError` if it is damaged.
    """
    if not is_archive(path):
        return None
    with _damage_told(path), zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if "/code/" in name and name.endswith(".py")]
        texts = [archive.open(name).read(_MOST_CODE) for name in names[:_MOST_MODULES]]
    if any(b"torch.gelu(" in text for text in texts):
        return False
    return True if any(b"torch.sigmoid(" in text for text in texts) else None


def read_archive(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of an archive by name, in the precision that they are stored in.

    `UserError` if it is damaged, or its pickle names anything but modules and tensors.
    """
    with _damage_told(path), zipfile.ZipFile(path) as archive:
        return dict(_named(_Modules(archive, Path(path).stat().st_size).load()))


@contextmanager
def _damage_told(path: str | Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # damage shows as nearly every exception there is
        raise UserError(
            f"The TorchScript archive '{path}' cannot be read ({in_short(error, typed=True)}); it must be "
            "complete and hold modules and tensors alone."
        ) from error


class _Module:
    """What stands for a module of whatever class."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Modules(pickle.Unpickler):
    """Reads ``data.pkl``, and the bytes of tensors, up to ``size`` of them."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        (entry,) = [
            name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")
        ]
        self._archive, self._root, self._left = archive, entry.removesuffix(".pkl"), size
        self._storages: dict[str, Tensor] = {}
        super().__init__(io.BytesIO(self._read(entry)))

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__."):
            return _Module
        known = {
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("collections", "OrderedDict"): OrderedDict,
            **{("torch", storage): dtype for storage, dtype in _STORAGES.items()},
            **{
                ("torch.jit._pickle", f"build_{kind}list"): list
                for kind in ("int", "double", "bool", "tensor")
            },
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return known[module, name]

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, *_ = pid
        if key not in self._storages:
            content = bytearray(self._read(f"{self._root}/{key}"))
            self._storages[key] = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0)
        return self._storages[key]

    def _read(self, name: str) -> bytes:
        # a few bytes may say that they unpack to gigabytes, and entries may share theirs
        self._left -= self._archive.getinfo(name).file_size
        if self._left < 0:
            raise ValueError("it says to hold more than its own size")
        return self._archive.read(name)


def _tensor(storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    if math.prod(size) > len(storage):
        raise ValueError(f"a tensor of {tuple(size)} has {len(storage)} values")
    return storage.as_strided(size, stride, offset)


def _named(root: _Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a module and of those in it."""
    found = [("", root)]
    for count, (prefix, module) in enumerate(found):
        # modules that hold each other would have no end
        too_many = count >= _MOST_MODULES or len(prefix) > _LONGEST
        if too_many or not isinstance(module.state, Mapping):
            raise ValueError("its modules are no tree")
        for name, value in module.state.items():
            if isinstance(value, _Module):
                found.append((f"{prefix}{name}.", value))
            elif isinstance(value, Tensor) and name not in _NO_WEIGHTS:
                yield f"{prefix}{name}", value
