"""What the commands of this package share: arguments as users write them, errors in a sentence."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import NoReturn

from gl_ris.errors import UserError, unknown_name

_OVERRIDE = re.compile(r"[a-z][\w-]*=")


class Arguments(argparse.ArgumentParser):
    """A parser whose complaints are one sentence; ``name=value`` is read like ``--name=value``."""

    def __init__(self, program: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=program,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def read(self, tokens: Sequence[str]) -> argparse.Namespace:
        """Read the arguments.

        Raises:
            UserError: If there is an unknown option or a value that cannot be.
        """
        written = [f"--{token}" if _OVERRIDE.match(token) else token for token in tokens]
        found, rest = self.parse_known_args(written)
        if rest:
            options = [o for action in self._actions for o in action.option_strings if o.startswith("--")]
            raise unknown_name("option", rest[0].partition("=")[0], options)
        return found

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong as an error that the command line prints."""
        sentence = message[:1].upper() + message[1:]
        raise UserError(f"{sentence.rstrip('.')}. --help explains the options.")
