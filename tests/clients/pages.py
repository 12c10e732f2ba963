"""Real browser pages: bundled by esbuild, served on loopback, each in a browser context of its own.

What a page sends and receives is recorded from outside, by Chromium; nothing in the page is patched except that
the ways by which two pages of one browser could meet without a signaling server are gone, and its clock where a test
would have to wait for a minute.
"""

from __future__ import annotations

import functools
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, TypeVar
from uuid import uuid4

from playwright.sync_api import Browser, BrowserContext, CDPSession, Page, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

from .programs import HERE, chromium, installed

# The bundles: name of the page, its source, and what takes the place of y-webrtc in it.
BUNDLES = (
    ("y-webrtc-10.3", "y-webrtc.js", "y-webrtc"),
    ("y-webrtc-10.2", "y-webrtc.js", "y-webrtc-10-2"),
    ("pubsub", "pubsub-browser.js", "y-webrtc"),
    ("tokens", "tokens.js", "y-webrtc"),
)

PAGE = """<!doctype html>
<meta charset="utf-8">
<link rel="icon" href="data:,">
<script type="module" src="{name}.js"></script>
"""

CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Without these two, pages on one machine offer each other addresses that they cannot reach.
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--allow-loopback-in-peer-connection",
)

# Left alone, lib0 lets pages of one origin meet through BroadcastChannel, and without that through localStorage:
# they would converge with no server at all, and a test of the server would prove nothing.
ONLY_SIGNALING = """
    delete window.BroadcastChannel
    Object.defineProperty(window, 'localStorage', { value: undefined })
"""

REFUSALS = {
    401: "HTTP Authentication failed; no valid credentials available",
    403: "Unexpected response code: 403",
}
"""What Chromium says, in its console and to no page, of a handshake that is answered with a status."""

SECONDS_TO_WAIT = 20
POLL_MS = 20


