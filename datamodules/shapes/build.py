"""Writing RefShapes to disk, as true REFER and PhraseCut files."""

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from datamodules.grefcoco import NO_TARGET
from datamodules.phrasecut import write_phrasecut
from datamodules.refer import REFER, Form, write_refer
from datamodules.shapes.scenes import Phrase, Picture, annotation, make_phrases, make_picture, sentences
from datamodules.shapes.world import CATEGORIES, SEEN_CATEGORIES, ShapeScene
from gl_ris.cores import available
from gl_ris.errors import UserError
from gl_ris.processes import pool

T = TypeVar("T")
MakePicture = Callable[[str, str, Path], Picture]

PARTITION = "shapes"  # the `split_by` of the REFER files


def build_refer(
    root: Path,
    sizes: dict[str, int],
    seed: int,
    first: int = 1,
    make: MakePicture = make_picture,
    form: Form = REFER,
) -> None:
    """Draw so many images of each split into an empty folder and write the registers' files.

    Images go to ``images/``, annotations to one folder per register. An image depends on the seed, its split
    and its place in the split alone; ``first`` is the id of the first one, ``make`` what says things of it,
    which ``form`` can hold.
    """
    (root / "images").mkdir()
    places = [(split, index) for split, size in sizes.items() for index in range(size)]
    jobs = [(*place, f"refshapes_{number:06d}.png") for number, place in enumerate(places, start=first)]
    work = functools.partial(_picture, make, seed, root / "images")
    pictures = _in_parallel(work, jobs, "Drawing RefShapes")
    annotations, ids = _annotate([(picture.scene, picture.masks) for picture in pictures], first)
    rows = [
        _Row(number, split, file, picture, numbers)
        for number, ((split, _, file), picture, numbers) in enumerate(
            zip(jobs, pictures, ids, strict=True), start=first
        )
    ]
    instances = {
        "images": [{"id": r.number, "file_name": r.file, **_size(r.picture.scene)} for r in rows],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(SEEN_CATEGORIES, start=1)],
    }
    for register in pictures[0].utterances:
        write_refer(root / register, PARTITION, _refs(register, rows), instances, form)


