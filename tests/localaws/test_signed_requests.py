"""Who may post to connections and invoke functions of a running server: its own credentials, and nobody else."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from websockets.sync.client import connect

from tests.localaws import signed
from tests.localaws.tiny import Tiny, served

HANDLERS = """
@app.on_ws_connect()
def websocket_connect(event):
    record(event)

@app.on_ws_message()
def websocket_message(event):
    app.websocket_api.send(event.connection_id, event.body)
    boto3.client("lambda").invoke(FunctionName="tiny-dev-touch")

@app.lambda_function(name="touch")
def touch(event, context):
    (here / "touched").touch()
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    with served(tmp_path_factory.mktemp("tiny"), HANDLERS) as running:
        yield running


def api(tiny: Tiny, service: str, key: str = "local", secret: str = "local") -> Any:
    return boto3.client(
        service,  # type: ignore[call-overload]
        endpoint_url=tiny.server.http,
        region_name="eu-west-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}),
    )


CALLS: list[tuple[str, Callable[[Any], object]]] = [
    ("apigatewaymanagementapi", lambda at: at.post_to_connection(ConnectionId="AAAAAAAAAAAAAAA=", Data=b"x")),
    ("apigatewaymanagementapi", lambda at: at.get_connection(ConnectionId="AAAAAAAAAAAAAAA=")),
    ("apigatewaymanagementapi", lambda at: at.delete_connection(ConnectionId="AAAAAAAAAAAAAAA=")),
    ("lambda", lambda at: at.invoke(FunctionName="tiny-dev-touch")),
    ("lambda", lambda at: at.invoke(FunctionName="tiny-dev-touch", InvocationType="Event")),
]


@pytest.mark.parametrize(("service", "call"), CALLS)
def test_boto3_is_refused_with_403_for_keys_that_are_not_the_servers(
    tiny: Tiny, service: str, call: Callable[[Any], object]
) -> None:
    for key, secret, code in (
        ("any", "any", "UnrecognizedClientException"),
        ("local", "any", "InvalidSignatureException"),
    ):
        with pytest.raises(ClientError) as refused:
            call(api(tiny, service, key, secret))
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
        assert refused.value.response["Error"]["Code"] == code
    assert not (tiny.project / "touched").exists()


def test_a_signed_header_that_is_no_text_is_refused_and_breaks_nothing(tiny: Tiny) -> None:
    authorization = "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/execute-api/aws4_request, Signature=x, "
    head = (
        "POST /@connections/x HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: {authorization}SignedHeaders=host;x-more\r\n"
    )
    with socket.create_connection(("127.0.0.1", tiny.server.port), timeout=20) as raw:
        raw.sendall(head.encode() + b"X-Amz-Date: 20260101T000000Z\r\nX-More: \xff\r\nContent-Length: 0\r\n\r\n")
        assert raw.recv(4096).startswith(b"HTTP/1.1 403 ")
    assert "Traceback" not in tiny.server.log()


@pytest.mark.parametrize("path", ["/@connections/AAAAAAAAAAAAAAA=", "/2015-03-31/functions/tiny-dev-touch/invocations"])
def test_what_is_not_signed_is_refused_with_403_as_aws_words_it(tiny: Tiny, path: str) -> None:
    answer = signed.send(tiny.server.port, "POST", path, b"{}")
    assert (answer.status, answer.error) == (403, "MissingAuthenticationTokenException")
    assert json.loads(answer.body) == {"message": "Missing Authentication Token"}
    assert not (tiny.project / "touched").exists()


def test_the_apps_own_calls_are_signed_with_the_credentials_in_use(tmp_path: Path) -> None:
    with served(tmp_path, HANDLERS) as tiny, connect(tiny.url) as client:
        client.send("echo")
        assert client.recv(timeout=20) == "echo"
        api(tiny, "lambda").invoke(FunctionName="tiny-dev-touch")
        assert (tmp_path / "touched").exists()


def test_a_users_own_keys_for_a_store_are_those_of_the_gateway_too(tmp_path: Path, unused_port: int) -> None:
    env = {
        "AWS_ENDPOINT_URL_DYNAMODB": f"http://127.0.0.1:{unused_port}",
        "AWS_ACCESS_KEY_ID": "mine",
        "AWS_SECRET_ACCESS_KEY": "my secret",
    }
    with served(tmp_path, HANDLERS, env=env) as tiny, connect(tiny.url) as client:
        client.send("echo")
        assert client.recv(timeout=20) == "echo"
        api(tiny, "lambda", "mine", "my secret").invoke(FunctionName="tiny-dev-touch")
        with pytest.raises(ClientError):
            api(tiny, "lambda").invoke(FunctionName="tiny-dev-touch")
        assert "keys       AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of this server's own environment" in (
            tiny.server.log()
        )
        assert "my secret" not in tiny.server.log()


def test_with_localaws_signatures_0_anybody_may_post_and_invoke(tmp_path: Path) -> None:
    with served(tmp_path, HANDLERS, env={"LOCALAWS_SIGNATURES": "0"}) as tiny, connect(tiny.url) as client:
        connection_id = tiny.event("CONNECT")["requestContext"]["connectionId"]
        assert signed.send(tiny.server.port, "POST", f"/@connections/{connection_id}", b"hello").status == 200
        assert client.recv(timeout=20) == "hello"
        path = "/2015-03-31/functions/tiny-dev-touch/invocations"
        assert signed.send(tiny.server.port, "POST", path).status == 200
        api(tiny, "lambda", "any", "any").invoke(FunctionName="tiny-dev-touch")
        assert "keys       any or none (LOCALAWS_SIGNATURES=0)" in tiny.server.log()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_page_in_a_browser_may_open_sockets_and_neither_post_nor_invoke_on_this_machine(
    tmp_path: Path, host: str
) -> None:
    with (
        served(tmp_path, HANDLERS, env={"LOCALAWS_SIGNATURES": "0"}, args=["--host", host]) as tiny,
        connect(tiny.url, additional_headers={"Origin": "https://example.com"}) as client,
    ):
        connection_id = tiny.event("CONNECT")["requestContext"]["connectionId"]
        paths = f"/@connections/{connection_id}", "/2015-03-31/functions/tiny-dev-touch/invocations"
        answers = [
            signed.send(tiny.server.port, "POST", path, b"{}", headers)
            for path in paths
            for headers in ({"Origin": "https://example.com"}, {"Origin": "null"}, {"Host": "rebound.example.com"})
        ]
        if host == "127.0.0.1":
            assert {(answer.status, answer.error) for answer in answers} == {(403, "ForbiddenException")}
            assert not (tiny.project / "touched").exists()
            client.send("the app's own calls pass")
            assert client.recv(timeout=20) == "the app's own calls pass"
        else:  # others are to reach it, by names that it does not know
            assert {answer.status for answer in answers} == {200}
