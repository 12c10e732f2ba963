from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chalicelib import keys
from chalicelib.errors import BadToken, UpstreamError
from chalicelib.settings import ALGORITHMS
from chalicelib.tokens import Reason, Verifier, key_ring

from .fakes import FakeClock
from .jwks import (
    CLAIMS,
    KEYS,
    NOW_S,
    OTHERS,
    JwksServer,
    ec_key,
    hs256,
    json_values,
    jwk,
    public_pem,
    refusal,
    rsa_key,
    settings_for,
    signed,
    signer,
    token,
    verifier_for,
)

thorough = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

headers = st.dictionaries(
    st.sampled_from(["kid", "crit", "b64", "typ", "jwk", "jku", "x5c", "zip", "cty"]), json_values
)
payloads = st.dictionaries(
    st.sampled_from(["sub", "exp", "nbf", "iat", "iss", "aud", "jti", "capability"]), json_values | st.just("ada")
)


class Asked:
    """A ring that says whether anybody asked for a key."""

    def __init__(self, ring: keys.KeyRing) -> None:
        self._ring = ring
        self.times = 0

    def current(self) -> keys.Keys:
        self.times += 1
        return self._ring.current()

    def newer(self, than: keys.Keys) -> keys.Keys:
        return self._ring.newer(than)


@pytest.fixture(scope="module", name="server")
def a_server() -> Iterator[JwksServer]:
    with JwksServer(jwk(rsa_key(), kid="rsa"), jwk(ec_key(), kid="ec")) as server:
        yield server


@pytest.fixture(scope="module", params=ALGORITHMS, name="algorithm")
def each_algorithm(request: pytest.FixtureRequest) -> str:
    algorithm: str = request.param
    return algorithm


@pytest.fixture(scope="module", name="verifier")
def a_verifier(algorithm: str, server: JwksServer) -> Verifier:
    return verifier_for(settings_for(algorithm, server))


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", None, 0, [], ["HS256"], {}, "hs256", "HS512"])
def test_a_token_of_another_algorithm_or_none_is_refused_before_a_key_is_looked_at(
    name: Any, algorithm: str, server: JwksServer
) -> None:
    of = settings_for(algorithm, server)
    ring = Asked(key_ring(of, FakeClock()))
    verifier = Verifier(of, ring, FakeClock())  # type: ignore[arg-type]
    for forged in (token({"alg": name}, CLAIMS), token({}, CLAIMS)):
        assert refusal(verifier, forged) is Reason.ALGORITHM
    for other in set(ALGORITHMS) - {algorithm}:
        assert refusal(verifier, signed(other, CLAIMS)) is Reason.ALGORITHM
    assert ring.times == 0
    verifier.verify(signed(algorithm, CLAIMS))
    assert ring.times == 1


@pytest.mark.parametrize("claimed", ["HS256", "RS256", "ES256"])
def test_a_public_key_is_no_secret_to_sign_with(claimed: str, algorithm: str, verifier: Verifier) -> None:
    for key in (rsa_key(), ec_key()):
        for secret in (public_pem(key), public_pem(key).strip(), json.dumps(jwk(key)).encode()):
            forged = token({"alg": claimed}, CLAIMS, signer("HS256", secret))
            assert refusal(verifier, forged) is (Reason.SIGNATURE if claimed == algorithm else Reason.ALGORITHM)


def test_a_token_that_brings_its_own_key_is_not_believed(verifier: Verifier, algorithm: str) -> None:
    key = OTHERS[algorithm]
    own = {"kty": "oct", "k": "eA"} if algorithm == "HS256" else jwk(key)
    forged = signed(algorithm, CLAIMS, key, jwk=own, jku="http://127.0.0.1/", x5u="http://127.0.0.1/", x5c=["MIIB"])
    assert refusal(verifier, forged) is Reason.SIGNATURE


