"""The captured events of tests/events, with some of their fields replaced."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent / "events"
_EVENTS = {path.stem: json.loads(path.read_text()) for path in _FOLDER.glob("*.json")}


def event(name: str, **replaced: Any) -> dict[str, Any]:
    """The captured event of that name. Keys of its requestContext, and body and query, may be replaced; None takes a
    key out.
    """
    captured: dict[str, Any] = copy.deepcopy(_EVENTS[name])
    for key, value in replaced.items():
        top = {"body": "body", "query": "queryStringParameters"}.get(key)
        place = captured if top else captured["requestContext"]
        if value is None:
            place.pop(top or key, None)
        else:
            place[top or key] = value
    return captured
