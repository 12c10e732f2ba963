"""`python -m localaws [options of chalice local]`: what `make run` executes.

Runs `chalice local` in this process, and mends its parent process, which forgets a failed worker's exit code and leaves
its worker behind when it is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import MutableMapping
from typing import Any

from chalice import cli
from chalice.cli import reloader
from chalice.cli.filewatch import RESTART_REQUEST_RC

from localaws import lifeline


def main() -> None:
    lifeline.end_with_parent()
    # Ctrl-C by any name. SIGINT is set as well because a shell's `&` starts its commands deaf to it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    sys.argv[1:1] = ["local"]
    reloader.start_parent_process = _supervise
    sys.exit(cli.main())


def _supervise(env: MutableMapping[Any, Any]) -> None:
    """Run a worker, and another whenever a file has changed; end as the last one does.

    A worker is this same command: chalice knows one by CHALICE_WORKER.
    """
    ours = {"CHALICE_WORKER": "true", lifeline.PARENT_VARIABLE: str(os.getpid())}
    code = RESTART_REQUEST_RC
    while code == RESTART_REQUEST_RC:
        command = [sys.executable, "-m", "localaws", *sys.argv[2:]]
        worker = subprocess.Popen(command, env={**env, **ours})  # noqa: S603  our own command line
        try:
            code = worker.wait()
        except KeyboardInterrupt:
            code = _end(worker)
    sys.exit(code if code >= 0 else 128 - code)  # a signal's number, as shells say it


def _end(worker: subprocess.Popen[bytes]) -> int:
    lifeline.ignore_signals()
    worker.terminate()
    try:
        return worker.wait(lifeline.GRACE_S)
    except subprocess.TimeoutExpired:
        worker.kill()
        return worker.wait()


if __name__ == "__main__":
    main()
