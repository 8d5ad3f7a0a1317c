"""The CLIP stage of this program against the plain loop, model by model, on synthetic scenes."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from experiments.run.measuring import (
    Control,
    Timed,
    gigaflops,
    has_bf16,
    in_turns,
    matrix_rates,
    not_matrix_work,
    one_thread,
    times_as_fast,
)
from experiments.run.plain_loop import PlainLoop
from experiments.run.synthetic_scenes import PhotoLike, Sizes, make_scenes
from gl_ris.clip import RegionCLIP, load_clip
from gl_ris.clip.loading import PRECISIONS, brings_weights, load_tokenizer
from gl_ris.scorers.global_local import GlobalLocal

REFERENCE, ANCHOR = "loop", "open_clip"
# crops of which the tower alone is timed; on a GPU as many as go through it together
_CROPS, _CROPS_OF_GPU = 16, 64


def load_random(name: str, device: torch.device, seed: int) -> RegionCLIP:
    """Load a model, one without weights of its own with random ones that tell masks and texts apart."""
    torch.manual_seed(seed)
    clip = _load(name, device, "fp32")
    if not brings_weights(name):
        with torch.no_grad():
            for key, tensor in clip.model.state_dict().items():
                # a ResNet begins with branches of zero and large positions, and sees little of an image
                if key.endswith("bn3.weight"):
                    tensor.fill_(2.0)
                elif key.endswith("attnpool.positional_embedding"):
                    tensor.mul_(0.1)
                elif key.endswith("bias") and tensor.ndim == 1:
                    tensor.normal_(0, 0.02)
    return clip


def _load(name: str, device: torch.device, precision: str) -> RegionCLIP:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*has random weights.*")  # they are meant to be
        return load_clip(name, device=device, dtype=PRECISIONS[precision])


class Contest:
    """One model on scenes: the plain loop, and the program in each precision; see `measure_model`."""

    def __init__(
        self, name: str, precisions: Sequence[str], sizes: Sizes, device: torch.device, seed: int
    ) -> None:
        self.name, self.device, self.images = name, device, sizes.images
        # A model of its own, whatever the program makes of the ones that it has loaded.
        self.model = load_random(name, device, seed).model
        self.loop = PlainLoop(self.model, load_tokenizer(name))
        self.scorers: dict[str, GlobalLocal] = {}
        for precision in precisions:
            clip = _load(name, device, precision)
            clip.model.load_state_dict(self.model.state_dict())
            self.scorers[precision] = GlobalLocal(clip, recipe="clean")
        # all of one drawing, so that no text is in two of them and remembered
        drawn = make_scenes(replace(sizes, images=2 * sizes.images + 2), seed)
        self.scenes, self.texts = drawn[: sizes.images], drawn[sizes.images : -2]
        self.first, self.last = drawn[-2:]

    def score(self, precision: str, scene: PhotoLike) -> Tensor:
        """Do what the program does with a scene: its texts, each once, then its image."""
        scorer = self.scorers[precision]
        scorer.clip.prepare_texts(scorer.texts(scene.sentences, scene.phrases))
        masks = scene.masks.to(self.device)
        return scorer(scene.image.to(self.device), masks, scene.sentences, scene.phrases).cpu()

    def count(self) -> dict[str, float]:
        """Count the work of all on the scenes, in GFLOP; everyone has worked after it."""
        scene = self.first
        refs, sentences = (sum(len(getattr(s, part)) for s in self.scenes) for part in ("refs", "sentences"))
        image, masks = scene.image.to(self.device), scene.masks.to(self.device)
        of_ref = _by_masks(partial(self.loop.visual_features, image), masks)
        of_sentence = gigaflops(partial(self.loop.text_feature, scene.sentences[0], scene.phrases[0]))
        found = {REFERENCE: refs * of_ref + sentences * of_sentence}
        for precision, scorer in self.scorers.items():
            of_image = _by_masks(partial(scorer.visual_features, image), masks)
            texts = gigaflops(partial(scorer.text_features, scene.sentences, scene.phrases))
            found[precision] = self.images * of_image + sentences * texts / len(scene.sentences)
            self.score(precision, scene)  # by its own kernels, which lay out weights on their first use
        return found

    def stage(self) -> dict[str, Timed]:
        """Time the loop and the program on every scene, in turns."""
        works = {
            REFERENCE: [partial(self.loop, scene.image, scene.masks, scene.refs) for scene in self.scenes]
        }
        works |= {kind: [partial(self.score, kind, scene) for scene in self.scenes] for kind in self.scorers}
        return in_turns(works, self.device, f"{self.name} scenes")

    @torch.no_grad()
    def crops(self) -> tuple[dict[str, Timed], dict[str, float]]:
        """Time the towers alone on crops, open_clip's own encoder among them; count their work."""
        count = _CROPS if self.device.type == "cpu" else _CROPS_OF_GPU
        pixels = torch.randn(count, 3, *self.loop.size, device=self.device)
        towers: dict[str, Any] = {ANCHOR: self.model}
        towers |= {kind: scorer.clip for kind, scorer in self.scorers.items()}
        works = {name: partial(tower.encode_image, pixels) for name, tower in towers.items()}
        turns = {name: [work] * self.images for name, work in works.items()}
        work = {name: gigaflops(work) for name, work in works.items()}
        return in_turns(turns, self.device, f"{self.name} crops"), work

    def text(self) -> dict[str, Timed]:
        """Time texts by the loop, one by one at full length, and by the program; each is new."""
        works: dict[str, list[Any]] = {
            REFERENCE: [partial(_texts_of_loop, self.loop, scene) for scene in self.texts]
        }
        for kind, scorer in self.scorers.items():
            texts = [partial(scorer.text_features, scene.sentences, scene.phrases) for scene in self.texts]
            works[kind] = texts
        return in_turns(works, self.device, f"{self.name} texts")


