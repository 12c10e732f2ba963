"""What each function really calls at the store, the gateway and Lambda while tests run, in this process and in servers.

Each call is a function, an action of IAM and the resource that it is on, attributed to the function whose event is
being handled, in whichever thread. A process writes each once, to a file of its own in the folder that VARIABLE names.
Changes nothing of what is called or answered, and nothing but tests knows of it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar, copy_context
from functools import wraps
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from botocore.client import BaseClient

VARIABLE = "RECORD_CALLS_TO"

SITE = Path(__file__).parent / "recording"
"""On the PYTHONPATH of a process that has the variable, it makes that process record."""

_HANDLERS = "chalicelib.handlers"
_FUNCTIONS = {
    "connect": "websocket_connect",
    "message": "websocket_message",
    "disconnect": "websocket_disconnect",
    "publish": "publish",
}
"""Of the handlers' names, those of the functions on AWS."""

_IAM_NAMES = {"lambda:Invoke": "lambda:InvokeFunction"}
"""Where IAM calls an operation otherwise than the SDK."""

_SECRETS = {
    "ssm:GetParameter": ("parameter", "JWT_SECRET_PARAMETER", "Name"),
    "secretsmanager:GetSecretValue": ("secret", "JWT_SECRET_ID", "SecretId"),
}
"""Where the secret of tokens is: the resource, the variable that names it, the request's parameter that does."""


class Call(NamedTuple):
    """A function may do this, or does it."""

    function: str
    action: str
    resource: str
    """One of ops.permissions.Resource; in other words whatever is none of these."""


class _Handling(NamedTuple):
    """Whose event is handled, and which resources are its own."""

    function: str
    table: str | None
    publish: str | None


_handling: ContextVar[_Handling | None] = ContextVar("handling", default=None)


def read(folder: Path) -> set[Call]:
    """What all processes have recorded in that folder."""
    return {call for file in folder.iterdir() for call in _read(file)}


def read_own(folder: Path) -> set[Call]:
    """What this process has recorded there."""
    return _read(_own_file(folder))


def install(folder: Path) -> None:
    """Records into that folder from now on: once the handlers are imported, if they are not."""
    if _HANDLERS in sys.modules:
        _record(folder)
    else:
        sys.meta_path.insert(0, _OnImport(lambda: _record(folder)))


def _own_file(folder: Path) -> Path:
    return folder / str(os.getpid())


def _read(file: Path) -> set[Call]:
    return {Call(*json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()}


class _OnImport:
    """Finds the handlers as usual, and calls `then` once they, and so all that they call, are imported."""

    def __init__(self, then: Callable[[], None]) -> None:
        self._then = then

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != _HANDLERS:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_then(module: ModuleType) -> None:
                execute(module)
                self._then()

            spec.loader.exec_module = execute_then  # type: ignore[method-assign]
        return spec


def _record(folder: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from botocore.client import BaseClient

    from chalicelib import handlers, transport

    recording = _Recording(_own_file(folder))
    for name, function in _FUNCTIONS.items():
        setattr(handlers, name, _attributed(getattr(handlers, name), function))
    _wrap(ThreadPoolExecutor, "submit", _submit_with_context)
    _wrap(BaseClient, "_make_api_call", recording.call_of_the_sdk)
    _wrap(transport.Client, "_call", recording.call_of_the_gateway)


def _wrap(owner: type, method: str, wrapper: Callable[..., Any]) -> None:
    """Lets `wrapper` be called instead, with the method itself as its first argument."""
    wrapped = getattr(owner, method)
    setattr(owner, method, wraps(wrapped)(lambda *args, **kwargs: wrapper(wrapped, *args, **kwargs)))


def _attributed(handler: Callable[..., Any], function: str) -> Callable[..., Any]:
    @wraps(handler)
    def attributed(*arguments: Any) -> Any:
        # The publish function's own name is in its context.
        publish = arguments[1].function_name if function == "publish" else os.environ.get("PUBLISH_FUNCTION")
        token = _handling.set(_Handling(function, os.environ.get("TABLE_NAME"), publish))
        try:
            return handler(*arguments)
        finally:
            _handling.reset(token)

    return attributed


def _submit_with_context(
    submit: Callable[..., Any], executor: Executor, fn: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    if _handling.get() is None:
        return submit(executor, fn, *args, **kwargs)
    return submit(executor, copy_context().run, fn, *args, **kwargs)


class _Recording:
    """Calls, each once, in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen: set[Call] = set()

    def call_of_the_sdk(
        self, call: Callable[..., Any], client: BaseClient, operation: str, parameters: Mapping[str, Any]
    ) -> Any:
        if (handling := _handling.get()) is not None:
            action = f"{client.meta.service_model.signing_name}:{operation}"
            for resource in _resources(action, parameters, handling):
                self._keep(Call(handling.function, _IAM_NAMES.get(action, action), resource))
        return call(client, operation, parameters)

    def call_of_the_gateway(
        self, call: Callable[..., Any], client: object, operation: str, method: str, *more: Any
    ) -> Any:
        if (handling := _handling.get()) is not None:
            resource = {"POST": "connections", "DELETE": "closing"}.get(method, f"connections by {method}")
            self._keep(Call(handling.function, "execute-api:ManageConnections", resource))
        return call(client, operation, method, *more)

    def _keep(self, call: Call) -> None:
        if call not in self._seen:
            self._seen.add(call)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(call) + "\n")


def _resources(action: str, parameters: Mapping[str, Any], handling: _Handling) -> Iterator[str]:
    if action.startswith("dynamodb:"):
        index = parameters.get("IndexName")
        for table in parameters.get("RequestItems", [parameters.get("TableName")]):
            if table != handling.table:
                yield f"table {table}"
            elif index is None:
                yield "table"
            else:
                yield "index" if index == "by_connection" else f"index {index}"
    elif action == "lambda:Invoke":
        name = parameters["FunctionName"]
        yield "publish" if name == handling.publish else f"function {name}"
    elif action in _SECRETS:
        resource, variable, parameter = _SECRETS[action]
        yield resource if parameters[parameter] == os.environ.get(variable) else f"{resource} {parameters[parameter]}"
    else:
        yield "of another service"
