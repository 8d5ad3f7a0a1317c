"""The command line as users write it, turned into the command line that jsonargparse reads."""

import re
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.cli.help import CONFIGS
from gl_ris.errors import unknown_name
from gl_ris.files import read_table

_OVERRIDE = re.compile(r"[A-Za-z_][\w.-]*\+?=")
_NAME = re.compile(r"--(?P<name>[\w.-]+?)(?P<rest>\+?=.*|)", re.DOTALL)
# What cannot be the name of a ready-made setting: class paths, files, YAML values.
_NATIVE = re.compile(r".*[./{\[:]|null$|None$", re.DOTALL)
# jsonargparse hands settings of the same name on from one class to the next, but those of one generator of
# proposals, or of one supervised model, mean something else in another: cleared before another is chosen.
CLEARED = ("model.proposals", "model.baseline")
_CLIP, _WEIGHTS = "model.clip", "model.pretrained"
# A dotted name that is no part of a longer one, nor of the path of a file.
_DOTTED = re.compile(r"(?<![\w./-])[A-Za-z_]\w*(?:\.\w+)+(?![\w./-])")
# Settings that can change neither a figure nor a record.
HARMLESS = (
    *("wandb", "intervals"),
    *(f"trainer.{name}" for name in ("devices", "num_nodes", "strategy", "enable_progress_bar", "profiler")),
    *(f"data.init_args.{name}" for name in ("num_workers", "pin_memory")),
)
FLAGS = ("--help", "--help_all", "--print_config")
# Classes that have moved, so that the settings of old runs still load: the full path as it was, and as it is.
MOVED: dict[str, str] = read_table(CONFIGS / "moved.yaml")


def normalise(
    args: Sequence[str],
    shorthand: Mapping[str, str],
    groups: Mapping[str, Sequence[str]],
    folder: Path,
    classes: Callable[[str], Sequence[str]] = lambda _: (),
    options: Collection[str] = CLEARED,
) -> list[str]:
    """Rewrite arguments so that ``k=64``, ``limit=20`` and ``data=refshapesg`` are read like native options.

    All become ``--name=value``, also ``--name value``, and a ready-made setting, one of ``groups`` by kind in
    ``<folder>/<kind>/<name>.yaml``, ``--config=FILE``. These go before the single options around them, in the
    order of their kinds, so that an option changes them wherever it stands. A ``--config`` keeps its place.
    By ``shorthand``, ``short.x`` stands for ``option.x``; ``classes`` names those that a kind also accepts;
    ``options`` are the full names of all. `UserError` if there is no such ready-made setting.

    Example:
        >>> normalise(["limit=20", "--model.alpha", "0.5"], {"limit": "data.limit"}, {}, Path("configs"))
        ['--data.limit=20', '--model.alpha=0.5']
    """
    rewritten: list[str] = []
    # of the stretch between two --config: files by the place of their kind, and single options
    ready, single = list[tuple[int, list[str]]](), list[str]()
    for token in [*joined(args), None]:
        if token is None or token.startswith("--config="):
            rewritten += [word for _, words in sorted(ready, key=lambda item: item[0]) for word in words]
            given = dict(word.removeprefix("--").partition("=")[::2] for word in single)
            rewritten += [*_without_weights(given, options), *single]
            if token:
                rewritten += [*_cleared(Path(token.partition("=")[2]), {*options, *CLEARED}), token]
            ready, single = [], []
            continue
        matched = _NAME.fullmatch(token)
        name, rest = (matched["name"], matched["rest"]) if matched else ("", "")
        value = rest.removeprefix("=")
        if name in groups and rest.startswith("=") and not _NATIVE.match(value):
            known = [*groups[name], *classes(shorthand.get(name, name))]
            if value not in known:
                raise unknown_name(name, value, known)
            if value in groups[name]:
                file = folder / name / f"{value}.yaml"
                ready.append((list(groups).index(name), [*_cleared(file, options), f"--config={file}"]))
                continue
        head, dot, tail = name.partition(".")
        full = {"help_all": "help", **shorthand}.get(head, head) + dot + tail
        single += [f"--{full}=null"] if full in CLEARED and value not in ("", "null", "None") else []
        single.append(f"--{full}{rest}" if matched else token)
    return rewritten


def _cleared(file: Path, options: Collection[str]) -> list[str]:
    """Return the arguments that clear what a file of settings chooses a class, or a CLIP, for."""
    try:
        content = yaml.safe_load(file.expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeError, RecursionError, yaml.YAMLError):
        return []  # whoever reads its options says what is wrong
    model = content.get("model") if isinstance(content, dict) else None
    given = {f"model.{name}": str(value) for name, value in model.items()} if isinstance(model, dict) else {}
    chosen = [f"--{name}=null" for name in CLEARED if name in options and _chooses(content, name)]
    return chosen + _without_weights(given, options)


def _without_weights(given: Mapping[str, str], options: Collection[str]) -> list[str]:
    """Return the argument that clears the weights of another CLIP, if one is given that brings its own.

    They come from ready-made settings of data; who names weights beside such a CLIP is told.
    """
    if _WEIGHTS not in options or _WEIGHTS in given or _CLIP not in given:
        return []
    from gl_ris.clip.loading import brings_weights

    return [f"--{_WEIGHTS}=null"] if brings_weights(given[_CLIP]) else []


def _chooses(content: Any, name: str) -> bool:
    for key in name.split("."):
        content = content.get(key) if isinstance(content, dict) else None
    return "class_path" in content if isinstance(content, dict) else bool(content)


def joined(args: Sequence[str]) -> Iterator[str]:
    """Write ``name=value`` and ``--name value`` as ``--name=value``."""
    queue = deque(args)
    while queue:
        token = queue.popleft()
        token = "--config" if token == "-c" else token
        alone = not token.startswith("--") or "=" in token or token in FLAGS or token.endswith(".help")
        if _OVERRIDE.match(token):
            yield f"--{token}"
        elif alone or not queue or queue[0].startswith("--"):
            yield token
        else:
            yield f"{token}={queue.popleft()}"


def current_paths(value: Any) -> Any:
    """Write the present paths of classes for those of before, in texts and in lists and dictionaries of them.

    Example:
        >>> MOVED["old.place.Mine"] = "new.Mine"
        >>> current_paths({"class_path": "old.place.Mine", "methods": ["cropping", "old.place.Mine"]})
        {'class_path': 'new.Mine', 'methods': ['cropping', 'new.Mine']}
        >>> del MOVED["old.place.Mine"]
    """
    if isinstance(value, str):
        return _DOTTED.sub(lambda name: MOVED.get(name[0], name[0]), value)
    if isinstance(value, list):
        return [current_paths(item) for item in value]
    if isinstance(value, dict):
        return {name: current_paths(item) for name, item in value.items()}
    return value
