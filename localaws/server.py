"""The server that `chalice local` starts and stops: port, store, gateway, in this order.

Knows how the parts are put together and what the user is told, and nothing of what they do.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ipaddress
import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.http import HttpProcessingError

from localaws import bodies, control, dynamodb, environment, lifeline
from localaws.apigateway import Gateway
from localaws.errors import StartupError, fail
from localaws.faults import Faults, Plan, PlanError
from localaws.functions import Functions, InThreads, Threads, keep_here
from localaws.kills import Kills
from localaws.limits import HTTP_PAYLOAD_BYTES
from localaws.pages import Pages
from localaws.settings import Settings
from localaws.signatures import Signatures
from localaws.store_proxy import StoreProxy
from localaws.workers import Workers

if TYPE_CHECKING:
    from chalice.app import Chalice
    from chalice.config import Config

CLOSING_S = 5.0
"""How long the end may take: clients are told, their $disconnect handlers run."""

BACKLOG = 4096
"""Connections that wait to be accepted: thousands of clients reconnect at once after a reload."""


def start(app: Chalice, config: Config, host: str, port: int) -> LocalServer:
    """A server, or one clear sentence and exit code 1."""
    try:
        return LocalServer(app, config, host, port)
    except StartupError as error:
        fail(error)


class LocalServer:
    """Stands in for chalice.local.LocalDevServer. Raises StartupError if it cannot start."""

    def __init__(self, app: Chalice, config: Config, host: str, port: int) -> None:
        project = Path(config.project_dir)
        self._settings = settings = Settings.from_environ(os.environ, project)
        _raise_file_limit()
        self._faults = _faults(settings)
        self._kills = Kills()
        self._listener = _listen(host, port)
        loopback = _is_loopback(self._listener)
        if not loopback:
            _warn_of_others(host, settings)
        self._address = _address(self._listener)
        self._stage = config.api_gateway_stage
        self._store: dynamodb.Store | None = None
        self._proxy: StoreProxy | None = None
        environment.use_gateway(os.environ, f"http://{self._address}", self._stage)
        logging.getLogger("aiohttp.server").addFilter(_is_news)
        keep_here(app)
        table = self._open_store(settings, project)
        signatures = Signatures(environment.secrets(os.environ, settings.workers), checked=settings.signatures)
        threads = Threads(settings.threads)
        self._workers: Workers | None = None
        if settings.workers:
            self._workers = Workers(settings.workers, config.chalice_stage, self._faults, self._kills)
        functions = Functions(app, config, self._workers or InThreads(threads))
        self._greeting = self._greet(config.app_name, table, functions.pure, settings)
        self._gateway = Gateway(
            functions,
            Pages(app, config, threads),
            settings,
            self._stage,
            signatures=signatures,
            faults=self._faults,
            kills=self._kills,
            loopback=loopback,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_wanted = threading.Event()
        self._stopped = threading.Event()
        atexit.register(self._at_exit)

    def serve_forever(self) -> None:
        """Serve until `shutdown` is called or, in the main thread, until Ctrl-C or SIGTERM."""
        try:
            asyncio.run(self._serve())
        finally:
            if self._workers is not None:
                self._workers.close()
            if self._store is not None:
                self._store.close()
            self._stopped.set()

    def shutdown(self) -> None:
        """Stop, from another thread: returns when clients are told and the store has saved."""
        self._stop_wanted.set()
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._stop.set)
        self._stopped.wait(CLOSING_S + dynamodb.SAVE_S)

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._stop_wanted.is_set():
            self._stop.set()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._loop.add_signal_handler(number, self._stop.set)
        application = web.Application(client_max_size=HTTP_PAYLOAD_BYTES, middlewares=[bodies.refuse_broken])
        application.router.add_route("*", "/{path:(?s:.*)}", self._gateway.handle)  # s: a path may hold %0A
        if self._proxy is not None:
            await self._proxy.start()
        runner = web.AppRunner(
            application, access_log=None, shutdown_timeout=0.1, keepalive_timeout=self._settings.request_s
        )
        await runner.setup()
        site = web.SockSite(runner, self._listener, backlog=BACKLOG)
        await site.start()
        print(self._greeting, flush=True)  # noqa: T201  the user reads it
        await self._stop.wait()
        await site.stop()
        await self._gateway.stop(CLOSING_S)
        await runner.cleanup()
        if self._proxy is not None:
            await self._proxy.stop()

    def _at_exit(self) -> None:
        # The worker's main thread ends at Ctrl-C, with this server in another thread; chalice's parent process sends it
        # SIGTERM a moment later, which must not cut short the goodbye.
        lifeline.ignore_signals()
        self.shutdown()

    def _open_store(self, settings: Settings, project: Path) -> str:
        """Have a store, the table in it and, where faults are wanted, a proxy before it. Says where the store is."""
        if environment.STORE in os.environ:
            environment.use_given_store(os.environ)
            place = f"{os.environ[environment.STORE]} (from {environment.STORE})"
        else:
            self._store = dynamodb.Store(persist=settings.persist, on_death=fail)
            environment.use_own_store(os.environ, self._store.endpoint)
            kept = f"kept in {settings.persist}" if settings.persist else "in memory, PERSIST=folder keeps it"
            place = f"{self._store.endpoint} ({kept})"
        store = os.environ[environment.STORE]
        if settings.faults is not None:
            self._proxy = StoreProxy(store, self._faults, self._kills)
            os.environ[environment.STORE] = self._proxy.endpoint
        table_name = os.environ.get("TABLE_NAME")
        if not table_name:
            return f"none, for TABLE_NAME is not set; store at {place}"
        definition = dynamodb.load_definition(project / ".chalice" / "resources.json")
        dynamodb.create_table(dynamodb.connect(store), definition, table_name)
        return f"{table_name} at {place}"

    def _greet(self, app_name: str, table: str, functions: Sequence[str], settings: Settings) -> str:
        faults = f"http://{self._address}{control.PATH} (seed {self._faults.seed})"
        invoked = f"{', '.join(functions)} (boto3, aws lambda invoke --endpoint-url http://{self._address})"
        return (
            f"\n{app_name} is served here:\n\n"
            f"  browser    http://{self._address}/\n"
            f"  WebSocket  ws://{self._address}/  and  ws://{self._address}/{self._stage}\n"
            f"  table      {table}\n"
            f"  keys       {_keys(settings)}\n"
            + (f"  functions  {invoked}\n" if functions else "")
            + (f"  faults     {faults}\n" if settings.faults is not None else "")
            + "\n"
            "Ctrl-C stops.\n"
        )


def _is_news(record: logging.LogRecord) -> bool:
    """Whether it belongs in the log: not the traceback of a request that is no HTTP, which its sender is answered."""
    # aiohttp reads the rest of a body that cannot be read once more, after its answer.
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError | web.RequestPayloadError))


def _keys(settings: Settings) -> str:
    """Whose signatures @connections and Lambda's API take. A secret that is not ours is not told."""
    if not settings.signatures:
        return "any or none (LOCALAWS_SIGNATURES=0)"
    if environment.uses_nobodys_credentials(os.environ):
        return "AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local"
    return "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of this server's own environment"


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server((address[0], port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason = os.strerror(code) if (code := getattr(error, "errno", None)) and code > 0 else error
        raise StartupError(
            f"cannot listen on {host} port {port}: {reason}.\n"
            f"Choose another port with `PORT=9000 make run` or `chalice local --port 9000`."
        ) from error
    return listener


def _is_loopback(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def _warn_of_others(host: str, settings: Settings) -> None:
    if settings.faults is not None:
        raise StartupError(
            f"LOCALAWS_FAULTS is for this machine alone, and {host} is reachable from others: "
            "listen on 127.0.0.1, or start without it."
        )
    print(  # noqa: T201  the user reads it
        f"localaws: {host} is reachable from other machines, and its keys are no secret.",
        file=sys.stderr,
    )


def _faults(settings: Settings) -> Faults:
    try:
        return Faults(
            settings.faults or Plan(),
            default_seed=settings.seed,
            workers=settings.workers > 0,
            told_apart=not environment.has_own_keys(os.environ),
        )
    except PlanError as error:
        raise StartupError(f"LOCALAWS_FAULTS: {error}") from None


def _address(listener: socket.socket) -> str:
    """host:port as this machine's clients reach it."""
    host, port = listener.getsockname()[:2]
    ip = ipaddress.ip_address(host.partition("%")[0])
    if ip.is_unspecified:
        ip = ipaddress.ip_address("127.0.0.1" if ip.version == 4 else "::1")  # noqa: PLR2004
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"  # noqa: PLR2004


def _raise_file_limit() -> None:
    """Allow as many sockets as this process may: the usual soft limit ends at a thousand clients, macOS's at 256."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (hard, 10_240):  # macOS says "unlimited" and refuses more than this
        if limit == soft:
            return
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            return
