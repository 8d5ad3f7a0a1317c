"""How a command reads its words, what it prints when something goes wrong, and its exit code."""

import argparse
import io
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import NoReturn

from gl_ris.cores import one_thread_per_operation
from gl_ris.processes import end_with_starter
from gl_ris.signals import Ended, endable, ended, say

# A child process that fails together with the main one leaves the telling to the main one.
_CHILD_WAITS = 6.0
_SIGNAL_COMES = 1.0
_OVERRIDE = re.compile(r"[a-z][\w-]*=")
SCRIPT = "GL_RIS_SCRIPT"
"""Variable that is set where a command was started as ``gl-ris COMMAND``."""

_MODULE = re.compile(r"python -m (?:experiments|datamodules)\.(?=[a-z])")


def as_typed(text: str) -> str:
    """Write commands in a text as the user has typed this one: ``python -m MODULE`` or ``gl-ris COMMAND``."""
    return _MODULE.sub("gl-ris ", text) if SCRIPT in os.environ else text


class Arguments(argparse.ArgumentParser):
    """A parser whose complaints are one sentence; ``name=value`` is read like ``--name=value``."""

    def __init__(self, program: str, description: str, epilog: str) -> None:
        layout = argparse.RawDescriptionHelpFormatter
        texts = as_typed(program), None, description, as_typed(epilog)
        super().__init__(*texts, formatter_class=layout, allow_abbrev=False)
        add_version(self)

    def read(self, tokens: Sequence[str]) -> argparse.Namespace:
        """Read the arguments; a `UserError` for an unknown option or a value that cannot be."""
        from gl_ris.errors import unknown_name

        written = [f"--{token}" if _OVERRIDE.match(token) else token for token in tokens]
        found, rest = self.parse_known_args(written)
        if rest:
            options = [o for action in self._actions for o in action.option_strings if o.startswith("--")]
            raise unknown_name("option", rest[0].partition("=")[0], options)
        return found

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong as an error that the command line prints."""
        from gl_ris.errors import UserError

        sentence = message[:1].upper() + message[1:]
        raise UserError(f"{sentence.rstrip('.')}. --help explains the options.")


def version() -> str:
    """Name the program and its version, as ``--version`` prints it."""
    try:
        return f"gl-ris {metadata.version('gl-ris')}"
    except metadata.PackageNotFoundError:
        return "gl-ris, which is not installed here"


def add_version(parser: argparse.ArgumentParser) -> None:
    """Let a parser answer ``--version``."""
    parser.add_argument("--version", action="version", version=version(), help="print the version and exit")


def print_anything() -> None:
    """Have characters that the terminal's encoding lacks printed by their codes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def show(text: str) -> None:
    """Print a text `as_typed` to a reader that may have enough of it before its end, as ``| head`` has."""
    try:
        print(as_typed(text), flush=True)
    except BrokenPipeError:
        # Python flushes once more on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def leave(main: Callable[[], None]) -> NoReturn:
    """Call ``main`` as the work of this process, and leave it with the `exit_code`.

    SIGHUP, SIGINT and SIGTERM end it within seconds (129, 130, 143), and it ends with the process that
    started it for its work. Whatever is printed can be, in any locale. Operations have one thread each, see
    `gl_ris.cores`; nothing that has threads may be imported yet.
    """
    one_thread_per_operation()
    print_anything()
    end_with_starter()
    with endable():
        code = exit_code(main)
        if ended():
            # to take a process of this size apart may take seconds, and wait for threads that never end
            sys.stdout.flush()
            os._exit(code)
        sys.exit(code)


def exit_code(main: Callable[[], None]) -> int:
    """Call ``main``, print what goes wrong, and return the exit code of the process.

    0 when all went well, 2 for what the user can mend, 1 for all other failures, 128 + n after signal n.
    """
    try:
        try:
            main()
        except Exception as error:
            return _told(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Ended as cause:
        say(cause)
        return cause.code
    return 0


def _told(error: Exception) -> int:
    """Print what went wrong, unless it comes of what ends the process anyhow."""
    from gl_ris.errors import EvaluationError, UserError

    if int(os.environ.get("LOCAL_RANK", "0")) > 0:
        time.sleep(_CHILD_WAITS)
    expected = isinstance(error, UserError | EvaluationError)
    if not expected and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        time.sleep(_SIGNAL_COMES)  # it may come of the end of another process, and then a signal follows
    if cause := ended():
        raise cause
    if not expected:
        traceback.print_exc()
        return 1
    print(as_typed(f"error: {error}"), file=sys.stderr)
    return 2 if isinstance(error, UserError) else 1
