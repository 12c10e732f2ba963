from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib import tokens
from chalicelib.capability import Capability
from chalicelib.errors import BadToken
from chalicelib.identity import Identity
from chalicelib.settings import ALGORITHMS
from chalicelib.tokens import LATEST_S, Reason, identity_of_authorizer

from .fakes import NOW
from .jwks import (
    CLAIMS,
    NOW_S,
    OTHERS,
    SECRET,
    JwksServer,
    ec_key,
    hs256,
    json_values,
    jwk,
    refusal,
    rsa_key,
    settings_for,
    signed,
    verifier_for,
)

CAPABILITY = {"orders:*": ["subscribe"]}
ROOT = Path(__file__).parent.parent

thorough = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module", name="server")
def a_server() -> Iterator[JwksServer]:
    with JwksServer(jwk(rsa_key(), kid="rsa"), jwk(ec_key(), kid="ec")) as server:
        yield server


# --- what is taken


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_token_names_its_user_its_rights_and_its_end(algorithm: str, server: JwksServer) -> None:
    presented = signed(algorithm, {**CLAIMS, "capability": CAPABILITY})
    identity = verifier_for(settings_for(algorithm, server)).verify(presented)
    assert identity == Identity("ada", Capability.parse(CAPABILITY), NOW_S + 600)


def test_a_token_that_does_not_say_what_it_may_do_says_nothing_of_it() -> None:
    assert hs256().verify(signed("HS256", CLAIMS)).capability is None


@pytest.mark.parametrize("header", [{"kid": "x" * 5_000}, {"typ": "at+jwt"}, {"alg": "HS256"}, {"jku": "http://evil"}])
def test_other_headers_are_of_no_effect(header: dict[str, str]) -> None:
    assert hs256().verify(signed("HS256", CLAIMS, **header)).principal == "ada"


@pytest.mark.parametrize("header", [{"kid": "ec"}, {}])
def test_a_key_of_a_set_is_found_by_its_name_or_by_being_alone(header: dict[str, str], server: JwksServer) -> None:
    verifier = verifier_for(settings_for("ES256", server))
    assert verifier.verify(signed("ES256", CLAIMS, **header)).principal == "ada"


def test_while_a_secret_is_replaced_both_are_good() -> None:
    old, new = SECRET.encode(), OTHERS["HS256"]
    verifier = hs256(secret=f"{new.decode()}\n{old.decode()}")
    for secret in (old, new):
        assert verifier.verify(signed("HS256", CLAIMS, secret)).principal == "ada"


@pytest.mark.parametrize("expires", [NOW_S + 1, NOW_S + 0.5, LATEST_S])
def test_the_end_is_rounded_up_and_is_later_than_now(expires: float) -> None:
    identity = hs256().verify(signed("HS256", {"sub": "ada", "exp": expires}))
    assert identity.expires_at in (NOW_S + 1, LATEST_S)


def test_clocks_may_differ_by_the_leeway() -> None:
    verifier = hs256(leeway_s=30)
    early = {"sub": "ada", "exp": NOW_S + 60, "nbf": NOW_S + 29, "iat": NOW_S + 29}
    assert verifier.verify(signed("HS256", early)).expires_at == NOW_S + 90
    assert verifier.verify(signed("HS256", {"sub": "ada", "exp": NOW_S - 29})).expires_at == NOW_S + 1
    assert refusal(verifier, signed("HS256", {"sub": "ada", "exp": NOW_S - 30})) is Reason.EXPIRED
    assert refusal(verifier, signed("HS256", {**CLAIMS, "nbf": NOW_S + 32})) is Reason.NOT_YET


