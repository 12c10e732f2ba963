"""`make verify`: holds the project's own conversations with a server, and says in a table how they went.

Knows addresses, and what each failure to connect means to the person who gave one. How clients speak is clients.py's,
what is said and promised conversations.py's.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from inspect import cleandoc
from textwrap import indent
from urllib.parse import urlsplit

import click
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus, WebSocketException

from .clients import ANSWER_S, Failed, Party, connect, is_loopback, receive, shown
from .conversations import CONVERSATIONS, a_channel
from .errors import ConfigError, OpsError

ABOUT = "about 45 connections, three at a time, and 400 messages, some of them of 128 KB"
"""What a verification costs the server that it is done to."""


def verify(url: str, *, any_host: bool) -> bool:
    """Holds every conversation with the server, prints how each went, and returns whether all went as promised.

    Raises OpsError where there is nothing to talk to: ConfigError for a URL that is none, and for another machine's
    without `any_host`.
    """
    check(url, any_host)
    greet(url)
    click.echo(f"{len(CONVERSATIONS)} conversations with {plain(url)}\n\n{'':3}{'conversation':32}{'result':9}time")
    failures: dict[str, Failed] = {}
    opened, sent, began = 0, 0, time.monotonic()
    for name in CONVERSATIONS:
        click.echo(f"{'':3}{name:32}", nl=False)
        since = time.monotonic()
        party, failed = hold(url, name)
        click.echo(f"{'FAILED' if failed else 'ok':9}{time.monotonic() - since:4.1f} s")
        opened, sent = opened + party.opened, sent + party.sent
        failures |= {name: failed} if failed else {}
    for name, failed in failures.items():
        click.echo(f"\nFAILED  {name}: {cleandoc(CONVERSATIONS[name].__doc__ or '')}\n{indent(str(failed), '  ')}")
    went = f"{len(failures)} of {len(CONVERSATIONS)} failed" if failures else "All went as promised"
    click.echo(f"\n{went}: {opened} connections, {sent} messages sent, {time.monotonic() - began:.0f} s.")
    return not failures


def hold(url: str, name: str) -> tuple[Party, Failed | None]:
    """Holds one conversation with the server. Returns who took part, and the promise that was not kept."""
    with Party(url) as party:
        try:
            CONVERSATIONS[name](party)
        except Failed as failed:
            return party, failed
        except (OSError, WebSocketException) as error:
            return party, party.failed("a connection", explain(url, error))
    return party, None


def check(url: str, any_host: bool) -> None:
    """Raises ConfigError for what is no WebSocket address, and for another machine's without `any_host`."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:
        host = ""
    if not host or parts.scheme not in {"ws", "wss"} or parts.fragment:
        raise ConfigError(
            "URL must be a WebSocket address, such as ws://127.0.0.1:8000/ or "
            f"wss://ID.execute-api.REGION.amazonaws.com/api, not {url!r}."
        )
    if not (any_host or is_loopback(host)):
        raise ConfigError(
            f"{host} is another machine, and nothing was sent to it. To verify it takes {ABOUT}, on channels of their "
            f"own, which reach nobody else and cost what messages cost there: make verify URL={url} ANY_HOST=1"
        )


def greet(url: str) -> None:
    """Raises OpsError where nothing can be connected to, or what is there is not Channels."""

    async def answer() -> str:
        async with await connect(url, {"room": a_channel()}) as connection:
            await connection.send("Marko?")
            try:
                return shown(await receive(connection, ANSWER_S))
            except TimeoutError:
                return "nothing"

    try:
        came = asyncio.run(answer())
    except (OSError, WebSocketException) as error:
        raise OpsError(explain(url, error)) from error
    if came != shown("Polo!"):
        raise OpsError(
            f"{plain(url)} does not answer as Channels does: expected 'Polo!' to 'Marko?', came {came}. "
            "If it is the address that `make run` or `make deploy` has printed, the log of websocket_message says why."
        )


REFUSALS: Mapping[int, str] = {
    401: "it wants a token that is valid; give it in the URL, as in ?token=…",
    403: "on AWS the address ends with the stage and nothing behind it, as in wss://…/api; a token in it must give the "
    "right to everything",
    429: "too many connect at this moment; try again later",
    500: "its function websocket_connect failed, and that function's log says why",
    502: "its function websocket_connect failed, and that function's log says why",
}
"""What may be behind the status of a refused handshake."""

FAILURES: Sequence[tuple[type[Exception] | tuple[type[Exception], ...], str]] = (
    (
        ssl.SSLCertVerificationError,
        "The certificate at {where} is not trusted here: {error}. SSL_CERT_FILE may name its authority's.",
    ),
    (ssl.SSLError, "There is no TLS at {where}: {error}. Check the port, or use ws:// if that is served there."),
    (socket.gaierror, "There is no host of the name in {where}: check the name, and this machine's network."),
    (ConnectionRefusedError, "Nothing listens at {where}: start it (`make run`), or check host and port."),
    (TimeoutError, "Nothing answered at {where} in time: check host and port, and firewalls on the way."),
    (
        (InvalidMessage, ConnectionError, ConnectionClosed),
        "{where} does not speak as a WebSocket server does: check the port, and whether it takes ws:// or wss://.",
    ),
    (Exception, "There is no connection with {where}: {error}. Check the address, and the network."),
)
"""What each failure to connect means, and what to do; the first one that fits."""


def explain(url: str, error: Exception) -> str:
    """In a sentence, why there is no connection."""
    where = plain(url)
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        advice = REFUSALS.get(status, "this is not a WebSocket address of Channels; check host, port and path")
        return f"{where} refused the handshake with {status}: {advice}."
    text = next(text for kind, text in FAILURES if isinstance(error, kind))
    return text.format(where=where, error=f"{error}".rstrip("."))


def plain(url: str) -> str:
    """The URL without what may be secret in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