def test_what_is_signed_cannot_be_changed(verifier: Verifier, algorithm: str) -> None:
    header, _, made = signed(algorithm, CLAIMS).split(".")
    _, other, _ = token({}, {**CLAIMS, "sub": "eve"}).split(".")
    for forged in (f"{header}.{other}.{made}", f"{header}.{other}.", f"{header}.{other}.{made[:40]}"):
        assert refusal(verifier, forged) is Reason.SIGNATURE


def test_a_signature_of_zeros_is_none(verifier: Verifier, algorithm: str) -> None:
    for length in (0, 1, 32, 63, 64, 65, 256, 257):
        zeros = bytes(length)
        assert refusal(verifier, token({"alg": algorithm}, CLAIMS, lambda _signed: zeros)) is Reason.SIGNATURE  # noqa: B023


@pytest.mark.parametrize("length", [8_193, 100_000, 10_000_000])
def test_a_huge_token_is_refused_before_it_is_read(length: int, verifier: Verifier) -> None:
    assert refusal(verifier, "." * length) is Reason.TOO_LONG


def test_a_token_of_8_kb_is_taken_and_one_byte_more_is_not() -> None:
    padding = 6_000
    while len(longest := signed("HS256", {**CLAIMS, "padding": "x" * padding})) < 8_190:
        padding += 1
    assert len(longest) <= 8_192
    assert hs256().verify(longest).principal == "ada"
    longer = signed("HS256", {**CLAIMS, "padding": "x" * (padding + 3)})
    assert refusal(hs256(), longer) is Reason.TOO_LONG


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"], "exp": 1},
        {"crit": ["x"], "x": 1},
        {"crit": []},
        {"crit": "b64"},
        {"crit": None},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"crit": ["alg"]},
    ],
)
def test_what_a_token_calls_critical_and_nobody_here_knows_is_refused(header: dict[str, Any]) -> None:
    assert refusal(hs256(), signed("HS256", CLAIMS, **header)) is Reason.MALFORMED


@pytest.mark.parametrize(
    "kid", [None, 5, True, [], {}, ["ec"], "x" * 5_000, "../../dev/null", "' OR 1=1 --", "\n\x1b[2J", "\ud800", ""]
)
def test_a_hostile_kid_names_no_key(kid: Any, server: JwksServer) -> None:
    presented = signed("ES256", CLAIMS, kid=kid)
    assert refusal(verifier_for(settings_for("ES256", server)), presented) in (Reason.MALFORMED, Reason.SIGNATURE)


def test_a_flood_of_unknown_kids_fetches_the_keys_once_a_minute() -> None:
    clock = FakeClock()
    with JwksServer(jwk(ec_key(), kid="ec")) as server:
        verifier = verifier_for(settings_for("ES256", server), clock)
        for number in range(1_000):
            assert refusal(verifier, token({"alg": "ES256", "kid": f"{number}"}, CLAIMS)) is Reason.SIGNATURE
        assert len(server.requests) == 1
        clock.sleep(keys.AGAIN_MS)
        server.publish(jwk(ec_key(), kid="ec"), jwk(ec_key(2), kid="new"))
        for number in range(1_000):
            assert refusal(verifier, token({"alg": "ES256", "kid": f"{number}"}, CLAIMS)) is Reason.SIGNATURE
        assert len(server.requests) == 2
        assert verifier.verify(signed("ES256", CLAIMS, ec_key(2), kid="new")).principal == "ada"


def test_a_new_key_is_fetched_when_the_first_token_is_signed_with_it() -> None:
    clock = FakeClock()
    with JwksServer(jwk(ec_key(), kid="ec")) as server:
        verifier = verifier_for(settings_for("ES256", server), clock)
        verifier.verify(signed("ES256", CLAIMS, kid="ec"))
        server.publish(jwk(ec_key(2), kid="new"))
        clock.sleep(keys.AGAIN_MS)
        assert verifier.verify(signed("ES256", CLAIMS, ec_key(2), kid="new")).principal == "ada"
        assert refusal(verifier, signed("ES256", CLAIMS, kid="ec")) is Reason.SIGNATURE


