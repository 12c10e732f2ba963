"""The registry of hooks: a deployment's own rules beside its tokens'. One new file here and one row make a new hook.

A hook that raises refuses. A `ClientError`, such as `Refused("Members only.")`, is shown to the client; of any other
exception the client learns `refused` and no more, and the log has the traceback. Hooks run before anything is written
or sent, in the order of their row. What backends publish is not asked about: who may do that is a matter of IAM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeAlias, TypeVar

from .. import logs
from ..errors import ClientError, Refused
from ..model import JSON
from .subjects import Connecting, Joining, Publishing

T = TypeVar("T")
R = TypeVar("R")

log = logs.logger("channels.hooks")

OnConnect: TypeAlias = Callable[[Connecting], None]
OnJoin: TypeAlias = Callable[[Joining], None]
OnPublish: TypeAlias = Callable[[Publishing], JSON]

ON_CONNECT: Sequence[OnConnect] = ()
"""Asked of each connection that its token and origin let in. A refusal is a 403."""

ON_JOIN: Sequence[OnJoin] = ()
"""Asked of each channel that a connection joins, the home channel included."""

ON_PUBLISH: Sequence[OnPublish] = ()
"""Asked of each message that a client publishes. What one returns is what the next is given, and what is sent in the
end: `return publishing.body` to leave it as it is.
"""


def ask(hooks: Iterable[Callable[[T], object]], subject: T) -> None:
    """Asks each hook; raises the ClientError of the first that refuses. One that returns something meant to refuse, or
    is a coroutine that nobody would wait for: it refuses.
    """
    for hook in hooks:
        if _answer(hook, subject) is not None:
            log.error("hook %s must return nothing, and raise to refuse", _name(hook))
            raise Refused


def body_of(publishing: Publishing) -> JSON:
    """What is to be sent in the place of the message's body; raises the ClientError of the first hook that refuses."""
    for hook in ON_PUBLISH:
        body = _answer(hook, publishing)
        forgotten = body is None and publishing.body is not None
        if forgotten or (isinstance(publishing.body, dict) and not isinstance(body, dict)):
            log.error("hook %s must return what is to be sent, an object in the place of one", _name(hook))
            raise Refused
        publishing = replace(publishing, body=body)
    return publishing.body


def _answer(hook: Callable[[T], R], subject: T) -> R:
    try:
        return hook(subject)
    except ClientError as error:
        log.warning("hook %s refused cause=%a", _name(hook), str(error))
        raise
    except Exception as error:
        log.exception("hook %s failed, which refuses", _name(hook))
        raise Refused from error


def _name(hook: Callable[[T], R]) -> str:
    """A function's, or that of the class of any other callable."""
    return getattr(hook, "__name__", type(hook).__name__)


__all__ = [
    "ON_CONNECT",
    "ON_JOIN",
    "ON_PUBLISH",
    "Connecting",
    "Joining",
    "OnConnect",
    "OnJoin",
    "OnPublish",
    "Publishing",
    "Refused",
]
