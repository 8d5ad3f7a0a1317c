"""What a parquet file of referring expressions holds, told from the names of its columns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datamodules.hf.parquet import column_names
from gl_ris.errors import UserError


@dataclass(frozen=True)
class Form:
    """One way to lay out refs in columns.

    Attributes:
        origin: A repository of that form.
        columns: The columns that are read at once; all of them tell the form from others.
        advice: What to do if a file of this form is found where another is wanted.
        image: The column of the images, which are read one by one, or None if they lie elsewhere.
    """

    origin: str
    columns: tuple[str, ...]
    advice: str
    image: str | None = None


ROWS = Form(
    "jxu124/refcoco",
    ("ref_id", "ann_id", "image_id", "split", "sentences", "raw_anns", "raw_image_info"),
    "datamodules.RefCOCORows reads it (data=refcoco-hf)",
)
BENCHMARK = Form(
    "jxu124/refcoco-benchmark",
    ("ref_list", "image_info"),
    "datamodules.RefCOCOBenchmark reads it (data=refcoco-benchmark)",
    "image",
)
REFCOCO_M = Form(
    "moondream/refcoco-m",
    ("image_id", "file_name", "samples"),
    "datamodules.RefCOCOM reads it (data=refcoco-m)",
    "image",
)
QUESTIONS = Form(
    "lmms-lab/RefCOCO",
    ("question_id", "answer", "segmentation"),
    "it is refused: RefCOCO val (8811 rows) and RefCOCOg val (7573 rows) there mix the refs of two "
    "partitions, unc or umd and google, without saying which is which, and in every split a target is one "
    "flat list of coordinates, where objects in several parts need several polygons. Use "
    "jxu124/refcoco-benchmark (data=refcoco-benchmark), which has the images too",
)
EARLY_ROWS = Form(
    "an early revision of jxu124/refcoco",
    ("ref_id", "texts", "image_info", "anns"),
    "fetch the current revision",
)
KNOWN = (ROWS, BENCHMARK, REFCOCO_M, QUESTIONS, EARLY_ROWS)


def form_of(path: Path) -> Form | None:
    """Return the form of a file, or None if it is none that is known.

    Raises:
        UserError: If pyarrow is missing or the file is damaged.
    """
    names = set(column_names(path))
    return next((form for form in KNOWN if names.issuperset(form.columns)), None)


def check_form(path: Path, wanted: Form) -> None:
    """Check that a file has the columns of a form.

    Raises:
        UserError: If it is of another form, saying of which and what to do, or of none that is known.
    """
    form, names = form_of(path), column_names(path)
    if form is not None and form is not wanted:
        raise UserError(f"'{path}' is of the form of {form.origin}, not of {wanted.origin}: {form.advice}.")
    missing = [name for name in (*wanted.columns, wanted.image) if name and name not in names]
    if missing:
        raise UserError(
            f"'{path}' is not of the form of {wanted.origin}: it lacks the columns {', '.join(missing)} "
            f"and has {', '.join(names[:12]) or 'none'}."
        )
