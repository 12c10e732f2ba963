"""wrk, a load generator in C: what a core can send at all, and what the sink can take."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from bench.gateway import STAGE, Gateway
from bench.machine import CLIENT_CORE, on_core
from bench.rounds import Round

WRK = shutil.which("wrk")

WARM_SECONDS = 0.4
"""Its handshakes take less."""

# A post as ours: as long a head, signed by nobody, and 2 KB of body.
SCRIPT = f"""
wrk.method, wrk.path, wrk.body = "POST", "/{STAGE}/@connections/00000000000AAAA%3D", string.rep("x", 2048)
wrk.headers["X-Amz-Date"] = "20261125T101044Z"
wrk.headers["Authorization"] = "AWS4-HMAC-SHA256 Credential=local/20261125/us-east-1/execute-api/aws4_request, " ..
  "SignedHeaders=host;x-amz-date, Signature=" .. string.rep("0", 64)
"""


def run(gateway: Gateway, connections: int, seconds: float, folder: Path) -> Round:
    """A round of wrk in one thread; the sink counts what it sends."""
    assert WRK is not None
    script = folder / "post.lua"
    script.write_text(SCRIPT)
    command = [WRK, "-t1", f"-c{connections}", "-d60", "-s", str(script), gateway.url]
    with on_core(CLIENT_CORE), subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            time.sleep(WARM_SECONDS)
            before, cpu = gateway.totals(), _cpu(process.pid)
            time.sleep(seconds)
            after, spent = gateway.totals(), _cpu(process.pid) - cpu
        finally:
            process.kill()
    return Round(after.accepted - before.accepted, after.at - before.at, spent)


def _cpu(pid: int) -> float:
    """Seconds of CPU so far: from Linux to the nanosecond, from others to their clock's tick."""
    threads = [*Path(f"/proc/{pid}/task").glob("*/schedstat")]
    if threads:
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9
    used = psutil.Process(pid).cpu_times()
    return float(used.user + used.system)
