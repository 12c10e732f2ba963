"""`make bench`: fan-out on the local gateway, for comparing one version with the next on one machine."""

from __future__ import annotations

import asyncio
import sys
from statistics import median, quantiles

from bench.fanout import measure
from tests.server import running_server

SIZES = (100, 500, 2_000)
PUBLISHES = 20
MESSAGE_BYTES = 2_048


def main() -> None:
    print(f"{PUBLISHES} publishes of {MESSAGE_BYTES:,} bytes to one channel; server and members share this machine\n")
    print(
        f"{'members':>8} {'joins/s':>9} {'posts/s':>9} {'first ms':>9} {'median ms':>10} {'p99 ms':>9} {'last ms':>9}",
        end="",
    )
    print(f" {'lost':>6} {'twice':>6}")
    failed = False
    for connections in SIZES:
        with running_server() as server:
            report = asyncio.run(measure(server.url, connections, PUBLISHES, MESSAGE_BYTES, progress))
        progress("")
        ms = sorted(latency * 1_000 for latency in report.latencies)
        rates = (connections / report.connected_in, report.acked / report.sent_in)
        times = (ms[0], median(ms), quantiles(ms, n=100)[98], ms[-1])
        print(f"{connections:8,} {rates[0]:9,.0f} {rates[1]:9,.0f} {times[0]:9,.0f} {times[1]:10,.0f}", end="")
        print(f" {times[2]:9,.0f} {times[3]:9,.0f} {report.lost:6,} {report.twice:6,}", flush=True)
        failed |= bool(report.lost or report.twice)
    sys.exit(failed)


def progress(line: str) -> None:
    """Shows that something happens, on the one line that the next row overwrites."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{line}")
        sys.stderr.flush()


if __name__ == "__main__":
    main()
