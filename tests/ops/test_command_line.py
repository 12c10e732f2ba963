"""What stops a command is one sentence on stderr and an exit code: the commands as a shell runs them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGEST_S = 60

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
REGION = {"AWS_DEFAULT_REGION": "eu-central-1"}


def environment(folder: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """A shell in which nobody has ever spoken to AWS, and `variables`."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONDONTWRITEBYTECODE": "1",
        **variables,
    }


def stopped(folder: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    """The exit code and the sentence of a command that must not get anywhere."""
    ran = subprocess.run(
        [sys.executable, "-m", "ops", *arguments],
        cwd=ROOT,
        env=environment(folder, variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert "Traceback" not in ran.stderr
    assert ran.stderr.count("\n") == 1, ran.stderr
    return ran.returncode, ran.stderr.strip()


@contextmanager
def answering(*answers: tuple[int, str, str]) -> Iterator[str]:
    """An AWS that gives these answers (status, x-amzn-ErrorType, body), one a request and the last one ever after."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, kind, body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body.encode())))
            if kind:
                self.send_header("x-amzn-ErrorType", kind)
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST = _answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def sts_error(code: str, message: str) -> tuple[int, str, str]:
    """As https://sts.eu-central-1.amazonaws.com/ refuses."""
    return (
        403,
        "",
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{message}</Message></Error>"
        "<RequestId>b2f3d6c0-0000-0000-0000-000000000000</RequestId></ErrorResponse>",
    )


CALLER = (
    200,
    "",
    '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
    "<Arn>arn:aws:iam::123456789012:user/ana</Arn><UserId>AIDA</UserId><Account>123456789012</Account>"
    "</GetCallerIdentityResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>"
    "</GetCallerIdentityResponse>",
)

DENIED = (
    "User: arn:aws:iam::123456789012:user/ana is not authorized to perform: apigateway:GET on resource: "
    "arn:aws:apigateway:eu-central-1::/apis because no identity-based policy allows the apigateway:GET action"
)


@pytest.mark.parametrize("command", ["deploy", "destroy"])
def test_without_a_region_it_is_said_how_to_choose_one(tmp_path: Path, command: str) -> None:
    code, sentence = stopped(tmp_path, command, "dev", **KEYS, AWS_REGION="eu-central-1")
    assert (code, sentence[:26]) == (1, "No AWS region is chosen. S")
    assert "AWS_DEFAULT_REGION" in sentence


def test_without_credentials_it_is_said_where_they_come_from(tmp_path: Path) -> None:
    code, sentence = stopped(tmp_path, "deploy", "dev", **REGION)
    assert code == 1
    assert sentence.startswith("There are no AWS credentials. Run `aws configure`")


def test_half_of_the_credentials_is_not_enough(tmp_path: Path) -> None:
    code, sentence = stopped(tmp_path, "deploy", "dev", **REGION, AWS_ACCESS_KEY_ID="AKIA")
    assert code == 1
    assert "not whole" in sentence
    assert "AWS_SECRET_ACCESS_KEY" in sentence


def test_a_profile_that_there_is_not_is_named(tmp_path: Path) -> None:
    code, sentence = stopped(tmp_path, "deploy", "dev", **REGION, AWS_PROFILE="wrok")
    assert code == 1
    assert re.search(r"profile \(wrok\) could not be found\. AWS_PROFILE takes", sentence)


def test_a_login_that_has_ended_is_told_to_be_renewed(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text(
        "[profile work]\nsso_session = us\nsso_account_id = 123456789012\nsso_role_name = dev\n"
        "[sso-session us]\nsso_region = eu-central-1\nsso_start_url = https://example.awsapps.com/start\n"
    )
    code, sentence = stopped(tmp_path, "deploy", "dev", **REGION, AWS_PROFILE="work")
    assert code == 1
    assert sentence.startswith("The AWS credentials cannot be had: ")
    assert "aws sso login" in sentence


@pytest.mark.parametrize(
    ("code", "message", "begins"),
    [
        ("ExpiredToken", "The security token included in the request is expired", "The AWS credentials have expired"),
        (
            "InvalidClientTokenId",
            "The security token included in the request is invalid.",
            "AWS does not accept the credentials",
        ),
        (
            "SignatureDoesNotMatch",
            "Signature expired: 20240101T000000Z is now earlier than 20250101T000000Z",
            "AWS does not accept the credentials",
        ),
    ],
)
def test_credentials_that_aws_refuses_are_told_apart(tmp_path: Path, code: str, message: str, begins: str) -> None:
    with answering(sts_error(code, message)) as aws:
        exit_code, sentence = stopped(tmp_path, "deploy", "dev", **KEYS, **REGION, AWS_ENDPOINT_URL=aws)
    assert exit_code == 1
    assert sentence.startswith(f"{begins} ({message.rstrip('.')}). Get new ones")


@pytest.mark.parametrize("command", ["deploy", "destroy"])
def test_what_is_not_permitted_is_named_in_awss_own_words(tmp_path: Path, command: str) -> None:
    refusal = (403, "AccessDeniedException", json.dumps({"Message": DENIED}))
    with answering(CALLER, refusal) as aws:
        code, sentence = stopped(tmp_path, command, "dev", **KEYS, **REGION, AWS_ENDPOINT_URL=aws)
    assert code == 1
    assert sentence.startswith(f"These credentials may not do GetApis: {DENIED}. Have it allowed")


def test_a_quota_is_called_one(tmp_path: Path) -> None:
    refusal = (429, "TooManyRequestsException", json.dumps({"message": "Too Many Requests"}))
    with answering(CALLER, refusal) as aws:
        code, sentence = stopped(tmp_path, "deploy", "dev", **KEYS, **REGION, AWS_ENDPOINT_URL=aws)
    assert code == 1
    assert sentence.startswith("A quota of the account stands in the way of GetApis: Too Many Requests")


def test_an_endpoint_where_nothing_listens_is_named(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        code, sentence = stopped(tmp_path, "deploy", "dev", **KEYS, **REGION, AWS_ENDPOINT_URL=url)
    assert code == 1
    assert sentence.startswith("AWS does not answer: ")
    assert url in sentence


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({**REGION, "AWS_ENDPOINT_URL": "127.0.0.1"}, "AWS_ENDPOINT_URL, where it is set, takes a URL"),
        ({"AWS_DEFAULT_REGION": "Frankfurt am Main"}, "AWS's regions are called like eu-central-1"),
    ],
    ids=["endpoint", "region"],
)
def test_a_setting_that_the_sdk_does_not_understand_is_explained(
    tmp_path: Path, variables: dict[str, str], sentence: str
) -> None:
    code, said = stopped(tmp_path, "deploy", "dev", **KEYS, **variables)
    assert code == 1
    assert sentence in said


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (
            ["deploy", "production"],
            1,
            "There is no stage 'production' in .chalice/config.json; there is: dev, staging, prod.",
        ),
        (["deploy"], 2, "Missing argument 'STAGE'."),
        (["package", "dev", ""], 1, "Something is missing: `make package STAGE=prod OUT=folder`."),
        (["verify", ""], 1, "Something is missing: `make verify URL=wss://…`."),
        (["destroy", "dev", "--table", "burn"], 2, "Invalid value for '--table': 'burn' is not one of 'keep', 'drop'."),
        (["redo"], 2, "No such command 'redo'."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_that_cannot_be_meant_is_explained(
    tmp_path: Path, arguments: list[str], code: int, sentence: str
) -> None:
    assert stopped(tmp_path, *arguments) == (code, sentence)


def test_ctrl_c_ends_in_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with subprocess.Popen(
            [sys.executable, "-m", "ops", "deploy", "dev"],
            cwd=ROOT,
            env=environment(tmp_path, {**KEYS, **REGION, "AWS_ENDPOINT_URL": url}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            silent.settimeout(LONGEST_S)
            asked, _ = silent.accept()
            with asked:
                process.send_signal(signal.SIGINT)
                _, sentence = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 130
    assert sentence.strip() == (
        "Stopped. What was done until now stays done; the same command, run again, goes on from there."
    )
