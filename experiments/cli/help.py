"""What a help text says of options: read from the source of classes, so that nothing heavy is imported."""

import ast
import functools
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, cast

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
WIDTH = 100
_INDENT = 30


class Option(NamedTuple):
    """An option: its default as the command line takes it, None where there is none to show; what it is."""

    default: str | None
    text: str


def class_options(where: str) -> dict[str, Option]:
    """Return the documented arguments of a class of this project, with those that it hands on to its bases.

    It is named as ``module:Class``, where it is defined or where it is imported from elsewhere.

    Example:
        >>> class_options("gl_ris.recipe:Recipe")["antialias"].default
        'true'
    """
    import docstring_parser

    found = _find(*where.split(":"))
    assert found is not None
    module, node = found[0], cast("ast.ClassDef", found[1])
    init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    options = _inherited(module, node) if init is None or init.args.kwarg else {}
    for name, value in (_fields(node) if init is None else _signature(init.args)).items():
        text = options[name].text if name in options else ""
        options[name] = Option(_default(module, value), text)
    params = docstring_parser.parse(ast.get_docstring(node) or "").params
    own = {param.arg_name: param.description or "" for param in params if param.arg_name in options}
    options = {name: options[name]._replace(text=text) for name, text in own.items()} | {
        name: option for name, option in options.items() if name not in own
    }
    return {name: option for name, option in options.items() if option.text}


def option_lines(name: str, default: object, text: str) -> Iterator[str]:
    """Yield the lines of one option, its default last: a text as it is, another value as it is written."""
    # Python's None is null on the command line
    text = re.sub(r"\bNone\b", "null", " ".join(text.replace("``", "").split()))
    shown = default if isinstance(default, str) else written(default)
    if shown != "null":
        text += f" {shown}" if shown.startswith(("[", "{")) else f" [{shown}]"
    lines = textwrap.wrap(text, WIDTH - _INDENT) or [""]
    head = f"  {name}"
    if len(head) > _INDENT - 2:
        yield head
        head = ""
    yield head.ljust(_INDENT) + lines[0]
    yield from (" " * _INDENT + line for line in lines[1:])


def paragraph(text: str, first: str = "") -> str:
    """Break a text into lines behind ``first``, below which the others are indented."""
    rest = " " * len(first)
    return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


def configured(file: Path, group: str) -> dict[str, str]:
    """Return the defaults in a configuration file for a group of options, or for those of no group."""
    import yaml

    content = (yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None) or {}
    section = (content.get(group) or {}) if group else content
    return {name: written(value) for name, value in section.get("init_args", section).items()}


def written(value: object) -> str:
    """Write a value as the command line takes it; of an object, the class."""
    import yaml

    if isinstance(value, Mapping) and "class_path" in value:
        return str(value["class_path"]).rpartition(".")[2]
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...").strip("'")


@functools.cache
def _tree(module: str) -> ast.Module:
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8") if file.is_file() else "")


def _find(module: str, name: str) -> tuple[str, ast.AST] | None:
    """Find a class, or the value of a constant, with the module that it is in; None if it is not ours."""
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, node
        if isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == name for t in node.targets
        ):
            return module, node.value
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if name == (alias.asname or alias.name):
                    return _find(node.module, alias.name)
    return None


def _inherited(module: str, node: ast.ClassDef) -> dict[str, Option]:
    """Return what the bases take, but for what ``super().__init__(name=..., **options)`` sets itself."""
    options: dict[str, Option] = {}
    for base in reversed(node.bases):
        if isinstance(base, ast.Name) and (found := _find(module, base.id)):
            options |= class_options(f"{found[0]}:{cast('ast.ClassDef', found[1]).name}")
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "super().__init__":
            for keyword in call.keywords:
                options.pop(keyword.arg or "", None)
    return options


def _fields(node: ast.ClassDef) -> dict[str, ast.expr | None]:
    """Return the fields of a dataclass; a class that is none has no arguments but those of its bases."""
    fields = [item for item in node.body if isinstance(item, ast.AnnAssign) and node.decorator_list]
    return {ast.unparse(field.target): field.value for field in fields}


def _signature(arguments: ast.arguments) -> dict[str, ast.expr | None]:
    plain = [*arguments.posonlyargs, *arguments.args][1:]
    missing: list[ast.expr | None] = [None] * (len(plain) - len(arguments.defaults))
    values = [*missing, *arguments.defaults, *arguments.kw_defaults]
    return dict(zip([a.arg for a in [*plain, *arguments.kwonlyargs]], values, strict=True))


def _default(module: str, node: ast.AST | None) -> str | None:
    """Write a default; None for one that is no plain value, such as an object that a constant holds."""
    if isinstance(node, ast.Name) and (found := _find(module, node.id)):
        return _default(*found)
    try:
        return None if node is None else written(ast.literal_eval(cast("ast.expr", node)))
    except ValueError:
        return None
