"""Fill the store of proposals: ``python -m experiments.proposals``; with ``report``, judge what is in it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.cli.command import Command, run

if TYPE_CHECKING:
    from experiments.cli.parts import ExperimentCLI

REPORT = "report"
COMMAND = Command(
    name="proposals",
    summary=(
        "Make the mask proposals of a split once and store them; every other command then reads them, and "
        "makes none. Can be stopped at any moment and goes on from there. Stores are kept apart by data set, "
        "split, generator and all of its settings and weights. The word report in front (python -m "
        "experiments.proposals report --help) judges everything that is stored for a split."
    ),
    examples=(
        ("data=refshapes+ split=testA", "the default proposals (slic) for one split"),
        (
            "proposals=felzenszwalb proposals.scale=6000 limit=20",
            "another generator or other settings, another store; twenty images",
        ),
        ("--model.proposals.help=SAM", "what can be set of a generator, here of SAM"),
        ("--trainer.devices=2", "on two processes (or GPUs)"),
        ("store=/data/proposals", "in a folder of one's own; give the same to the other commands"),
        ("report data=refshapes+ split=testA", "how good everything is that is stored for a split"),
    ),
    shorthand={
        "limit": "data.limit",
        "proposals": "model.proposals",
        "split": "data.split",
        "store": "model.store",
    },
    groups=("data", "proposals"),
    explained=(
        ("model", "gl_ris/proposals/filling.py", "StoreFiller"),
        ("model.proposals", "gl_ris/proposals/superpixels.py", "SLIC"),
        ("data", "datamodules/refshapes.py", "RefShapes"),
    ),
)


def fill(cli: ExperimentCLI) -> Path | None:
    """Fill the store, say what is in it, and leave the same in the run folder.

    Args:
        cli: The parts, the module a `experiments.run.filling.StoreFiller`.

    Returns:
        The run folder, in rank 0; None in other processes.

    Raises:
        UserError: A setting or file is wrong, or the store cannot be written.
    """
    from experiments.run.evaluate import carry_out
    from gl_ris.files import write_json

    def report(folder: Path) -> None:
        document = describe(cli.model, cli.datamodule, cli.settings())
        write_json(folder / "proposals.json", document)
        print(f"\n{summary(document)}\nRun folder   {folder}")

    return carry_out(cli, None, report)


def describe(module: Any, data: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """Say what is stored for a split, and how much of it this run has made.

    Args:
        module: A `StoreFiller` after its run.
        data: The data module.
        settings: The resolved configuration.
    """
    from collections import Counter

    from gl_ris.results import git_commit, versions

    store = module.source.store
    wanted = set(data.image_ids())
    entries = [entry for entry in store.entries if entry.image.image_id in wanted]
    failures = Counter(why for image, why in store.failures.items() if image.image_id in wanted)
    count = max(1, len(entries))
    return {
        "schema": 1,
        "experiment": COMMAND.name,
        **{name: store.manifest[name] for name in ("dataset", "split", "partition", "generator", "league")},
        "store": store.name,
        "folder": str(store.folder),
        "n_images": data.n_images,
        "images": module.outcome,
        "n_proposals": sum(entry.count for entry in entries),
        "proposals_per_image": sum(entry.count for entry in entries) / count,
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


def main() -> None:
    """Fill the store that the command line describes."""
    from experiments.cli.parts import parts_of
    from experiments.run.filling import StoreFiller

    fill(parts_of(COMMAND, StoreFiller))


if __name__ == "__main__":
    if sys.argv[1:2] == [REPORT]:
        from experiments import proposal_report

        run(proposal_report.COMMAND, lambda: proposal_report.main(sys.argv[2:]))
    run(COMMAND, main)
