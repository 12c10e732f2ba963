"""Loggers whose lines say which request they are about, as `request=…` at their end.

It is API Gateway's `requestId` of a connect, a frame or a disconnect, which API Gateway's own error frames and its
access log name too, and Lambda's `aws_request_id` of a publish. Who handles an event says so once; no call that logs
passes it on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_request: ContextVar[str] = ContextVar("request", default="")


def logger(name: str) -> logging.Logger:
    """The logger of that name, with the request in its lines: whatever handlers and formats there are."""
    found = logging.getLogger(name)
    found.addFilter(_name_the_request)
    return found


@contextmanager
def request(name: str) -> Iterator[None]:
    """Until the block ends, what is logged here, and in `Threads` on its behalf, is about the request of that name."""
    before = _request.set(name)
    try:
        yield
    finally:
        _request.reset(before)


class Threads(ThreadPoolExecutor):
    """Threads that log about the request for which they work: a context does not cross threads by itself."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return super().submit(copy_context().run, partial(fn, *args, **kwargs))


def _name_the_request(record: logging.LogRecord) -> bool:
    if name := _request.get():
        with suppress(Exception):  # a line that cannot be written is logging's to complain of, not the caller's to fail
            record.msg, record.args = f"{record.getMessage()} request={name}", None
    return True
