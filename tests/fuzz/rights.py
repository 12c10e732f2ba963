"""What a claim allows: its patterns as regular expressions, which is not how chalicelib/capability.py matches them."""

from __future__ import annotations

import re
from collections.abc import Mapping


class Rights:
    """What a claim allows. `words` are what of it has an effect; two claims in the same words are the same."""

    def __init__(self, claim: Mapping[str, list[str]]) -> None:
        known = {
            pattern: ("*",) if "*" in operations else tuple(sorted({"subscribe", "publish"} & set(operations)))
            for pattern, operations in claim.items()
        }
        self.words = {pattern: operations for pattern, operations in known.items() if operations}
        self._channels = {
            wanted: re.compile(
                "|".join(_regex(pattern) for pattern, given in self.words.items() if {wanted, "*"} & set(given))
                or "(?!)",
                re.DOTALL,
            )
            for wanted in ("subscribe", "publish")
        }

    def cover(self, operation: str, channel: str) -> bool:
        return self._channels[operation].fullmatch(channel) is not None


def _regex(pattern: str) -> str:
    segments = pattern.split(":")
    parts = ["[^:]*" if segment == "*" else re.escape(segment) for segment in segments]
    if segments[-1] != "*":
        return f"(?:{':'.join(parts)})"
    return f"(?:{':'.join(parts[:-1])}(?::.*)?)" if parts[:-1] else "(?:.*)"
