"""AWS for a session of tests: ministack as a child process, with IAM enforced, on free loopback ports.

`python -m tests.aws.emulator` serves one until Ctrl-C, for trying a deploy without AWS.

Functions post to https://{api}.execute-api.{region}.amazonaws.com, where nothing on this machine is. Nor are they
told: the emulator answers to that name, with a certificate for it that they are told to trust (AWS_CA_BUNDLE, the SDK's
own variable), and in their processes the name leads to it (inside/sitecustomize.py). So what is deployed is what AWS
would run, the address, the signature and the right to post included, and it does not matter which API is whose.

AUTH=true has ministack verify the signature of every request that is not the account's root's, and enforce the policies
of the role behind it. A function's role is that of its configuration. Deploys have the key `test`, which is the root's.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import trustme
from websockets.sync.client import ClientConnection, connect

REGION = "us-east-1"
ROOT = Path(__file__).parent.parent.parent

START_S = 30.0

_HOST = f"{REGION}.amazonaws.com"
_INSIDE = Path(__file__).with_name("inside")


@dataclass(frozen=True)
class Emulator:
    """Where it is, and how to reach it."""

    endpoint: str
    """For the control plane, and for DynamoDB and Lambda: AWS_ENDPOINT_URL."""
    gateway: int
    """The port that stands for port 443 of every API."""
    ca_file: str

    def environment(self) -> dict[str, str]:
        """What `chalice` and `python -m ops` need to take it for AWS, on top of no other variable of AWS's."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "SSL_CERT_FILE": self.ca_file,
            "PYTHONPATH": str(_INSIDE),
            "EMULATOR_GATEWAY": str(self.gateway),
            "EMULATOR_LONGEST_WAIT_S": "0.05",
        }

    def client(self, service: str) -> Any:
        """A boto3 client of the account's root."""
        return boto3.client(  # type: ignore[call-overload]
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def connect(self, url: str) -> ClientConnection:
        """A WebSocket connection to an API by its own URL, as AWS would have it."""
        assert urlsplit(url).scheme == "wss"
        context = ssl.create_default_context(cafile=self.ca_file)
        return connect(url, sock=socket.create_connection(("127.0.0.1", self.gateway)), ssl=context)


@contextmanager
def emulator() -> Iterator[Emulator]:
    """An emulator without any resources; when it ends, it and all its functions are gone."""
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.create_server(("127.0.0.1", 0)) as plain,
        socket.create_server(("127.0.0.1", 0)) as tls,
        tempfile.TemporaryFile() as log,
    ):
        authority, files = trustme.CA(), Path(folder)
        authority.cert_pem.write_to_path(files / "authority.pem")
        authority.issue_cert(f"*.execute-api.{_HOST}").private_key_and_cert_chain_pem.write_to_path(
            files / "server.pem"
        )
        made = Emulator(f"http://127.0.0.1:{_port(plain)}", _port(tls), str(files / "authority.pem"))
        listeners = (plain.fileno(), tls.fileno())
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.aws._emulator_child", *map(str, listeners), str(files / "server.pem")],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=_child_environment(made, folder),
            pass_fds=listeners,
            start_new_session=True,  # Ctrl-C is the tests'; the emulator then sees its pipe end
        )
        plain.close()  # what it does not serve is refused then, and does not hang
        tls.close()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            ready = select.select([process.stdout], [], [], START_S)[0] and process.stdout.readline()
            log.seek(0)
            assert ready, f"the emulator did not start: {log.read()[-2000:].decode(errors='replace')}"
            yield made
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with its functions, which are processes of its group
            process.wait()
            process.stdin.close()
            process.stdout.close()


def _port(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def _child_environment(made: Emulator, folder: str) -> Mapping[str, str]:
    # Made from nothing, for the functions inherit it: what ministack takes, then what only they do.
    return {
        "PATH": os.environ["PATH"],
        "TMPDIR": folder,
        "AUTH": "true",
        "MINISTACK_HOST": _HOST,
        "GATEWAY_PORT": "443",
        "USE_SSL": "1",  # wss://, not http://, in the addresses that it tells
        "LOG_LEVEL": "ERROR",
        "IOT_MTLS_ENABLED": "0",  # it would listen on port 8883, on all interfaces
        "SFTP_ENABLED": "0",
        "DOCKER_HOST": f"unix://{os.devnull}/none",  # it would remove containers that it takes for its own
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_ENDPOINT_URL": made.endpoint,
        "AWS_CA_BUNDLE": made.ca_file,
        "EMULATOR_GATEWAY": str(made.gateway),
        "PYTHONPATH": str(_INSIDE),
    }


def _main() -> None:
    with emulator() as served:
        print("\n".join(f"export {name}={value}" for name, value in served.environment().items()), flush=True)
        where = f"ws{served.endpoint.removeprefix('http')}/_aws/execute-api/ID/api"
        told = "With these, make deploy and make verify take it for AWS. Clients that do not know them connect to"
        print(f"{told}\n{where}, the API's ID being the first part of the URL's name. Ctrl-C ends it.", file=sys.stderr)
        with suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    _main()
