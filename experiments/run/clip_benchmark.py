"""The CLIP stage of this program against the plain loop, model by model, on synthetic scenes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
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
# crops of which the tower alone is timed
_CROPS = 16
# what the program counts of the loop's work for one crop, or more of it was done where nobody can count
_LEAST_COUNTED = 0.8


def load_random(name: str, device: torch.device, seed: int) -> RegionCLIP:
    """Load a model, one without weights of its own with random ones that tell masks and texts apart."""
    torch.manual_seed(seed)
    clip = _load(name, device, torch.float32)
    if not brings_weights(name):
        with torch.no_grad():
            for key, tensor in clip.model.state_dict().items():
                # a ResNet begins with branches of zero, in which nothing of an image would be left
                if key.endswith("bn3.weight"):
                    tensor.fill_(0.5)
                elif key.endswith("bias") and tensor.ndim == 1:
                    tensor.normal_(0, 0.02)
    return clip


def _load(name: str, device: torch.device, dtype: torch.dtype) -> RegionCLIP:
    with warnings.catch_warnings():
        # they are meant to be
        warnings.filterwarnings("ignore", message=r".*has random weights.*")
        return load_clip(name, device=device, dtype=dtype)


class Contest:
    """One model: the plain loop, and the program in each precision that the processor has.

    Args:
        name: Of the model.
        precisions: Names as of `gl_ris.clip.loading.PRECISIONS`, fp32 first.
        device: Where it computes.
        seed: Of its weights.
    """

    def __init__(self, name: str, precisions: Sequence[str], device: torch.device, seed: int) -> None:
        self.name, self.device, self.seed = name, device, seed
        clip = load_random(name, device, seed)
        state = clip.model.state_dict()
        # A model of its own, whatever the program makes of the one that it has loaded.
        self.model = load_random(name, device, seed).model
        self.model.load_state_dict(state)
        self.loop = PlainLoop(self.model, load_tokenizer(name))
        self.clips = {"fp32": clip}
        for precision in precisions:
            if precision not in self.clips:
                other = _load(name, device, PRECISIONS[precision])
                other.model.load_state_dict(state)
                self.clips[precision] = other
        self.scorers = {name: GlobalLocal(clip, recipe="clean") for name, clip in self.clips.items()}

    def score(self, precision: str, scene: PhotoLike) -> Tensor:
        """Do what the program does with a scene: its texts, each once, then its image."""
        scorer = self.scorers[precision]
        scorer.clip.prepare_texts(scorer.texts(scene.sentences, scene.phrases))
        masks = scene.masks.to(self.device)
        return scorer(scene.image.to(self.device), masks, scene.sentences, scene.phrases).cpu()

    def count(self, scene: PhotoLike, images: int, refs: int, sentences: int) -> dict[str, float]:
        """Count the work of all contestants on so much data, in GFLOP; everyone has worked once after it."""
        image, masks = scene.image.to(self.device), scene.masks.to(self.device)
        sentence, phrase = scene.sentences[0], scene.phrases[0]
        of_ref = gigaflops(partial(self.loop.visual_features, image, masks))
        of_sentence = gigaflops(partial(self.loop.text_feature, sentence, phrase))
        found = {REFERENCE: refs * of_ref + sentences * of_sentence}
        for precision, scorer in self.scorers.items():
            of_image = gigaflops(partial(scorer.visual_features, image, masks))
            texts = gigaflops(partial(scorer.text_features, scene.sentences, scene.phrases))
            found[precision] = images * of_image + sentences * texts / len(scene.sentences)
        return found


def measure_model(
    name: str,
    precisions: Sequence[str],
    sizes: Sizes,
    device: torch.device,
    seed: int,
    step: Callable[[], Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure one model.

    Args:
        name: As for `gl_ris.load_clip`.
        precisions: Of the program; the loop is always in fp32. What the processor
            lacks is left out, and said.
        sizes: Of the scenes.
        device: Where to compute; on a CPU by one thread.
        seed: Of weights and scenes.
        step: Called after each step, of which there are `steps_of`.

    Returns:
        The figures by precision, and the controls by precision.
    """
    able = [precision for precision in precisions if precision != "bf16" or has_bf16(device)]
    missing = {"missing": f"this {device.type} has no bfloat16"}
    with one_thread():
        contest = Contest(name, able, device, seed)
        scenes, warm = make_scenes(sizes, seed), make_scenes(sizes, seed + 1)[0]
        sentences = sum(len(scene.sentences) for scene in scenes)
        work = contest.count(warm, len(scenes), sum(len(scene.refs) for scene in scenes), sentences)
        step()
        before = {precision: matrix_rates(device, PRECISIONS[precision]) for precision in able}
        stage = _stage(contest, scenes, able, device, step)
        crops, crop_work = _crops(contest, sizes, able, device, step)
        texts = _texts(contest, sizes, able, device, step)
        rest = {precision: _rest(contest, precision, sizes, device) for precision in able}
        step()
        after = {precision: matrix_rates(device, PRECISIONS[precision]) for precision in able}
    controls = {precision: Control(before[precision], after[precision]) for precision in able}
    figures = {
        precision: {
            **_compared(stage, precision, work, controls[precision]),
            **_tower(crops, crop_work, precision, controls[precision]),
            "text": _spent(texts, precision, REFERENCE, controls[precision]),
            "not_matrix": rest[precision],
        }
        for precision in able
    }
    nothing = dict.fromkeys(("ratio_to_reference", "choices_equal", "share_of_limit"))
    lacking = {precision: {**nothing, **missing} for precision in precisions if precision not in able}
    return figures | lacking, {precision: control.document() for precision, control in controls.items()}


