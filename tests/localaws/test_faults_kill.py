"""Kills: a worker dies at a chosen request of its invocation, before that is carried out or right after."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from websockets.sync.client import connect

from localaws.dynamodb import Store
from localaws.faults import Faults, Plan
from localaws.kills import Kills
from tests.faults import Json, hits, inject, lift
from tests.localaws import invoked, signed
from tests.localaws.faulty import emptied, faulty, faulty_with_table, stored
from tests.localaws.test_server import failure
from tests.localaws.tiny import Tiny, until, write_project

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

HANDLERS = """
import functools
from botocore.config import Config

@functools.cache
def client(name, **more):
    return boto3.client(name, config=Config(retries={"total_max_attempts": 1}), **more)

def put(number):
    client("dynamodb").put_item(
        TableName="tiny-dev", Item={"channel": {"S": "c"}, "member": {"S": f"{number:03}"}}
    )

@app.on_ws_connect()
def websocket_connect(event):
    record(event)

@app.on_ws_message()
def websocket_message(event):
    # Five requests: of the store and of the gateway in turn.
    put(1)
    app.websocket_api.send(event.connection_id, "1")
    put(2)
    app.websocket_api.send(event.connection_id, "2")
    put(3)

@app.on_ws_disconnect()
def websocket_disconnect(event):
    record(event)

@app.lambda_function(name="hold")
def hold(event, context):
    put(9)
    wait_for("held")

@app.lambda_function(name="puts")
def puts(event, context):
    with (here / "ran").open("a") as ran:
        ran.write("x")
    for number in range(event):
        put(number)
    return event
