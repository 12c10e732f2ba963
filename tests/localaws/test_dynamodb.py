"""The store: a process of its own, a table from its definition, data that stays if it shall."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import psutil  # type: ignore[import-untyped]
import pytest

from localaws import dynamodb
from localaws.dynamodb import Store, create_table, load_definition
from localaws.errors import StartupError
from tests.localaws.tiny import until
from tests.server import ROOT, environment


def client_of(store: Store) -> Any:
    return boto3.client(
        "dynamodb",
        endpoint_url=store.endpoint,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with Store() as running:
        yield running


DEFINITION = load_definition(ROOT / ".chalice" / "resources.json")


def test_the_table_is_what_the_template_says_with_its_index_and_its_expiry(store: Store) -> None:
    client = client_of(store)
    create_table(client, DEFINITION, "as-defined")
    table = client.describe_table(TableName="as-defined")["Table"]
    assert table["TableStatus"] == "ACTIVE"
    assert table["KeySchema"] == DEFINITION["KeySchema"]
    assert table["AttributeDefinitions"] == DEFINITION["AttributeDefinitions"]
    indexes = [(each["IndexName"], each["KeySchema"], each["Projection"]) for each in table["GlobalSecondaryIndexes"]]
    defined = DEFINITION["GlobalSecondaryIndexes"]
    assert indexes == [(each["IndexName"], each["KeySchema"], each["Projection"]) for each in defined]
    assert client.describe_time_to_live(TableName="as-defined")["TimeToLiveDescription"] == {
        "AttributeName": "expires_at",
        "TimeToLiveStatus": "ENABLED",
    }


def test_a_table_that_is_there_stays_with_what_it_holds(store: Store) -> None:
    client = client_of(store)
    create_table(client, DEFINITION, "kept-as-is")
    item = {"channel": {"S": "c"}, "member": {"S": "m"}}
    client.put_item(TableName="kept-as-is", Item=item)
    create_table(client, DEFINITION, "kept-as-is")
    assert client.scan(TableName="kept-as-is")["Items"] == [item]


def test_what_is_for_the_real_table_alone_is_left_out_and_no_expiry_is_fine(store: Store) -> None:
    client = client_of(store)
    extra = {"PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True}, "Tags": []}
    shape = {name: value for name, value in DEFINITION.items() if name != "TimeToLiveSpecification"}
    create_table(client, {**shape, **extra}, "without-expiry")
    expiry = client.describe_time_to_live(TableName="without-expiry")["TimeToLiveDescription"]
    assert expiry["TimeToLiveStatus"] == "DISABLED"


def test_a_definition_that_the_store_refuses_is_said_with_the_tables_name(store: Store) -> None:
    with pytest.raises(
        StartupError, match=r"the table no-key-schema cannot be made in the store at http://127\.0\.0\.1"
    ):
        create_table(client_of(store), {"BillingMode": "PAY_PER_REQUEST"}, "no-key-schema")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is not JSON"),
        ("[]", "should define one AWS::DynamoDB::Table with Properties, not 0"),
        ('{"Resources": {}}', "not 0"),
        (json.dumps({"Resources": {name: {"Type": "AWS::DynamoDB::Table"} for name in "ab"}}), "not 2"),
        (json.dumps({"Resources": {"a": {"Type": "AWS::DynamoDB::Table"}}}), "with Properties"),
    ],
)
def test_a_template_without_one_table_is_named_with_what_is_wrong(tmp_path: Path, text: str | None, said: str) -> None:
    template = tmp_path / "resources.json"
    if text is not None:
        template.write_text(text)
    with pytest.raises(StartupError) as error:
        load_definition(template)
    assert str(template) in str(error.value)
    assert said in str(error.value)


def store_process() -> psutil.Process:
    """The youngest store that this process has started."""
    children = [each for each in psutil.Process().children() if "_store_child.py" in " ".join(each.cmdline())]
    return max(children, key=lambda child: child.create_time())


def test_the_store_listens_on_loopback_alone_and_on_one_port_only(store: Store) -> None:
    with Store() as another:
        listening = [each for each in store_process().net_connections() if each.status == psutil.CONN_LISTEN]
        assert [f"http://{each.laddr.ip}:{each.laddr.port}" for each in listening] == [another.endpoint]
        assert another.endpoint.startswith("http://127.0.0.1:")
        assert another.endpoint != store.endpoint


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 200),
        ("/", {"Host": "LOCALHOST:8000"}, 200),
        ("/", {"Origin": "https://example.com"}, 403),
        ("/", {"Origin": "null"}, 403),
        ("/", {"Host": "rebound.example.com"}, 403),
        ("/_ministack/reset", {}, 403),
        ("/%5fministack/reset", {}, 403),
    ],
)
def test_no_page_in_a_browser_is_answered_and_nobody_may_wipe_the_data(
    store: Store, path: str, headers: dict[str, str], status: int
) -> None:
    keys: Any = {
        "AttributeDefinitions": [{"AttributeName": "a", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "a", "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
    }
    create_table(client_of(store), keys, "kept")
    asked = {"X-Amz-Target": "DynamoDB_20120810.ListTables", "Content-Type": "application/x-amz-json-1.0", **headers}
    with closing(HTTPConnection("127.0.0.1", urlsplit(store.endpoint).port or 0, timeout=20)) as connection:
        connection.request("POST", path, "{}", asked)
        response = connection.getresponse()
        assert (response.status, b"TableNames" in response.read()) == (status, status == 200)
    assert "kept" in client_of(store).list_tables()["TableNames"]


def test_the_store_sees_no_credentials_and_no_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "DOCKER_HOST", "LOCALSTACK_PERSISTENCE", "USE_SSL"):
        monkeypatch.setenv(name, "the user's")
    with Store():
        seen = store_process().environ()
    assert "the user's" not in seen.values()
    assert not [name for name in seen if name.startswith("AWS_")]


def test_data_is_kept_in_a_folder_from_run_to_run(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there yet"
    item = {"channel": {"S": "ünïcödé"}, "member": {"S": "m"}, "at": {"N": "1"}}
    with Store(persist=folder) as store:
        create_table(client_of(store), DEFINITION, "kept")
        client_of(store).put_item(TableName="kept", Item=item)
    with Store(persist=folder) as store:
        create_table(client_of(store), DEFINITION, "kept")
        assert client_of(store).scan(TableName="kept")["Items"] == [item]
    with Store() as store:
        assert client_of(store).list_tables()["TableNames"] == []


def test_data_is_kept_though_the_process_that_holds_the_store_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, pathlib; from localaws.dynamodb import Store\n"
            "print(Store(persist=pathlib.Path(sys.argv[1])).endpoint, flush=True); sys.stdin.read()",
            str(tmp_path),
        ],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        client = boto3.client(
            "dynamodb",
            endpoint_url=holder.stdout.readline().decode().strip(),
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )
        create_table(client, DEFINITION, "kept")
        [child] = psutil.Process(holder.pid).children()
        holder.kill()
        assert psutil.wait_procs([child], 20)[1] == []
    with Store(persist=tmp_path) as store:
        assert client_of(store).list_tables()["TableNames"] == ["kept"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartupError, match=r"PERSIST takes a folder that can be made; .*file"):
        Store(persist=tmp_path / "file" / "folder")


def test_a_store_that_does_not_start_says_its_last_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "child.py"
    broken.write_text("raise SystemExit('no ministack here')")
    monkeypatch.setattr(dynamodb, "_CHILD", broken)
    with pytest.raises(StartupError, match=r"the store did not start\. Its last words:\nno ministack here"):
        Store()


def test_a_store_that_dies_is_reported_and_one_that_is_closed_is_not() -> None:
    told: list[str] = []
    heard = threading.Event()

    def tell(reason: str) -> None:
        told.append(reason)
        heard.set()

    with Store(on_death=tell):
        pass
    with Store(on_death=tell):
        os.kill(store_process().pid, signal.SIGKILL)
        assert heard.wait(20)
    assert told == ["the store ended unexpectedly (exit code -9)."]


def test_closing_twice_is_fine() -> None:
    store = Store()
    child = store_process()
    store.close()
    store.close()
    until(lambda: None if child.is_running() else True, "the store's end")
