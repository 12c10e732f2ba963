"""wscat, the client of whoever wants to see a server answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest

from tests.server import Server

from .programs import Talker, installed, talking


@contextmanager
def wscat(url: str, *frames: str) -> Iterator[Talker]:
    """wscat, connected: it sends each frame, then prints what comes until the block ends."""
    execute = [argument for frame in frames for argument in ("--execute", frame)]
    with talking(installed(".bin/wscat"), "--connect", url, "--wait", "-1", *execute) as process:
        yield process


@pytest.mark.parametrize(("frame", "answer"), [('{"type":"ping"}', '{"type":"pong"}'), ("Marko?", "Polo!")])
def test_wscat_prints_the_answer_to_a_frame(channels: Server, frame: str, answer: str) -> None:
    with wscat(channels.url, frame) as terminal:
        assert terminal.line() == answer


def test_two_wscats_talk_in_a_channel(channels: Server) -> None:
    channel = f"channel {uuid4()}"
    join = json.dumps({"action": "joinchannel", "channel": channel})
    say = json.dumps({"action": "sendmessage", "channel": channel, "message": "zażółć"})
    with wscat(channels.url, join) as listener:
        assert json.loads(listener.line())["channel"] == channel
        with wscat(channels.url, say):
            assert listener.line() == "zażółć"