def test_an_outage_of_the_issuer_does_not_lock_out_users_with_known_keys() -> None:
    clock = FakeClock()
    with JwksServer(jwk(ec_key(), kid="ec")) as server:
        verifier = verifier_for(settings_for("ES256", server), clock)
        lasting = {"sub": "ada", "exp": NOW_S + 86_400}
        verifier.verify(signed("ES256", lasting, kid="ec"))
        server.close()
        clock.sleep(keys.JWKS_FRESH_MS * 3)
        assert verifier.verify(signed("ES256", lasting, kid="ec")).principal == "ada"
        assert refusal(verifier, signed("ES256", lasting, ec_key(2), kid="new")) is Reason.SIGNATURE


def test_without_keys_nobody_is_refused_as_a_stranger_and_nobody_let_in() -> None:
    with JwksServer() as server:
        verifier = verifier_for(settings_for("ES256", server))
        with pytest.raises(UpstreamError):
            verifier.verify(signed("ES256", CLAIMS, kid="ec"))


# --- anything at all


@pytest.mark.parametrize(
    "presented",
    [
        "",
        ".",
        "..",
        "...",
        "a.b",
        "a.b.c.d.e",
        "null",
        "\ud800",
        "é.é.é",
        "\0",
        "Bearer x",
        "{}",
        token(b"[" * 3_000, {}),
        token(b"{", {}),
        token(b"\xff", {}),
        token([], {}),
        token("HS256", {}),
        token(None, {}),
        token(b'{"alg":"HS256","x":' + b"9" * 5_000 + b"}", {}),
    ],
)
def test_what_is_no_token_is_refused(presented: str, verifier: Verifier) -> None:
    assert refusal(verifier, presented) is Reason.MALFORMED


@pytest.mark.parametrize("payload", [b"", b"[" * 5_000, b"\xff", [], "ada", None, 5, b'{"exp":' + b"9" * 5_000 + b"}"])
def test_a_signed_payload_that_is_no_object_is_refused(payload: Any, verifier: Verifier, algorithm: str) -> None:
    assert refusal(verifier, signed(algorithm, payload)) is Reason.MALFORMED


@thorough
@given(st.text(max_size=300) | st.from_regex(r"[\w=-]{0,60}\.[\w=-]{0,60}\.[\w=-]{0,60}", fullmatch=True))
def test_no_text_that_nobody_has_signed_is_taken(presented: str) -> None:
    refusal(hs256(), presented)


@pytest.fixture(scope="module", name="strict")
def strict_verifiers(server: JwksServer) -> Mapping[str, Verifier]:
    more = {"issuer": "ada", "audience": "ada"}
    return {algorithm: verifier_for(settings_for(algorithm, server, **more)) for algorithm in ALGORITHMS}


@settings(thorough, max_examples=200)
@given(st.sampled_from(ALGORITHMS), headers, payloads | json_values, st.booleans())
@example("HS256", {}, {**CLAIMS, "iss": "ada", "aud": ["ada"]}, True)
@example("RS256", {"kid": "rsa"}, {**CLAIMS, "iss": "ada", "aud": "ada"}, True)
@example("ES256", {"kid": "ec"}, {**CLAIMS, "iss": "ada", "aud": "ada"}, False)
def test_whatever_is_signed_is_taken_by_the_rules_or_refused_with_a_reason(
    strict: Mapping[str, Verifier], algorithm: str, header: dict[str, Any], payload: Any, ours: bool
) -> None:
    """And whatever is signed with another key is not taken."""
    key = KEYS[algorithm] if ours else OTHERS[algorithm]
    try:
        identity = strict[algorithm].verify(signed(algorithm, payload, key, **header))
    except BadToken as error:
        assert Reason(error.reason)
    else:
        assert ours
        assert payload["iss"] == "ada"
        assert payload["aud"] == "ada" or "ada" in payload["aud"]
        assert identity.principal == payload["sub"]
        assert identity.principal.isprintable()
        assert (identity.expires_at or 0) > NOW_S
        assert (identity.capability is None) == ("capability" not in payload)
