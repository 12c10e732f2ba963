"""One environment of a Lambda function, as a process: imports app.py once, and runs one invocation after the other.

`python -m bench.runtime` says {} once the app is imported, and answers each {"event": e, "request_id": r,
"remaining_ms": n} on stdin with {"result": what the function returned, "began": s, "ended": s, "peak_mb": n}, and with
{"error": e} in place of its result if it raised. Times are of the machine's monotonic clock, in seconds.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAME = "channels-dev-publish"
"""What Chalice calls the function on AWS."""


@dataclass
class Context:
    """What the function may ask about its invocation."""

    aws_request_id: str
    remaining_ms: int
    function_name: str = NAME
    _began: float = field(default_factory=time.monotonic)

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_ms - round((time.monotonic() - self._began) * 1_000)


def peak_mb() -> float:
    """The most memory that this process has had, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says there is the parent's peak, if that was higher
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1_024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def invoke(publish: Any, event: Any, request_id: str, remaining_ms: int) -> dict[str, Any]:
    began = time.monotonic()
    try:
        answer = {"result": publish(event, Context(request_id, remaining_ms))}
    except Exception as error:  # noqa: BLE001  as Lambda does: the invocation fails, and the environment lives on
        answer = {"error": f"{type(error).__name__}: {error}"}
    return answer | {"began": began, "ended": time.monotonic(), "peak_mb": peak_mb()}


def main() -> None:
    # Chalice logs to stdout, whose lines would be taken for answers, and the counts of a broadcast are in its result.
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        publish = importlib.import_module("app").publish
        answers.write("{}\n")
        for line in sys.stdin:
            answers.write(json.dumps(invoke(publish, **json.loads(line))) + "\n")


if __name__ == "__main__":
    main()
