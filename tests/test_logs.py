"""Every line names the request that it is about, in whichever thread it is logged."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Barrier
from typing import TYPE_CHECKING

import pytest

from chalicelib import handlers, hooks, logs
from chalicelib.broadcast import Broadcast, Delivery
from chalicelib.clock import Clock
from chalicelib.errors import PostFailed
from chalicelib.model import ConnectionId
from chalicelib.pacing import Pacer

from .captured import event
from .connections import connections_endpoint
from .fakes import NOW, Context
from .handshakes import FAILED, ME, OK, Handlers, handshake

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

log = logs.logger("channels.test")


@pytest.fixture(autouse=True)
def every_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "channels")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What our own loggers have said since the last look."""
    said = [record.getMessage() for record in caplog.records if record.name.startswith("channels")]
    caplog.clear()
    return said


def test_a_line_names_its_request_once_and_only_while_it_is_handled(caplog: pytest.LogCaptureFixture) -> None:
    assert logs.logger("channels.test") is log
    log.info("before")
    with logs.request("outer"):
        with logs.request("inner"):
            log.info("100 %% of %s", "it")
        log.info("after the inner, 100 %")
    log.info("after")
    assert lines(caplog) == ["before", "100 % of it request=inner", "after the inner, 100 % request=outer", "after"]


def test_a_traceback_stays_under_its_line(caplog: pytest.LogCaptureFixture) -> None:
    with logs.request("r1"):
        try:
            _ = 1 / 0
        except ZeroDivisionError:
            log.exception("failed")
    assert "failed request=r1\nTraceback" in caplog.text
    assert "division by zero" in caplog.text


def test_threads_that_two_requests_share_log_about_the_one_they_work_for(caplog: pytest.LogCaptureFixture) -> None:
    meeting = Barrier(2)

    def work(name: str) -> None:
        meeting.wait(30)
        log.info("working for %s", name)

    def handle(name: str, threads: logs.Threads) -> None:
        with logs.request(name):
            list(threads.map(work, [name] * 5))

    with logs.Threads(2) as threads, ThreadPoolExecutor(2) as invocations:
        list(invocations.map(handle, ["one", "other"], [threads] * 2))
    assert sorted(lines(caplog)) == [f"working for {name} request={name}" for name in ["one"] * 5 + ["other"] * 5]


def test_what_a_thread_of_threads_raises_and_returns_comes_back() -> None:
    with logs.Threads(1) as threads:
        assert threads.submit(divmod, 7, 2).result() == (3, 1)
        with pytest.raises(ZeroDivisionError):
            threads.submit(divmod, 7, 0).result()


def test_posts_that_are_given_up_in_threads_are_logged_with_the_request(caplog: pytest.LogCaptureFixture) -> None:
    numbers = count()

    def post(_connection_id: ConnectionId, _text: str) -> None:
        raise PostFailed("PostToConnection", f"cause {next(numbers)}")

    clock = Clock()
    deliveries = [Delivery(ConnectionId(f"c{number}"), "hello", NOW) for number in range(50)]
    with logs.Threads(8) as threads, logs.request("r1"):
        broadcast = Broadcast(post, threads, 8, 8_000, clock, Pacer(clock))
        assert broadcast.send(deliveries, prune=lambda _gone: None, expected=50).failed == 50
    said = lines(caplog)
    assert len(said) == 100
    assert all(line.endswith(" request=r1") for line in said)


def refuse(_subject: object) -> None:
    raise hooks.Refused("No.")


def test_each_failure_is_logged_with_the_name_that_api_gateway_or_lambda_gave_its_request(
    ministack: DynamoDBClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And the client of a frame is told the same name."""

    def said(kind: str) -> str:
        """The one line of that kind, all others being about the same request too."""
        found = lines(caplog)
        names = {line.rpartition(" request=")[2] for line in found}
        assert len(names) == 1, found
        [line] = [line for line in found if line.startswith(kind)]
        assert line.isprintable()
        return names.pop()

    with connections_endpoint() as clients:
        server = Handlers(ministack, monkeypatch, {"ALLOWED_ORIGINS": "https://app.example.com"}, clients.url)

        def message(**replaced: object) -> None:
            body = replaced.pop("body", '{"action":"joinchannel","channel":"news"}')
            payload = event("message", connectionId=ME, connectedAt=NOW, requestTimeEpoch=NOW, body=body, **replaced)
            assert server.message(payload) == OK

        server.connect(handshake([("Origin", "https://evil.io")], requestId="refused"))
        assert said("connect refused") == "refused"
        server.lets_in(handshake(requestId="connected"))
        assert said("connected") == "connected"
        monkeypatch.setattr(hooks, "ON_JOIN", [refuse])
        message(requestId="hooked")
        assert said("hook refuse refused") == "hooked"
        monkeypatch.setattr(hooks, "ON_JOIN", [])
        clients.status[ME] = 500
        message(requestId="posts", body='{"type":"message","data":"hello"}')
        assert said("posts given up") == "posts"
        del clients.status[ME]
        assert server.message(event("connect", connectionId=ME, requestId="misrouted")) == OK
        assert said("frame refused") == "misrouted"

        server.client.delete_table(TableName=server.name)
        assert server.connect(handshake(requestId="unrecorded")) == FAILED
        assert said("connect refused") == "unrecorded"
        message(requestId="frame")
        assert said("frame failed") == "frame"
        server.disconnect(event("disconnect", connectionId=ME, requestId="end"))
        assert said("disconnect incomplete") == "end"
        payload = {"channel": "news", "message": "hello"}
        with pytest.raises(Exception, match="ResourceNotFoundException"):
            handlers.publish(payload, Context(), server.api)
        assert said("publish failed") == Context.aws_request_id
        record = {"eventSource": "aws:sqs", "messageId": "m1", "body": '{"channel":"news","message":"hello"}'}
        failed = {"batchItemFailures": [{"itemIdentifier": "m1"}]}
        assert handlers.publish({"Records": [record]}, Context(), server.api) == failed
        assert said("publish failed message=m1") == Context.aws_request_id

        told = [frame for frame in clients.frames(ME) if isinstance(frame, dict)]
    assert [(frame["code"], frame.get("requestId")) for frame in told] == [
        ("refused", None),
        ("misconfigured", "misrouted"),
        ("unavailable", "frame"),
    ]


def test_an_event_without_a_request_id_is_logged_without_one(
    ministack: DynamoDBClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = Handlers(ministack, monkeypatch, {})
    server.lets_in(handshake(requestId=None))
    assert lines(caplog)[-1] == f"connected connection={ME}"


def test_the_threads_of_a_deployment_log_about_their_requests(
    ministack: DynamoDBClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service = handlers._service(Handlers(ministack, monkeypatch, {}).api)
    for number, threads in enumerate((service.broadcast.executor, service.fanout.readers, service._writers)):
        with logs.request(f"r{number}"):
            threads.submit(log.info, "from a thread").result()
    assert lines(caplog)[-3:] == [f"from a thread request=r{number}" for number in range(3)]
