"""The words of ``segment``: images, expressions, and the settings of what looks for them."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from experiments.cli.command import Command
from experiments.cli.overrides import joined
from experiments.cli.parts import settings_of, settings_parser, user_error_behind
from gl_ris.defaults import CLIP
from gl_ris.errors import UserError
from gl_ris.pictures import FORMATS
from gl_ris.proposals import ProposalGenerator
from gl_ris.recipe import Recipe
from gl_ris.segmentation import Segmenter


class PhotoSegmenter(Segmenter):
    """A `Segmenter` as the command line describes it.

    Args:
        clip: A CLIP model: an open_clip name, local-dir:FOLDER, or refshapes-vit and refshapes-rn, which know
            drawn shapes only.
        proposals: What makes the masks: null takes SLIC for a shipped CLIP, and for any other SAM 2
            (facebook/sam2.1-hiera-tiny).
        recipe: clean, published, or the fields of a recipe.
        device: Where models compute: cpu, cuda, or auto for a GPU where there is one.
        **named: The other settings of a `Segmenter`.
    """

    def __init__(
        self,
        clip: str = CLIP[0],
        proposals: ProposalGenerator | None = None,
        recipe: Recipe | str = "clean",
        device: str = "auto",
        parser: str | None = None,
        **named: Any,
    ) -> None:
        given: dict[str, Any] = {"clip": clip, "proposals": proposals, "recipe": recipe, "parser": parser}
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        super().__init__(device=device, **given, **named)


def apart(tokens: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell words from options: ``name=value`` is an option wherever it stands, but behind a lone ``--``.

    Example:
        >>> apart(["a.jpg", "the cat", "alpha=0.5", "--top", "3", "--", "x=y on a sign"])
        (['a.jpg', 'the cat', 'x=y on a sign'], ['--alpha=0.5', '--top=3'])
    """
    end = list(tokens).index("--") if "--" in tokens else len(tokens)
    before = list(joined(tokens[:end]))
    words = [token for token in before if not token.startswith("--")]
    return [*words, *tokens[end + 1 :]], [token for token in before if token.startswith("--")]


def line_of(words: Sequence[str], options: Sequence[str]) -> str:
    """Write the words as a shell takes them, with the options but those that are of one run."""
    kept = [
        option for option in options if not re.match(r"--(run_dir|overwrite|(model\.)?(rerank|top))=", option)
    ]
    last = ["--", *words[1:]] if apart(words)[1] else words[1:]
    return shlex.join([words[0], *(option.removeprefix("--") for option in kept), *last])


def images_in(words: Sequence[str]) -> list[Path]:
    """Return the image that the first word names, or those of a folder by their names; check the others."""
    if len(words) < 2 or not all(map(str.strip, words)):
        raise UserError("Give an image and what to look for in it: photo.jpg 'the cat on the left'.")
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS}
    for word in words[1:]:
        if Path(word).suffix.lower() in suffixes and Path(word).is_file():
            raise UserError(
                f"'{word}' stands where an expression does; to look into several images, give their folder."
            )
    path = Path(words[0]).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"The image '{words[0]}' cannot be read: there is no such file or folder.")
    files = [file for file in path.iterdir() if file.suffix.lower() in suffixes and file.is_file()]
    if not files:
        raise UserError(f"There is no image in the folder '{words[0]}', no file of {', '.join(FORMATS)}.")
    return sorted(files)


def refuse_true_masks(options: Sequence[str]) -> None:
    """Raise a `UserError` for options that name the masks of an annotated data set."""
    if {"proposals=ground_truth", "model.proposals=ground_truth"} & {one.lstrip("-") for one in options}:
        raise UserError("proposals=ground_truth: a photo of one's own has no true masks; name others.")


def read_settings(command: Command, options: Sequence[str]) -> tuple[Segmenter, dict[str, Any], Any]:
    """Make the segmenter that options describe; return also its settings, and all that was read."""
    refuse_true_masks(options)
    parser = settings_parser(command, PhotoSegmenter, "model")
    config = parser.parse_args(list(options))
    try:
        made = parser.instantiate_classes(config).model
    except ValueError as error:
        raise user_error_behind(error) or error from error
    return made, settings_of(parser, config), config
