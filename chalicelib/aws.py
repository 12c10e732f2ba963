"""Makes boto3 clients: one at a time, because boto3's default session is not safe to use from two threads."""

from __future__ import annotations

import threading
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from .errors import Misconfigured

_making = threading.Lock()


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
