"""Tokens in a real browser: y-webrtc with one in its signaling URL, a page's own WebSocket, one that reconnects, and
pages of other origins. What clients outside of a browser do with tokens is test_tokens.py's.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
from websockets.sync.client import connect

from tests.server import Server, running_server
from tests.tokens import VARIABLES, token_for

from .pages import ClientPage, Site
from .plain_client import JSON, Client, close_connection
from .programs import SECONDS_TO_ANSWER

BOTH = ["subscribe", "publish"]

BRIEF_S = 4
"""The life of a token that is to end while a test waits for it: time enough to connect and renew it first."""


class TokenPage(ClientPage):
    """A page with sockets of its own."""

    def open(self, url: str, protocols: list[str] | None = None) -> str | None:
        """Opens a WebSocket. Returns the subprotocol that the server picks, which may be empty; None if it refuses."""
        picked: str | None = self.page.evaluate("parts => hooks.open(...parts)", [url, protocols or []])
        return picked

    def keep_open(self, url: str, *tokens: str) -> None:
        """Opens a WebSocket that reconnects, with the next token each time."""
        self.page.evaluate("parts => hooks.keepOpen(...parts)", [url, tokens])
        self.wait_until_opened(1)

    def wait_until_opened(self, times: int) -> None:
        self.wait_until(f"a socket that opened {times} times", "times => hooks.opened() === times", times)

    def send(self, **frame: JSON) -> None:
        self.page.evaluate("frame => hooks.send(frame)", json.dumps(frame))


@pytest.fixture(scope="module")
def guarded(site: Site) -> Iterator[Server]:
    """Our server with tokens, and with pages of one origin let in: of that which serves them here."""
    variables = {**VARIABLES, "JWT_LEEWAY_SECONDS": "0", "ALLOWED_ORIGINS": site.url.rstrip("/")}
    with running_server(env=variables) as server:
        yield server


def test_y_webrtc_pages_with_the_right_to_a_room_meet_there_and_notice_nobody_without_it(
    site: Site, guarded: Server
) -> None:
    room, elsewhere = f"room {uuid4()}", f"room {uuid4()}"
    members = [signaling(guarded, token_for(name, {room: BOTH})) for name in ("ann", "ben")]
    outsider = signaling(guarded, token_for("eve", {elsewhere: BOTH}))
    with site.y_webrtc_pages("10.3", 4) as (ann, stranger, nobody, ben):
        ann.join(members[0], room)
        ann.wait_until_subscribed()
        stranger.join(outsider, room)
        stranger.wait_to_receive('"forbidden"', times=2)  # the subscribe, and the announce
        nobody.join(guarded.url, room)
        nobody.wait_to_be_refused(401)
        ben.join(members[1], room)
        ann.insert("[ann was here]")
        ben.insert("[ben was here]")
        for page in (ann, ben):
            page.wait_for_text_of(["[ann was here]", "[ben was here]"])

        with connect(signaling(guarded, token_for("ada", {room: BOTH}))) as connection:
            ack = Client(connection).ask(action="sendmessage", channel=room, message={}, ack=True)
        assert ack == {"type": "ack", "delivered": 2, "stale": 0}
        for page in (ann, ben):
            assert {json.loads(text)["clients"] for text in page.received()} <= {1, 2}
            assert page.page.evaluate("hooks.peers()") == 1
        for page in (stranger, nobody):
            assert page.page.evaluate("hooks.peers()") == 0
            assert page.text() == ""
        assert [json.loads(text)["code"] for text in stranger.received()] == ["forbidden", "forbidden"]
        assert nobody.received() == []


def test_a_y_webrtc_page_that_renews_its_token_is_met_by_who_comes_later_though_it_had_to_reconnect(
    site: Site, guarded: Server
) -> None:
    room = f"room {uuid4()}"
    rights = {room: BOTH}
    with (
        connect(signaling(guarded, token_for("ada", rights))) as connection,
        site.y_webrtc_pages("10.3", 3) as (early, second, third),
    ):
        listener = Client(connection)
        listener.join(room, envelope=True)  # an envelope tells the connection that an announce came from
        brief = soon()
        early.join(signaling(guarded, token_for("ann", rights, exp=brief)), room)
        early.wait_until_subscribed()
        announce = listener.json()
        renewed = token_for("ann", rights)
        early.renew(signaling(guarded, renewed), renewed)
        early.wait_to_receive('"expiresAt"')
        wait_until_tokens_expire(guarded, brief)

        second.join(signaling(guarded, token_for("ben", rights)), room)
        second.insert("[second was here]")
        early.wait_for_text_of(["[second was here]"])

        close_connection(guarded, announce["from"])
        while listener.json()["message"] != announce["message"]:
            pass
        third.join(signaling(guarded, token_for("eve", rights)), room)
        third.wait_for_text_of(["[second was here]"])
        early.wait_for_peers(2)
        assert early.refusals() == []


def test_a_pages_own_websocket_shows_a_token_in_its_subprotocols_or_in_its_url(site: Site, guarded: Server) -> None:
    token = token_for("ann")
    with site.open("tokens", 1, TokenPage) as (page,):
        assert page.open(guarded.url, ["bearer", token]) == "bearer"
        assert page.open(signaling(guarded, token)) == ""
        assert page.refusals() == []

        assert page.open(guarded.url) is None
        assert page.open(guarded.url, ["bearer", f"{token[:-8]}AAAAAAAA"]) is None
        assert page.open(signaling(guarded, token), ["bearer", token]) is None
        assert page.refusals() == [401, 401, 401]
        assert page.errors == []


def test_a_page_of_an_origin_that_is_not_allowed_is_refused_whatever_its_token(site: Site, guarded: Server) -> None:
    token = token_for("ann")
    another_origin = Site(site.browser, site.url.replace("127.0.0.1", "localhost"))
    with another_origin.open("tokens", 1, TokenPage) as (page,):
        assert page.open(guarded.url, ["bearer", token]) is None
        assert page.open(signaling(guarded, token)) is None
        assert page.refusals() == [403, 403]


def test_a_page_behind_partysocket_goes_on_with_another_token_when_its_first_one_has_expired(
    site: Site, guarded: Server
) -> None:
    channel = f"channel {uuid4()}"
    rights = {channel: BOTH}
    renewed = token_for("ann", rights)
    with (
        connect(signaling(guarded, token_for("ben", rights))) as connection,
        site.open("tokens", 1, TokenPage) as (page,),
    ):
        ben = Client(connection)
        brief = soon()
        page.keep_open(guarded.url, token_for("ann", rights, exp=brief), renewed)
        page.send(action="joinchannel", channel=channel, id="first")
        page.wait_to_receive('"first"')
        page.send(action="authenticate", token=renewed)
        page.wait_to_receive('"expiresAt"')
        wait_until_tokens_expire(guarded, brief)

        ack = ben.ask(action="sendmessage", channel=channel, message="still there?", ack=True)
        assert ack == {"type": "ack", "delivered": 1, "stale": 0}
        page.wait_to_receive("still there?")
        page.send(action="sendmessage", channel=channel, message="yes", ack=True)
        page.wait_to_receive('"ack"')
        page.wait_until_opened(1)

        [joined] = [json.loads(text)["connectionId"] for text in page.received() if '"first"' in text]
        close_connection(guarded, joined)
        page.wait_until_opened(2)
        page.send(action="joinchannel", channel=channel, id="second")
        page.wait_to_receive('"second"')
        assert page.refusals() == []
        assert page.errors == []


def signaling(server: Server, token: str) -> str:
    """The server's address with a token in it."""
    return f"{server.url}?token={token}"


def soon() -> int:
    """When a token ends that is made now and not for long (s since 1970)."""
    return math.ceil(time.time()) + BRIEF_S


def wait_until_tokens_expire(server: Server, expires_at: int) -> None:
    """Returns when a client is told that its token, which ends at that time too, has expired."""
    with connect(signaling(server, token_for("clock", {"clock": BOTH}, exp=expires_at))) as connection:
        client = Client(connection)
        give_up = time.monotonic() + SECONDS_TO_ANSWER
        while (answer := client.ask(action="sendmessage", channel="clock", message="tick", ack=True))["type"] == "ack":
            assert time.monotonic() < give_up, "the token does not expire"
        assert answer["code"] == "token_expired"
