"""One picture of RefShapes with everything that is written about it, made from a seed of its own."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from datamodules.shapes.draw import draw_scene
from datamodules.shapes.groups import Said, generalised
from datamodules.shapes.language import kind
from datamodules.shapes.meaning import Noun
from datamodules.shapes.probes import PROBES, probe
from datamodules.shapes.speakers import REGISTERS, Utterance, refer, some_noun
from datamodules.shapes.world import (
    CATEGORIES,
    CURVED_CATEGORIES,
    EVERYTHING,
    UNSEEN_CATEGORIES,
    UNSEEN_FILLS,
    ShapeScene,
    Thing,
    sample_scene,
)

_SENTENCES = {"refshapes": (2, 3), "refshapes+": (2, 3), "refshapesg": (1, 2)}


@dataclass(frozen=True)
class Picture:
    """A scene, its objects' visible masks, and what was said of them."""

    scene: ShapeScene  # the scene
    masks: np.ndarray  # bool ``(objects, height, width)``
    # register -> object, or objects -> what was said of it
    utterances: dict[str, dict[int, list[Utterance]]] | dict[str, Said]


def make_picture(seed: str, split: str, file: Path) -> Picture:
    """Sample, paint and save (as PNG) a scene of three to seven objects, and refer to two or three of them.

    Equal seeds give equal pictures. In ``testA`` only objects with a curved outline are referred to, in
    ``testB`` only the others; every utterance denotes its object and no other.
    """
    rng = Random(seed)
    while True:
        scene = sample_scene(rng, rng.randint(3, 7))
        chosen = _choose(rng, scene, _targets(scene, split))
        utterances = {name: {i: _say(rng, scene, i, name) for i in chosen} for name in REGISTERS}
        if len(scene.things) >= 3 and all(any(said.values()) for said in utterances.values()):
            break
    image, masks = draw_scene(scene)
    image.save(file)
    return Picture(scene, masks, utterances)


def make_probes(seed: str, split: str, file: Path) -> Picture:
    """Make the picture of `make_picture`, and speak of all its objects in the registers of `probes.py`.

    An object has one or two expressions of a register, or none; all of an image may have none.
    """
    picture = make_picture(seed, split, file)
    scene, rng = picture.scene, Random(f"{seed} probes")
    utterances: dict[str, dict[int, list[Utterance]]] = {
        name: {
            index: list({said.text: said for said in made if said}.values())
            for index in sorted(_targets(scene, split))
            for made in [[probe(rng, scene, index, name) for _ in range(rng.randint(1, 2))]]
        }
        for name in PROBES
    }
    return replace(picture, utterances=utterances)


def make_groups(seed: str, split: str, file: Path) -> Picture:
    """Make the picture of `make_picture`, and speak of one object, of two and of none, see `groups.py`."""
    picture = make_picture(seed, split, file)
    targets = _targets(picture.scene, split)
    said = generalised(Random(f"{seed} groups"), picture.scene, targets)
    return replace(picture, utterances={"refshapes-gres": said})


def _targets(scene: ShapeScene, split: str) -> list[int]:
    curved = [i for i, thing in enumerate(scene.things) if thing.category in CURVED_CATEGORIES]
    straight = [i for i in range(len(scene.things)) if i not in curved]
    return {"testA": curved, "testB": straight}.get(split, curved + straight)


def _choose(rng: Random, scene: ShapeScene, targets: list[int]) -> list[int]:
    """Choose two or three targets, those first that share their category with another object."""
    categories = [thing.category for thing in scene.things]
    rng.shuffle(targets)
    targets.sort(key=lambda i: categories.count(categories[i]) == 1)
    return sorted(targets[: rng.choice((2, 3))])


def _say(rng: Random, scene: ShapeScene, index: int, register: str) -> list[Utterance]:
    said: dict[str, Utterance] = {}
    for _ in range(rng.randint(*_SENTENCES[register])):
        utterance = refer(rng, scene, index, register)
        if utterance is not None:
            said.setdefault(utterance.text, utterance)
    return list(said.values())


@dataclass(frozen=True)
class Phrase:
    """A phrase of the PhraseCut-style set, with all objects that it fits."""

    text: str
    noun: Noun
    things: tuple[int, ...]


def make_phrases(seed: str, file: Path) -> tuple[ShapeScene, np.ndarray, list[Phrase]]:
    """Sample, paint and save (as JPEG) a scene of the whole vocabulary, and name things, alone or in groups.

    Equal seeds give equal scenes. Returns the scene, its visible masks, and two to four phrases, at least one
    of which names an unseen category or fill.
    """
    rng = Random(seed)
    while True:
        scene = sample_scene(rng, rng.randint(3, 7), EVERYTHING)
        if len(scene.things) >= 3 and any(map(_is_unseen, scene.things)):
            break
    image, masks = draw_scene(scene)
    image.save(file, quality=95, subsampling=0)
    phrases: dict[Noun, Phrase] = {}
    order = rng.sample(range(len(scene.things)), len(scene.things))
    for index in sorted(order, key=lambda i: not _is_unseen(scene.things[i]))[: rng.randint(2, 4)]:
        noun = some_noun(rng, scene.things[index], category=1.0, color=0.5, fill=0.4, size=0.2)
        fitting = tuple(i for i, thing in enumerate(scene.things) if noun.fits(thing))
        phrases.setdefault(noun, Phrase(kind(rng, noun), noun, fitting))
    return scene, masks, list(phrases.values())


def _is_unseen(thing: Thing) -> bool:
    return thing.category in UNSEEN_CATEGORIES or thing.fill in UNSEEN_FILLS


def annotation(number: int, image_id: int, thing: Thing, mask: np.ndarray) -> dict[str, Any]:
    """Write an object as a COCO annotation; the mask as compressed RLE, exact to the pixel."""
    import torch

    from gl_ris.masks import encode_rle

    rows, columns = np.nonzero(mask)
    x, y = int(columns.min()), int(rows.min())
    return {
        "id": number,
        "image_id": image_id,
        "category_id": CATEGORIES.index(thing.category) + 1,
        "segmentation": encode_rle(torch.from_numpy(np.ascontiguousarray(mask))),
        "area": int(mask.sum()),
        "bbox": [x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1],
        "iscrowd": 0,
    }


def sentences(utterances: Iterable[Utterance], first: int) -> list[dict[str, Any]]:
    """Write utterances as REFER sentences, numbered from `first`."""
    return [
        {
            "sent_id": first + k,
            "sent": utterance.text,
            "raw": utterance.text,
            "tokens": re.findall(r"\w+|[^\w\s]", utterance.text),
        }
        for k, utterance in enumerate(utterances)
    ]
