from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import publishing
from chalicelib.dialects import Encoded
from chalicelib.errors import ClientError, MissingField, NotHandedOn, TooDeep, TooLarge, UnknownName, WrongType
from chalicelib.fanout import Sending
from chalicelib.jsontext import compact
from chalicelib.limits import MESSAGE_BYTES
from chalicelib.model import ChannelName, ConnectionId, KeyRange, Member, Message, Position

from .fakes import NOW
from .test_jsontext import any_text

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | any_text,
    lambda children: st.lists(children) | st.dictionaries(any_text, children),
    max_leaves=8,
)
connection_ids = any_text.map(ConnectionId)
positions = st.none() | any_text.map(Position)
sendings = st.builds(
    Sending,
    id=any_text,
    message=st.builds(
        Message,
        channel=any_text.map(ChannelName),
        body=json_values,
        dialect=st.sampled_from(["pubsub", "ywebrtc", "actions"]),
        sender=st.none() | connection_ids,
        at=st.integers(0, 2**53),
    ),
    exclude=st.frozensets(connection_ids, max_size=3),
    announcer=st.none() | st.builds(Member, connection_ids, any_text, st.integers(0, 2**53)),
    within=st.builds(KeyRange, positions, positions),
    clients=st.none() | st.integers(0, 10**6),
    rate=st.none() | st.floats(1, 10**6),
)


def read(event: Any) -> Sending:
    return publishing.from_event(event, "request-1", NOW)


def test_a_channel_and_a_message_are_all_that_an_event_must_say() -> None:
    sending = read({"channel": "news", "message": "hello"})
    assert sending == Sending("request-1", Message(ChannelName("news"), "hello", "pubsub", None, NOW))


def test_an_event_may_name_itself_whom_it_is_not_for_and_its_form() -> None:
    event = {"channel": "c", "message": {"a": 1}, "exclude": ["A=", "B="], "dialect": "actions", "id": "order-5"}
    sending = read(event)
    assert (sending.id, sending.exclude, sending.message.dialect) == ("order-5", frozenset(("A=", "B=")), "actions")
    assert read({"channel": "c", "message": 1, "exclude": "A="}).exclude == {"A="}


@pytest.mark.parametrize("name", ["exclude", "dialect", "id"])
def test_null_is_as_good_as_absent(name: str) -> None:
    plain = {"channel": "news", "message": None}
    assert read({**plain, name: None}) == read(plain)


@pytest.mark.parametrize(
    ("event", "error", "says"),
    [
        (None, WrongType, "must be an object like"),
        ([], WrongType, "must be an object like"),
        ("hello", WrongType, "must be an object like"),
        ({}, MissingField, "'channel' is missing"),
        ({"channel": None, "message": 1}, MissingField, "'channel' is missing"),
        ({"channel": "c"}, MissingField, "'message' is missing"),
        ({"channel": 5, "message": 1}, WrongType, "'channel' must be a string, not a number"),
        ({"channel": "c", "message": 1, "exlude": "A"}, UnknownName, "no field 'exlude' here; there is: channel, mess"),
        (
            {"channel": "c", "message": 1, "exclude": ["A="] * 10_001},
            TooLarge,
            "'exclude' is 10,001 connection ids; the limit is 10,000",
        ),
        (
            {"channel": "c", "message": 1, "id": ""},
            WrongType,
            "'id' must be the message's own name, or no id at all",
        ),
        (
            {"channel": "c", "message": 1, "exclude": 5},
            WrongType,
            "'exclude' must be a connection id or an array of them",
        ),
        (
            {"channel": "c", "message": 1, "exclude": {}},
            WrongType,
            "'exclude' must be a connection id or an array of them",
        ),
        (
            {"channel": "c", "message": 1, "exclude": ["A", 5]},
            WrongType,
            "'exclude' must be a connection id or an array of them",
        ),
        ({"channel": "c", "message": 1, "dialect": "morse"}, UnknownName, "no dialect 'morse' here; there is: pubsub"),
        ({"channel": "c", "message": 1, "dialect": 5}, WrongType, "'dialect' must be a string"),
        ({"channel": "c", "message": "m", "dialect": "ywebrtc"}, WrongType, "an object, in the dialect ywebrtc"),
        ({"channel": "c", "message": [], "dialect": "actions"}, WrongType, "an object, in the dialect actions"),
        ({"channel": "c", "message": 1, "id": 5}, WrongType, "'id' must be a string"),
        ({"channel": "c", "message": 1, "id": "x" * 65}, TooLarge, "'id' is 65 characters"),
        ({"detail": {"channel": "c"}, "detail-type": "x"}, UnknownName, "no field 'detail'"),
        ({"handed_on": None}, WrongType, "'handed_on' must be what another invocation has handed on"),
        ({"handed_on": {"sending": "%%%"}}, WrongType, "'handed_on' must be"),
        ({"handed_on": {"sending": b64encode(b"\xff").decode()}}, WrongType, "'handed_on' must be"),
        ({"handed_on": {"sending": b64encode(b"[]").decode()}}, WrongType, "'handed_on' must be"),
        ({"handed_on": {"sending": b64encode(b"{}").decode(), "id": "1"}}, WrongType, "'handed_on' must be"),
    ],
)
def test_an_event_of_another_shape_says_what_was_expected(event: Any, error: type[ClientError], says: str) -> None:
    with pytest.raises(error) as raised:
        read(event)
    assert says in str(raised.value)


