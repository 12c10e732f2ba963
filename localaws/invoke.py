"""Lambda's Invoke API: have one of the app's functions run, and wait for what it returns or not.

Knows its path, names, invocation types, answers and errors, as boto3's lambda client takes them. Log tails, client
contexts and the size of an answer are not looked at.
https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html

A handler that invokes a function and waits for it keeps its own thread or worker meanwhile: where all are taken, a
synchronous invocation is refused as Lambda refuses one beyond the account's concurrency, or handlers that wait for each
other would wait for ever. An asynchronous one waits its turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import uuid
from typing import Any, NoReturn
from urllib.parse import unquote

from aiohttp import web

from localaws.functions import EXIT, TIMEOUT, Function, FunctionError, Functions
from localaws.limits import ASYNCHRONOUS_PAYLOAD_BYTES, SYNCHRONOUS_PAYLOAD_BYTES
from localaws.signatures import LAMBDA, Refused, Signatures

LOG = logging.getLogger(__name__)

RETRY_AFTER_S = 0.25
"""How long a failed asynchronous invocation waits for its second attempt, and twice that for its third. AWS waits one
minute and two."""

SYNCHRONOUS, ASYNCHRONOUS, DRY_RUN = "RequestResponse", "Event", "DryRun"
"""Invocation types."""

_PAYLOAD_BYTES = {
    SYNCHRONOUS: SYNCHRONOUS_PAYLOAD_BYTES,
    ASYNCHRONOUS: ASYNCHRONOUS_PAYLOAD_BYTES,
    DRY_RUN: SYNCHRONOUS_PAYLOAD_BYTES,
}
_LATEST = "$LATEST"
_EXECUTED = {"X-Amz-Executed-Version": _LATEST}

_PATH = re.compile(r"/2015-03-31/functions/([^/]*)/invocations")
# name, partial ARN or ARN; which account and region is all the same here
_NAME = re.compile(
    r"(?:(?:arn:aws[a-z-]*:lambda:[a-z0-9-]+:)?[0-9]{12}:function:)?"
    r"(?P<name>[a-zA-Z0-9_.-]+)(?::(?P<qualifier>[a-zA-Z0-9$_.-]+))?"
)


def function_name(raw_path: str) -> str | None:
    """What stands for FunctionName, decoded, in the Invoke API's path; None in any other path."""
    match = _PATH.fullmatch(raw_path)
    return unquote(match[1]) if match else None