def _by_masks(work: Callable[[Tensor], Any], masks: Tensor) -> float:
    """Count a work that is so much for an image and so much for each mask, in GFLOP."""
    one, two = (gigaflops(partial(work, masks[:count])) for count in (1, 2))
    return one + (len(masks) - 1) * (two - one)


def _texts_of_loop(loop: PlainLoop, scene: PhotoLike) -> None:
    for sentence, phrase in zip(scene.sentences, scene.phrases, strict=True):
        loop.text_feature(sentence, phrase)


def measure_model(
    name: str, precisions: Sequence[str], sizes: Sizes, device: torch.device, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure one model, on a CPU by one thread: the figures by precision, and the controls by precision.

    It is named as for `gl_ris.load_clip`, the precisions of the program as of `gl_ris.clip.loading`; the loop
    is in fp32. What the processor lacks is left out, and said. The seed is of weights and scenes.
    """
    able = [precision for precision in precisions if precision != "bf16" or has_bf16(device)]
    with one_thread():
        contest = Contest(name, able, sizes, device, seed)
        work, before = contest.count(), _rates(able, device)
        stage, (crops, crop_work), texts = contest.stage(), contest.crops(), contest.text()
        rest = {kind: not_matrix_work(partial(contest.score, kind, contest.last), device) for kind in able}
        after = _rates(able, device)
    controls = {kind: Control(before[kind], after[kind]) for kind in able}
    figures = {
        kind: {
            **_compared(stage, kind, work, control),
            **_tower(crops, crop_work, kind, control),
            "text": _spent(texts, kind, REFERENCE, control),
            "not_matrix": rest[kind],
            "kernels": contest.scorers[kind].clip.kernels,
        }
        for kind, control in controls.items()
    }
    nothing = dict.fromkeys(("ratio_to_reference", "choices_equal", "share_of_limit"))
    missing = {**nothing, "missing": f"this {device.type} has no bfloat16"}
    figures |= {kind: missing for kind in precisions if kind not in able}
    return figures, {kind: control.document() for kind, control in controls.items()}


def _rates(precisions: Sequence[str], device: torch.device) -> dict[str, dict[str, float]]:
    return {kind: matrix_rates(device, PRECISIONS[kind]) for kind in precisions}


def _spent(found: Mapping[str, Timed], own: str, other: str, control: Control) -> dict[str, Any]:
    """Write down the seconds of the program and of another, and how many times as fast it is."""
    seconds = {"program": found[own].seconds, other: found[other].seconds}
    return {"ratio": control.verdict(times_as_fast(*seconds.values())), "seconds": seconds}


def _compared(
    stage: Mapping[str, Timed], precision: str, work: Mapping[str, float], control: Control
) -> dict[str, Any]:
    """Compare the whole stage with the loop's, and split the ratio into its two causes."""
    spent = _spent(stage, precision, REFERENCE, control)
    own, other = (
        torch.cat([found.cpu() for found in stage[kind].results]) for kind in (precision, REFERENCE)
    )
    equal = own.argmax(1) == other.argmax(1)
    saved, ratio = work[REFERENCE] / work[precision], spent["ratio"]
    gflop = {"program": work[precision], REFERENCE: work[REFERENCE]}
    return {
        "ratio_to_reference": ratio,
        "work_saved": saved,
        "same_work_faster": None if ratio is None else ratio / saved,
        "choices_equal": bool(equal.all()),
        "choices": {"equal": int(equal.sum()), "of": len(equal)},
        "largest_difference": float((own - other).abs().max()),
        "seconds": spent["seconds"],
        "gflop": gflop,
        "gflops": {name: gflop[name] / sum(seconds) for name, seconds in spent["seconds"].items()},
    }


def _tower(
    crops: Mapping[str, Timed], work: Mapping[str, float], precision: str, control: Control
) -> dict[str, Any]:
    """Compare the tower alone with the best matrix rate and with open_clip's own encoder."""
    rate = work[precision] / min(crops[precision].seconds)
    return {
        "share_of_limit": control.verdict(rate / control.best),
        "crops": {
            **_spent(crops, precision, ANCHOR, control),
            "gflop": {"program": work[precision], ANCHOR: work[ANCHOR]},
            "gflops": rate,
        },
    }
