"""(e) What a fresh Lambda pays: the CPU of an environment's first event, and the zip that it is made of."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING
from zipfile import ZipFile

import botocore

from bench.gateway import Gateway, running_gateway
from bench.machine import CLIENT_CORE, ROOT, environment, on_core
from bench.members import TABLE, Members, store_beside_sink
from bench.report import Measured, Table
from bench.rounds import ratios, with_noise
from ops.package import ZIP, package
from ops.project import load_stage

if TYPE_CHECKING:
    from rich.progress import Progress

CHANNEL = "first"
MEMBERS = 2

PACKED = ("app.py", "chalicelib")
"""The project's own part of what Lambda runs."""

NEVER_PACKED = {"boto3", "botocore", "click", "inquirer", "jmespath", "localaws", "pip", "setuptools", "wheel", "yaml"}
"""Lambda has boto3; the rest are what Chalice's commands need, and its runtime does not."""

PROGRAM = """
import resource
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
before = cpu()
{event}
print(cpu() - before)
"""

BASELINE = """
import chalice, boto3
boto3.client("dynamodb")
"""

OURS = f"""
import app, uuid
class Context:
    aws_request_id, function_name = str(uuid.uuid4()), "channels-dev-publish"
    def get_remaining_time_in_millis(self):
        return 60_000
result = app.publish({{"channel": "{CHANNEL}", "message": "hello"}}, Context())
assert result["delivered"] == {MEMBERS}, result
"""

# The least that a handler can do with Chalice's own means.
TUTORIAL = f"""
import boto3, os
from boto3.dynamodb.conditions import Key
from chalice import Chalice
api = Chalice("first").websocket_api
api.session = boto3.session.Session()
api.configure(os.environ["GATEWAY"], "api")
found = boto3.resource("dynamodb").Table("{TABLE}").query(KeyConditionExpression=Key("channel").eq("{CHANNEL}"))
assert found["Count"] == {MEMBERS}
for item in found["Items"]:
    api.send(item["connection_id"], "hello")
"""


@dataclass(frozen=True)
class First:
    """A way to have a first event."""

    what: str
    program: str
    compiled: bool = True
    """Whether our modules' byte code is there already. A zip has none, and Lambda's folder keeps none."""


FIRSTS = (
    First("import chalice, boto3, and one DynamoDB client", BASELINE),
    First("ours: import app, publish to 2 members", OURS),
    First("ours, its own modules compiled first", OURS, compiled=False),
    First("chalice's default: import, query, send to 2 members", TUTORIAL),
)
BASE, FIRST = FIRSTS[:2]


def measure(quick: bool, progress: Progress) -> Measured:
    """First events in fresh interpreters, several of each in turn, and a package made by Chalice."""
    count = 3 if quick else 11
    task = progress.add_task("coldstart: first events and a package", total=count * len(FIRSTS) + 1)
    cpu: dict[First, list[float]] = {first: [] for first in FIRSTS}
    with tempfile.TemporaryDirectory() as folder, running_gateway() as gateway:
        copy, packaged = copied(Path(folder)), Path(folder, "packaged")
        package(load_stage("dev"), packaged)
        zipped = packaged / ZIP
        progress.advance(task)
        with store_beside_sink() as store:
            Members(store.endpoint).join(CHANNEL, MEMBERS, lambda _written: None)
            env = trusting(gateway, store.endpoint, Path(folder))
            for first in FIRSTS:
                _run(first, copy, env)  # once for the byte code of what it imports
            for _ in range(count):
                for first in FIRSTS:
                    cpu[first].append(_run(first, copy, env))
                    progress.advance(task)
        return _measured(cpu, count, zipped)


def _measured(cpu: Mapping[First, Sequence[float]], count: int, zipped: Path) -> Measured:
    contents = _contents(zipped)
    return Measured(
        [_events_table(cpu, count), _zip_table(zipped, contents)],
        {
            "first_event_cpu_over_baseline": median(ratios(cpu[FIRST], cpu[BASE])),
            "zip_mb": zipped.stat().st_size / 2**20,
        },
        [f"{name} is in the Lambda zip" for name in sorted(NEVER_PACKED & contents.keys())],
    )


def trusting(gateway: Gateway, store: str, folder: Path) -> dict[str, str]:
    """Variables with as many certificates to trust as on AWS: reading them is part of a first event."""
    assert gateway.authority is not None
    bundle = folder / "authorities.pem"
    bundle.write_bytes(Path(botocore.__file__).with_name("cacert.pem").read_bytes() + gateway.authority.read_bytes())
    return {
        **gateway.env(),
        "AWS_CA_BUNDLE": str(bundle),
        "AWS_ENDPOINT_URL_DYNAMODB": store,
        "GATEWAY": gateway.address,
        "TABLE_NAME": TABLE,
    }


def _run(first: First, copy: Path, env: Mapping[str, str]) -> float:
    """Seconds of CPU from the interpreter's being there to the event's end."""
    project = {} if first.compiled else {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    with on_core(CLIENT_CORE):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(event=first.program)],
            cwd=copy if project else ROOT,
            env=environment({**env, **project}),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return float(done.stdout.splitlines()[-1])


def copied(folder: Path) -> Path:
    """The project as it is committed, without what running it leaves behind."""
    copy = folder / "project"
    for name in PACKED:
        source, target = ROOT / name, copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return copy


def _contents(zipped: Path) -> dict[str, list[int]]:
    """By what stands at its top: the compressed sizes of its files, in bytes."""
    sizes = defaultdict(list)
    with ZipFile(zipped) as archive:
        for file in archive.infolist():
            sizes[file.filename.partition("/")[0]].append(file.compress_size)
    return dict(sizes)


def _events_table(cpu: Mapping[First, Sequence[float]], count: int) -> Table:
    return Table(
        "CPU of the first event in a fresh interpreter",
        ("what", "CPU ms", "over the baseline"),
        [
            (first.what, with_noise([1_000 * each for each in of_first]), with_noise(ratios(of_first, cpu[BASE]), 2))
            for first, of_first in cpu.items()
        ],
        (
            f"medians (least-most) of {count} processes each, in turn, on one core, without the interpreter's start",
            "posts go over TLS, with as many authorities to trust as on AWS; the store is asked over plain HTTP",
            "byte code is there but in the third row, where Python compiles app.py and chalicelib, as in a Lambda",
        ),
    )


def _zip_table(zipped: Path, contents: Mapping[str, Sequence[int]]) -> Table:
    rows = [(name, f"{len(sizes)}", f"{sum(sizes) / 1_024:,.0f}") for name, sizes in sorted(contents.items())]
    return Table(
        "The Lambda zip, made by `make package`",
        ("what is in it", "files", "KB"),
        [*rows, ("the zip", "", f"{zipped.stat().st_size / 1_024:,.0f}")],
    )
