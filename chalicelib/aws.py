"""boto3's default session and its clients. One is made at a time: the session is not safe to use from two threads."""

from __future__ import annotations

import threading
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from .errors import Misconfigured

_making = threading.Lock()


def session() -> boto3.session.Session:
    """The default session; raises Misconfigured where the SDK's configuration is of no use."""
    try:
        with _making:
            return boto3.DEFAULT_SESSION or _new_default_session()
    except BotoCoreError as error:
        raise Misconfigured(f"The AWS SDK cannot be used: {error}. Check its variables, AWS_*.") from error


def _new_default_session() -> boto3.session.Session:
    boto3.setup_default_session()
    made = boto3.DEFAULT_SESSION
    assert made is not None  # noqa: S101  for mypy: it has just been made
    return made


def client(
    service: str,
    *,
    endpoint_url: str | None = None,
    attempts: int,
    connect_seconds: float,
    answer_seconds: float,
    sockets: int,
) -> Any:
    """A client that tries a request `attempts` times in all and keeps up to `sockets` connections open.

    The region, the credentials and, where `endpoint_url` is None, the endpoint come from the SDK's own configuration;
    raises Misconfigured where that is of no use.
    """
    config = Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=connect_seconds,
        read_timeout=answer_seconds,
        max_pool_connections=sockets,
    )
    try:
        with _making:
            return boto3.client(service, endpoint_url=endpoint_url, config=config)  # type: ignore[call-overload]
    except (BotoCoreError, ValueError) as error:
        raise Misconfigured(
            f"The AWS SDK cannot make a client for {service}: {error}. Check its variables, AWS_*."
        ) from error
