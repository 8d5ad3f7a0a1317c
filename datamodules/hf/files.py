"""The parquet files of Hugging Face repositories: found, told from each other, read a few rows at a time."""

import io
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from torch import Tensor

from datamodules.hf.pages import check_columns
from datamodules.images import read_image
from datamodules.records import ImageRecord, Key
from gl_ris.errors import UserError, in_short
from gl_ris.files import read_table
from gl_ris.hub import reaching_hub

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


@dataclass(frozen=True)
class Repository:
    """A data set repository on the Hugging Face hub, ``owner/name``."""

    name: str

    def find(self, root: Path, split: str) -> list[Path]:
        """Return the files of a split, in order, wherever they are on this machine; nothing is fetched.

        Looked at are ``<root>/<owner>/<name>``, ``<root>/<name>``, ``root`` itself, and then the cache of the
        hub (``$HF_HUB_CACHE``, else ``$HF_HOME/hub``). `UserError` if the parts of the split are not whole.
        """
        for folder in itertools.chain(self._folders(root), self._cached(split)):
            for layout in _LAYOUTS:
                if files := sorted(folder.glob(layout.format(split))):
                    _check_whole(files)
                    return files
        return []

    def others(self, root: Path) -> Iterator[Path]:
        """Yield every parquet file in the folders below ``root`` where this repository's could be."""
        for folder, layout in itertools.product(self._folders(root), _LAYOUTS):
            yield from sorted(folder.glob(layout.format("*")))

    def fetch(self, root: Path, split: str) -> None:
        """Fetch a split into the cache of the hub, where whole files stay; a failure is a `UserError`."""
        from huggingface_hub import is_offline_mode

        try:
            with reaching_hub(not is_offline_mode()):
                self._snapshot(split)
        except Exception as error:  # every layer below the hub has exceptions of its own
            told = isinstance(error, ConnectionError)
            reason = in_short(error if told else error.__cause__ or error).rstrip(".")
            raise UserError(
                f"'{split}' of {self.name} cannot be fetched ({reason}). {self._remedy(root, split)}."
            ) from error

    def absent(self, root: Path, split: str) -> UserError:
        """Build the error for a split that is nowhere, with what to put where."""
        from huggingface_hub import constants

        tried = ", ".join(f"'{folder}'" for folder in self._folders(root))
        return UserError(
            f"No parquet files of '{split}' of {self.name}: they are not in {tried} nor in the Hugging Face "
            f"cache '{constants.HF_HUB_CACHE}'. {self._remedy(root, split)}, or set data.download=true."
        )

    def _remedy(self, root: Path, split: str) -> str:
        folder = root / self.name
        return (
            f"Put data/{split}-*.parquet of the repository into '{folder / 'data'}': hf download {self.name} "
            f"--repo-type dataset --include 'data/{split}-*' --local-dir '{folder}'"
        )

    def _folders(self, root: Path) -> list[Path]:
        return [root / self.name, root / self.name.partition("/")[2], root]

    def _cached(self, split: str) -> Iterator[Path]:
        """Yield the newest snapshot in the cache of the hub, if it is whole as far as ``split`` goes."""
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            yield self._snapshot(split, local_files_only=True)
        except LocalEntryNotFoundError:
            return

    def _snapshot(self, split: str, local_files_only: bool = False) -> Path:
        from huggingface_hub import snapshot_download

        wanted: dict[str, Any] = {"repo_type": "dataset", "allow_patterns": f"data/{split}-*"}
        return Path(snapshot_download(self.name, local_files_only=local_files_only, **wanted))


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


@dataclass(frozen=True)
class Form:
    """One way to lay out refs in columns."""

    origin: str  # a repository of that form
    columns: tuple[str, ...]  # read at once; all of them tell the form from others
    advice: str  # what to do if a file of this form is found where another is wanted
    image: str | None = None  # the column of the images, read one by one; None if they lie elsewhere


REPOSITORIES: dict[str, Any] = read_table(Path(__file__).with_name("repositories.yaml"))
KNOWN = ROWS, BENCHMARK, REFCOCO_M, QUESTIONS = msgspec.convert(REPOSITORIES["forms"], list[Form])


def form_of(path: Path) -> Form | None:
    """Return the form of a file, or None if it is none that is known; raises as `read_rows`."""
    names = set(_column_names(path))
    return next((form for form in KNOWN if names.issuperset(form.columns)), None)


def check_form(path: Path, wanted: Form) -> None:
    """Check that a file has the columns of a form; a `UserError` says of which other it is and what to do."""
    form, names = form_of(path), _column_names(path)
    if form is not None and form is not wanted:
        raise UserError(f"'{path}' is of the form of {form.origin}, not of {wanted.origin}: {form.advice}.")
    if missing := [name for name in (*wanted.columns, wanted.image) if name and name not in names]:
        raise UserError(
            f"'{path}' is not of the form of {wanted.origin}: it lacks the columns {', '.join(missing)} "
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


def _column_names(path: Path) -> list[str]:
    with _errors_named(path), _open(path) as file:
        return list(file.schema_arrow.names)


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
def _open(path: Path, columns: Sequence[str] = (), group: int | None = None) -> Iterator[Any]:
    """Open a file to read columns of all its row groups or of one; they are looked at before."""
    parquet = require_pyarrow()
    options = {"buffer_size": 1 << 20, "pre_buffer": False}
    with parquet.ParquetFile(path, **options) as file:
        if not columns:
            yield file
            return
        metadata = file.metadata
    groups = range(metadata.num_row_groups) if group is None else [group]
    with path.open("rb") as content:
        check_columns(str(path), content, metadata, columns, groups)
    first = metadata.row_group(0) if metadata.num_row_groups else None
    chunks = [first.column(number) for number in range(metadata.num_columns)] if first else []
    # a text that many rows share is kept once as it is read, and can be counted before it is multiplied
    shared = [chunk.path_in_schema for chunk in chunks if chunk.physical_type == "BYTE_ARRAY"]
    with parquet.ParquetFile(path, read_dictionary=shared, **options) as file:
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