# --- claims


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": NOW_S}, Reason.EXPIRED),
        ({"exp": 0}, Reason.EXPIRED),
        ({"exp": NOW_S - 0.5}, Reason.EXPIRED),
        ({"exp": None}, Reason.TIME),
        ({"exp": f"{NOW_S + 600}"}, Reason.TIME),
        ({"exp": True}, Reason.TIME),
        ({"exp": -1}, Reason.TIME),
        ({"exp": []}, Reason.TIME),
        ({"exp": float("nan")}, Reason.TIME),
        ({"exp": float("inf")}, Reason.TIME),
        ({"exp": NOW + 600_000}, Reason.TIME),
        ({"exp": 10**400}, Reason.TIME),
        ({"nbf": NOW_S + 2}, Reason.NOT_YET),
        ({"nbf": NOW_S + 10**9}, Reason.NOT_YET),
        ({"nbf": None}, Reason.TIME),
        ({"nbf": "0"}, Reason.TIME),
        ({"nbf": False}, Reason.TIME),
        ({"iat": NOW_S + 2}, Reason.NOT_YET),
        ({"iat": "now"}, Reason.TIME),
        ({"sub": None}, Reason.PRINCIPAL),
        ({"sub": ""}, Reason.PRINCIPAL),
        ({"sub": 5}, Reason.PRINCIPAL),
        ({"sub": ["ada"]}, Reason.PRINCIPAL),
        ({"sub": "x" * 257}, Reason.PRINCIPAL),
        ({"sub": "ada\n"}, Reason.PRINCIPAL),
        ({"sub": "\x1b[2Jada"}, Reason.PRINCIPAL),
        ({"sub": "ada\u2028"}, Reason.PRINCIPAL),
        ({"sub": "\u202eada"}, Reason.PRINCIPAL),
        ({"sub": "\ud800"}, Reason.PRINCIPAL),
        ({"capability": None}, Reason.CAPABILITY),
        ({"capability": []}, Reason.CAPABILITY),
        ({"capability": {"*": "*"}}, Reason.CAPABILITY),
        ({"capability": {"*": [1]}}, Reason.CAPABILITY),
        ({"capability": "{"}, Reason.CAPABILITY),
        ({"aud": "somewhere else"}, Reason.AUDIENCE),
    ],
)
def test_a_claim_that_cannot_be_taken_is_refused_with_its_reason(claims: dict[str, Any], reason: Reason) -> None:
    assert refusal(hs256(), signed("HS256", {**CLAIMS, **claims})) is reason


@pytest.mark.parametrize(("missing", "reason"), [("exp", Reason.TIME), ("sub", Reason.PRINCIPAL)])
def test_a_token_must_name_its_user_and_its_end(missing: str, reason: Reason) -> None:
    claims = {name: value for name, value in CLAIMS.items() if name != missing}
    assert refusal(hs256(), signed("HS256", claims)) is reason


@pytest.mark.parametrize("sub", ["a", "x" * 256, "auth0|5f7c8ec7c33c6c004bbafe82", "Ada Lovelace", "Zoë", "李"])
def test_a_user_may_have_any_printable_name(sub: str) -> None:
    assert hs256().verify(signed("HS256", {**CLAIMS, "sub": sub})).principal == sub


@pytest.mark.parametrize("iss", [None, "", "https://issuer.example", "https://issuer.example/x", 5, ["it"], {}])
def test_a_token_must_be_of_the_issuer_that_is_configured(iss: Any) -> None:
    verifier = hs256(issuer="https://issuer.example/")
    assert verifier.verify(signed("HS256", {**CLAIMS, "iss": "https://issuer.example/"})).principal == "ada"
    assert refusal(verifier, signed("HS256", {**CLAIMS, "iss": iss})) is Reason.ISSUER
    assert refusal(verifier, signed("HS256", CLAIMS)) is Reason.ISSUER


@pytest.mark.parametrize("aud", [None, "", [], "channel", "channels2", ["other"], {"channels": 1}, 5, ["channels", 5]])
def test_a_token_must_be_meant_for_the_audience_that_is_configured(aud: Any) -> None:
    verifier = hs256(audience="channels")
    for fitting in ("channels", ["channels"], ["other", "channels"]):
        assert verifier.verify(signed("HS256", {**CLAIMS, "aud": fitting})).principal == "ada"
    assert refusal(verifier, signed("HS256", {**CLAIMS, "aud": aud})) is Reason.AUDIENCE
    assert refusal(verifier, signed("HS256", CLAIMS)) is Reason.AUDIENCE


# --- an authorizer of API Gateway's


