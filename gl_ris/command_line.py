"""How a command ends: what it prints when something goes wrong, and its exit code."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable

# A child process that fails together with the main one leaves the telling to the main one.
_CHILD_WAITS = 6.0


def show(text: str) -> None:
    """Print a text to a reader that may have enough of it before its end, as ``| head`` has."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python flushes once more on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def exit_code(main: Callable[[], None]) -> int:
    """Call ``main``, print what goes wrong, and return the exit code of the process.

    Returns:
        0 when all went well, 2 for what the user can mend, 1 for all other failures, 130 after Ctrl-C.
    """
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        from gl_ris.errors import EvaluationError, UserError

        if int(os.environ.get("LOCAL_RANK", "0")) > 0:
            time.sleep(_CHILD_WAITS)
        if not isinstance(error, UserError | EvaluationError):
            traceback.print_exc()
            return 1
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    return 0
