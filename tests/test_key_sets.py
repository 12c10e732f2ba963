from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from chalicelib import keys
from chalicelib.errors import UpstreamError
from chalicelib.keys import AGAIN_MS, FIRST_AGAIN_MS, JWKS_FRESH_MS, STALE_MS, Key, Keys

from .certificates import Authority
from .fakes import FakeClock
from .jwks import JwksServer, ec_key, json_values, jwk, rsa_key

thorough = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(name="clock")
def a_clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(name="server")
def a_server() -> Iterator[JwksServer]:
    with JwksServer(jwk(ec_key(), kid="one")) as server:
        yield server


def kids(found: Keys) -> list[str | None]:
    return [key.kid for key in found.all]


def usable(*entries: Any, algorithm: str = "ES256") -> list[str | None]:
    """The names of the keys that are taken of a set."""
    with JwksServer(*entries) as server:
        return kids(keys.of_jwks(server.url, algorithm, FakeClock()).current())


# --- a key set


def test_keys_are_read_over_http_when_first_needed_and_kept_for_an_hour(server: JwksServer, clock: FakeClock) -> None:
    ring = keys.of_jwks(server.url, "ES256", clock)
    assert server.requests == []
    assert kids(ring.current()) == ["one"]
    assert server.requests == ["/.well-known/jwks.json?of=tests"]
    server.publish(jwk(ec_key(2), kid="two"))
    clock.sleep(JWKS_FRESH_MS - 1)
    assert kids(ring.current()) == ["one"]
    clock.sleep(1)
    assert kids(ring.current()) == ["two"]


def test_a_key_that_is_missing_is_looked_for_once_a_minute_whatever_is_asked_for(
    server: JwksServer, clock: FakeClock
) -> None:
    ring = keys.of_jwks(server.url, "ES256", clock)
    for _ in range(AGAIN_MS // 100):
        ring.newer(ring.current())
        clock.sleep(100)
    assert len(server.requests) == 1
    server.publish(jwk(ec_key(), kid="one"), jwk(ec_key(2), kid="two"))
    known = ring.current()
    assert kids(ring.newer(known)) == ["one", "two"]
    assert len(server.requests) == 2
    assert ring.newer(known) is ring.current()
    assert len(server.requests) == 2


@pytest.mark.parametrize("key", [rsa_key(), ec_key()])
def test_keys_that_are_still_the_same_are_not_newer(key: Any, clock: FakeClock) -> None:
    algorithm = "ES256" if key is ec_key() else "RS256"
    with JwksServer(jwk(key, kid="one")) as server:
        ring = keys.of_jwks(server.url, algorithm, clock)
        known = ring.current()
        clock.sleep(AGAIN_MS)
        assert ring.newer(known) is known
        assert len(server.requests) == 2


def test_many_threads_at_once_read_once(server: JwksServer, clock: FakeClock) -> None:
    ring, found = keys.of_jwks(server.url, "ES256", clock), []
    server.hold = Event()
    threads = [Thread(target=lambda: found.append(ring.current())) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert server.asked.wait(10)
    server.hold.set()
    for thread in threads:
        thread.join()
    assert [kids(each) for each in found] == [["one"]] * 8
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [0, 204, 301, 302, 404, 500, 503])
def test_an_outage_does_not_take_known_keys_away_for_a_day(
    status: int, server: JwksServer, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    ring = keys.of_jwks(server.url, "ES256", clock)
    ring.current()
    server.status = status
    clock.sleep(JWKS_FRESH_MS)
    assert kids(ring.current()) == kids(ring.newer(ring.current())) == ["one"]
    assert len(server.requests) == 2
    assert "keys not read, old ones used cause=Reading JWT_JWKS_URL failed" in caplog.text
    clock.sleep(STALE_MS - JWKS_FRESH_MS - 1)
    assert kids(ring.current()) == ["one"]
    clock.sleep(AGAIN_MS)
    with pytest.raises(UpstreamError, match="Reading JWT_JWKS_URL failed"):
        ring.current()
    server.status = 200
    clock.sleep(AGAIN_MS)
    assert kids(ring.current()) == ["one"]


def test_with_no_key_known_a_source_that_fails_is_asked_again_after_seconds(
    server: JwksServer, clock: FakeClock
) -> None:
    ring = keys.of_jwks(server.url, "ES256", clock)
    server.status = 500
    for _ in range(3):
        with pytest.raises(UpstreamError, match="the answer was 500"):
            ring.current()
    assert len(server.requests) == 1
    server.status = 200
    clock.sleep(FIRST_AGAIN_MS)
    assert kids(ring.current()) == ["one"]


def test_a_clock_that_is_set_back_does_not_make_old_keys_fresh(server: JwksServer, clock: FakeClock) -> None:
    ring = keys.of_jwks(server.url, "ES256", clock)
    ring.current()
    server.publish(jwk(ec_key(2), kid="two"))
    clock.now -= 1
    assert kids(ring.current()) == ["two"]


def test_a_redirect_is_not_followed(server: JwksServer) -> None:
    with JwksServer(jwk(ec_key(2), kid="elsewhere")) as elsewhere:
        server.status, server.headers = 302, {"Location": elsewhere.url}
        with pytest.raises(UpstreamError, match="the answer was 302"):
            keys.of_jwks(server.url, "ES256", FakeClock()).current()
        assert elsewhere.requests == []


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"<html>", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"keys":[NaN]}', "not JSON"),
        (b"[]", "not a JSON Web Key Set"),
        (b"{}", "not a JSON Web Key Set"),
        (b'{"keys":{}}', "not a JSON Web Key Set"),
        (b'{"keys":[]}', "has no key for ES256"),
        (b'{"keys":[1,null,"x",[]]}', "has no key for ES256"),
        (b" " * 2**21, "more than 1,048,576 bytes"),
    ],
)
def test_what_is_not_a_key_set_is_refused(body: bytes, says: str, server: JwksServer) -> None:
    server.body = body
    with pytest.raises(UpstreamError, match=says):
        keys.of_jwks(server.url, "ES256", FakeClock()).current()