@contextmanager
def launched_browser() -> Iterator[Browser]:
    """Headless Chromium. Playwright keeps an event loop running in this thread as long as it lives."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def served_bundles(folder: Path) -> Iterator[str]:
    """Bundles every page into a folder and serves it on loopback. Yields the http:// address of the folder."""
    for name, source, y_webrtc in BUNDLES:
        command = [
            installed(".bin/esbuild"),
            str(HERE / "pages" / source),
            "--bundle",
            "--format=esm",
            f"--alias:y-webrtc={y_webrtc}",
            f"--outfile={folder / name}.js",
            "--log-level=warning",
        ]
        subprocess.run(command, check=True, cwd=HERE)
        (folder / f"{name}.html").write_text(PAGE.format(name=name))
    handler = functools.partial(_QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name is the base class's)
        pass


@dataclass(frozen=True)
class Frame:
    """One text frame of a page's WebSocket: which of its sockets, counted from 0, and when (s, of one clock for all
    pages).
    """

    direction: Literal["sent", "received"]
    text: str
    socket: int
    at: float


class ChannelStuckError(Exception):
    """Chromium failed a test: a data channel that has opened, and receives, says that it is "connecting".

    Seen on a busy machine in one of some hundred pairs of pages, after signaling without a fault, and with getStats()
    calling the same channel "open". The page can then send nothing, and y-webrtc does not notice.
    """


class ClientPage:
    """A page in a context of its own, with a record of its frames, of when its sockets closed, of the handshakes of its
    that failed, and of every error that nothing in it caught.
    """

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.frames: list[Frame] = []
        self.sockets = 0
        self.closed_at: dict[int, float] = {}
        self.failed_handshakes: list[str] = []
        self.errors: list[str] = []
        context.add_init_script(ONLY_SIGNALING)
        self.page: Page = context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self._record(context.new_cdp_session(self.page))
        self.page.goto(url)
        self.page.wait_for_function("window.hooks")

    def _record(self, session: CDPSession) -> None:
        """Chromium's own record, for its times: what Playwright tells of two pages may come in the wrong order."""
        numbers: dict[str, int] = {}

        def record_socket(event: dict[str, Any]) -> None:
            numbers[event["requestId"]] = self.sockets
            self.sockets += 1

        def record(direction: Literal["sent", "received"], event: dict[str, Any]) -> None:
            text, number = event["response"]["payloadData"], numbers[event["requestId"]]
            self.frames.append(Frame(direction, text, number, event["timestamp"]))

        def record_close(event: dict[str, Any]) -> None:
            self.closed_at[numbers[event["requestId"]]] = event["timestamp"]

        session.on("Network.webSocketCreated", record_socket)
        session.on("Network.webSocketFrameSent", functools.partial(record, "sent"))
        session.on("Network.webSocketFrameReceived", functools.partial(record, "received"))
        session.on("Network.webSocketClosed", record_close)
        session.on("Network.webSocketFrameError", lambda event: self.failed_handshakes.append(event["errorMessage"]))
        session.send("Network.enable")

    def received(self) -> list[str]:
        """The texts that the server sent to this page so far, in order."""
        return [frame.text for frame in self.frames if frame.direction == "received"]

    def sent(self, part: str) -> list[str]:
        """The texts with this in them that this page has sent so far, in order."""
        return [frame.text for frame in self.frames if frame.direction == "sent" and part in frame.text]

    def wait_until(self, what: str, condition: str, argument: object = None) -> None:
        """Waits until a JavaScript function of one argument is true in the page.

        Raises:
            AssertionError: it was not within SECONDS_TO_WAIT; says what was waited for and how the page is.
        """
        try:
            self.page.wait_for_function(condition, arg=argument, polling=POLL_MS, timeout=SECONDS_TO_WAIT * 1000)
        except PlaywrightTimeoutError:
            raise AssertionError(f"not in {SECONDS_TO_WAIT} s: {what}. The page: {self}") from None

    def wait_to_receive(self, part: str, times: int = 1) -> None:
        """Waits until the server has sent the page so many texts with this in them."""
        self.wait_for(f"{times} texts with {part}", lambda: sum(part in text for text in self.received()) >= times)

    def refusals(self) -> list[int | None]:
        """With which status each handshake failed so far that did; None where it was for another reason."""
        return [
            next((status for status, words in REFUSALS.items() if words in error), None)
            for error in self.failed_handshakes
        ]

    def wait_to_be_refused(self, status: int) -> None:
        self.wait_for(f"a handshake refused with {status}", lambda: status in self.refusals())

    def wait_for(self, what: str, is_so: Callable[[], bool]) -> None:
        """Waits until a function is true, while what Chromium records comes in.

        Raises:
            AssertionError: it was not within SECONDS_TO_WAIT.
        """
        give_up = time.monotonic() + SECONDS_TO_WAIT
        while not is_so():
            if time.monotonic() > give_up:
                raise AssertionError(f"not in {SECONDS_TO_WAIT} s: {what}. The page: {self}")
            self.page.wait_for_timeout(POLL_MS)

    def govern_time(self) -> None:
        """Loads the page anew with a clock and timers that `skip` can put forward."""
        self.page.clock.install()
        self.page.reload()
        self.page.wait_for_function("window.hooks")

    def skip(self, seconds: int) -> None:
        """Lets time pass in the page at once; each timer that is due goes off once."""
        self.page.clock.fast_forward(seconds * 1000)

    def has_a_stuck_channel(self) -> bool:
        return bool(self.page.evaluate("hooks.stuckChannels?.() > 0"))

    def __str__(self) -> str:
        frames = "\n".join(f"{frame.direction:8} {frame.text[:160]}" for frame in self.frames)
        trouble = [*self.errors[:3], *self.failed_handshakes[:3]]
        return (
            f"{len(self.errors)} errors, {len(self.failed_handshakes)} failed handshakes {trouble}, frames:\n{frames}"
        )


class YWebrtcPage(ClientPage):
    """A page with y-webrtc and one shared text."""

    def join(self, signaling: str, room: str, password: str | None = None) -> None:
        self.page.evaluate("parts => hooks.join(...parts)", [room, password, signaling])

    def leave(self) -> None:
        self.page.evaluate("hooks.leave()")

    def renew(self, signaling: str, token: str) -> None:
        self.page.evaluate("parts => hooks.renew(...parts)", [signaling, token])

    def insert(self, string: str) -> None:
        self.page.evaluate("string => hooks.insert(string)", string)

    def text(self) -> str:
        return str(self.page.evaluate("hooks.text()"))

    def wait_for_peers(self, count: int) -> None:
        """Waits until the page has so many peers, and data has come from each of them."""
        self.wait_until(
            f"{count} peers and data from each", "count => hooks.heard() === count && hooks.peers() === count", count
        )

    def wait_for_text_of(self, parts: Sequence[str]) -> None:
        """Waits until the text is made of all these parts, in any order, and of nothing else."""
        self.wait_until(
            f"a text made of {parts}",
            """parts => hooks.text().length === parts.join('').length
                     && parts.every(part => hooks.text().includes(part))""",
            list(parts),
        )

    def make_noise(self) -> None:
        """Sends frames that mean nothing, from now on, over y-webrtc's own socket."""
        self.page.evaluate("hooks.makeNoise()")

    def wait_until_subscribed(self, sockets: int = 1) -> None:
        """Waits for the first publish that comes to so many sockets, usually the page's own announce: only subscribers
        get any.
        """
        self.wait_for(
            f"publishes on {sockets} sockets",
            lambda: (
                len(
                    {
                        frame.socket
                        for frame in self.frames
                        if '"publish"' in frame.text and frame.direction == "received"
                    }
                )
                >= sockets
            ),
        )

    def assert_nothing_went_wrong(self) -> None:
        """What is true of every page in every test: no errors, no other way to meet, no signal that came twice."""
        assert self.errors == []
        assert self.page.evaluate("hooks.peersWithoutSignaling()") == 0
        signals = Counter(text for text in self.received() if '"publish"' in text and '"announce"' not in text)
        assert [text for text, count in signals.items() if count > 1] == []

    def __str__(self) -> str:
        state = self.page.evaluate("({ text: hooks.text(), peers: hooks.peers() })")
        return f"{state}, {super().__str__()}"


def assert_they_meet(pages: Sequence[YWebrtcPage], signaling: str, password: str | None = None) -> None:
    """Lets pages join one new room at the same moment, and asserts that each meets each and that they converge."""
    room = f"room {uuid4()}"
    for page in pages:
        page.join(signaling, room, password)
    assert_they_are_one(pages)


def assert_they_are_one(pages: Sequence[YWebrtcPage]) -> None:
    """Asserts that data flows between each two of a room's pages, and that what each writes then reaches all."""
    for page in pages:
        page.wait_for_peers(len(pages) - 1)
    parts = [f"[page {number}]" for number in range(len(pages))]
    for page, part in zip(pages, parts, strict=True):
        page.insert(part)
    for page in pages:
        page.wait_for_text_of(parts)


@dataclass(frozen=True)
class Site:
    """The bundled pages at an address, and the browser that opens them."""

    browser: Browser
    url: str

    @contextmanager
    def y_webrtc_pages(self, version: str, count: int) -> Iterator[list[YWebrtcPage]]:
        """Opens pages that are in no room yet; at the end asserts that nothing went wrong in any, and closes them."""
        with self.open(f"y-webrtc-{version}", count, YWebrtcPage) as pages:
            yield pages
            for page in pages:
                page.assert_nothing_went_wrong()

    @contextmanager
    def open(self, name: str, count: int, kind: type[AnyPage]) -> Iterator[list[AnyPage]]:
        """Opens one page so many times, each in a new context: nothing is shared but the network.

        Raises:
            ChannelStuckError: the block raised an AssertionError, and there is such a channel in one of the pages.
        """
        with ExitStack() as contexts:
            pages = [
                kind(contexts.enter_context(self.browser.new_context()), f"{self.url}{name}.html") for _ in range(count)
            ]
            try:
                yield pages
            except AssertionError as error:
                if any(page.has_a_stuck_channel() for page in pages):
                    raise ChannelStuckError from error
                raise


AnyPage = TypeVar("AnyPage", bound=ClientPage)
