"""The one command, what chalice does after it, and what takes it all away, with clients at the URL that it prints.

What the emulator cannot do, and what is done about it here:

- It answers at no name of AWS's: emulator.py gives it that of the APIs.
- Under IAM a new role is of use only after some seconds, and chalice waits for it. Here it is of use at once:
  inside/sitecustomize.py shortens every wait of the commands.
- On AWS an API's stage serves a deployment, a snapshot of its routes. Here it serves the routes themselves, and chalice
  removes those and makes them anew each time: a frame within these milliseconds is lost. None is sent in them.
- It asks no function's policy whether API Gateway may invoke it: that there is such a policy is seen in the inventory.
- It runs the frames of one connection one after the other, enforces no throttles, and has the functions' logs only of
  those that were invoked by Lambda's API.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen
from zipfile import ZipFile

import pytest
from websockets.exceptions import InvalidStatus

from chalicelib.model import ChannelName
from ops.conversations import CONVERSATIONS
from ops.project import FUNCTIONS
from ops.verify import hold
from tests.captured import event
from tests.clients.plain_client import Client
from tests.conftest import everything_in, fill

from .conftest import Connect, Deployed
from .control import configured, denied, invoke
from .emulator import Emulator
from .inventory import Inventory, inventory, names
from .project import Project

CANNOT: Mapping[str, str] = {
    "over 128 KB": "knows no limit to a message",
    "binary data": "takes it for text",
    "another path": "takes what is behind the stage for nothing",
}
"""Conversations that the emulator cannot hold, and what it does instead. localaws can: tests/ops has them all."""


@pytest.mark.parametrize("conversation", CANNOT)
def test_only_what_the_emulator_cannot_do_is_left_out(conversation: str, dev: Deployed, names_lead_there: None) -> None:
    assert hold(dev.url, conversation)[1] is not None


@pytest.mark.parametrize("conversation", [name for name in CONVERSATIONS if name not in CANNOT])
def test_clients_at_the_printed_url_are_kept_what_they_are_promised(
    conversation: str, dev: Deployed, names_lead_there: None
) -> None:
    assert hold(dev.url, conversation)[1] is None


def test_the_zip_holds_the_app_what_it_requires_and_nothing_else(aws: Emulator, dev: Deployed) -> None:
    where = aws.client("lambda").get_function(FunctionName="channels-dev-publish")["Code"]["Location"]
    with urlopen(urlsplit(where)._replace(scheme="http", netloc=urlsplit(aws.endpoint).netloc).geturl()) as code:
        files = ZipFile(BytesIO(code.read())).namelist()
    tops = {file.partition("/")[0] for file in files if ".dist-info/" not in file}
    assert {top for top in tops if not top.startswith("_cffi_backend.")} == {
        *("app.py", "chalicelib", "chalice"),
        *("jwt", "cryptography", "cffi", "pycparser"),  # requirements.txt
    }
    assert not [file for file in files if file.startswith("chalicelib/") and not file.endswith(".py")]


def test_a_backend_reaches_a_client_through_the_publish_function(
    aws: Emulator, dev: Deployed, connect: Connect
) -> None:
    reader = connect(dev.url)
    reader.join("prices")
    answer = invoke(aws, "channels-dev-publish", {"channel": "prices", "message": {"tea": 3}})
    assert (answer["delivered"], answer["failed"]) == (1, 0)
    assert reader.json() == {"tea": 3}


@pytest.mark.parametrize("where", ["the same folder", "another clone"])
def test_a_second_run_changes_nothing_and_a_client_stays_connected(
    where: str, aws: Emulator, dev: Deployed, connect: Connect, tmp_path: Path
) -> None:
    client = connect(dev.url)
    client.join("steady")
    before = inventory(aws)
    project = dev.project if where == "the same folder" else Project.copy(tmp_path / "clone", aws)
    assert project.deploy("dev") == dev.url
    assert inventory(aws) == before
    say(connect(dev.url), "steady", "still there?")
    assert client.text() == "still there?"


def test_plain_chalice_deploy_changes_nothing_but_what_it_packs(aws: Emulator, dev: Deployed, connect: Connect) -> None:
    client = connect(dev.url)
    client.join("plain")
    before = inventory(aws)
    dev.project.chalice("deploy", "--stage", "dev")
    assert but_for_code(inventory(aws)) == but_for_code(before)
    say(connect(dev.url), "plain", "still there?")
    assert client.text() == "still there?"


def test_a_changed_handler_serves_a_client_that_was_connected_before(dev: Deployed, connect: Connect) -> None:
    client = connect(dev.url, room="echo")
    assert client.ask(action="shout", message="hi")["code"] == "unknown_action"
    dev.project.add_the_action_of_the_readme()
    assert dev.project.deploy("dev") == dev.url
    client.send(action="shout", message="hi")
    assert client.text() == "HI"


def test_a_stage_is_destroyed_and_comes_back_to_its_table(aws: Emulator, dev: Deployed, connect: Connect) -> None:
    table, beside = "channels-staging", names(inventory(aws))
    member = connect(dev.project.deploy("staging"))
    member.join("kept")
    items = everything_in(aws.client("dynamodb"), table)
    assert items

    dev.project.ops("destroy", "staging", "--yes")
    left = names(inventory(aws)) - beside
    logs = {f"log groups: /aws/lambda/channels-staging-{name}" for name in FUNCTIONS}  # which expire by themselves
    assert left == {f"tables: {table}"} | logs
    assert everything_in(aws.client("dynamodb"), table) == items

    url = dev.project.deploy("staging")
    assert items_of(everything_in(aws.client("dynamodb"), table)) >= items_of(items)
    client, other = connect(url), connect(url)
    client.join("back")
    say(other, "back", "hello again")
    assert client.text() == "hello again"

    dev.project.chalice("delete", "--stage", "staging")
    assert names(inventory(aws)) - beside == left


def test_a_connect_is_refused_where_its_function_may_not_write(aws: Emulator, dev: Deployed, connect: Connect) -> None:
    with denied(aws, "channels-dev-websocket_connect", "dynamodb:BatchWriteItem"), pytest.raises(InvalidStatus):
        connect(dev.url)


def test_a_frame_is_refused_where_its_function_may_not_read_members(
    aws: Emulator, dev: Deployed, connect: Connect
) -> None:
    sender = connect(dev.url)
    with denied(aws, "channels-dev-websocket_message", "dynamodb:Query"):
        assert sender.ask(action="sendmessage", channel="rights", message="hi")["code"] == "unavailable"


def test_a_disconnect_leaves_all_where_its_function_may_not_look_for_it(
    aws: Emulator, dev: Deployed, connect: Connect
) -> None:
    connection_id = connect(dev.url).join("left")
    gone = event("disconnect", connectionId=connection_id)
    with denied(aws, "channels-dev-websocket_disconnect", "dynamodb:Query"):
        invoke(aws, "channels-dev-websocket_disconnect", gone)
    assert {"left", "default"} <= channels_of(aws, connection_id)
    invoke(aws, "channels-dev-websocket_disconnect", gone)
    assert not channels_of(aws, connection_id)


def test_a_message_reaches_no_one_where_its_function_may_not_post(
    aws: Emulator, dev: Deployed, connect: Connect
) -> None:
    connect(dev.url).join("unheard")
    with denied(aws, "channels-dev-publish", "execute-api:ManageConnections"):
        answer = invoke(aws, "channels-dev-publish", {"channel": "unheard", "message": "hi"})
    assert (answer["delivered"], answer["failed"]) == (0, 1)


def but_for_code(found: Inventory) -> Inventory:
    """Chalice by itself packs the byte code, too, that it makes when it loads the app."""
    functions = {
        name: {key: value for key, value in each.items() if key not in {"CodeSha256", "CodeSize"}}
        for name, each in found["functions"].items()
    }
    return {**found, "functions": functions}


@pytest.mark.parametrize("function", ["websocket_message", "publish"])
def test_what_one_invocation_does_not_send_is_handed_on(
    function: str, aws: Emulator, dev: Deployed, connect: Connect
) -> None:
    member, sender, channel = connect(dev.url), connect(dev.url), f"crowd of {function}"
    member.join(channel)
    fill(aws.client("dynamodb"), "channels-dev", ChannelName(channel), [f"gone {number}" for number in range(1_050)])
    with configured(aws, f"channels-dev-{function}", INVOCATION_RATE="4000"):
        if function == "publish":
            answer = invoke(aws, "channels-dev-publish", {"channel": channel, "message": "all of you"})
        else:
            answer = sender.ask(action="sendmessage", channel=channel, message="all of you", ack=True)
    assert answer["handed_on"] == 1
    assert member.text() == "all of you"


def say(client: Client, channel: str, message: str) -> None:
    ack = client.ask(action="sendmessage", channel=channel, message=message, ack=True)
    assert ack["delivered"] == 1


def channels_of(aws: Emulator, connection_id: str) -> set[str]:
    items = everything_in(aws.client("dynamodb"), "channels-dev")
    return {item["channel"]["S"] for item in items if item.get("connection_id", {}).get("S") == connection_id}


def items_of(items: list[Any]) -> set[str]:
    return {json.dumps(item, sort_keys=True) for item in items}