def test_a_server_that_never_answers_is_given_up(server: JwksServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "ANSWER_SECONDS", 0.1)
    server.hold = Event()
    with pytest.raises(UpstreamError, match="Reading JWT_JWKS_URL failed: no answer in time"):
        keys.of_jwks(server.url, "ES256", FakeClock()).current()
    server.hold.set()


def test_nobody_listening_is_an_outage(server: JwksServer) -> None:
    server.close()
    with pytest.raises(UpstreamError, match="Connection refused"):
        keys.of_jwks(server.url, "ES256", FakeClock()).current()


def test_over_tls_the_certificate_must_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    with JwksServer(jwk(ec_key(), kid="one"), tls=authority.server()) as server:
        monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
        with pytest.raises(UpstreamError, match="CERTIFICATE_VERIFY_FAILED"):
            keys.of_jwks(server.url, "ES256", FakeClock()).current()
        monkeypatch.setenv("AWS_CA_BUNDLE", authority.ca_file)
        assert kids(keys.of_jwks(server.url, "ES256", FakeClock()).current()) == ["one"]


# --- what is taken of a set


def test_keys_for_other_algorithms_are_not_taken() -> None:
    both = (jwk(rsa_key(), kid="rsa"), jwk(ec_key(), kid="ec"))
    assert usable(*both, algorithm="RS256") == ["rsa"]
    assert usable(*both, algorithm="ES256") == ["ec"]


GOOD = jwk(ec_key(), kid="good", use="sig", alg="ES256", key_ops=["verify"])


@pytest.mark.parametrize(
    "bad",
    [
        {**GOOD, "use": "enc"},
        {**GOOD, "use": None},
        {**GOOD, "alg": "ES384"},
        {**GOOD, "alg": "HS256"},
        {**GOOD, "key_ops": ["sign"]},
        {**GOOD, "key_ops": "verify"},
        {**GOOD, "kid": 5},
        {**GOOD, "kty": "oct", "k": "c2VjcmV0"},
        {**GOOD, "kty": None},
        {**GOOD, "crv": "P-384"},
        {**GOOD, "x": GOOD["y"]},
        {**GOOD, "x": 5},
        {**GOOD, "y": "%%%"},
        ECAlgorithm.to_jwk(ec_key(), as_dict=True),
        jwk(ec_key(1, ec.SECP384R1), kid="p384"),
        jwk(ec_key(1, ec.SECP256K1), kid="bitcoin"),
    ],
)
def test_an_entry_that_is_no_key_for_the_algorithm_is_ignored(bad: dict[str, Any]) -> None:
    assert usable(bad, GOOD) == ["good"]


@pytest.mark.parametrize(
    "bad",
    [
        jwk(rsa_key(1, 1_024), kid="short"),
        {**jwk(rsa_key()), "n": "AQAB"},
        {**jwk(rsa_key()), "e": "AQ"},
        {**jwk(rsa_key()), "crv": "P-256"},
        {**RSAAlgorithm.to_jwk(rsa_key(), as_dict=True), "key_ops": ["verify"]},
    ],
)
def test_an_rsa_key_that_is_short_odd_or_private_is_ignored(bad: dict[str, Any]) -> None:
    assert usable(bad, jwk(rsa_key(), kid="good"), algorithm="RS256") == ["good"]


@thorough
@given(st.dictionaries(st.sampled_from(sorted(GOOD)), json_values), st.sampled_from(["ES256", "RS256"]))
def test_whatever_an_entry_holds_it_is_a_key_or_ignored(changed: dict[str, Any], algorithm: str) -> None:
    base = GOOD if algorithm == "ES256" else jwk(rsa_key(), use="sig", alg="RS256")
    keys._public_key({**base, **changed}, algorithm)


def test_a_token_names_its_key_and_without_a_name_there_must_be_one_only() -> None:
    named, unnamed = Key("a", "one"), Key("b")
    assert Keys((named, unnamed), named=True).matching("one") == (named,)
    assert Keys((named, unnamed), named=True).matching("two") == ()
    assert Keys((named, unnamed), named=True).matching(None) == ()
    assert Keys((unnamed,), named=True).matching(None) == (unnamed,)
    assert Keys((unnamed,), named=True).matching("one") == ()


def test_keys_of_the_same_name_are_all_tried() -> None:
    first, second = Key("a", "one"), Key("b", "one")
    assert Keys((first, second), named=True).matching("one") == (first, second)
