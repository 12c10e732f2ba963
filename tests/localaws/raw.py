"""WebSocket clients that may do anything: raw sockets, and the bytes of frames, right and wrong.

The frames are the websockets library's where it would make them; what it refuses to make is put together here.
"""

from __future__ import annotations

from collections.abc import Iterator

FRAME_BYTES = 32 * 1024


def in_frames(text: str) -> Iterator[str]:
    """A text in pieces for a client to send, none of which is larger than a frame may be."""
    most = FRAME_BYTES // 4  # the bytes of a character
    for start in range(0, len(text), most):
        yield text[start : start + most]
