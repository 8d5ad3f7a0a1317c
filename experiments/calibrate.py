"""Thresholds for expressions without a target or with several: ``python -m experiments.calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from experiments.cli.command import Command, run

if TYPE_CHECKING:
    from gl_ris.results import Results
    from gl_ris.thresholds import Thresholds

COMMAND = Command.documented("calibrate")


THRESHOLDS = "thresholds.json"


def write_thresholds(folder: Path, found: dict[str, Any], results: Results) -> Thresholds:
    """Write ``thresholds.json``, and return what is in it."""
    import msgspec

    from gl_ris.files import write_json
    from gl_ris.thresholds import Thresholds

    content = Thresholds(
        dataset=results.dataset,
        split=cast("Any", results.split),
        partition=results.partition,
        proposals=results.proposals,
        n_images=results.n_images,
        n_expressions=results.n_expressions_evaluated + results.n_expressions_no_target,
        methods=found,
    )
    write_json(folder / THRESHOLDS, msgspec.to_builtins(content))
    return content


def format_thresholds(thresholds: Thresholds) -> str:
    """Lay the thresholds out: a line for each method and kind of rule, with the gIoU that it reaches."""
    lines = []
    for title, own in thresholds.methods.items():
        for name in ("none", "abstain", "union", "both"):
            fitted = getattr(own, name)
            values = {key: getattr(fitted, key) for key in ("abstain", "union")}
            said = ", ".join(f"{key} {value:.6g}" for key, value in values.items() if value is not None)
            lines.append(f"{title:24} {name:8} gIoU {fitted.gIoU:6.2f}  {said}".rstrip())
    return "\n".join([thresholds.place, "", *lines])


def main() -> None:
    """Find thresholds, and leave them in the run folder."""
    from experiments.cli.parts import parts_of
    from experiments.run.evaluate import carry_out, describe
    from gl_ris.calibration import Calibration

    cli = parts_of(COMMAND, Calibration)

    def report(folder: Path) -> None:
        model = cast("Any", cli.model)
        results = describe(model, cli.datamodule, cli.command.name, cli.settings())
        found = write_thresholds(folder, model.found, results)
        results.write(folder / "results.json")
        file = folder / THRESHOLDS
        print(
            f"\n{format_thresholds(found)}\n\nUse them by abstain={file} union={file}, or one of both.",
            flush=True,
        )

    carry_out(cli, None, report)


if __name__ == "__main__":
    run(COMMAND, main)