class Refusal(Exception):
    """An invocation that is refused: the answer's status, AWS's name for the error, and what the caller may read."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(status, kind, message)
        self.status = status
        self.kind = kind
        self.message = message


class Invocations:
    """The invocations of one app's functions. Holds the asynchronous ones until they have succeeded or are given up."""

    def __init__(self, functions: Functions, signatures: Signatures) -> None:
        self._functions = functions
        self._signatures = signatures
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    async def respond(self, request: web.Request, name: str) -> web.Response:
        """Answer a request to invoke the function of that name."""
        request_id = str(uuid.uuid4())
        try:
            response = await self._respond(request, name, request_id)
        except Refused as refused:
            response = refused.response()
        except Refusal as refusal:
            response = web.json_response(
                {"Type": "User", "Message": refusal.message},
                status=refusal.status,
                headers={"x-amzn-ErrorType": refusal.kind},
            )
        response.headers["x-amzn-RequestId"] = request_id
        return response

    async def stop(self, timeout: float) -> None:
        """Let asynchronous invocations end, for `timeout` seconds at most. None is tried again from now on."""
        self._stopping.set()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        # One that ends may have started another.
        while self._running and (left := deadline - loop.time()) > 0:
            await asyncio.wait(self._running, timeout=left)
        for task in self._running:
            LOG.error("%s has not ended: the server stops without it.", task.get_name())
            task.cancel()

    async def _respond(self, request: web.Request, name: str, request_id: str) -> web.Response:
        if request.method != "POST":
            raise Refusal(405, "MethodNotAllowedException", f"A function is invoked by POST, not {request.method}.")
        kind = request.headers.get("X-Amz-Invocation-Type") or SYNCHRONOUS
        if kind not in _PAYLOAD_BYTES:
            known = ", ".join(_PAYLOAD_BYTES)
            raise Refusal(400, "InvalidParameterValueException", f"InvocationType takes {known}, not {kind!r}.")
        body = await _body(request, kind)
        self._signatures.check(request, body, LAMBDA)
        payload = body or b"{}"
        function = self._find(name, request.query.get("Qualifier"))
        _check_json(payload)
        if kind == DRY_RUN:
            return web.Response(status=204)
        if kind == ASYNCHRONOUS:
            self._start(function, payload, request_id)
            return web.Response(status=202)
        return await self._run(function, payload, request_id)

    def _find(self, given: str, qualifier: str | None) -> Function:
        match = _NAME.fullmatch(given)
        if match is None:
            raise Refusal(400, "ValidationException", f"FunctionName takes a function's name or ARN, not {given!r}.")
        name, *qualifiers = match["name"], match["qualifier"], qualifier
        function = self._functions.by_name.get(name)
        if function is None:
            known = ", ".join(sorted(self._functions.by_name)) or "none"
            raise Refusal(
                404, "ResourceNotFoundException", f"Function not found: {name}. The app's functions: {known}."
            )
        for each in qualifiers:
            if each not in {None, _LATEST}:
                message = f"Function not found: {name}:{each}. {_LATEST} alone exists here."
                raise Refusal(404, "ResourceNotFoundException", message)
        return function

    async def _run(self, function: Function, payload: bytes, request_id: str) -> web.Response:
        if self._functions.busy:
            raise Refusal(429, "TooManyRequestsException", f"Rate Exceeded. {self._functions.full}")
        try:
            answer = await self._functions.call(function, payload, request_id)
        except FunctionError as error:
            told = _told(error, request_id)
            return web.json_response(told, headers={**_EXECUTED, "X-Amz-Function-Error": "Unhandled"})
        return web.Response(text=answer, content_type="application/json", headers=_EXECUTED)

    def _start(self, function: Function, payload: bytes, request_id: str) -> None:
        name = f"The asynchronous invocation {request_id} of {function.name}"
        task = asyncio.create_task(self._attempt(function, payload, request_id, name), name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _attempt(self, function: Function, payload: bytes, request_id: str, name: str) -> None:
        attempts = function.repeats + 1
        for attempt in range(1, attempts + 1):
            with contextlib.suppress(FunctionError):
                await self._functions.call(function, payload, request_id)
                return
            if attempt < attempts and await self._stops_within(RETRY_AFTER_S * attempt):
                LOG.error("%s failed and is not tried again: the server stops.", name)
                return
        LOG.error("%s failed %s times and is given up.", name, attempts)

    async def _stops_within(self, seconds: float) -> bool:
        with contextlib.suppress(asyncio.TimeoutError):
            return await asyncio.wait_for(self._stopping.wait(), seconds)
        return False


async def _body(request: web.Request, kind: str) -> bytes:
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:  # more than the server takes from anybody
        _refuse_size(kind)
    if len(body) > _PAYLOAD_BYTES[kind]:
        _refuse_size(kind)
    return body


def _refuse_size(kind: str) -> NoReturn:
    message = f"The payload is too large for the {kind} invocation type (limit {_PAYLOAD_BYTES[kind]} bytes)."
    raise Refusal(413, "RequestTooLargeException", message)


def _check_json(payload: bytes) -> None:
    try:
        # Decoded first: of bytes, Python would take UTF-16 and UTF-32 as well.
        json.loads(payload.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        message = f"Could not parse request body into json: {error}"
        raise Refusal(400, "InvalidRequestContentException", message) from None


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _told(error: FunctionError, request_id: str) -> dict[str, Any]:
    """What the caller of a function that failed gets to read. The stack stays in the server's log."""
    message = f"RequestId: {request_id} {error.message}" if error.kind in {EXIT, TIMEOUT} else error.message
    return {"errorMessage": message, "errorType": error.kind, "requestId": request_id, "stackTrace": []}
