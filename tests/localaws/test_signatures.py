"""Who may post to connections and invoke functions: requests as every SDK signs them, and as nobody should."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from localaws import environment
from localaws.errors import StartupError
from localaws.signatures import CONNECTIONS, LAMBDA, Refused, Signatures

KEY, SECRET = "local", "a secret"
PATH = "/api/@connections/of3NoskRTmI8YSw%3D"
BODY = b"hello"
REGION = "us-east-1"


def sign(
    method: str = "POST",
    path: str = PATH,
    body: bytes = BODY,
    *,
    key: str = KEY,
    secret: str = SECRET,
    service: str = CONNECTIONS,
    region: str = REGION,
    also: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The headers of a request that is signed now, those in `also` too."""
    request = AWSRequest(method, f"http://127.0.0.1:8000{path}", headers=also, data=body)
    SigV4Auth(Credentials(key, secret), service, region).add_auth(request)
    return {"Host": "127.0.0.1:8000", **dict(request.headers.items())}


@dataclass(frozen=True)
class Came:
    """A request as aiohttp shows it: bytes that are no UTF-8 are lone surrogates."""

    method: str
    raw_path: str
    headers: CIMultiDict[str]


def refusal(
    headers: Mapping[str, str],
    method: str = "POST",
    path: str = PATH,
    body: bytes = BODY,
    *,
    service: str = CONNECTIONS,
    signatures: Signatures | None = None,
) -> tuple[str, str] | None:
    """The kind and text with which a request is refused; None if it is not."""
    try:
        (signatures or Signatures({KEY: SECRET})).check(Came(method, path, CIMultiDict(headers)), body, service)
    except Refused as refused:
        return refused.kind, refused.message
    return None


MISMATCH = (
    "InvalidSignatureException",
    "The request signature we calculated does not match the signature you provided. "
    "Check your AWS Secret Access Key and signing method. Consult the service documentation for details.",
)


# What is signed as it must be


@pytest.mark.parametrize("body", [b"", b"hello", bytes(range(256)) * 100])
@pytest.mark.parametrize(
    "path",
    [PATH, "/@connections/x", "/%40connections/a%2Bb", "/a%20b/~c?Qualifier=%24LATEST&a=%2F&b", "/é", "//a/../b"],
)
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_a_request_that_botocore_signed_passes(method: str, path: str, body: bytes) -> None:
    assert refusal(sign(method, path, body), method, path, body) is None


@settings(deadline=None)
@given(
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    segment=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="?#"), min_size=1),
    query=st.text(st.sampled_from("ab=&%2F$+."), max_size=12),
    body=st.binary(max_size=64),
    also=st.dictionaries(st.sampled_from(["X-Amz-Meta", "X-More", "User-Agent"]), st.text("aB 1,;=", max_size=12)),
    region=st.sampled_from(["us-east-1", "eu-west-1"]),
)
def test_whatever_botocore_signed_passes_and_nothing_else_of_it_does(
    *, method: str, segment: str, query: str, body: bytes, also: dict[str, str], region: str
) -> None:
    path = f"/{segment}?{query}" if query else f"/{segment}"
    headers = sign(method, path, body, region=region, also=also)
    assert refusal(headers, method, path, body) is None
    assert refusal(headers, method, path, body + b"!") == MISMATCH
    assert refusal(headers, "PUT", path, body) == MISMATCH
    assert refusal(headers, method, f"/more{path}", body) == MISMATCH
    assert refusal({**headers, "Host": "elsewhere"}, method, path, body) == MISMATCH


def test_a_client_may_sign_headers_that_botocore_would_not() -> None:
    also = {"User-Agent": "mine", "X-Amzn-Trace-Id": "Root=1"}

    class Thorough(SigV4Auth):
        def headers_to_sign(self, request: AWSRequest) -> Any:
            headers = super().headers_to_sign(request)
            for name, value in also.items():
                headers[name.lower()] = value
            return headers

    request = AWSRequest("POST", f"http://127.0.0.1:8000{PATH}", headers=also, data=BODY)
    Thorough(Credentials(KEY, SECRET), CONNECTIONS, REGION).add_auth(request)
    headers = {"Host": "127.0.0.1:8000", **dict(request.headers.items())}
    assert "user-agent;x-amz-date;x-amzn-trace-id" in headers["Authorization"]
    assert refusal(headers) is None
    assert refusal({**headers, "User-Agent": "another"}) == MISMATCH


