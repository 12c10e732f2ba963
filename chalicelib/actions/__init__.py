"""The registry of custom actions: the extension point. One new file here and one row in ACTIONS make a new action.

A frame {"action": "chat", …} runs `ACTIONS["chat"]`, which is handed a `Call`: the frame, and all that an action may
do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from .call import Call
from .chat import chat

Action: TypeAlias = Callable[[Call], None]

ACTIONS: Mapping[str, Action] = {
    "chat": chat,
}

__all__ = ["ACTIONS", "Action", "Call"]
