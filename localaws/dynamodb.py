"""The DynamoDB-compatible store on this machine, and the table in it.

Knows how to run ministack as a child process and how to make a table from its CloudFormation definition. Knows nothing
of what the table holds.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config as ClientConfig
from botocore.exceptions import BotoCoreError, ClientError

from localaws.errors import StartupError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

START_S = 30.0
SAVE_S = 15.0
"""More than the child gives itself (_store_child.SAVING_S)."""

_CHILD = Path(__file__).with_name("_store_child.py")

Definition = Mapping[str, Any]
"""The Properties of an AWS::DynamoDB::Table, as CloudFormation takes them."""


class Store:
    """A DynamoDB-compatible store that lives as long as this object's process.

    It listens on loopback alone, on a free port, and needs neither Docker nor credentials. `persist` is a folder that
    keeps its data from run to run; without one the data is gone with the process. `on_death` is called, in a thread,
    with an explanation if it ends unasked.

    Raises StartupError if it does not come up.
    """

    def __init__(self, *, persist: Path | None = None, on_death: Callable[[str], object] | None = None) -> None:
        environ = _child_environment(persist)
        self._closing = False
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed by close()
        self._process = subprocess.Popen(  # noqa: S603  our own child
            [sys.executable, "-I", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environ,
            start_new_session=True,  # Ctrl-C is the server's; the store then sees its pipe end
        )
        try:
            self.endpoint = f"http://127.0.0.1:{self._port()}"
        except BaseException:
            self.close()
            raise
        if on_death is not None:
            threading.Thread(target=self._watch, args=(on_death,), name="store", daemon=True).start()

    def close(self) -> None:
        """Let it save, and end it. Repeats do nothing."""
        self._closing = True
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(SAVE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _port(self) -> int:
        report = self._process.stdout
        if report is None or not select.select([report], [], [], START_S)[0]:
            raise StartupError(f"the store did not start within {START_S:.0f} s.{self._last_words()}")
        line = report.readline()
        if not line:
            raise StartupError(f"the store did not start.{self._last_words()}")
        return int(line)

    def _watch(self, on_death: Callable[[str], object]) -> None:
        code = self._process.wait()
        if not self._closing:
            on_death(f"the store ended unexpectedly (exit code {code}).{self._last_words()}")

    def _last_words(self) -> str:
        self._log.seek(0)
        words = self._log.read().decode(errors="replace").strip()
        return f" Its last words:\n{words[-2000:]}" if words else ""


def _child_environment(persist: Path | None) -> dict[str, str]:
    # Made from nothing: ministack reads some fifty variables, and the user's credentials are none of its business.
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    ours = {
        "SERVICES": "dynamodb",
        "MINISTACK_HOST": "127.0.0.1",
        "LOG_LEVEL": "ERROR",
        "IOT_MTLS_ENABLED": "0",  # it would listen on port 8883, on all interfaces
        "SFTP_ENABLED": "0",
        # It would remove containers that it takes for its own from the user's Docker.
        "DOCKER_HOST": f"unix://{os.devnull}/none",
    }
    if persist is None:
        return kept | ours
    try:
        persist.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartupError(f"PERSIST takes a folder that can be made; {persist}: {error.strerror}.") from error
    return kept | ours | {"PERSIST_STATE": "1", "STATE_DIR": str(persist.resolve())}


def connect(endpoint: str) -> DynamoDBClient:
    """A client that gives up soon: the store is on this machine or near it."""
    config = ClientConfig(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 2})
    try:
        return boto3.client("dynamodb", endpoint_url=endpoint, config=config)
    except ValueError as error:
        raise StartupError(
            f"AWS_ENDPOINT_URL_DYNAMODB takes a URL like http://127.0.0.1:4567, not {endpoint!r}."
        ) from error


def load_definition(resources: Path) -> Definition:
    """The properties of the one table in a CloudFormation template such as .chalice/resources.json.

    Raises StartupError if the file cannot be read or does not define exactly one table.
    """
    try:
        template = json.loads(resources.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartupError(f"the table is defined in {resources}, which cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise StartupError(f"{resources} is not JSON: {error}.") from error
    entries = template.get("Resources") if isinstance(template, dict) else None
    tables = [
        resource.get("Properties")
        for resource in (entries.values() if isinstance(entries, dict) else ())
        if isinstance(resource, dict) and resource.get("Type") == "AWS::DynamoDB::Table"
    ]
    if len(tables) != 1 or not isinstance(tables[0], dict):
        raise StartupError(f"{resources} should define one AWS::DynamoDB::Table with Properties, not {len(tables)}.")
    return tables[0]


# What shapes a table; backups, encryption, tags and alarms are for the real one.
_SHAPE = (
    "AttributeDefinitions",
    "KeySchema",
    "BillingMode",
    "ProvisionedThroughput",
    "GlobalSecondaryIndexes",
    "LocalSecondaryIndexes",
)


def create_table(client: DynamoDBClient, definition: Definition, table_name: str) -> None:
    """Make the table and wait until it is ACTIVE; nothing happens if it is there already.

    Raises StartupError if the store cannot be reached or refuses.
    """
    try:
        _create_table(client, definition, table_name)
    except (BotoCoreError, ClientError) as error:
        raise StartupError(
            f"the table {table_name} cannot be made in the store at {client.meta.endpoint_url}: {error}"
        ) from error


def _create_table(client: DynamoDBClient, definition: Definition, table_name: str) -> None:
    shape: Any = {name: definition[name] for name in _SHAPE if name in definition}
    try:
        client.create_table(TableName=table_name, **shape)
    except client.exceptions.ResourceInUseException:
        return
    client.get_waiter("table_exists").wait(TableName=table_name, WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    expiry = definition.get("TimeToLiveSpecification")
    if expiry is None:
        return
    try:
        client.update_time_to_live(TableName=table_name, TimeToLiveSpecification=expiry)
    except ClientError as error:
        # dynalite has no TTL. Readers leave expired items out themselves, since AWS too may delete them days late.
        if error.response["Error"]["Code"] != "UnknownOperationException":
            raise
