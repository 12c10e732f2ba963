"""Where AWS keeps a secret: Systems Manager's parameters and Secrets Manager, by ministack."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import boto3

from chalicelib import keys
from chalicelib.keys import KeyRing

from . import sdk
from .fakes import FakeClock

if TYPE_CHECKING:
    import pytest

CHILD = Path(__file__).parent.parent / "localaws/_store_child.py"


@contextmanager
def running_aws() -> Iterator[str]:
    """SSM and Secrets Manager, by ministack."""
    env = {
        **{name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ},
        "SERVICES": "ssm,secretsmanager",
        "MINISTACK_HOST": "127.0.0.1",
        "LOG_LEVEL": "ERROR",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "DOCKER_HOST": f"unix://{os.devnull}/none",
    }
    command = [sys.executable, "-I", str(CHILD)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()
            process.wait(30)


def use(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    sdk.configured(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", endpoint)
    keys._client.cache_clear()


class Vault:
    """Where AWS keeps a secret: one of the two services."""

    def __init__(self, service: str) -> None:
        self._service = service

    def ring(self, clock: FakeClock) -> KeyRing:
        return (keys.of_parameter if self._service == "ssm" else keys.of_secrets_manager)("jwt", clock)

    def keep(self, text: str) -> None:
        if self._service == "ssm":
            boto3.client("ssm").put_parameter(Name="jwt", Value=text, Type="SecureString", Overwrite=True)
            return
        client = boto3.client("secretsmanager")
        try:
            client.put_secret_value(SecretId="jwt", SecretString=text)
        except client.exceptions.ResourceNotFoundException:
            client.create_secret(Name="jwt", SecretString=text)
