"""HTTP beside the WebSockets: the app's own routes, and the page that greets a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPMessage
from typing import NamedTuple

import pytest

from tests.localaws.tiny import RECORDER, Tiny, served

ROUTES = """
@app.route("/hello/{name}", methods=["GET", "PUT"], cors=True)
def hello(name):
    request = app.current_request
    return {"name": name, "query": request.query_params, "body": request.raw_body.decode(), "method": request.method}

@app.route("/made", methods=["POST"])
def made():
    return Response(body="plain", status_code=201, headers={"Content-Type": "text/plain", "X-Two": ["1", "2"]})

@app.route("/bytes")
def some_bytes():
    return Response(body=bytes(range(256)), headers={"Content-Type": "application/octet-stream"})

@app.route("/broken")
def broken():
    raise RuntimeError("a secret of a route")

@app.route("/exits")
def exits():
    raise SystemExit(3)
"""


class Answer(NamedTuple):
    status: int
    headers: HTTPMessage
    body: bytes


def request(tiny: Tiny, method: str, path: str, body: str = "", headers: Mapping[str, str] | None = None) -> Answer:
    connection = HTTPConnection("127.0.0.1", tiny.server.port, timeout=20)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    with served(tmp_path_factory.mktemp("plain"), config={"app_name": "a <b>tiny</b> app"}) as running:
        yield running


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    with served(tmp_path_factory.mktemp("routed"), RECORDER + ROUTES) as running:
        yield running


@pytest.mark.parametrize("path", ["/", "/api", "/api/", "/?a=b"])
def test_a_browser_is_greeted_at_the_root_and_at_the_stage(plain: Tiny, path: str) -> None:
    page = request(plain, "GET", path)
    assert page.status == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b"<title>a &lt;b&gt;tiny&lt;/b&gt; app</title>" in page.body
    assert b'data-path="/api"' in page.body
    assert b"{{app}}" not in page.body


def test_the_page_needs_nothing_from_elsewhere(plain: Tiny) -> None:
    page = request(plain, "GET", "/").body.decode()
    assert re.findall(r"""(?:src|href)=["'](?!data:)|@import|https?://""", page) == []


def test_the_page_has_a_frame_to_try_of_each_dialect(plain: Tiny) -> None:
    page = request(plain, "GET", "/").body.decode()
    for frame in (
        "joinchannel",
        "sendmessage",
        "leavechannel",
        "messageBody",
        "Marko?",
        "subscribe",
        "publish",
        "chat",
    ):
        assert frame in page


@pytest.mark.parametrize(("method", "path"), [("GET", "/nothing"), ("POST", "/"), ("DELETE", "/api/x")])
def test_an_app_without_routes_answers_404_and_says_why(plain: Tiny, method: str, path: str) -> None:
    answer = request(plain, method, path)
    assert answer.status == 404
    assert answer.headers["Content-Type"].startswith("application/json")
    assert f"Nothing is served at {method} {path}: this app has no HTTP routes.".encode() in answer.body


def test_a_route_gets_its_parameters_query_and_body(routed: Tiny) -> None:
    answer = request(routed, "PUT", "/hello/you?a=1&b=%20", "ünïcödé".encode().decode("latin-1"))
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert b'"name":"you"' in answer.body
    assert b'"query":{"a":"1","b":" "}' in answer.body
    assert b'"method":"PUT"' in answer.body


def test_a_routes_status_and_headers_are_passed_on(routed: Tiny) -> None:
    answer = request(routed, "POST", "/made")
    assert (answer.status, answer.body) == (201, b"plain")
    assert answer.headers.get_all("Content-Type") == ["text/plain"]
    assert answer.headers.get_all("X-Two") == ["1", "2"]


def test_a_route_may_answer_bytes(routed: Tiny) -> None:
    answer = request(routed, "GET", "/bytes", headers={"Accept": "application/octet-stream"})
    assert (answer.status, answer.body) == (200, bytes(range(256)))


def test_a_preflight_is_answered_for_a_route_with_cors(routed: Tiny) -> None:
    answer = request(routed, "OPTIONS", "/hello/you")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Access-Control-Allow-Methods"] == "GET,PUT,OPTIONS"


def test_a_path_that_no_route_has_is_refused_as_api_gateway_does(routed: Tiny) -> None:
    answer = request(routed, "GET", "/nothing")
    assert (answer.status, answer.body) == (403, b'{"message": "Missing Authentication Token"}')


@pytest.mark.parametrize(("path", "status"), [("/broken", 500), ("/exits", 502)])
def test_a_route_that_fails_says_nothing_and_the_server_goes_on(routed: Tiny, path: str, status: int) -> None:
    answer = request(routed, "GET", path)
    assert answer.status == status
    assert b"secret" not in answer.body
    assert request(routed, "GET", "/hello/you").status == 200


def test_the_page_stands_where_the_apps_routes_leave_the_root_free(routed: Tiny) -> None:
    assert b"<title>tiny</title>" in request(routed, "GET", "/").body


def test_a_route_at_the_root_is_the_apps(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = '@app.route("/")\ndef root():\n    return "mine"\n'
    with served(tmp_path_factory.mktemp("root"), root) as tiny:
        assert request(tiny, "GET", "/").body == b"mine"