def build_phrasecut(root: Path, sizes: dict[str, int], seed: int) -> None:
    """Draw so many images of each split of the PhraseCut-style set into an empty folder; write its files.

    A split ``miniv`` is made of the first tenth of ``val``.
    """
    (root / "images").mkdir()
    jobs = [(split, index) for split, size in sizes.items() for index in range(size)]
    work = functools.partial(_phrases, seed, root / "images")
    made = _in_parallel(
        work, [(*job, f"{k}.jpg") for k, job in enumerate(jobs, start=1)], "Drawing RefShapes phrases"
    )
    _, ids = _annotate([(scene, masks) for scene, masks, _ in made], 1)
    images: list[dict[str, Any]] = [
        {"image_id": k, **_size(scene), "url": f"{k}.jpg", "split": split}
        for k, ((split, _), (scene, _, _)) in enumerate(zip(jobs, made, strict=True), start=1)
    ]
    tasks: dict[str, list[dict[str, Any]]] = {split: [] for split in sizes}
    for image, (scene, masks, phrases), numbers in zip(images, made, ids, strict=True):
        for k, phrase in enumerate(phrases):
            tasks[image["split"]].append(_task(image["image_id"], k, scene, masks, phrase, numbers))
    for split in sizes:
        write_phrasecut(root, split, tasks[split], [image for image in images if image["split"] == split])
    first = {image["image_id"] for image in images if image["split"] == "val"}
    mini = set(sorted(first)[: max(1, len(first) // 10)])
    write_phrasecut(root, "miniv", [task for task in tasks["val"] if task["image_id"] in mini], images)


def _size(scene: ShapeScene) -> dict[str, int]:
    return {"width": scene.width, "height": scene.height}


def _picture(make: MakePicture, seed: int, folder: Path, job: tuple[str, int, str]) -> Picture:
    split, index, file = job
    return make(f"refshapes {seed} {split} {index}", split, folder / file)


def _phrases(
    seed: int, folder: Path, job: tuple[str, int, str]
) -> tuple[ShapeScene, np.ndarray, list[Phrase]]:
    split, index, file = job
    return make_phrases(f"refshapes phrases {seed} {split} {index}", folder / file)


def _in_parallel(work: Callable[[Any], T], jobs: list[Any], title: str) -> list[T]:
    from tqdm import tqdm

    try:
        with pool(available()) as workers:
            return list(
                tqdm(workers.map(work, jobs, chunksize=16), total=len(jobs), desc=title, unit="image")
            )
    except OSError as error:
        raise UserError(
            f"{title} failed: {error}. Set GL_RIS_CACHE to a folder with 300 MB of space."
        ) from error


def _annotate(
    scenes: Iterable[tuple[ShapeScene, np.ndarray]], first: int
) -> tuple[list[dict[str, Any]], list[list[int]]]:
    """Write all objects as annotations; also the annotation ids of each image's objects."""
    annotations: list[dict[str, Any]] = []
    ids: list[list[int]] = []
    for image_id, (scene, masks) in enumerate(scenes, start=first):
        ids.append(list(range(len(annotations) + 1, len(annotations) + len(scene.things) + 1)))
        made = zip(ids[-1], scene.things, masks, strict=True)
        annotations += [annotation(number, image_id, thing, mask) for number, thing, mask in made]
    return annotations, ids


class _Row(NamedTuple):
    number: int  # id of the image
    split: str
    file: str
    picture: Picture
    ids: list[int]  # of the annotations of its objects


def _refs(register: str, rows: list[_Row]) -> list[dict[str, Any]]:
    refs: list[dict[str, Any]] = []
    spoken = 1
    for row in rows:
        kinds = [CATEGORIES.index(thing.category) + 1 for thing in row.picture.scene.things]
        for index, utterances in row.picture.utterances[register].items():
            if not utterances:
                continue  # no true expression of this register singles the object out: it is not a ref
            said = sentences(utterances, spoken)
            spoken += len(said)
            refs.append(
                {
                    "ref_id": len(refs) + 1,
                    "ann_id": _meant(index, row.ids),
                    "image_id": row.number,
                    "category_id": _meant(index, kinds),
                    "split": row.split,
                    "file_name": row.file,
                    "sent_ids": [sentence["sent_id"] for sentence in said],
                    "sentences": said,
                    **({} if isinstance(index, int) else {"no_target": not index}),
                }
            )
    return refs


def _meant(which: int | tuple[int, ...], ids: list[int]) -> int | list[int]:
    """Return the id of an object, or those of several as gRefCOCO has them."""
    return ids[which] if isinstance(which, int) else [ids[index] for index in which] or [NO_TARGET]


def _task(
    image_id: int, number: int, scene: ShapeScene, masks: np.ndarray, phrase: Phrase, ids: list[int]
) -> dict[str, Any]:
    noun = phrase.noun
    boxes = [annotation(0, image_id, scene.things[i], masks[i])["bbox"] for i in phrase.things]
    return {
        "task_id": f"{image_id}__{number}",
        "image_id": image_id,
        "ann_ids": [ids[i] for i in phrase.things],
        "phrase": phrase.text,
        "phrase_structure": {
            "name": noun.category,
            "attributes": [word for word in (noun.size, noun.fill, noun.color) if word],
            "relation_ids": [],
            "relation_descriptions": [],
            "type": "attribute" if noun != type(noun)(noun.category) else "name",
        },
        "instance_boxes": boxes,
        "Polygons": [_polygons(masks[i]) for i in phrase.things],
    }


def _polygons(mask: np.ndarray) -> list[list[list[float]]]:
    """Outline a mask the way annotators do, by polygons through its boundary pixels, ``[x, y]``."""
    from skimage.measure import approximate_polygon, find_contours

    contours = find_contours(np.pad(mask, 1).astype(np.float32), 0.5)
    outlines = [approximate_polygon(contour - 1, 0.4)[:-1, ::-1] for contour in contours if len(contour) > 8]
    return [
        [[round(float(x), 2), round(float(y), 2)] for x, y in outline]
        for outline in outlines
        if len(outline) > 2
    ]
