"""What can go wrong when the server starts, and how it is said.

StartupError        the server cannot start, or cannot go on; the text says what to do about it
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn


class StartupError(Exception):
    """The server cannot start. Its text is all that the user gets to see: what was expected, what came, what to do."""


def fail(reason: object) -> NoReturn:
    """Say why on stderr and end this process with exit code 1, whichever thread this is.

    chalice makes and runs its server in a thread, where SystemExit would end that thread alone and leave a process that
    serves nothing.
    """
    sys.stdout.flush()
    print(f"\nlocalaws: {reason}", file=sys.stderr, flush=True)  # noqa: T201  the user reads it
    os._exit(1)
