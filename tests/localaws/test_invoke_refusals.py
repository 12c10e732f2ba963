"""What Lambda's Invoke API refuses: names, payloads, invocation types, and too much at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.localaws.invoked import call, client, refusal, request, result
from tests.localaws.tiny import Tiny, served, until

HANDLERS = """
@app.lambda_function(name="echo")
def any_name_at_all(event, context):
    return {"name": context.function_name}

@app.on_ws_message()
def a_message(event):
    pass
"""

KB = 1024


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    with served(tmp_path_factory.mktemp("tiny"), HANDLERS) as running:
        yield running


# Names

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:tiny-dev-echo"


@pytest.mark.parametrize("qualifier", [{}, {"Qualifier": "$LATEST"}], ids=["", "qualified"])
@pytest.mark.parametrize(
    "name",
    ["tiny-dev-echo", "tiny-dev-echo:$LATEST", "123456789012:function:tiny-dev-echo", ARN, f"{ARN}:$LATEST"],
)
def test_a_function_is_found_by_each_form_of_its_name(tiny: Tiny, name: str, qualifier: dict[str, str]) -> None:
    answer = client(tiny).invoke(FunctionName=name, **qualifier)
    assert json.load(answer["Payload"])["name"] == "tiny-dev-echo"


@pytest.mark.parametrize("name", ["echo", "any_name_at_all", "tiny-prod-echo", "tiny-dev-", "tiny-dev-a_message", "."])
def test_a_function_that_is_not_there_is_not_found_and_those_that_are_are_named(tiny: Tiny, name: str) -> None:
    status, code, message = refusal(tiny, FunctionName=name)
    assert (status, code) == (404, "ResourceNotFoundException")
    assert message == (f"Function not found: {name}. The app's functions: tiny-dev-echo, tiny-dev-websocket_message.")


@pytest.mark.parametrize(
    "parameters",
    [
        {"FunctionName": "tiny-dev-echo", "Qualifier": "prod"},
        {"FunctionName": "tiny-dev-echo:7"},
        {"FunctionName": "tiny-dev-echo:$LATEST", "Qualifier": "7"},
        {"FunctionName": f"{ARN}:prod"},
    ],
)
def test_there_is_no_version_but_the_latest(tiny: Tiny, parameters: dict[str, str]) -> None:
    status, code, message = refusal(tiny, **parameters)
    assert (status, code) == (404, "ResourceNotFoundException")
    assert message.startswith("Function not found: tiny-dev-echo:")


@pytest.mark.parametrize(
    "name",
    [
        "tiny/dev-echo",
        "/tiny-dev-echo",
        "../tiny-dev-echo",
        "a b",
        "naïve",
        "a\n",
        "%2e",
        "a:b:c",
        ":",
        "arn:aws:s3:::b",
    ],
)
def test_what_cannot_be_a_functions_name_is_refused(tiny: Tiny, name: str) -> None:
    status, code, message = refusal(tiny, FunctionName=name)
    assert (status, code) == (400, "ValidationException")
    assert repr(name) in message


@pytest.mark.parametrize("segment", ["", "%", "%zz", "%ff", "%00", "tiny-dev-echo%2", "tiny%252Ddev-echo", "a%2Fb"])
def test_odd_percent_encoding_is_refused(tiny: Tiny, segment: str) -> None:
    status, code, _ = request(tiny, "POST", f"/2015-03-31/functions/{segment}/invocations")
    assert (status, code) == (400, "ValidationException")


def test_percent_encoding_that_need_not_be_is_decoded(tiny: Tiny) -> None:
    status, _, body = request(tiny, "POST", "/2015-03-31/functions/%74iny%2Ddev%2Decho/invocations")
    assert (status, json.loads(body)["name"]) == (200, "tiny-dev-echo")


@pytest.mark.parametrize(
    "path",
    [
        "/2015-03-31/functions/tiny-dev/echo/invocations",
        "/2015-03-31/functions/tiny-dev-echo",
        "/2015-03-31/functions/",
    ],
)
def test_other_paths_are_none_of_its_own(tiny: Tiny, path: str) -> None:
    assert request(tiny, "POST", path)[:2] == (404, None)


# What is sent to a function


@pytest.mark.parametrize(
    "payload",
    [
        b"{",
        b"text",
        b" ",
        b"{'a': 1}",
        b"NaN",
        b'{"a": -Infinity}',
        b'"\xff"',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b"{}{}",
        b"[" * 100_000,
        b"1" * 10_000,
    ],
    ids=lambda payload: repr(payload[:12]),
)
@pytest.mark.parametrize("kind", ["RequestResponse", "Event", "DryRun"])
def test_a_payload_that_is_no_json_is_refused(tiny: Tiny, kind: str, payload: bytes) -> None:
    status, code, message = refusal(tiny, FunctionName="tiny-dev-echo", InvocationType=kind, Payload=payload)
    assert (status, code) == (400, "InvalidRequestContentException")
    assert message.startswith("Could not parse request body into json: ")


@pytest.mark.parametrize(("kind", "limit"), [("RequestResponse", 6 * KB * KB), ("Event", KB * KB)])
def test_a_payload_may_be_as_large_as_the_limit_and_no_larger(tiny: Tiny, kind: str, limit: int) -> None:
    def text(size: int) -> bytes:
        return b'"' + b"x" * (size - 2) + b'"'

    lambda_ = client(tiny)
    name = "tiny-dev-echo"
    assert lambda_.invoke(FunctionName=name, InvocationType=kind, Payload=text(limit))["StatusCode"] in {200, 202}
    for size in (limit + 1, 11 * KB * KB):
        status, code, message = refusal(tiny, FunctionName=name, InvocationType=kind, Payload=text(size))
        assert (status, code) == (413, "RequestTooLargeException")
        assert message == f"The payload is too large for the {kind} invocation type (limit {limit} bytes)."


@pytest.mark.parametrize("kind", ["event", "Sometimes", "RequestResponse, Event"])
def test_an_unknown_invocation_type_is_refused(tiny: Tiny, kind: str) -> None:
    status, code, message = refusal(tiny, FunctionName="tiny-dev-echo", InvocationType=kind)
    assert (status, code) == (400, "InvalidParameterValueException")
    assert message == f"InvocationType takes RequestResponse, Event, DryRun, not {kind!r}."


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_a_function_is_invoked_by_post_alone(tiny: Tiny, method: str) -> None:
    status, code, _ = request(tiny, method, "/2015-03-31/functions/tiny-dev-echo/invocations")
    assert (status, code) == (405, "MethodNotAllowedException")


def test_errors_look_as_aws_sends_them(tiny: Tiny) -> None:
    status, code, body = request(tiny, "POST", "/2015-03-31/functions/none/invocations")
    assert (status, code) == (404, "ResourceNotFoundException")
    error = json.loads(body)
    assert list(error) == ["Type", "Message"]
    assert error["Type"] == "User"


def test_where_all_threads_are_taken_a_function_that_waits_for_another_is_told_so(tmp_path: Path) -> None:
    handlers = """
import botocore.config

@app.lambda_function(name="outer")
def outer(event, context):
    client = boto3.client("lambda", config=botocore.config.Config(retries={"total_max_attempts": 1}))
    client.invoke(FunctionName="tiny-dev-inner", InvocationType="Event")
    try:
        client.invoke(FunctionName="tiny-dev-inner")
    except client.exceptions.TooManyRequestsException as error:
        return str(error)

@app.lambda_function(name="inner")
def inner(event, context):
    (here / "inner").touch()
"""
    with served(tmp_path, handlers, env={"LOCALAWS_THREADS": "1"}) as tiny:
        assert "LOCALAWS_THREADS" in result(tiny, "outer")
        # The asynchronous one has waited for its turn.
        until(lambda: (tmp_path / "inner").exists() or None, "the other function", tiny.server.log)
        until(lambda: result_or_none(tiny, "inner"), "a free thread", tiny.server.log)


def result_or_none(tiny: Tiny, function: str) -> bool | None:
    """True once the function could be run."""
    try:
        return bool(call(tiny, function)["StatusCode"] == 200)
    except ClientError:
        return None
