"""What a table is made of, as the command line and ``configs/tables`` say it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from experiments.cli.command import CONFIGS
from experiments.cli.overrides import normalise
from experiments.reporting.table_report import UPPER_BOUND, Entry
from experiments.zero_shot import COMMAND as ZERO_SHOT
from gl_ris.errors import UserError, unknown_name

_VARIANT_FIELDS = ("alpha", "beta", "masked_blocks", "recipe")
_ROW_FIELDS = ("method", "encoder", "label", "context", "title", "paper", *_VARIANT_FIELDS)
# Options of a run that a table sets itself, and what to use in their place.
_RESERVED = {
    "data": "data=[...]",
    "data.class_path": "data=[...]",
    "data.split": "splits=[...]",
    "data.init_args.split": "splits=[...]",
    "model.clip": "encoders={...}",
    "model.pretrained": "encoders={rn: NAME/WEIGHTS}",
    "model.methods": "rows=[...]",
}


class TableSettings:
    """A table: methods by data sets and splits.

    Args:
        title: Of the table.
        heading: Of the column that names the lines.
        rows: One mapping per method: method (a name, a class path, or upper_bound), encoder (a key of
            encoders), and where wanted label, context, title, alpha, beta, masked_blocks, recipe and paper.
        figures: What the table shows, of oIoU and mIoU; the CSV and JSON files have both.
        paper: Number of the paper's table to compare with.
        data: Data sets, a list: names of files in configs/data, or mappings with class_path and init_args.
        splits: Splits, a list for all data sets or a mapping from their names to lists.
        encoders: CLIP models by the keys that rows use, MODEL or MODEL/WEIGHTS, e.g. RN50-quickgelu/openai.
        supervised: Names of files in configs/baseline, a list: models that are trained on all of each data
            set's train split and evaluated beside the zero-shot methods, e.g. [tseg-tiny].
        alphas: Share of the global visual feature by name of the data set; elsewhere that of zero_shot.
        options: Options of zero_shot for all runs, e.g. [proposals=slic]; those of a training (training.*)
            are for supervised models. Options on the command line that are not of the table are added.
    """

    def __init__(
        self,
        title: str = "",
        heading: str = "Method",
        rows: list[dict[str, Any]] | None = None,
        figures: list[Literal["oIoU", "mIoU"]] | None = None,
        paper: str | None = None,
        data: list[str | dict[str, Any]] | dict[str, Any] | str = "refshapesg",
        splits: dict[str, list[str]] | list[str] | str = "val",
        encoders: dict[str, str] | None = None,
        supervised: list[str] | str | None = None,
        alphas: dict[str, float] | None = None,
        options: list[str] | None = None,
    ) -> None:
        self.title, self.heading, self.paper = title, heading, paper
        self.rows, self.figures = rows or [], figures or ["oIoU", "mIoU"]
        self.data = [data] if isinstance(data, str | dict) else data
        self.splits, self.encoders, self.alphas = splits, encoders or {}, alphas or {}
        self.options = options or []
        self.supervised = [supervised] if isinstance(supervised, str) else supervised or []

    def entries(self) -> list[Entry]:
        """Return the methods, line by line.

        Raises:
            UserError: There is none to run, or one is described wrongly.
        """
        entries = [self._entry(row) for row in self.rows]
        if not any(entry.variant for entry in entries):
            known = sorted(file.stem for file in (CONFIGS / "tables").glob("*.yaml"))
            raise UserError(
                f"There is no method to compare; choose a table, {', '.join(known)}: table={known[0]}."
            )
        return entries

    def runs(self) -> list[tuple[str, list[str]]]:
        """Return for each data set and split a label, and the arguments of zero_shot that evaluate it.

        Raises:
            UserError: A setting is wrong or out of place.
        """
        self._check_options()
        variants = [entry.variant for entry in self.entries() if entry.variant]
        # Methods without an encoder look at the image through whichever model is there.
        own = next((variant for variant in variants if "clip" in variant), {})
        model = [f"model.{key}={own[key] or 'null'}" for key in ("clip", "pretrained") if own]
        options = [option for option in self.options if not option.startswith(("training.", "--training."))]
        common = [*options, f"model.methods={json.dumps(variants)}"]
        return [
            (f"{name} {split}", [data, f"data.split={split}", *model, *alpha, *common])
            for name, data, alpha in self.data_options()
            for split in self.splits_of(name)
        ]

    def data_options(self) -> list[tuple[str, str, list[str]]]:
        """Return name, option and alpha option of each data set."""
        if not self.data:
            raise UserError("data=[] must name one data set or more.")
        names = [name_of_data(item) for item in self.data]
        known = [*names, *ZERO_SHOT.settings()["data"]]
        for option in ("alphas", "splits"):
            keys = getattr(self, option)
            for name in keys if isinstance(keys, dict) else ():
                if name not in (known if option == "alphas" else names):
                    raise unknown_name(f"data set in {option}", name, names)
        values = [item if isinstance(item, str) else json.dumps(item) for item in self.data]
        return [
            (name, f"data={value}", [f"model.alpha={self.alphas[name]}"] if name in self.alphas else [])
            for name, value in zip(names, values, strict=True)
        ]

    def splits_of(self, name: str) -> list[str]:
        """Return the splits of a data set.

        Raises:
            UserError: There is none.
        """
        splits = self.splits.get(name, ["val"]) if isinstance(self.splits, dict) else self.splits
        if not splits:
            raise UserError(f"splits of {name} must name one split or more.")
        return [splits] if isinstance(splits, str) else splits

    def _check_options(self) -> None:
        for token in normalise(self.options, ZERO_SHOT.shorthand, {}, CONFIGS):
            name = token.removeprefix("--").partition("=")[0].rstrip("+")
            if name in _RESERVED:
                raise UserError(f"A table sets '{name}' for each of its runs; use {_RESERVED[name]}.")

    def _entry(self, row: dict[str, Any]) -> Entry:
        for name in row:
            if name not in _ROW_FIELDS:
                raise unknown_name(f"field of row {row}:", name, _ROW_FIELDS)
        method, key, context = row.get("method"), row.get("encoder"), row.get("context", "")
        if key is not None and key not in self.encoders:
            raise unknown_name(f"encoder of row {row}:", key, self.encoders)
        encoder = self.encoders[key] if key is not None else ""
        if method is None and "paper" not in row:
            raise UserError(f"The row {row} needs a method, e.g. {{method: global_local, encoder: vit}}.")
        if method in (None, "upper_bound"):
            title = UPPER_BOUND if method else None
            return Entry(
                row.get("label") or title or str(row["paper"]), "", context, title, None, row.get("paper")
            )
        from gl_ris.scorers import load_scorer

        label = row.get("label") or load_scorer(method).title
        title = row.get("title") or ", ".join(filter(None, (label, context))) + (f" ({key})" if key else "")
        settings = {name: row[name] for name in _VARIANT_FIELDS if name in row}
        variant = {"method": method, "title": title, **_clip(encoder), **settings}
        return Entry(label, encoder, context, title, variant, row.get("paper"))


def _clip(encoder: str) -> dict[str, Any]:
    """Split ``MODEL/WEIGHTS``; folders and repositories have slashes of their own and bring their weights."""
    if not encoder:
        return {}
    if encoder.startswith(("local-dir:", "hf-hub:")):
        return {"clip": encoder, "pretrained": None}
    clip, _, pretrained = encoder.partition("/")
    return {"clip": clip, "pretrained": pretrained or None}


def name_of_data(data: str | Mapping[str, Any]) -> str:
    """Return the name of a data set: its settings' file, its ``dataset``, or its class."""
    if isinstance(data, str):
        return data
    if "class_path" not in data:
        raise UserError(f"The data set {dict(data)} lacks class_path, e.g. class_path: datamodules.RefCOCO.")
    return str((data.get("init_args") or {}).get("dataset") or str(data["class_path"]).rpartition(".")[2])
