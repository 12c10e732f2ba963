"""Runs first in the processes that have this folder on their PYTHONPATH: the functions on the emulator, and deploys.

So neither needs to know that there is an emulator. AWS's names for APIs lead to it, and waits for AWS are short.
"""

import os
import socket
import time
from collections.abc import Callable
from typing import Any, SupportsIndex


def leading_to(gateway: int) -> Callable[..., Any]:
    """socket.getaddrinfo, but that AWS's names, whatever the port, are that port of this machine."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *more: Any, **named: Any) -> Any:
        if isinstance(host, str) and host.endswith(".amazonaws.com"):
            host, port = "127.0.0.1", gateway
        return resolve(host, port, *more, **named)

    return getaddrinfo


def for_at_most(longest_s: float) -> Callable[[float | SupportsIndex], None]:
    """time.sleep, but never longer than that."""
    wait = time.sleep

    def sleep(seconds: float | SupportsIndex, /) -> None:
        wait(min(float(seconds), longest_s))

    return sleep


if "EMULATOR_GATEWAY" in os.environ:
    socket.getaddrinfo = leading_to(int(os.environ["EMULATOR_GATEWAY"]))
if "EMULATOR_LONGEST_WAIT_S" in os.environ:
    time.sleep = for_at_most(float(os.environ["EMULATOR_LONGEST_WAIT_S"]))
