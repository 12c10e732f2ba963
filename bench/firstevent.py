"""`python -m bench.firstevent`: where the CPU of each function's first event goes, in a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from bench.coldstart import copied, trusting
from bench.gateway import running_gateway
from bench.machine import CLIENT_CORE, environment, on_core
from bench.members import Members, store_beside_sink

ROUNDS = 7
CHANNEL = "first"
MEMBERS = 2

PARTS = ("Chalice's runtime", "botocore", "app.py, chalicelib", "the event", "the same event again")

PROGRAM = """
import json, resource, sys
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
name, event = json.loads(sys.argv[1])
marks = [cpu()]
import chalice.app
marks.append(cpu())
import botocore.session
marks.append(cpu())
import app
marks.append(cpu())
class Context:
    aws_request_id, function_name = "first", "channels-dev-publish"
    def get_remaining_time_in_millis(self):
        return 60_000
for _ in range(2):
    Context.aws_request_id += "!"
    getattr(app, name)(event, Context())
    marks.append(cpu())
print(json.dumps([after - before for before, after in zip(marks, marks[1:])]))
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, running_gateway() as gateway, store_beside_sink() as store:
        copy = copied(Path(folder))
        Members(store.endpoint).join(CHANNEL, MEMBERS, lambda _written: None)
        env = trusting(gateway, store.endpoint, Path(folder))
        cpu = {name: [_run(name, event, copy, env) for _ in range(ROUNDS)] for name, event in _events().items()}
    print(f"ms of CPU: medians of {ROUNDS} processes each, on one core, without the interpreter's start; app.py and")
    print("chalicelib are compiled anew, as in a Lambda; posts over TLS, the store over plain HTTP\n")
    print(f"  {'':<22}" + "".join(f"{name:>22}" for name in cpu))
    for number, part in enumerate(PARTS):
        print(f"  {part:<22}" + "".join(f"{median(run[number] for run in runs) * 1e3:>22.0f}" for runs in cpu.values()))
    print(f"  {'until it is answered':<22}" + "".join(f"{_total(runs) * 1e3:>22.0f}" for runs in cpu.values()))


def _total(runs: list[list[float]]) -> float:
    return median(sum(run[:-1]) for run in runs)


def _events() -> Mapping[str, object]:
    """A first event for each function: a connect, a frame that publishes to 2 members, a disconnect, a publish."""
    context = {
        "connectionId": "IU3kkeN4IAMCJwA=",
        "connectedAt": 1_795_600_000_000,
        "requestTimeEpoch": 1_795_600_000_000,
        "apiId": "a1b2c3d4e5",
        "stage": "api",
        "domainName": "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com",
    }
    frame = json.dumps({"action": "sendmessage", "channel": CHANNEL, "message": "hello"})
    return {
        "websocket_connect": {"requestContext": {**context, "eventType": "CONNECT", "routeKey": "$connect"}},
        "websocket_message": {
            "requestContext": {**context, "eventType": "MESSAGE", "routeKey": "$default"},
            "body": frame,
        },
        "websocket_disconnect": {"requestContext": {**context, "eventType": "DISCONNECT", "routeKey": "$disconnect"}},
        "publish": {"channel": CHANNEL, "message": "hello"},
    }


def _run(name: str, event: object, copy: Path, env: Mapping[str, str]) -> list[float]:
    with on_core(CLIENT_CORE):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, json.dumps([name, event])],
            cwd=copy,
            env=environment({**env, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
    parts: list[float] = json.loads(done.stdout.splitlines()[-1])
    return parts


if __name__ == "__main__":
    main()
