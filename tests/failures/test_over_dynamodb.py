"""The same over a real store and a real client: botocore's own repeats heal a failure that passes, and what does not
pass is told after as many attempts as are configured.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ConnectionClosedError, ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError

from chalicelib import handlers, store
from tests.captured import event
from tests.connections import Connections, connections_endpoint
from tests.fakes import NOW, Context
from tests.handshakes import ME, OK, Handlers, handshake
from tests.scripted import Peer, scripted

from .store import URL

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

OTHER = "IU3kkeN4IAMCJwB="
UNAVAILABLE = {"statusCode": 500}


def do_not_wait_between_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _seconds: None))


class Body(io.BytesIO):
    def stream(self) -> Iterator[bytes]:
        yield self.read()


def answers(status: int, code: str) -> Callable[[], AWSResponse]:
    text = json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "as the test wants it"})
    return lambda: AWSResponse(URL, status, HTTPHeaders(), Body(text.encode()))


def raises(error: Exception) -> Callable[[], AWSResponse]:
    def answer() -> AWSResponse:
        raise error

    return answer


KINDS: dict[str, tuple[Callable[[], AWSResponse], bool]] = {
    "throttled": (answers(400, "ProvisionedThroughputExceededException"), False),
    "failed": (answers(500, "InternalServerError"), False),
    "failed but done": (answers(500, "InternalServerError"), True),
    "unreachable": (raises(EndpointConnectionError(endpoint_url=URL)), False),
    "no connection in time": (raises(ConnectTimeoutError(endpoint_url=URL)), False),
    "cut but done": (raises(ConnectionClosedError(endpoint_url=URL)), True),
    "timed out but done": (raises(ReadTimeoutError(endpoint_url=URL)), True),
}
"""What comes in the place of an answer, and whether the request is carried out all the same."""


class Deployed(Handlers):
    """The handlers, and the requests that their own client sends to the store. `failing` of the next ones fail."""

    clients: Connections
    numbers = count(1)

    def fail(self, kind: str, times: int, operation: str = "") -> None:
        """Lets the next requests fail, or the next ones of that operation."""
        self.attempts, self.failing, self.operation = 0, times, operation
        self.answer, self.carried_out = KINDS[kind]

    def hook(self) -> None:
        self.attempts, self.failing, self.operation = 0, 0, ""
        client: Any = handlers._service(self.api).table._store._client
        session = client._endpoint.http_session

        def before_send(request: AWSPreparedRequest, **_more: Any) -> AWSResponse | None:
            if self.failing <= 0 or self.operation not in str(request.headers["X-Amz-Target"]):
                return None
            self.attempts += 1
            self.failing -= 1
            if self.carried_out:
                session.send(request)
            return self.answer()

        client.meta.events.register("before-send.dynamodb.*", before_send)

    def send(self, frame: object, name: str = ME) -> None:
        number = next(self.numbers)
        times = {"connectedAt": NOW, "requestTimeEpoch": NOW + number}
        payload = event("message", connectionId=name, requestId=f"r{number}", body=json.dumps(frame), **times)
        assert self.message(payload) == OK

    def end(self, name: str = ME) -> None:
        assert self.disconnect(event("disconnect", connectionId=name)) == OK

    def codes(self) -> list[str]:
        """Of the errors that were posted since the last look."""
        frames = [json.loads(text) for text in self.clients.posts.pop(ME, []) if text.startswith("{")]
        return [frame["code"] for frame in frames if frame.get("type") == "error"]

    def channels(self, name: str = ME) -> list[str]:
        """What is in the table for it."""
        items = [item for item in self.items() if item.get("connection_id") == {"S": name}]
        return sorted(item["channel"]["S"] for item in items if "joined_at" in item or "connected_at" in item)


@pytest.fixture(name="deployed")
def a_deployment(ministack: DynamoDBClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    do_not_wait_between_attempts(monkeypatch)
    with connections_endpoint() as clients:
        deployed = Deployed(ministack, monkeypatch, {"PUBLISH_FUNCTION": Context.function_name}, clients.url)
        deployed.clients = clients
        deployed.hook()
        assert deployed.connect(handshake(connectionId=OTHER)) == OK
        deployed.send({"action": "joinchannel", "channel": "news"}, OTHER)
        deployed.clients.posts.clear()
        yield deployed


RECORD = f"@connection#{ME}"


def in_the_news(deployed: Deployed) -> None:
    assert deployed.connect(handshake()) == OK
    deployed.send({"action": "joinchannel", "channel": "news"})
    deployed.clients.posts.clear()


FRAMES: dict[str, tuple[object, list[str]]] = {
    "join": ({"action": "joinchannel", "channel": "sport"}, [RECORD, "default", "news", "sport"]),
    "subscribe": ({"type": "subscribe", "topics": ["doc", "draft"]}, [RECORD, "doc", "draft", "news"]),
    "leave": ({"action": "leavechannel", "channel": "news"}, [RECORD, "default"]),
    "publish": ({"action": "sendmessage", "channel": "news", "message": "hi"}, [RECORD, "default", "news"]),
}


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_frames_failure_that_passes_is_noticed_by_nobody_and_another_is_told_and_healed(
    deployed: Deployed, kind: str, frame: str
) -> None:
    in_the_news(deployed)
    sent, channels = FRAMES[frame]

    deployed.fail(kind, times=1_000)
    deployed.send(sent)
    assert deployed.codes() == ["unavailable"]
    assert deployed.attempts % store.ATTEMPTS == 0
    assert deployed.attempts >= store.ATTEMPTS
    assert deployed.clients.posts[OTHER] == []

    deployed.fail(kind, times=store.ATTEMPTS - 1)
    deployed.send(sent)
    assert deployed.codes() == []
    assert deployed.failing <= 0
    assert deployed.channels() == channels
    assert deployed.clients.posts[OTHER] == (["hi"] if frame == "publish" else [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_handshake_and_a_disconnect_that_fail_for_a_moment_are_carried_out_and_else_said(
    deployed: Deployed, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    deployed.fail(kind, times=1_000)
    assert deployed.connect(handshake(requestId="r-connect")) == UNAVAILABLE
    assert deployed.attempts == store.ATTEMPTS

    deployed.fail(kind, times=store.ATTEMPTS - 1)
    assert deployed.connect(handshake()) == OK
    assert deployed.attempts == store.ATTEMPTS - 1
    assert deployed.channels() == [RECORD, "default"]

    deployed.fail(kind, times=1_000)
    deployed.end()
    assert deployed.attempts == store.ATTEMPTS
    assert deployed.channels() == [RECORD, "default"]

    deployed.fail(kind, times=store.ATTEMPTS - 1)
    deployed.end()
    assert deployed.channels() == []
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert [line.split(" connection=")[0] for line in said] == ["connect refused", "disconnect incomplete"]
    assert said[0].endswith(" request=r-connect")


@pytest.mark.parametrize("kind", KINDS)
def test_a_claim_that_is_repeated_is_the_same_runs(deployed: Deployed, kind: str) -> None:
    """What botocore sends again after an answer that was lost finds its own claim, and not another run's."""
    deployed.fail(kind, times=store.ATTEMPTS - 1, operation="PutItem")
    answer = handlers.publish({"channel": "news", "message": "hi", "id": "m"}, Context(), deployed.api)
    assert (answer["delivered"], "already_sent" in answer) == (1, False)
    assert deployed.attempts == store.ATTEMPTS - 1
    assert deployed.clients.posts[OTHER] == ["hi"]


def test_the_client_gives_up_a_store_that_takes_a_request_and_never_answers(
    ministack: DynamoDBClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    do_not_wait_between_attempts(monkeypatch)
    monkeypatch.setattr(store, "ANSWER_SECONDS", 0.2)

    def silent(peer: Peer) -> None:
        peer.request()
        peer.pause()

    with scripted(silent) as server:
        deployed = Handlers(ministack, monkeypatch, {"AWS_ENDPOINT_URL_DYNAMODB": server.url})
        assert deployed.connect(handshake()) == UNAVAILABLE
        assert len(server.requests) == store.ATTEMPTS


def test_the_client_waits_as_long_as_is_written(ministack: DynamoDBClient, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed = Handlers(ministack, monkeypatch, {})
    config: Any = handlers._service(deployed.api).table._store._client.meta.config
    assert (config.connect_timeout, config.read_timeout) == (store.CONNECT_SECONDS, store.ANSWER_SECONDS)
    assert config.retries["total_max_attempts"] == store.ATTEMPTS
