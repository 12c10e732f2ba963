"""A process of ours ends with its parent, whatever ended that: kill -9 of `make run` leaves nothing behind.

Knows processes and signals, and nothing of what the process does. Who stays alive is decided by one chain: the launcher
(`__main__`) watches make or the shell, the server watches the launcher or plain `chalice local`, and the store and the
processes that run functions (workers.py) read pipes that the server holds open.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from types import FrameType

PARENT_VARIABLE = "LOCALAWS_PARENT"
"""Names the parent's process id to a child of ours: one that ended before its child looked would go unnoticed."""

PARENT = int(os.environ.pop(PARENT_VARIABLE, 0)) or os.getppid()

# No event of the kernel's tells a process on both Linux and macOS that its parent has ended, and chalice's parent
# process gives its worker no pipe to read. Four calls of getppid a second cost nothing that can be measured.
POLL_S = 0.25

# More than a server needs to say goodbye to its clients (server.CLOSING_S).
GRACE_S = 8.0


@functools.cache
def end_with_parent() -> None:
    """From now on the end of this process's parent is this one's Ctrl-C, and soon after its end. Repeats do nothing."""
    threading.Thread(target=_watch, name="lifeline", daemon=True).start()


def ignore_signals() -> None:
    """This process is ending and takes no more orders to: for the main thread, once a first one has been obeyed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _ignore)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Not SIG_IGN, by which `_watch` knows a process that has never listened from one that is ending."""


def _watch() -> None:
    while os.getppid() == PARENT:
        time.sleep(POLL_S)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as it is behind a script's `&`
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(GRACE_S)
    os._exit(1)