def test_headers_that_are_not_signed_may_be_anything() -> None:
    assert refusal({**sign(), "X-Forwarded-For": "\udcff", "Via": "1.1 a"}) is None


def test_a_session_token_and_a_hash_of_the_body_are_signed_like_other_headers() -> None:
    request = AWSRequest("POST", f"http://127.0.0.1:8000{PATH}", data=BODY)
    request.context["payload_signing_enabled"] = True
    SigV4Auth(Credentials(KEY, SECRET, "a token"), CONNECTIONS, REGION).add_auth(request)
    headers = {"Host": "127.0.0.1:8000", **dict(request.headers.items())}
    assert refusal(headers) is None
    assert refusal({**headers, "X-Amz-Security-Token": "another"}) == MISMATCH


def test_the_body_must_have_the_hash_that_a_header_says() -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    headers = sign(body=b"", also={"X-Amz-Content-SHA256": empty})
    assert refusal(headers, body=b"") is None
    assert refusal(headers, body=BODY) == MISMATCH
    unsigned = sign(also={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
    assert refusal(unsigned) == MISMATCH


def test_each_key_has_its_own_secret() -> None:
    signatures = Signatures({KEY: SECRET, "local1": "another secret"})
    assert refusal(sign(), signatures=signatures) is None
    assert refusal(sign(key="local1", secret="another secret"), signatures=signatures) is None
    assert refusal(sign(key="local1"), signatures=signatures) == MISMATCH


# What is not


def test_a_request_without_a_signature_lacks_a_token() -> None:
    expected = ("MissingAuthenticationTokenException", "Missing Authentication Token")
    assert refusal({"Host": "127.0.0.1:8000"}) == expected


def test_an_unknown_key_is_not_recognised() -> None:
    kind, text = refusal(sign(key="any")) or ("", "")
    assert kind == "UnrecognizedClientException"
    assert text.startswith("The security token included in the request is invalid.")


@pytest.mark.parametrize(
    "altered",
    [
        lambda: sign(secret="another"),
        lambda: sign(body=b"another"),
        lambda: sign(path=PATH + "x"),
        lambda: sign("GET"),
        lambda: {**sign(), "Host": "elsewhere"},
        lambda: {**sign(also={"X-More": "1"}), "X-More": "2"},
        lambda: {name: value for name, value in sign(also={"X-More": "1"}).items() if name != "X-More"},
        lambda: {**sign(), "Authorization": sign()["Authorization"][:-1]},
        lambda: {**sign(), "Authorization": sign()["Authorization"] + "0"},
        lambda: {**sign(), "Authorization": sign()["Authorization"].replace(REGION, "eu-west-1")},
        lambda: {**sign(also={"X-More": "1"}), "X-More": "\udcff"},
    ],
    ids=lambda headers: "",
)
def test_a_request_that_is_not_what_was_signed_does_not_match(altered: Callable[[], dict[str, str]]) -> None:
    assert refusal(altered()) == MISMATCH  # signed now: five minutes later it would have expired


def test_a_signature_for_another_service_is_refused() -> None:
    expected = ("InvalidSignatureException", "Credential should be scoped to correct service: 'lambda'.")
    assert refusal(sign(), service=LAMBDA) == expected


def at(headers: Mapping[str, str], seconds: float) -> tuple[str, str] | None:
    """The refusal of a request that was signed at 2026-01-01T00:00:00Z and comes so much later."""
    return refusal(headers, signatures=Signatures({KEY: SECRET}, now=lambda: 1_767_225_600 + seconds))


@pytest.fixture
def new_year(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Headers that were signed at 2026-01-01T00:00:00Z."""
    from datetime import datetime

    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: datetime(2026, 1, 1))
    return sign()


def test_a_signature_is_good_for_five_minutes_in_both_directions(new_year: dict[str, str]) -> None:
    assert new_year["X-Amz-Date"] == "20260101T000000Z"
    for seconds in (0, 300, -300):
        assert at(new_year, seconds) is None
    assert at(new_year, 301) == (
        "InvalidSignatureException",
        "Signature expired: 20260101T000000Z is now earlier than 20260101T000001Z (20260101T000501Z - 5 min.)",
    )
    assert at(new_year, -301) == (
        "InvalidSignatureException",
        "Signature not yet current: 20260101T000000Z is still later than 20251231T235959Z (20251231T235459Z + 5 min.)",
    )


def test_the_date_of_the_scope_must_be_the_requests(new_year: dict[str, str]) -> None:
    kind, text = at({**new_year, "X-Amz-Date": "20260102T000000Z"}, 0) or ("", "")
    assert kind == "InvalidSignatureException"
    assert text.startswith("Date in Credential scope does not match YYYYMMDD")


def edited(**parameters: str | None) -> dict[str, str]:
    """Signed headers, with parameters of Authorization replaced or taken away."""
    headers = sign()
    algorithm, _, rest = headers["Authorization"].partition(" ")
    given = {name: value for name, _, value in (part.strip().partition("=") for part in rest.split(","))}
    pairs = ", ".join(f"{name}={value}" for name, value in {**given, **parameters}.items() if value is not None)
    return {**headers, "Authorization": f"{algorithm} {pairs}"}


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        (edited(Credential=None), "requires 'Credential' parameter"),
        (edited(SignedHeaders=None), "requires 'SignedHeaders' parameter"),
        (edited(Signature=None), "requires 'Signature' parameter"),
        (edited(Credential="local/20260101/us-east-1"), "5 slash-delimited elements"),
        (
            edited(Credential=f"local/{sign()['X-Amz-Date'][:8]}/\udcff/execute-api/aws4_request"),
            "requires the algorithm",
        ),
        (edited(Signature="\udcff"), "requires the algorithm"),
        ({**sign(), "Authorization": "Bearer abc"}, "requires the algorithm AWS4-HMAC-SHA256"),
        ({**sign(), "Authorization": ""}, "requires the algorithm AWS4-HMAC-SHA256"),
        ({**sign(), "X-Amz-Date": "yesterday"}, "'X-Amz-Date'"),
        ({name: value for name, value in sign().items() if name != "X-Amz-Date"}, "'X-Amz-Date'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_signature_that_is_no_whole_one_is_incomplete(headers: dict[str, str], says: str) -> None:
    kind, text = refusal(headers) or ("", "")
    assert kind == "IncompleteSignatureException"
    assert says in text


def test_the_host_must_be_signed_and_the_scope_end_as_all_do() -> None:
    for headers, says in (
        (edited(SignedHeaders="x-amz-date"), "'Host' must be a 'SignedHeader'"),
        (edited(Credential=sign()["Authorization"].split("=")[1].split(",")[0][:-1]), "a valid terminator"),
    ):
        kind, text = refusal(headers) or ("", "")
        assert kind == "InvalidSignatureException"
        assert says in text


HOSTILE = st.text(st.characters(exclude_characters="\r\n\0", max_codepoint=0xFFFF), max_size=40)


@settings(deadline=None)
@given(
    parameters=st.dictionaries(
        st.sampled_from(["Credential", "SignedHeaders", "Signature"]),
        HOSTILE | st.sampled_from(["local/20260101/us-east-1/execute-api/aws4_request", "host;x-amz-date;x-more"]),
    ),
    date=HOSTILE | st.sampled_from(["20260101T000000Z", "\uff12026" + "0101T000000Z", ""]),
    path=HOSTILE,
    more=HOSTILE,
)
def test_nothing_that_can_be_sent_does_worse_than_be_refused(
    parameters: dict[str, str], date: str, path: str, more: str
) -> None:
    now = Signatures({KEY: SECRET}, now=lambda: 1_767_225_600)
    headers = {**edited(**parameters), "X-Amz-Date": date, "X-More": more}
    assert refusal(headers, path=f"/{path}", signatures=now) is not None


def test_with_checks_off_nothing_is_looked_at() -> None:
    assert refusal({}, signatures=Signatures({}, checked=False)) is None


# The credentials in use


def test_the_key_in_use_is_the_environments() -> None:
    environ = {"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "my secret"}
    assert environment.secrets(environ) == {"mine": "my secret"}


@pytest.mark.parametrize("secret", [{}, {"AWS_SECRET_ACCESS_KEY": ""}])
def test_a_key_without_its_secret_is_named(secret: dict[str, str]) -> None:
    with pytest.raises(StartupError, match="AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY"):
        environment.use_given_store({"AWS_ACCESS_KEY_ID": "mine", **secret})
