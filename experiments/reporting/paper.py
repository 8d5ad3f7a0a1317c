"""The figures that the paper publishes, and whether they may stand beside a run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experiments.cli.command import CONFIGS
from experiments.reporting.frame import FIGURES
from gl_ris.errors import unknown_name


@dataclass(frozen=True)
class PaperTable:
    """One table as the paper publishes it."""

    number: str
    source: str
    note: str  # What must be known to compare with it.
    proposals: str  # What results call its proposals.
    columns: Sequence[tuple[str, ...]]  # Data set, partition and split of each.
    # Figures by row in percent, one per column, None where the paper has none; ``encoder``; ``league``
    # where rows differ in it; and ``proposals`` where they are others than the table's.
    rows: Mapping[str, Mapping[str, Any]]

    def unlike(self, run: Mapping[str, Any], row: str | None = None) -> str:
        """Say why its figures, or those of a row, do not stand beside a run on a place of its; else empty."""
        proposals = self.rows[row].get("proposals", self.proposals) if row else self.proposals
        if run["unlike_the_papers"] or run["made_by"] == proposals:
            return str(run["unlike_the_papers"])
        return f"proposals are {run['made_by']}, the paper's {proposals}"

    def figures(self, row: str, place: tuple[str, ...]) -> dict[str, float]:
        """Return the figures of a row at ``(data set, partition, split)``, in percent; empty if none."""
        if place not in self.columns:
            return {}
        values = {name: self.rows[row].get(name) for name in FIGURES}
        column = self.columns.index(place)
        return {name: of[column] for name, of in values.items() if of and of[column] is not None}


def paper_table(number: str, needed: Iterable[str] = ()) -> PaperTable:
    """Return a table of ``configs/paper.yaml``; `UserError` if it or a row of ``needed`` is not there."""
    document = yaml.safe_load((CONFIGS / "paper.yaml").read_text(encoding="utf-8"))
    if number not in document["tables"]:
        raise unknown_name("table of the paper", number, document["tables"])
    table = document["tables"][number]
    for row in needed:
        if row not in table["rows"]:
            raise unknown_name(f"row of the paper's table {number}", row, table["rows"])
    columns = [tuple(column.split()) for column in table["columns"]]
    source = table.get("source", f"{document['source']}, Table {number}")
    return PaperTable(number, source, table["note"], table["proposals"], columns, table["rows"])


def unlike_known(document: Mapping[str, Any]) -> str:
    """Say how the counts of a whole split differ from the published ones; empty if they do not."""
    from datamodules.checking.counts import Published, compared, read_counts

    known = read_counts().get(document["dataset"], {}).get(document["partition"], Published())
    found = {"images": document["n_images"], "sentences": document["n_expressions_expected"]}
    counts = compared({document["split"]: found}, known)[document["split"]]
    # what was published, but never confirmed, is no reason
    wrong = [
        f"{count.found:,} {kind} of {count.expected:,}"
        for kind, count in counts.items()
        if count.verified is True and count.found != count.expected
    ]
    return ", ".join(wrong)


def made_by(document: Mapping[str, Any]) -> str:
    """Name the proposals of a run as ``configs/paper.yaml`` does: with the network, or that it knows nothing.

    Example:
        >>> config = {"model": {"proposals": {"init_args": {"model": "facebook/big"}}}}
        >>> made_by({"proposals": "sam", "config": config})
        'sam of big'
    """
    parts = (document["config"].get(part) or {} for part in ("model", "data"))
    settings = [(part.get("init_args") or part).get("proposals") for part in parts]
    own = [one.get("init_args") or {} for one in settings if isinstance(one, Mapping)]
    networks = [Path(one["model"]).name for one in own if one.get("model")]
    networks += ["random weights" for one in own if "weights" in one and one["weights"] is None]
    return " of ".join([document["proposals"], *networks])
