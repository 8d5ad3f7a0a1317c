"""What jsonargparse has to say about a wrong option, said in a sentence with the fix."""

import difflib
import re
from collections.abc import Iterable, Sequence

from gl_ris.errors import did_you_mean

_KEY = re.compile(r'Parser key "([^"]+)"')
# Messages that need nothing but other words.
_SENTENCES = {
    r"argument (?:-\w/)?--(?P<name>[\w.]+)\S*: expected one argument": "{name} needs a value: {name}=VALUE.",
    r"Unable to load config '(?P<value>[^']*)'": (
        "{key} cannot be '{value}'; give {key}.NAME=VALUE, or a YAML file with options."
    ),
}
_UNKNOWN = re.compile(r"(?:Group '(?P<group>[^']+)' does not accept option|(?<!\w)Option) '(?P<name>[^']+)'")
_ARGUMENTS = re.compile(r"unrecognized arguments: (.*)", re.DOTALL)
_REQUIRED = re.compile(r"the following arguments are required: (.*)")
_CHOICE = re.compile(r"Expected a typing\.Literal\[(?P<allowed>.*?)\]\. Got value: (?P<value>.*)")
_TYPE = re.compile(r"Expected an? <class '(?P<type>[^']+)'>\. Got value: (?P<value>.*)")
_UNION = re.compile(r"Subtypes: \[(?P<types>[^\n]*)\]")
_CLASS = re.compile(
    r"Expected a dot import path string: (?P<short>\S+)|has no attribute '(?P<attribute>[^']+)'"
    r"|No module named '(?P<module>[^']+)'|Problem with given class_path '(?P<path>[^']+)'"
)
_NO_OPTION = "What is '{}'? Options are written name=value or --name=value; --help lists them."
_TYPE_NAMES = {
    "NoneType": "null",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "list": "a list such as [a,b]",
    "str": "text",
}


def explain(message: str, options: Iterable[str], classes: Sequence[str] = ()) -> str:
    """Turn a message of jsonargparse, often a line for every type that was tried, into one or two sentences.

    They say what is wrong with which option and what would be right: of the full names of all ``options``
    which one was meant, and which ``classes`` would have been accepted where one was expected. Of a message
    of a kind not known here, the first lines are returned.

    Example:
        >>> explain("unrecognized arguments: --model.alhpa=1", ["model.alpha", "model.beta"])
        "Unknown option 'model.alhpa'. Did you mean 'model.alpha'?"
    """
    # Keys are nested where the options of a class are: the innermost comes last.
    key = ".".join(dict.fromkeys(_KEY.findall(message)))
    for pattern, sentence in _SENTENCES.items():
        if found := re.search(pattern, message):
            return sentence.format(key=key, **found.groupdict())
    if found := _ARGUMENTS.search(message):
        tokens = found[1].split()
        names = [token[2:].partition("=")[0].rstrip("+") for token in tokens if token.startswith("--")]
        known = list(options)
        return " ".join(unknown_option(name, known) for name in names) or _NO_OPTION.format(tokens[0])
    if found := _UNKNOWN.search(message):
        return unknown_option(".".join(filter(None, (key or found["group"], found["name"]))), options)
    if found := _REQUIRED.search(message):
        names = [f"{key}.{name}".lstrip(".") for name in found[1].split(", ")]
        return f"{' and '.join(names)} must be given, e.g. {names[0]}=VALUE."
    if found := _CHOICE.search(message):
        allowed = re.findall(r"'([^']*)'", found["allowed"])
        return f"{key} cannot be '{found['value']}'.{_choices(found['value'], allowed)}"
    if found := _TYPE.search(message):
        return f"{key} must be {_type_name(found['type'])}, not '{found['value']}'."
    if key and (unions := list(_UNION.finditer(message))):
        return _wrong_type(key, message[unions[-1].start() :], unions[-1]["types"], classes)
    lines = [line.strip(" -") for line in message.splitlines() if line.strip(" -")]
    return " ".join(lines[:3])


def unknown_option(name: str, options: Iterable[str]) -> str:
    """Say that there is no such option, and which one was meant if one is near."""
    known = list(options)
    if name in known:
        choice = name.rpartition(".")[0]
        return f"What is chosen for {choice} has no option '{name}'; choose one that has it."
    near = nearest(name, known)
    hint = f"Did you mean '{near}'?" if near else "--help lists the options."
    return f"Unknown option '{name}'. {hint}"


def nearest(name: str, options: Iterable[str]) -> str | None:
    """Return the option most like ``name``: of the same last part, else similar, else by its last part."""
    known = sorted(options, key=lambda option: (option.count("."), option))
    last = name.rpartition(".")[2]
    same = [option for option in known if option.rpartition(".")[2] == last]
    lasts = {option.rpartition(".")[2]: option for option in reversed(known)}
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    close_last = [lasts[match] for match in difflib.get_close_matches(last, lasts, n=1, cutoff=0.7)]
    return next(iter([*same, *close, *close_last]), None)


def _choices(given: str, allowed: Sequence[str]) -> str:
    return f"{did_you_mean(given, allowed)} Available: {', '.join(allowed) or 'none'}."


def _wrong_type(key: str, detail: str, types: str, classes: Sequence[str]) -> str:
    """Say which of several types, or which class, was expected."""
    given = re.search(r"Given value: (.*)", detail)
    value = given[1].strip() if given else "?"
    if found := _CLASS.search(detail):
        name = found["short"] or found["path"] or value
        near = _choices(name.rpartition(".")[2], classes)
        return f"{key}: there is no class '{name}'.{near}"
    names = [_type_name(name) for name in re.findall(r"<class '([^']+)'>", types)]
    choices = re.findall(r"'([^']*)'", "".join(re.findall(r"Literal\[(.*?)\]", types)))
    return f"{key} must be {' or '.join([*choices, *names])}, not '{value}'."


def _type_name(path: str) -> str:
    return _TYPE_NAMES.get(path, path.rpartition(".")[2])