@given(json_values)
def test_any_event_is_a_sending_or_an_error_that_says_why(event: Any) -> None:
    for read_it in (read, publishing.records):
        try:
            read_it(event)
        except ClientError as error:
            assert str(error).isprintable()


@given(sendings)
def test_what_is_handed_on_comes_out_as_it_went_in(sending: Sending) -> None:
    event = json.loads(json.dumps(publishing.to_event(sending)))
    assert publishing.from_event(event, "another request", NOW + 1) == sending


@pytest.mark.parametrize("character", ["x", '"', "\\", "\0", "é", "😀", "\ud800"])
def test_what_is_handed_on_is_far_below_a_megabyte(character: str) -> None:
    """Whatever the message is, as long as API Gateway takes it."""
    body = character * ((MESSAGE_BYTES - 200) // len(compact(character).encode()[1:-1]))
    sending = Sending("m1", Message(ChannelName("news"), body, "pubsub", None, NOW))
    Encoded(sending.message, 1)
    assert len(json.dumps(publishing.to_event(sending))) < 200_000


def sqs(*bodies: Any) -> dict[str, Any]:
    records = [{"eventSource": "aws:sqs", "messageId": f"m{n}", "body": body} for n, body in enumerate(bodies)]
    return {"Records": records}


def test_sqs_brings_events_as_text_and_names_them() -> None:
    records = publishing.records(sqs('{"channel":"news","message":1}', '{"channel":"news","message":2,"id":"mine"}'))
    assert records is not None
    sent = [publishing.from_record(record, NOW) for record in records]
    assert [(sending.id, sending.message.body) for sending in sent] == [("m0", 1), ("mine", 2)]


@pytest.mark.parametrize("event", [None, {}, {"channel": "c", "message": 1}, {"Records": None}, {"Records": "x"}])
def test_other_events_are_not_sqss(event: Any) -> None:
    assert publishing.records(event) is None


@pytest.mark.parametrize("record", [None, {}, {"eventSource": "aws:s3"}, {"eventSource": "aws:sqs"}])
def test_records_of_another_source_are_refused(record: Any) -> None:
    with pytest.raises(WrongType, match="'Records' must be messages of SQS"):
        publishing.records({"Records": [record]})


@pytest.mark.parametrize(
    ("body", "error"),
    [(None, WrongType), (5, WrongType), ("hello", WrongType), ("[" * 100_000, TooDeep), ("{}", MissingField)],
)
def test_a_message_of_sqs_that_is_no_event_says_why(body: Any, error: type[ClientError]) -> None:
    [record] = publishing.records(sqs(body)) or []
    with pytest.raises(error):
        publishing.from_record(record, NOW)


# --- handing on


@pytest.fixture(name="lambda_api")
def a_lambda_api(monkeypatch: pytest.MonkeyPatch) -> Iterator[LambdaApi]:
    api = LambdaApi()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "local")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", api.url)
    publishing._lambda_client.cache_clear()
    yield api
    publishing._lambda_client().close()
    publishing._lambda_client.cache_clear()
    api.close()


class LambdaApi:
    """Lambda's Invoke over real HTTP, as far as botocore can tell."""

    def __init__(self) -> None:
        self.invocations: list[tuple[str, str, Any]] = []
        self.status = 202
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                api.invocations.append((self.path, self.headers["X-Amz-Invocation-Type"], payload))
                body = b"" if api.status == 202 else b'{"Type":"User","Message":"no such function"}'
                self.send_response(api.status)
                self.send_header("x-amzn-ErrorType", "ResourceNotFoundException")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


SENDING = Sending("m1", Message(ChannelName("news"), "hello", "pubsub", None, NOW))


def test_the_rest_is_given_to_the_function_of_that_name_without_waiting_for_it(lambda_api: LambdaApi) -> None:
    publishing.Invoke("channels-dev-publish")(SENDING)
    [(path, kind, payload)] = lambda_api.invocations
    assert path == "/2015-03-31/functions/channels-dev-publish/invocations"
    assert kind == "Event"
    assert read(payload) == SENDING


def test_a_function_that_there_is_not_is_named_with_what_to_set(lambda_api: LambdaApi) -> None:
    lambda_api.status = 404
    with pytest.raises(
        NotHandedOn, match=r"no such function; PUBLISH_FUNCTION must name .* it is channels-dev-publish"
    ):
        publishing.Invoke("channels-dev-publish")(SENDING)


def test_without_a_function_it_is_said_what_to_set() -> None:
    with pytest.raises(NotHandedOn, match="PUBLISH_FUNCTION is not set"):
        publishing.Invoke(None)(SENDING)
