"""Our signatures are those of botocore's own signer, byte for byte."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from itertools import product
from types import SimpleNamespace
from typing import NamedTuple
from unittest import mock
from urllib.parse import quote

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import CredentialRetrievalError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib import aws, transport
from chalicelib.sigv4 import Scope, sign
from chalicelib.transport import SIGNED_AS, Client

from .scripted import Server, scripted

DAY = 86_400
ID = "IU3k-eN4_AMCJwA="
CREDENTIALS = ReadOnlyCredentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "")


class Signer(NamedTuple):
    """Who signs, for where, and when (seconds since 1970)."""

    credentials: ReadOnlyCredentials
    region: str
    at: int


class Target(NamedTuple):
    """One request to sign, by its path as it is sent."""

    method: str
    path: str
    body: bytes


def by_botocore(signer: Signer, url: str, method: str, body: bytes) -> str:
    """The header lines that botocore's signer adds to a request."""
    request = AWSRequest(method=method, url=url, data=body)
    now = datetime.fromtimestamp(signer.at, tz=timezone.utc)
    with mock.patch.object(auth, "get_current_datetime", lambda: now):
        auth.SigV4Auth(signer.credentials, SIGNED_AS, signer.region).add_auth(request)
    return "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())


def ours(signer: Signer, host: str, target: Target) -> str:
    return sign(
        signer.credentials,
        Scope(signer.region, SIGNED_AS, host),
        signer.at,
        method=target.method,
        canonical_path=quote(target.path, safe="/~"),
        payload_sha256=hashlib.sha256(target.body).hexdigest(),
    )


def not_dots_only(text: str) -> bool:
    return bool(text.strip("."))


AWS_IDS = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=", min_size=1, max_size=20)
IDS = AWS_IDS | st.text(min_size=1, max_size=12).filter(not_dots_only)
BODIES = st.binary(max_size=64) | st.builds(bytes.__mul__, st.binary(min_size=1, max_size=8), st.integers(1, 1_000))
TEXTS = st.text(max_size=32) | st.builds(str.__mul__, st.text(min_size=1, max_size=8), st.integers(1, 500))
METHODS = st.sampled_from(["POST", "GET", "DELETE"])
REGIONS = st.sampled_from(["us-east-1", "eu-central-1", "cn-north-1", "us-gov-west-1"])
TIMES = st.integers(0, 4_102_444_800) | st.builds(
    lambda day, second: day * DAY + second, st.integers(1, 47_000), st.integers(-2, 2)
)
LEVELS = st.text("abzAZ09-._~!$&'()*+,;=:@", min_size=1, max_size=8).filter(not_dots_only) | st.text(
    min_size=1, max_size=5
).map(lambda text: quote(text, safe="")).filter(not_dots_only)
STAGES = st.lists(LEVELS, max_size=4).map(lambda levels: "".join(f"/{level}" for level in levels))
HOSTS = st.builds(
    "{}{}".format,
    st.sampled_from(
        ["a1b2c3d4e5.execute-api.us-east-1.amazonaws.com", "localhost", "127.0.0.1", "[::1]", "wss.a-b.io"]
    ),
    st.just("") | st.integers(1, 65_535).filter(lambda port: port not in {80, 443}).map(":{}".format),
)
PRINTABLE = st.characters(codec="utf-8", exclude_categories=("C", "Z"), include_characters=" ")
TOKENS = st.just("") | st.text("ABCabc012+/=", min_size=1, max_size=40) | st.text(PRINTABLE, min_size=1, max_size=20)
CREDENTIALS_OF_ALL_KINDS = st.builds(
    ReadOnlyCredentials,
    st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", min_size=1, max_size=20) | st.text(PRINTABLE, min_size=1, max_size=8),
    st.text(min_size=1, max_size=40),
    TOKENS,
)
TARGETS = st.builds(
    Target,
    METHODS,
    st.builds(lambda stage, name: f"{stage}/@connections/{quote(name, safe='-._~')}", STAGES, IDS),
    BODIES,
)


