"""The parquet files of Hugging Face repositories: found, checked, read a few rows at a time."""

import io
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from datamodules.hf.pages import check_columns
from datamodules.images import read_image
from datamodules.records import ImageRecord, Key
from gl_ris.errors import UserError, in_short

_LAYOUTS = (
    "data/{}-*.parquet",  # as in the repositories
    "{}-*.parquet",
    "data/{}.parquet",
    "{}.parquet",
    "default/{}/*.parquet",  # the branch refs/convert/parquet
)
_PART = re.compile(r"-(\d{5})-of-(\d{5})(?:-[0-9a-f]+)?\.parquet$")
_ROWS_AT_ONCE, _IMAGES_AT_ONCE = 256, 8
# of so many rows, in bytes: true annotations have a thousandth, true images a hundredth
_LARGEST_ROWS = 1 << 28
_LFS_POINTER = b"version https://git-lfs"


def find_split(repository: str, root: Path, split: str) -> list[Path]:
    """Return the files of a split of ``owner/name``, in order, from this machine; nothing is fetched.

    Looked at are ``<root>/<owner>/<name>``, ``<root>/<name>``, ``root`` itself, and then the cache of the hub
    (``$HF_HUB_CACHE``, else ``$HF_HOME/hub``). `UserError` if the split is nowhere, with what to put where,
    or if its parts are not whole.
    """
    from huggingface_hub import constants

    own = root / repository
    folders = [own, root / own.name, root]
    for folder, layout in itertools.product((*folders, *_cached(repository, split)), _LAYOUTS):
        if files := sorted(folder.glob(layout.format(split))):
            _check_whole(files)
            return files
    tried = ", ".join(f"'{folder}'" for folder in folders)
    raise UserError(
        f"No parquet files of '{split}' of {repository}: they are not in {tried} nor in the Hugging Face "
        f"cache '{constants.HF_HUB_CACHE}'. Put data/{split}-*.parquet of the repository into "
        f"'{own / 'data'}': hf download {repository} --repo-type dataset --include 'data/{split}-*' "
        f"--local-dir '{own}'."
    )


def _cached(repository: str, split: str) -> list[Path]:
    """Return the newest snapshot in the cache of the hub, if it is whole as far as ``split`` goes."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted: dict[str, Any] = {"repo_type": "dataset", "allow_patterns": f"data/{split}-*"}
    try:
        return [Path(snapshot_download(repository, local_files_only=True, **wanted))]
    except LocalEntryNotFoundError:
        return []


def _check_whole(files: list[Path]) -> None:
    """Check that files named as parts of a split are all of its parts, each once."""
    parts = [match for file in files if (match := _PART.search(file.name))]
    if len(parts) != len(files):
        return
    totals = {int(part[2]) for part in parts}
    numbers = {int(part[1]) for part in parts}
    where = f"'{files[0].parent}'"
    # Revisions of one repository add their files under new names, so a folder that was fetched twice may hold
    # two versions of a part.
    if len(totals) > 1 or len(numbers) < len(parts):
        names = ", ".join(file.name for file in files)
        raise UserError(f"{where} holds several versions of one split ({names}); keep the files of one.")
    if missing := sorted(set(range(totals.pop())) - numbers):
        raise UserError(
            f"{where} lacks part {missing[0]:05d} of a split in {parts[0][2]} parts; fetch it too."
        )


def check_form(path: Path, wanted: Sequence[str]) -> None:
    """Raise a `UserError` if a file lacks one of the columns that are wanted, or is no parquet file."""
    with _errors_named(path):
        names = require_pyarrow().read_schema(path).names
    if missing := [name for name in wanted if name not in names]:
        raise UserError(
            f"'{path}' is of another form than is read here: it lacks the columns {', '.join(missing)} "
            f"and has {', '.join(names[:12]) or 'none'}."
        )


class RowPlace(NamedTuple):
    """Where a row is."""

    path: Path
    group: int  # index of its row group
    row: int  # index inside of the group


def require_pyarrow() -> Any:
    """Import ``pyarrow.parquet``; a `UserError` says how to install it."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            "Parquet files need pyarrow, an optional extra; install it: pip install 'pyarrow>=17'."
        ) from error
    return pyarrow.parquet


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[RowPlace, dict[str, Any]]]:
    """Yield where each row is, and some of its columns; no other column is touched.

    `UserError` if pyarrow or the file is missing, or the file is damaged, or packed as no true one is.
    """
    with _errors_named(path), _open(path, columns) as file:
        for group in range(file.num_row_groups):
            batches = _batches(path, file, _ROWS_AT_ONCE, group, columns)
            rows = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
            for number, row in enumerate(rows):
                yield RowPlace(path, group, number), row


