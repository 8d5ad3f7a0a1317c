"""Writing data sets in the format of PhraseCut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.files import write_json
from datamodules.phrasecut import IMAGE_FILES, check_images, check_tasks, read_images, read_tasks, tasks_path
from datamodules.records import sort_key


def write_phrasecut(
    folder: Path | str, split: str, tasks: Sequence[Mapping[str, Any]], images: Sequence[Mapping[str, Any]]
) -> None:
    """Write one split in the format of PhraseCut; `datamodules.phrasecut.read_split` is the inverse.

    Writes ``image_data_split.json`` (images of other splits that it lists already are kept),
    ``name_att_rel_count.json`` (counted over all splits in the folder) and last ``refer_<split>.json``, each
    complete or not at all.

    Args:
        folder: Where to write, made if missing.
        split: Name of the split.
        tasks: Dicts with ``task_id, image_id, ann_ids, phrase, phrase_structure`` (``name, attributes,
            relation_ids, relation_descriptions, type``), ``instance_boxes`` (XYWH) and ``Polygons``: per
            instance a list of polygons, each a list of ``[x, y]``.
        images: Dicts with ``image_id, width, height, url, split``.

    Raises:
        UserError: If the records lack a field that the format has.
    """
    folder = Path(folder)
    plain_tasks, plain_images = [dict(task) for task in tasks], [dict(image) for image in images]
    check_tasks(plain_tasks, str(tasks_path(folder, split)))
    check_images(plain_images, str(folder / IMAGE_FILES[0]))
    known = read_images(folder) if (folder / IMAGE_FILES[0]).is_file() else {}
    known |= {image["image_id"]: image for image in plain_images}
    write_json(folder / IMAGE_FILES[0], [known[key] for key in sorted(known, key=sort_key)])
    written = [p.stem[len("refer_") :] for p in folder.glob("refer_*.json")]
    others = [task for other in written if other != split for task in read_tasks(folder, other)]
    write_json(folder / "name_att_rel_count.json", _counts([*others, *plain_tasks]))
    write_json(tasks_path(folder, split), plain_tasks)


def _counts(tasks: Sequence[dict[str, Any]]) -> dict[str, list[tuple[str, int]]]:
    """Count names, attributes and relation predicates over ``tasks``, the most frequent first."""
    structures = [task.get("phrase_structure") or {} for task in tasks]
    counters = {
        "cat": Counter(s["name"] for s in structures if "name" in s),
        "att": Counter(a for s in structures for a in s.get("attributes", ())),
        "rel": Counter(r[0] for s in structures for r in s.get("relation_descriptions", ())),
    }
    return {kind: counter.most_common() for kind, counter in counters.items()}