"""

KILL = {"at": "invocation", "do": "kill"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    with faulty_with_table(tmp_path_factory.mktemp("tiny"), HANDLERS, {"LOCALAWS_WORKERS": "2"}) as running:
        yield running


@pytest.fixture
def behind(tiny: Tiny) -> Iterator[DynamoDBClient]:
    """The store itself, emptied; no test leaves faults to the next."""
    yield emptied(tiny)
    lift(tiny.server)


@pytest.mark.parametrize(
    ("rule", "puts", "sends"),
    [
        ({"request": 0}, [], []),
        ({}, [], []),
        ({"after": True}, [1], []),
        ({"request": 2}, [1], []),
        ({"request": 2, "after": True}, [1], ["1"]),
        ({"request": 4}, [1, 2], ["1"]),
        ({"request": 5, "after": True}, [1, 2, 3], ["1", "2"]),
    ],
    ids=str,
)
def test_an_invocation_dies_at_its_request_before_or_after_that_is_carried_out(
    tiny: Tiny, behind: DynamoDBClient, rule: Json, puts: list[int], sends: list[str]
) -> None:
    after = inject(tiny.server, {**KILL, "match": "message", "times": 1, **rule})
    with connect(tiny.url) as client:
        connection_id = tiny.event("CONNECT")["requestContext"]["connectionId"]
        client.send("go")
        got = []
        while "Internal server error" not in (text := str(client.recv(timeout=20))):
            got.append(text)
        assert json.loads(text)["connectionId"] == connection_id
        assert (stored(behind), got) == (puts, sends)
        (hit,) = hits(tiny.server, after)
        assert (hit.rule, hit.at, hit.do) == (0, "invocation", "kill")
        assert (hit.connection, hit.detail) == (connection_id, "tiny-dev-websocket_message")
        client.send("again")
        assert [client.recv(timeout=20), client.recv(timeout=20)] == ["1", "2"]
        until(lambda: stored(behind) == [1, 2, 3] or None, "the whole of an invocation", tiny.server.log)


def test_an_invocation_that_makes_fewer_requests_lives_and_is_no_hit(tiny: Tiny, behind: DynamoDBClient) -> None:
    after = inject(tiny.server, {**KILL, "request": 3})
    assert invoked.result(tiny, "puts", 2) == 2
    assert hits(tiny.server, after) == []
    assert stored(behind) == [0, 1]


def test_requests_are_counted_from_each_invocations_beginning(tiny: Tiny, behind: DynamoDBClient) -> None:
    after = inject(tiny.server, {**KILL, "request": 3})
    for _ in range(3):
        assert invoked.result(tiny, "puts", 2) == 2
    assert hits(tiny.server, after) == []


def test_requests_of_an_invocation_that_runs_beside_it_are_not_its_own(tiny: Tiny, behind: DynamoDBClient) -> None:
    after = inject(tiny.server, {**KILL, "match": "hold", "request": 2})
    with ThreadPoolExecutor() as pool:
        held = pool.submit(invoked.result, tiny, "hold")
        until(lambda: stored(behind) == [9] or None, "its first request", tiny.server.log)
        assert invoked.call(tiny, "puts", 3, InvocationType="Event")["StatusCode"] == 202
        until(lambda: stored(behind) == [0, 1, 2, 9] or None, "the other's requests", tiny.server.log)
        tiny.touch("held")
        assert held.result() is None
    assert hits(tiny.server, after) == []


def test_an_invoker_is_told_that_the_runtime_exited(tiny: Tiny, behind: DynamoDBClient) -> None:
    after = inject(tiny.server, {**KILL, "match": "puts", "request": 2})
    answer = invoked.call(tiny, "puts", 5)
    told = json.loads(answer["Payload"])
    assert (answer["FunctionError"], told["errorType"]) == ("Unhandled", "Runtime.ExitError")
    assert told["errorMessage"].endswith(" Error: Runtime exited with error: signal: killed")
    assert stored(behind) == [0]
    assert [(hit.connection, hit.detail) for hit in hits(tiny.server, after)] == [(None, "tiny-dev-puts")]


def test_an_asynchronous_invocation_that_is_killed_is_run_again(tiny: Tiny, behind: DynamoDBClient) -> None:
    after = inject(tiny.server, {**KILL, "match": "puts", "request": 2, "times": 2})
    before = len((tiny.project / "ran").read_text())
    assert invoked.call(tiny, "puts", 3, InvocationType="Event")["StatusCode"] == 202
    until(lambda: stored(behind) == [0, 1, 2] or None, "the third attempt's end", tiny.server.log)
    assert len((tiny.project / "ran").read_text()) == before + 3
    assert len(hits(tiny.server, after)) == 2


def test_a_share_of_invocations_dies_the_same_share_with_the_same_seed(tiny: Tiny, behind: DynamoDBClient) -> None:
    runs: list[list[bool]] = []
    for _ in range(2):
        inject(tiny.server, {**KILL, "share": 0.5, "request": 0}, seed=4)
        runs.append(["FunctionError" in invoked.call(tiny, "puts", 0) for _ in range(6)])
    assert runs[0] == runs[1]
    assert set(runs[0]) == {True, False}


def test_a_connect_that_is_killed_refuses_the_handshake(tiny: Tiny, behind: DynamoDBClient) -> None:
    inject(tiny.server, {**KILL, "match": "connect", "request": 0, "times": 1})
    key = "AAAAAAAAAAAAAAAAAAAAAA=="
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key}
    assert signed.send(tiny.server.port, "GET", "/", headers=headers).status == 502


def test_other_requests_and_other_peoples_are_not_counted(tiny: Tiny, behind: DynamoDBClient) -> None:
    after = inject(tiny.server, {**KILL, "request": 1, "match": "message"})
    with connect(tiny.url):
        connection_id = tiny.event("CONNECT")["requestContext"]["connectionId"]
        tiny.management().post_to_connection(ConnectionId=connection_id, Data=b"from elsewhere")
        assert invoked.result(tiny, "puts", 2) == 2
    assert hits(tiny.server, after) == []


def test_keys_of_the_users_own_cannot_be_told_apart_and_count_nothing(tmp_path: Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "mine"}
    with Store() as store:
        workers = {"LOCALAWS_WORKERS": "1", "LOCALAWS_SIGNATURES": "0"}
        env = {**keys, **workers, "AWS_ENDPOINT_URL_DYNAMODB": store.endpoint}
        said: Any = failure(write_project(tmp_path), {**env, "LOCALAWS_FAULTS": json.dumps({"rules": [KILL]})})
        assert 'with keys of your own, which all workers share, only "request": 0 can be killed' in said
        plan = json.dumps({"rules": [{**KILL, "request": 0}]})
        with faulty(tmp_path, HANDLERS, plan=plan, env=env) as other:
            assert invoked.call(other, "puts", 0)["FunctionError"] == "Unhandled"


def test_a_request_that_outlasts_its_invocation_kills_no_other() -> None:
    faults = Faults(
        Plan.parse(json.dumps({"rules": [{**KILL, "request": 1, "after": True, "match": ""}]})), workers=True
    )
    kills, killed = Kills(), []
    request = make_mocked_request("POST", "/", headers={"Authorization": "AWS4-HMAC-SHA256 Credential=local1/x"})

    async def act() -> web.Response:
        kills.end("local1")
        kills.begin("local1", [*faults.doom("invocation", None, "the next")], lambda: killed.append("the next"))
        return web.Response()

    kills.begin("local1", [*faults.doom("invocation", None, "the first")], lambda: killed.append("the first"))
    asyncio.run(kills.carry_out(request, act))
    assert killed == []
    assert faults.hits(0) == (0, [])
