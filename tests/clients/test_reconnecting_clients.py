"""A browser page and a Node process in one channel, both behind partysocket, the reconnecting WebSocket that is still
maintained. All that the application adds is to join again whenever the socket opens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias
from urllib.parse import quote
from urllib.request import Request, urlopen
from uuid import uuid4

from tests.server import Server

from .pages import ClientPage, Site
from .programs import SECONDS_TO_ANSWER, Talker, installed, node, talking

JSON: TypeAlias = Any


class Member(Protocol):
    """A client that joins its channel whenever its socket opens."""

    def send(self, frame: JSON) -> None: ...

    def hear(self) -> str:
        """The next text that comes, however long the reconnecting takes (within bounds)."""


class PageMember(ClientPage):
    """A member in a browser page."""

    _heard = 0

    def join(self, url: str, channel: str) -> None:
        self.page.evaluate("parts => hooks.join(...parts)", [url, channel])

    def send(self, frame: JSON) -> None:
        self.page.evaluate("frame => hooks.send(frame)", json.dumps(frame))

    def hear(self) -> str:
        self.wait_until("another text", "heard => hooks.heard.length > heard", self._heard)
        self._heard += 1
        return str(self.page.evaluate("heard => hooks.heard[heard - 1]", self._heard))


class NodeMember:
    """A member in a Node process."""

    def __init__(self, process: Talker) -> None:
        self._process = process

    def send(self, frame: JSON) -> None:
        self._process.write(json.dumps(frame))

    def hear(self) -> str:
        return str(json.loads(self._process.line()))


@contextmanager
def node_member(url: str, channel: str) -> Iterator[NodeMember]:
    installed("partysocket")
    with talking(node(), "pages/pubsub-node.js", url, channel) as process:
        yield NodeMember(process)


def test_a_page_and_a_node_process_go_on_after_the_server_closed_their_connections(
    site: Site, channels: Server
) -> None:
    channel = f"channel {uuid4()}"
    with site.open("pubsub", 1, PageMember) as (page,), node_member(channels.url, channel) as process:
        page.join(channels.url, channel)
        joined = [id_in_ack(member, channel) for member in (page, process)]
        assert_they_hear_each_other(page, process, channel)

        for connection_id in joined:
            close(channels, connection_id)

        joined_again = [id_in_ack(member, channel) for member in (page, process)]
        assert set(joined).isdisjoint(joined_again)
        assert_they_hear_each_other(page, process, channel)
        assert page.errors == []


def id_in_ack(member: Member, channel: str) -> str:
    """Waits for the ack of a join, and returns the connection id in it."""
    ack = json.loads(member.hear())
    assert ack == {"channel": channel, "connectionId": ack["connectionId"]}
    return str(ack["connectionId"])


def assert_they_hear_each_other(one: Member, other: Member, channel: str) -> None:
    for speaker, listener in ((one, other), (other, one)):
        text = f"hello {uuid4()}"
        speaker.send({"action": "sendmessage", "channel": channel, "message": text})
        assert listener.hear() == text


def close(server: Server, connection_id: str) -> None:
    """Has the gateway close a connection, as an operator would."""
    url = f"{server.http}@connections/{quote(connection_id, safe='')}"
    with urlopen(Request(url, method="DELETE"), timeout=SECONDS_TO_ANSWER) as response:
        assert response.status == 204