class ParquetImages:
    """Reads images that lie inside of parquet files, encoded as jpeg or png, in the column ``image``.

    One row group is streamed at a time, page by page, so that scenes in the order of the rows cost one pass
    over the files. A step back begins the row group again. Every process opens the files itself.
    """

    def __init__(self, places: Mapping[Key, RowPlace]) -> None:
        self.places = places  # where the image of each image id is
        self._group: tuple[Path, int] | None = None
        self._next = 0
        self._values: Iterator[Any] = iter(())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the open file."""
        return type(self), (self.places,)

    def __call__(self, record: ImageRecord) -> Tensor:
        """Read the image of ``record``, uint8 ``(3, H, W)``; `ValueError` says why it cannot be."""
        place = self.places[record.image_id]
        try:
            value = self._value(place)
        except UserError:
            raise
        except Exception as error:  # damage inside of a file shows as nearly every exception there is
            self._group = None
            raise ValueError(
                f"image cannot be read from '{place.path.name}' ({in_short(error, 120)})"
            ) from error
        # the encoded image, or a dict that has it
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise ValueError(f"'{place.path.name}' holds no image in row {place.row} of group {place.group}")
        return read_image(io.BytesIO(content), record.height, record.width)

    def _value(self, place: RowPlace) -> Any:
        if self._group != (place.path, place.group) or place.row < self._next:
            self._group, self._next = (place.path, place.group), 0
            self._values = self._stream(place)
        for value in self._values:
            self._next += 1
            if self._next > place.row:
                return value.as_py()
        raise ValueError("the file has become shorter")

    def _stream(self, place: RowPlace) -> Iterator[Any]:
        with _open(place.path, ["image"], place.group) as file:
            for batch in _batches(place.path, file, _IMAGES_AT_ONCE, place.group, ["image"]):
                yield from batch.column(0)


@contextmanager
def _open(path: Path, columns: Sequence[str], group: int | None = None) -> Iterator[Any]:
    """Open a file to read columns of all its row groups or of one; they are looked at before."""
    parquet = require_pyarrow()
    check_columns(path, columns, group)
    schema = parquet.read_metadata(path).schema
    leaves = [schema.column(number) for number in range(len(schema))]
    # a text that many rows share is kept once as it is read, and can be counted before it is multiplied
    shared = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    options = {"read_dictionary": shared, "buffer_size": 1 << 20, "pre_buffer": False}
    with parquet.ParquetFile(path, **options) as file:
        yield file


def _batches(path: Path, file: Any, size: int, group: int, columns: Sequence[str]) -> Iterator[Any]:
    # without threads, which would not outlive a fork into workers
    for batch in file.iter_batches(size, row_groups=[group], columns=list(columns), use_threads=False):
        if (total := sum(_full_size(column) for column in batch.columns)) > _LARGEST_ROWS:
            raise UserError(
                f"'{path}' was refused: {batch.num_rows} of its rows hold {total:,} bytes. Fetch the file "
                "from a source you trust."
            )
        yield batch


def _full_size(array: Any) -> int:
    """Count the bytes of an array whose texts stand each by itself."""
    import pyarrow
    import pyarrow.compute as pc

    kind = array.type
    if pyarrow.types.is_dictionary(kind):
        return pc.sum(pc.binary_length(array.dictionary).take(array.indices)).as_py() or 0
    if pyarrow.types.is_struct(kind):
        return sum(_full_size(part) for part in array.flatten())
    return _full_size(array.flatten()) if pyarrow.types.is_list(kind) else int(array.nbytes)


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises into an error that names the file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # pyarrow's exceptions have no base of their own below Exception
        raise UserError(f"'{path}' is not a readable parquet file ({_reason(path, error)}).") from error


def _reason(path: Path, error: Exception) -> str:
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
                return "it is the pointer that git leaves without LFS; run: git lfs pull"
    return f"{in_short(error)}; fetch the file anew"
