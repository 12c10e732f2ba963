"""How tests call Lambda's Invoke API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPConnection
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.localaws.tiny import Tiny


def client(tiny: Tiny) -> Any:
    """boto3's client, which does not repeat itself."""
    return boto3.client(
        "lambda",
        endpoint_url=tiny.server.http,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"total_max_attempts": 1}),
    )


def call(tiny: Tiny, function: str, event: object = None, **more: Any) -> Any:
    """boto3's answer, its payload read."""
    answer = client(tiny).invoke(FunctionName=f"tiny-dev-{function}", Payload=json.dumps(event), **more)
    return {**answer, "Payload": answer["Payload"].read()}


def result(tiny: Tiny, function: str, event: object = None) -> Any:
    """What the function returned."""
    answer = call(tiny, function, event)
    assert "FunctionError" not in answer, answer
    return json.loads(answer["Payload"])


def refusal(tiny: Tiny, **parameters: Any) -> tuple[int, str, str]:
    """The status, code and message of boto3's error."""
    with pytest.raises(ClientError) as refused:
        client(tiny).invoke(**parameters)
    response = refused.value.response
    error = response["Error"]
    return response["ResponseMetadata"]["HTTPStatusCode"], error["Code"], error["Message"]


def request(tiny: Tiny, method: str, path: str, body: bytes = b"") -> tuple[int, str | None, bytes]:
    """The status, AWS's name for the error if it is one, and the body."""
    return send(f"127.0.0.1:{tiny.server.port}", method, path, body)


def send(
    address: str, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> tuple[int, str | None, bytes]:
    """The same of any server."""
    connection = HTTPConnection(address, timeout=20)
    connection.request(method, path, body, dict(headers or {}))
    response = connection.getresponse()
    answer = response.status, response.headers["x-amzn-ErrorType"], response.read()
    connection.close()
    return answer
