"""The short help of a command, made from its source and its configuration files without importing either."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator, Mapping

from experiments.cli.command import ENV_PREFIX, ROOT, Command

# Options that every command has: name, default, explanation.
COMMON = (
    ("run_dir", None, "Folder for everything the run writes; by default runs/<experiment>/<time>."),
    ("overwrite", False, "Replace an earlier run in run_dir."),
    (
        "wandb",
        "auto",
        "Log to wandb: online, offline, disabled, or auto (online if there is a key, else offline).",
    ),
)
TRAINER = (
    ("trainer.devices", "auto", "How many processes or GPUs share the work."),
    ("trainer.accelerator", "auto", "cpu, gpu, mps or auto."),
    ("trainer.precision", None, "For example bf16-mixed."),
    ("trainer.enable_progress_bar", None, "false for log files."),
)
_WIDTH = 100


def help_text(command: Command) -> str:
    """Return the help of ``command``: spellings, examples, ready-made settings, the options that matter."""
    return "\n".join(
        [
            f"usage: {command.program} [NAME=VALUE | --NAME=VALUE | --NAME VALUE] ...",
            "",
            *textwrap.wrap(command.summary, _WIDTH),
            "",
            "model.alpha=0.5 and --model.alpha=0.5 mean the same, for every option. What comes later wins:",
            f"defaults, configs/{command.config.name}, environment ({ENV_PREFIX}_MODEL__ALPHA=0.5), then the",
            "command line from left to right.",
            "",
            "examples:",
            *(line for arguments, what in command.examples for line in _example(command, arguments, what)),
            "",
            *_settings(command),
            *_shorthand(command),
            *_explained(command),
            "",
            "every command:",
            *(line for option in (*COMMON, *TRAINER) for line in _option(*option)),
            "",
            "more:",
            "  --config FILE".ljust(22)
            + "settings from a YAML file, for example the config.yaml of an earlier run",
            "  --print_config".ljust(22) + "print all settings as YAML and exit; feed it back with --config",
            "  --help_all".ljust(22) + "every option, with those of Lightning's Trainer (takes longer)",
            "  --data.help=CLASS".ljust(22) + "the options of one data module, for example RefCOCO",
        ]
    )


def _example(command: Command, arguments: str, what: str) -> Iterator[str]:
    yield f"  {command.program} {arguments}".rstrip()
    yield f"      {what}"


def _settings(command: Command) -> Iterator[str]:
    if command.groups:
        yield "ready-made settings (files in configs/, which every other option can change):"
    for kind, names in command.settings().items():
        first = f"  {kind}=NAME".ljust(22)
        yield from textwrap.wrap(
            ", ".join(names), _WIDTH, initial_indent=first, subsequent_indent=" " * 22, break_on_hyphens=False
        )


def _shorthand(command: Command) -> list[str]:
    if not command.shorthand:
        return []
    pairs = ", ".join(f"{short}={name}" for short, name in sorted(command.shorthand.items()))
    return [
        "",
        "short spellings:",
        *textwrap.wrap(pairs, _WIDTH, initial_indent="  ", subsequent_indent="  "),
    ]


def _explained(command: Command) -> Iterator[str]:
    before: str | None = None
    for prefix, file, name in command.explained:
        lines = list(_class_section(prefix, file, name, _configured(command, prefix)))
        # classes that share their options' prefix, as a class and its base, share the heading too
        yield from lines[2:] if prefix == before else lines
        before = prefix


def _configured(command: Command, prefix: str) -> dict[str, str]:
    """Return the defaults that the command's configuration file sets for the options of a class."""
    import yaml

    if not command.config.is_file():
        return {}
    content = yaml.safe_load(command.config.read_text(encoding="utf-8")) or {}
    section = (content.get(prefix) or {}) if prefix else content
    section = section.get("init_args", {}) if "class_path" in section else section
    return {name: _written(value) for name, value in section.items()}


def _written(value: object) -> str:
    """Write a default as the command line takes it; of an object, the class."""
    import yaml

    if isinstance(value, dict) and "class_path" in value:
        return str(value["class_path"]).rpartition(".")[2]
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...").strip("'")


def _class_section(prefix: str, file: str, name: str, configured: Mapping[str, str]) -> Iterator[str]:
    """Explain the arguments of one class, read from its source.

    Args:
        prefix: Of its options.
        file: The source file, relative to the project.
        name: The class.
        configured: Defaults that go before those of the source.
    """
    import docstring_parser

    yield ""
    yield f"{prefix} ({name}):" if prefix else "options:"
    settled: set[str] = set()
    for node in _owners(file, name):
        defaults = {key: value for key, value in _defaults(node) if key not in settled}
        for param in docstring_parser.parse(ast.get_docstring(node) or "").params:
            if (key := param.arg_name) in defaults:
                default = configured.get(key, defaults[key])
                yield from _option(f"{prefix}.{key}".lstrip("."), default, param.description or "")
        settled |= {*defaults, *_handed_up(node)}


def _owners(file: str, name: str) -> Iterator[ast.ClassDef]:
    """Yield a class and, while ``__init__`` hands ``**`` arguments on, the base that declares them."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    node = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)
    yield node
    function = _init(node)
    if function is None or function.args.kwarg is None:
        return
    base = ast.unparse(node.bases[-1])  # mixins stand before it
    modules = (
        n.module
        for n in tree.body
        if isinstance(n, ast.ImportFrom) and n.module and base in [alias.name for alias in n.names]
    )
    module = next(modules, None)
    yield from _owners(f"{module.replace('.', '/')}.py" if module else file, base)


def _handed_up(node: ast.ClassDef) -> Iterator[str]:
    """Yield the arguments that ``__init__`` gives its base by name: no options of this class."""
    for call in ast.walk(_init(node) or node):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "super().__init__":
            yield from (keyword.arg for keyword in call.keywords if keyword.arg)


def _init(node: ast.ClassDef) -> ast.FunctionDef | None:
    return next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)


def _defaults(node: ast.ClassDef) -> Iterator[tuple[str, str | None]]:
    """Yield the arguments of ``__init__`` with their defaults as written; None for those without.

    A dataclass has none written down; its fields stand for them.
    """
    function = _init(node)
    if function is None:
        for field in node.body:
            if isinstance(field, ast.AnnAssign):
                written = None if field.value is None else ast.unparse(field.value).strip("'\"")
                yield ast.unparse(field.target), written
        return
    init = function.args
    plain = [*init.posonlyargs, *init.args][1:]
    missing: list[ast.expr | None] = [None] * (len(plain) - len(init.defaults))
    values = [*missing, *init.defaults, *init.kw_defaults]
    for argument, value in zip([*plain, *init.kwonlyargs], values, strict=True):
        yield argument.arg, None if value is None else ast.unparse(value).strip("'\"")


def _option(name: str, default: object, description: str) -> Iterator[str]:
    text = " ".join(description.replace("``", "").split())
    if default not in (None, "None"):
        text += f" {default}" if str(default).startswith(("[", "{")) else f" [{default}]"
    lines = textwrap.wrap(text, _WIDTH - 30) or [""]
    head = f"  {name}"
    if len(head) > 28:
        yield head
        head = ""
    yield head.ljust(30) + lines[0]
    yield from (" " * 30 + line for line in lines[1:])