SIGNERS = st.builds(Signer, CREDENTIALS_OF_ALL_KINDS, REGIONS, TIMES)

thorough = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@settings(thorough, max_examples=350)
@given(SIGNERS, HOSTS, st.lists(TARGETS, min_size=4, max_size=20))
def test_a_signature_is_botocores_own(signer: Signer, host: str, targets: Sequence[Target]) -> None:
    for target in targets:
        expected = by_botocore(signer, f"https://{host}{target.path}", target.method, target.body)
        assert ours(signer, host, target) == expected


def test_what_is_kept_of_one_day_secret_region_token_or_host_is_not_used_for_another() -> None:
    midnight = 20_000 * DAY
    secrets = [CREDENTIALS, CREDENTIALS._replace(secret_key="another"), CREDENTIALS._replace(access_key="AKIDOTHER")]
    credentials = [*secrets, *(each._replace(token="a token") for each in secrets)]
    regions, hosts, times = ["us-east-1", "eu-west-1"], ["a.example", "b.example"], [midnight - 1, midnight]
    target = Target("POST", f"/api/@connections/{quote(ID)}", b"hello")
    seen = set()
    for who, region, at, host in [*product(credentials, regions, times, hosts)] * 2:
        lines = ours(Signer(who, region, at), host, target)
        expected = by_botocore(Signer(who, region, at), f"https://{host}{target.path}", target.method, target.body)
        assert lines == expected
        seen.add(lines)
    assert len(seen) == len(credentials) * len(regions) * len(hosts) * len(times)


@pytest.mark.parametrize("flawed", [{"access_key": "AKID\n"}, {"token": "token\r\nX-Evil: 1"}, {"token": "token\0"}])
def test_credentials_that_no_header_can_carry_are_refused_without_being_shown(flawed: dict[str, str]) -> None:
    credentials = CREDENTIALS._replace(**flawed)
    with pytest.raises(CredentialRetrievalError, match="line break") as refused:
        ours(Signer(credentials, "us-east-1", 0), "a.example", Target("GET", "/", b""))
    for part in ("AKID", "token\r", "token\0", "wJalr"):
        assert part not in str(refused.value)


@pytest.fixture(name="server", scope="module")
def a_server() -> Iterator[Server]:
    with scripted() as server:
        yield server


@settings(thorough, max_examples=150)
@given(
    SIGNERS,
    STAGES | st.sampled_from(["/", "//", "/api/", "/a//b", "/a/./b/../c", "/a b", "/ä/%41"]),
    st.lists(st.tuples(IDS, BODIES | TEXTS), min_size=1, max_size=6),
)
def test_what_the_client_sends_is_signed_as_botocore_signs_what_was_sent(
    server: Server, signer: Signer, stage: str, posts: Sequence[tuple[str, bytes | str]]
) -> None:
    server.requests.clear()
    kept = SimpleNamespace(get_frozen_credentials=lambda: signer.credentials)
    of_the_sdk = mock.patch.multiple(aws, region=lambda: signer.region, credentials=lambda: kept)
    with of_the_sdk, mock.patch.object(transport, "time") as time:
        time.time.return_value = signer.at + 0.999
        client = Client(server.url + stage)
        for connection_id, data in posts:
            client.post_to_connection(ConnectionId=connection_id, Data=data)
            client.get_connection(ConnectionId=connection_id)
            client.delete_connection(ConnectionId=connection_id)
    assert [request.method for request in server.requests] == ["POST", "GET", "DELETE"] * len(posts)
    bodies = [body for _id, data in posts for body in (data if isinstance(data, bytes) else data.encode(), b"", b"")]
    assert [request.body for request in server.requests] == bodies
    for request in server.requests:
        url = f"http://{request.headers['host']}{request.path}"
        names = ("X-Amz-Date", "X-Amz-Security-Token", "Authorization")
        sent = {name: request.headers[name.lower()] for name in names if name.lower() in request.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        assert lines == by_botocore(signer, url, request.method, request.body)
