"""Nothing that an app does with an AWS SDK leaves the machine."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from websockets.sync.client import connect

from localaws import environment
from tests.localaws.tiny import served

TELL = """
@app.on_ws_message()
def websocket_message(event):
    service = event.body
    client = boto3.client(service)
    keys = boto3.Session().get_credentials()
    app.websocket_api.send(event.connection_id, json.dumps([client.meta.endpoint_url, keys.access_key, keys.token]))
"""

OTHERS = ("lambda", "s3", "sqs", "sts")


def told(url: str, service: str) -> list[str | None]:
    with connect(url) as client:
        client.send(service)
        answer: list[str | None] = json.loads(client.recv(timeout=20))
        return answer


def test_every_service_resolves_to_this_machine_and_no_credentials_of_the_users_are_used(tmp_path: Path) -> None:
    own = tmp_path / "home"
    (own / ".aws").mkdir(parents=True)
    (own / ".aws" / "config").write_text("[default]\nregion = eu-west-1\nignore_configured_endpoint_urls = true\n")
    (own / ".aws" / "credentials").write_text("[prod]\naws_access_key_id = REAL\naws_secret_access_key = REAL\n")
    users = {
        "HOME": str(own),
        "AWS_PROFILE": "prod",
        "AWS_ACCESS_KEY_ID": "REAL",
        "AWS_SECRET_ACCESS_KEY": "REAL",
        "AWS_SESSION_TOKEN": "REAL",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "HTTP_PROXY": "http://127.0.0.1:9",
    }
    with served(tmp_path, TELL, env=users) as tiny:
        assert told(tiny.url, "dynamodb") == [tiny.server.store, "local", None]
        assert told(tiny.url, "apigatewaymanagementapi") == [f"{tiny.server.http}/api", "local", None]
        for service in OTHERS:
            assert told(tiny.url, service) == [tiny.server.http, "local", None]


def test_a_call_to_a_service_without_a_stand_in_fails_here(tmp_path: Path) -> None:
    handlers = """
@app.on_ws_message()
def websocket_message(event):
    try:
        boto3.client("sqs").list_queues()
    except Exception as error:
        app.websocket_api.send(event.connection_id, str(error.response["ResponseMetadata"]["HTTPStatusCode"]))
"""
    with served(tmp_path, handlers) as tiny, connect(tiny.url) as client:
        client.send("go")
        assert client.recv(timeout=20) == "404"


def test_keys_are_kept_for_a_store_that_is_given_and_dummies_fill_in_for_none() -> None:
    environ = {"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "mine", "AWS_SESSION_TOKEN": "mine"}
    given = dict(environ)
    environment.use_given_store(given)
    assert given == environ
    none = {"AWS_PROFILE": "prod"}
    environment.use_given_store(none)
    assert none == {
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_a_region_is_kept_under_both_its_names(name: str) -> None:
    environ = {name: "eu-west-1"}
    environment.use_gateway(environ, "http://127.0.0.1:1", "api")
    assert (environ["AWS_REGION"], environ["AWS_DEFAULT_REGION"]) == ("eu-west-1", "eu-west-1")


def test_endpoints_that_are_left_over_in_a_shell_take_nothing_elsewhere() -> None:
    names = ("AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", "AWS_ENDPOINT_URL_LAMBDA", "AWS_ENDPOINT_URL")
    environ = dict.fromkeys(names, "http://elsewhere")
    environment.use_gateway(environ, "http://127.0.0.1:1", "api")
    assert [environ[name] for name in names] == ["http://127.0.0.1:1/api", "http://127.0.0.1:1", "http://127.0.0.1:1"]


def test_the_default_session_of_an_app_posts_to_the_gateway_it_is_connected_to(tmp_path: Path) -> None:
    # RECORDER's session is boto3's own, without an endpoint.
    with served(tmp_path) as tiny, connect(tiny.url) as client:
        client.send("echo")
        assert client.recv(timeout=20) == "echo"


def test_each_worker_has_a_key_of_its_own_and_no_sign_of_the_server() -> None:
    environ = {"CHALICE_WORKER": "true", "AWS_CHALICE_CLI_MODE": "true", "TABLE_NAME": "t", "PYTHONPATH": "a"}
    environment.use_own_store(environ, "http://127.0.0.1:1")
    before = dict(environ)
    key, theirs = environment.worker_environment(environ, 2, "b")
    assert environ == before
    assert (key, theirs.pop("PYTHONPATH")) == ("local2", os.pathsep.join(["a", "b"]))
    expected = {name: value for name, value in before.items() if name not in {"CHALICE_WORKER", "AWS_CHALICE_CLI_MODE"}}
    del expected["PYTHONPATH"]
    assert theirs == {**expected, "AWS_ACCESS_KEY_ID": "local2"}


def test_workers_share_keys_of_the_users_own() -> None:
    environ = {"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "mine"}
    assert not environment.has_own_keys(environ), "a store of ours takes nobody's"
    environ[environment.STORE] = "http://127.0.0.1:1"
    assert environment.has_own_keys(environ)
    assert environment.worker_environment(environ, 1, "b")[0] == "mine"
