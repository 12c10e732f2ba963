"""What the server's log says that nothing else does: which $disconnects were incomplete, how many invocations were
given up, and what nobody foresaw.
"""

from __future__ import annotations

import re

_INCOMPLETE = re.compile(r"disconnect incomplete connection=(\S+)")

_TRACEBACK = re.compile(
    r"^Traceback \(most recent call last\):\n(?:[ \t].*\n)+(\S.*)\n(\n(?:The above|During) .*)?", re.M
)
"""One traceback: its error, and the line that leads on to another, if it is that one's cause."""

_GIVEN_UP = re.compile(r"The asynchronous invocation \S+ of \S+ failed \d+ times and is given up")

FORESEEN = "chalicelib.errors."
"""A publish function that fails raises one of these: Lambda, and the local server, log it and tell the caller."""


def incomplete_disconnects(log: str) -> frozenset[str]:
    """Connections whose $disconnect handler says that it could not remove everything."""
    return frozenset(_INCOMPLETE.findall(log))


def parts_given_up(log: str) -> int:
    """How many invocations that nobody waits for, those for what a handler could not finish, failed again and again."""
    return len(_GIVEN_UP.findall(log))


def unforeseen(log: str) -> list[str]:
    """The errors of all tracebacks, but for those that Channels raises on purpose."""
    errors = [error for error, leads_on in _TRACEBACK.findall(log) if not leads_on]
    return [error for error in errors if not error.startswith(FORESEEN)]
