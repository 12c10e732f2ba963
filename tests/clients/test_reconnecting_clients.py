"""A browser page and a Node process in one channel, both behind partysocket, the reconnecting WebSocket that is still
maintained. All that the application adds is to join again whenever the socket opens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol
from uuid import uuid4

from tests.server import Server, running_server

from .pages import ClientPage, Site
from .plain_client import JSON, close_connection
from .programs import Talker, installed, node, talking


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
def members(site: Site, url: str, channel: str) -> Iterator[tuple[PageMember, NodeMember]]:
    """A member in a page and one in a Node process; asserts at the end that nothing in the page went wrong."""
    installed("partysocket")
    command = (node(), "pages/pubsub-node.js", url, channel)
    with site.open("pubsub", 1, PageMember) as (page,), talking(*command) as process:
        page.join(url, channel)
        yield page, NodeMember(process)
        assert page.errors == []


def test_a_page_and_a_node_process_go_on_after_the_gateway_closed_their_connections(
    site: Site, channels: Server
) -> None:
    channel = f"channel {uuid4()}"
    with members(site, channels.url, channel) as (page, process):
        joined = [id_in_ack(member, channel) for member in (page, process)]
        assert_they_hear_each_other(page, process, channel)

        for connection_id in joined:
            close_connection(channels, connection_id)

        joined_again = [id_in_ack(member, channel) for member in (page, process)]
        assert set(joined).isdisjoint(joined_again)
        assert_they_hear_each_other(page, process, channel)


def test_a_page_and_a_node_process_go_on_after_the_server_was_restarted(site: Site) -> None:
    channel = f"channel {uuid4()}"
    with ExitStack() as first_life:
        server = first_life.enter_context(running_server())
        with members(site, server.url, channel) as (page, process):
            for member in (page, process):
                id_in_ack(member, channel)
            first_life.close()
            with running_server(args=("--port", str(server.port))):
                for member in (page, process):
                    id_in_ack(member, channel)
                assert_they_hear_each_other(page, process, channel)


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