def steps_of(sizes: Sizes, precisions: Sequence[str]) -> int:
    """Return how many steps `measure_model` takes, for a bar."""
    return 2 + 3 * sizes.images * (1 + len(precisions))


def _stage(
    contest: Contest, scenes: Sequence[PhotoLike], able: Sequence[str], device: torch.device, step: Any
) -> dict[str, Timed]:
    """Time the loop and the program on every scene, in turns."""
    image = {REFERENCE: [partial(contest.loop, s.image, s.masks, s.refs) for s in scenes]}
    own = {p: [partial(contest.score, p, scene) for scene in scenes] for p in able}
    return in_turns({**image, **own}, device, step)


def _crops(
    contest: Contest, sizes: Sizes, able: Sequence[str], device: torch.device, step: Any
) -> tuple[dict[str, Timed], dict[str, float]]:
    """Time the towers alone on standardised crops, open_clip's own encoder among them; count their work."""
    pixels = torch.randn(_CROPS, 3, *contest.clips["fp32"].image_size, device=device)
    encode: dict[str, Any] = {ANCHOR: contest.model.encode_image}
    encode |= {precision: contest.clips[precision].encode_image for precision in able}
    with torch.no_grad():
        works = {name: [partial(work, pixels)] * sizes.images for name, work in encode.items()}
        return in_turns(works, device, step), {
            name: gigaflops(partial(work, pixels)) for name, work in encode.items()
        }


def _texts(
    contest: Contest, sizes: Sizes, able: Sequence[str], device: torch.device, step: Any
) -> dict[str, Timed]:
    """Time texts by the loop, one by one at full length, and by the program; each text is new."""
    scenes = make_scenes(sizes, contest.seed + 2)
    plain = [partial(_texts_of_loop, contest.loop, scene) for scene in scenes]
    own = {
        p: [partial(contest.scorers[p].text_features, s.sentences, s.phrases) for s in scenes] for p in able
    }
    return in_turns({REFERENCE: plain, **own}, device, step)


def _texts_of_loop(loop: PlainLoop, scene: PhotoLike) -> None:
    for sentence, phrase in zip(scene.sentences, scene.phrases, strict=True):
        loop.text_feature(sentence, phrase)


def _rest(contest: Contest, precision: str, sizes: Sizes, device: torch.device) -> list[dict[str, Any]]:
    scene = make_scenes(sizes, contest.seed + 3)[0]
    return not_matrix_work(partial(contest.score, precision, scene), device)


def _spent(found: Mapping[str, Timed], own: str, other: str, control: Control) -> dict[str, Any]:
    """Write down the seconds of the program and of another, and how many times as fast it is."""
    ratio = times_as_fast(found[own], found[other])
    return {
        "ratio": control.verdict(ratio),
        "seconds": {"program": found[own].seconds, other: found[other].seconds},
    }


def _compared(
    stage: Mapping[str, Timed], precision: str, work: Mapping[str, float], control: Control
) -> dict[str, Any]:
    """Compare the whole stage with the loop's, and split the ratio into its two causes."""
    spent = _spent(stage, precision, REFERENCE, control)
    saved = work[REFERENCE] / work[precision]
    pairs = list(zip(stage[REFERENCE].results, stage[precision].results, strict=True))
    choices = [(ours.argmax(1) == theirs.cpu().argmax(1)) for theirs, ours in pairs]
    equal, count = (sum(int(rows.sum()) for rows in choices), sum(len(rows) for rows in choices))
    ratio = spent["ratio"]
    return {
        "ratio_to_reference": ratio,
        "work_saved": saved,
        "same_work_faster": None if ratio is None else ratio / saved,
        "choices_equal": equal == count,
        "choices": {"equal": equal, "of": count},
        "largest_difference": max(float((ours - theirs.cpu()).abs().max()) for theirs, ours in pairs),
        "seconds": spent["seconds"],
        "gflop": {"program": work[precision], REFERENCE: work[REFERENCE]},
        "gflops": {
            "program": work[precision] / sum(stage[precision].seconds),
            REFERENCE: work[REFERENCE] / sum(stage[REFERENCE].seconds),
        },
    }


def _tower(
    crops: Mapping[str, Timed], work: Mapping[str, float], precision: str, control: Control
) -> dict[str, Any]:
    """Compare the tower alone with the best matrix rate and with open_clip's own encoder."""
    rate = work[precision] / min(crops[precision].seconds)
    counted = work[precision] >= _LEAST_COUNTED * work[ANCHOR]
    return {
        "share_of_limit": control.verdict(rate / control.best) if counted else None,
        "crops": {
            **_spent(crops, precision, ANCHOR, control),
            "count": _CROPS,
            "gflop": {"program": work[precision], ANCHOR: work[ANCHOR]},
            "gflops": rate,
            "counted": counted,
        },
    }
