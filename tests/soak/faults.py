"""Which faults a soak puts in.

Faults that are losses (drop, fail, cut, …) and faults that must come to nothing (delay, forget, unprocessed, …) are
mixed at random; the ledger tells them apart afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.faults import Rule

CALM: Sequence[Rule] = [
    {"at": "frame", "do": "delay", "share": 0.2, "ms": "0-80"},
    {"at": "frame", "do": "delay", "share": 0.01, "ms": "1000-2000"},
    {"at": "frame", "do": "fail", "share": 0.005},
    {"at": "delivery", "do": "delay", "share": 0.05, "ms": "0-300"},
    {"at": "delivery", "do": "drop", "share": 0.004},
    {"at": "delivery", "do": "double", "share": 0.004},
    {"at": "delivery", "do": "throttle", "share": 0.005},
    {"at": "delivery", "do": "fail", "share": 0.003},
    {"at": "delivery", "do": "forget", "share": 0.003},
    {"at": "store", "do": "delay", "share": 0.03, "ms": "0-100"},
    {"at": "store", "do": "throttle", "share": 0.01},
    {"at": "store", "do": "fail", "share": 0.005},
    {"at": "store", "do": "forget", "share": 0.005},
    {"at": "store", "do": "down", "share": 0.002},
    {"at": "store", "do": "unprocessed", "share": 0.05},
    {"at": "disconnect", "do": "lose", "share": 0.2},
    {"at": "socket", "do": "freeze", "share": 0.01, "ms": "2000-8000"},
    {"at": "socket", "do": "freeze", "share": 0.004},
    {"at": "socket", "do": "cut", "share": 0.03, "ms": "3000-60000"},
]
"""All the time."""

KILLS: Sequence[Rule] = [
    {"at": "invocation", "do": "kill", "match": "websocket_message", "share": 0.006},
    {"at": "invocation", "do": "kill", "match": "websocket_message", "share": 0.006, "after": True},
    {"at": "invocation", "do": "kill", "match": "websocket_message", "share": 0.006, "request": 4},
    {"at": "invocation", "do": "kill", "match": "websocket_connect", "share": 0.01, "after": True},
    {"at": "invocation", "do": "kill", "match": "websocket_disconnect", "share": 0.02},
    {"at": "invocation", "do": "kill", "match": "publish", "share": 0.02, "request": 3},
]
"""All the time too, where functions run in processes of their own."""

STORM: Sequence[Rule] = [{"at": "store", "do": "fail", "share": 0.9}]
"""Beside these, for some seconds: so often that the SDK's own retries do not hide it."""


def environment(workers: int) -> dict[str, str]:
    """What a server is started with for a soak, its functions in so many processes: faults, and no quotas. A storm of
    clients is refused by these as it should be, and that is not what a soak is to find.
    """
    return {
        "LOCALAWS_FAULTS": "{}",
        "LOCALAWS_WORKERS": str(workers),
        "LOCALAWS_CONNECT_RATE": "0",
        "LOCALAWS_REQUEST_RATE": "0",
    }
