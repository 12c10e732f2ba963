"""The SDK's configuration, and clients made of it. One thread asks at a time: a session is not safe to use from two.

botocore's own session: boto3's costs each Lambda's first event some 15 ms of CPU more, and makes the same clients.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError
from botocore.session import Session

from .errors import Misconfigured

T = TypeVar("T")

_one_at_a_time = threading.Lock()


def region() -> str | None:
    """The region of the SDK's configuration; raises Misconfigured where that is of no use."""
    found: str | None = _ask(lambda session: session.get_config_variable("region"))
    return found


def credentials() -> Credentials | None:
    """The credentials that the SDK's chain finds, which renew themselves; raises Misconfigured."""
    return _ask(lambda session: session.get_credentials())


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
    return _ask(
        lambda session: session.create_client(service, endpoint_url=endpoint_url, config=config),
        f"make a client for {service}",
    )


@lru_cache(maxsize=1)
def _session() -> Session:
    return Session()


def _ask(question: Callable[[Session], T], what: str = "be used") -> T:
    try:
        with _one_at_a_time:
            return question(_session())
    except (BotoCoreError, ValueError) as error:
        raise Misconfigured(f"The AWS SDK cannot {what}: {error}. Check its variables, AWS_*.") from error
