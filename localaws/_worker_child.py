"""A worker's process: imports the app as `chalice local` does, and runs one event after the other in its main thread.

Its arguments are the file descriptor of its pipe and chalice's stage. Each order on the pipe is JSON, and so is each
answer; an empty message says that the app is imported. When the pipe ends, so does this, in mid-event too.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from chalice.cli.factory import CLIFactory

from localaws.functions import Function, FunctionError, keep_here, registered

LOG = logging.getLogger(__name__)


def main() -> None:
    fd, stage = int(sys.argv[1]), sys.argv[2]
    os.set_inheritable(fd, False)
    pipe = Connection(fd)
    orders: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, orders), daemon=True).start()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")  # as `chalice local` has it
    functions = _functions(stage)
    pipe.send_bytes(b"")
    while True:
        pipe.send_bytes(json.dumps(_carry_out(functions, json.loads(orders.get()))).encode())


def _listen(pipe: Connection, orders: queue.SimpleQueue[bytes]) -> None:
    try:
        while True:
            orders.put(pipe.recv_bytes())
    except (EOFError, OSError):
        os._exit(1)


def _functions(stage: str) -> dict[str, Function]:
    # The stage's variables are there already, and some were changed since: chalice gets another place to put them.
    config = CLIFactory(str(Path.cwd()), environ={}).create_config_obj(chalice_stage_name=stage)
    app = config.chalice_app
    keep_here(app)
    by_route, pure = registered(app, config)
    return {function.name: function for function in (*by_route.values(), *pure)}


def _carry_out(functions: dict[str, Function], order: dict[str, Any]) -> dict[str, str]:
    """The answer to an order. An exit of the app's ends this process, as it does on Lambda."""
    function = functions[order["function"]]
    try:
        return {"returned": function.run(order["payload"].encode(), order["request_id"])}
    except Exception as error:
        LOG.exception("The app raised.")
        failure = FunctionError.of(error)
        return {"kind": failure.kind, "message": failure.message}


if __name__ == "__main__":
    main()
