"""Servers and browser of the tests with real clients.

Every fixture ends with this package: Playwright keeps an event loop running in pytest's own thread, and no loop, thread
or process may be left to the tests that come after.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.server import OVERTAKING, Server, running_server

from .pages import ChannelStuckError, Site, launched_browser, served_bundles
from .programs import reference_server

TRIED_AGAIN = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Tries a test once more if Chromium failed it. What a server can be blamed for is never tried again."""
    try:
        return (yield)
    except ChannelStuckError:
        if TRIED_AGAIN in pyfuncitem.stash:
            raise
        pyfuncitem.stash[TRIED_AGAIN] = True
        return pyfuncitem.ihook.pytest_pyfunc_call(pyfuncitem=pyfuncitem)


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served_bundles(tmp_path_factory.mktemp("pages")) as url, launched_browser() as browser:
        yield Site(browser, url)


@pytest.fixture(scope="package")
def channels() -> Iterator[Server]:
    """Our server as it comes: every connection's home channel is `default`."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="package")
def homeless() -> Iterator[Server]:
    """Our server as a y-webrtc deployment has it: no home channel."""
    with running_server(env={"HOME_CHANNEL": ""}) as server:
        yield server


@pytest.fixture(scope="package")
def shuffling() -> Iterator[Server]:
    """Our server at its worst: frames of one socket overtake each other at random, as Lambda lets them."""
    with running_server(env={"HOME_CHANNEL": "", **OVERTAKING}) as server:
        yield server


@pytest.fixture(scope="package")
def in_order() -> Iterator[Server]:
    """Our server with the frames of one socket handled one after the other, as the reference server does it."""
    with running_server(env={"HOME_CHANNEL": "", "LOCALAWS_SERIAL_FRAMES": "1"}) as server:
        yield server


@pytest.fixture(scope="package")
def reference() -> Iterator[str]:
    """The address of y-webrtc's own signaling server."""
    with reference_server() as url:
        yield url


@pytest.fixture(params=["channels", "reference"])
def signaling(request: pytest.FixtureRequest) -> str:
    """The address of our server, and in a second run of the test that of the reference server."""
    if request.param == "reference":
        return str(request.getfixturevalue("reference"))
    server: Server = request.getfixturevalue("homeless")
    return server.url