def test_an_authorizer_names_the_user_the_rights_and_the_end() -> None:
    context = {
        "principalId": "ada",
        "capability": json.dumps(CAPABILITY),
        "exp": 5,
        "integrationLatency": 40,
        "x": True,
    }
    assert identity_of_authorizer(context) == Identity("ada", Capability.parse(CAPABILITY), 5)
    assert identity_of_authorizer({"principalId": "ada"}) == Identity("ada", None, None)


@pytest.mark.parametrize(
    ("expiry", "expires_at"),
    [(1_700_000_000, 1_700_000_000), ("1700000000", 1_700_000_000), ("1.7E9", 1_700_000_000), (1.5, 2), ("1.5", 2)],
)
def test_an_authorizers_times_may_be_text(expiry: Any, expires_at: int) -> None:
    assert identity_of_authorizer({"principalId": "ada", "exp": expiry}).expires_at == expires_at


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        ({}, Reason.PRINCIPAL),
        ({"claims": {"sub": "ada"}}, Reason.PRINCIPAL),
        ({"principalId": None}, Reason.PRINCIPAL),
        ({"principalId": 5}, Reason.PRINCIPAL),
        ({"principalId": "a\nb"}, Reason.PRINCIPAL),
        ({"principalId": "ada", "capability": ""}, Reason.CAPABILITY),
        ({"principalId": "ada", "capability": "[]"}, Reason.CAPABILITY),
        ({"principalId": "ada", "capability": "[object Object]"}, Reason.CAPABILITY),
        ({"principalId": "ada", "capability": True}, Reason.CAPABILITY),
        ({"principalId": "ada", "capability": None}, Reason.CAPABILITY),
        ({"principalId": "ada", "exp": ""}, Reason.TIME),
        ({"principalId": "ada", "exp": "soon"}, Reason.TIME),
        ({"principalId": "ada", "exp": "inf"}, Reason.TIME),
        ({"principalId": "ada", "exp": "nan"}, Reason.TIME),
        ({"principalId": "ada", "exp": "-1"}, Reason.TIME),
        ({"principalId": "ada", "exp": None}, Reason.TIME),
        ({"principalId": "ada", "exp": True}, Reason.TIME),
    ],
)
def test_what_an_authorizer_says_and_cannot_mean_is_refused(context: dict[str, Any], reason: Reason) -> None:
    with pytest.raises(BadToken) as raised:
        identity_of_authorizer(context)
    assert Reason(raised.value.reason) is reason


@thorough
@given(st.dictionaries(st.sampled_from(["principalId", "exp", "capability", "claims"]), json_values | st.text()))
def test_whatever_an_authorizer_says_is_taken_or_refused(context: dict[str, Any]) -> None:
    try:
        identity = identity_of_authorizer(context)
    except BadToken as error:
        assert Reason(error.reason)
    else:
        assert identity.principal == context["principalId"]


# --- what it costs


def test_who_brings_no_token_does_not_pay_for_what_checks_them() -> None:
    program = (
        "import sys, chalicelib.tokens as tokens, chalicelib.clock as clock;"
        "of = tokens.TokenSettings.from_env({'JWT_SECRET': 'x' * 32}, 'HS256');"
        "tokens.Verifier(of, tokens.key_ring(of, clock.Clock()), clock.Clock());"
        "print(sorted({'jwt', 'cryptography'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_without_cryptography_secrets_still_work() -> None:
    """Whoever uses HS256 alone may leave it out of the package."""
    program = (
        "import sys; sys.modules['cryptography'] = None;"
        "import chalicelib.tokens as tokens, chalicelib.clock as clock;"
        f"of = tokens.TokenSettings('HS256', secret={SECRET!r});"
        "verifier = tokens.Verifier(of, tokens.key_ring(of, clock.Clock()), clock.Clock());"
        f"print(verifier.verify({signed('HS256', {'sub': 'ada', 'exp': LATEST_S - 30})!r}).principal)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "ada\n"


def test_every_reason_reads_as_the_end_of_a_sentence() -> None:
    for reason in tokens.Reason:
        assert reason.value.isprintable()
        assert not reason.value.endswith(".")
