"""Fill the store of proposals: ``python -m experiments.proposals``; with ``report``, judge what is in it."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.cli.command import Command, run

if TYPE_CHECKING:
    from experiments.cli.parts import ExperimentCLI
    from experiments.run.proposal_jobs import StoreFiller

COMMAND = Command.documented("proposals")

REPORT = Command.documented("proposal_report", spelling="proposals report")


def show_filled(cli: ExperimentCLI, folder: Path) -> None:
    """Say what is in the store, also in the run folder."""
    from gl_ris.files import write_json

    document = describe(cli.model, cli.datamodule, cli.settings())
    write_json(folder / "proposals.json", document)
    print(f"\n{summary(document)}")


def describe(module: StoreFiller, data: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """Say what is stored for a split of ``data``, and how much of it ``module`` has made in its run."""
    from collections import Counter

    from gl_ris.program import git_commit, versions

    store, wanted = module.kept, set(data.image_ids())
    entries = [entry for entry in store.entries if entry.image.image_id in wanted]
    failures = Counter(why for image, why in store.failures.items() if image.image_id in wanted)
    count, made = max(1, len(entries)), sum(entry.count for entry in entries)
    return {
        "schema": 1,
        "experiment": COMMAND.name,
        **{name: store.manifest[name] for name in ("dataset", "split", "partition", "generator", "league")},
        "store": store.name,
        "folder": str(store.folder),
        "n_images": data.n_images,
        "images": module.outcome,
        "n_proposals": made,
        "proposals_per_image": made / count,
        "images_with_none": sum(entry.count == 0 for entry in entries),
        "failures": dict(failures.most_common()),
        "bytes": store.size,
        "seconds": round(module.seconds, 3),
        "seconds_per_image": sum(entry.seconds for entry in entries) / count,
        "config": settings,
        "versions": versions(),
        "git_commit": git_commit(),
    }


def summary(document: dict[str, Any]) -> str:
    """Lay out in lines what `describe` has found."""
    images = ", ".join(f"{count:,} {what}" for what, count in document["images"].items() if count)
    reasons = "; ".join(f"{reason}: {count:,}" for reason, count in document["failures"].items())
    lines = {
        "Store": document["folder"],
        "Images": f"{document['n_images']:,}: {images}",
        "Proposals": f"{document['n_proposals']:,}, {document['proposals_per_image']:.1f} per image; "
        f"images with none: {document['images_with_none']:,}",
        "Failures": reasons or "none",
        "Size": f"{document['bytes'] / 1e6:,.2f} MB",
        "Seconds": f"{document['seconds']:,.1f}; the generator took {document['seconds_per_image']:.3f} "
        "per image",
    }
    return "\n".join(f"{name:<13}{value}" for name, value in lines.items())


def show_measured(cli: ExperimentCLI, folder: Path) -> None:
    """Leave table and curves in the run folder."""
    from experiments.reporting.proposal_report import write_report

    text = write_report(folder, cli.model, cli.datamodule, cli.settings())
    print(f"\n{text}\n")


def main() -> None:
    """Do what the command line describes; the word ``report`` in front asks for the report."""
    from experiments.cli.parts import parts_of
    from experiments.run.evaluate import carry_out
    from experiments.run.proposal_jobs import ProposalReport, StoreFiller
    from experiments.run.resuming import Beginning

    if sys.argv[1:2] == ["report"]:
        cli = parts_of(REPORT, ProposalReport, sys.argv[2:])
        carry_out(cli, None, partial(show_measured, cli))
    else:
        cli = parts_of(COMMAND, StoreFiller)
        carry_out(cli, Beginning(), partial(show_filled, cli))


if __name__ == "__main__":
    run(REPORT if sys.argv[1:2] == ["report"] else COMMAND, main)
