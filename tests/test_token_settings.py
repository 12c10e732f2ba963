from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib import keys
from chalicelib.errors import ConfigurationError, InvalidSetting, Misconfigured, MissingSetting
from chalicelib.settings import ALGORITHMS
from chalicelib.tokens import TokenSettings, key_ring

from .fakes import FakeClock
from .jwks import (
    SECRET,
)

thorough = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def read(algorithm: str, **env: str) -> TokenSettings:
    return TokenSettings.from_env(env, algorithm)


def test_every_setting_can_be_set() -> None:
    rest = {"JWT_ISSUER": "https://i/", "JWT_AUDIENCE": "channels", "JWT_LEEWAY_SECONDS": "0"}
    expected = {"issuer": "https://i/", "audience": "channels", "leeway_s": 0}
    assert read("HS256", JWT_SECRET=SECRET, **rest) == TokenSettings("HS256", secret=SECRET, **expected)  # type: ignore[arg-type]
    assert read("HS256", JWT_SECRET_PARAMETER="/a/b") == TokenSettings("HS256", secret_parameter="/a/b", leeway_s=30)
    assert read("HS256", JWT_SECRET_ID="arn:x") == TokenSettings("HS256", secret_id="arn:x")
    assert read("RS256", JWT_JWKS_URL="https://i/k") == TokenSettings("RS256", jwks_url="https://i/k")


@pytest.mark.parametrize(
    ("algorithm", "env", "error", "says"),
    [
        ("HS512", {}, InvalidSetting, "AUTHENTICATION must be one of HS256, RS256, ES256"),
        ("HS256", {}, MissingSetting, "JWT_SECRET_PARAMETER is not set"),
        ("HS256", {"JWT_SECRET": ""}, MissingSetting, "JWT_SECRET_PARAMETER is not set"),
        ("RS256", {}, MissingSetting, "JWT_JWKS_URL is not set"),
        (
            "ES256",
            {"JWT_SECRET": SECRET},
            Misconfigured,
            "JWT_SECRET is set, but keys for ES256 come from JWT_JWKS_URL",
        ),
        ("HS256", {"JWT_JWKS_URL": "https://i/k"}, Misconfigured, "JWT_JWKS_URL is set, but keys for HS256 come from"),
        ("HS256", {"JWT_SECRET": SECRET, "JWT_SECRET_ID": "x"}, Misconfigured, "JWT_SECRET and JWT_SECRET_ID are set"),
        ("HS256", {"JWT_SECRET": "a canary"}, Misconfigured, "JWT_SECRET must hold one secret or two"),
        ("HS256", {"JWT_SECRET": SECRET, "JWT_LEEWAY_SECONDS": "301"}, InvalidSetting, "a whole number from 0 to 300"),
        ("HS256", {"JWT_SECRET": SECRET, "JWT_LEEWAY_SECONDS": "-1"}, InvalidSetting, "a whole number from 0 to 300"),
        ("HS256", {"JWT_SECRET": SECRET, "JWT_LEEWAY_SECONDS": "٣"}, InvalidSetting, "a whole number from 0 to 300"),
    ],
)
def test_a_setting_that_cannot_be_used_says_what_to_set_and_no_secret(
    algorithm: str, env: dict[str, str], error: type[ConfigurationError], says: str
) -> None:
    with pytest.raises(error) as raised:
        TokenSettings.from_env(env, algorithm)
    assert says in str(raised.value)
    assert SECRET not in str(raised.value)
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://tenant.eu.auth0.com/.well-known/jwks.json",
        "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_AbC/.well-known/jwks.json",
        "https://issuer.example:8443/k?of=1",
        "http://127.0.0.1:8080/k",
        "http://[::1]:8080/k",
        "http://localhost/k",
    ],
)
def test_a_key_set_is_fetched_over_https_or_from_this_machine(url: str) -> None:
    assert read("RS256", JWT_JWKS_URL=url).jwks_url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example/k",
        "http://127.0.0.1.evil.example/k",
        "http://localhost.evil.example/k",
        "http://10.0.0.1/k",
        "https://user:canary@issuer.example/k",
        "https://canary@issuer.example/k",
        "http://127.0.0.1@issuer.example/k",
        "https://",
        "https:///k",
        "https://issuer.example:0/k",
        "https://issuer.example:99999/k",
        "https://[::1/k",
        "https://issuer.example/a b",
        "https://issuer.example/\r\nHost: x",
        "https://issüer.example/k",
        "file:///etc/passwd",
        "ftp://issuer.example/k",
        "issuer.example/k",
    ],
)
def test_a_key_set_is_fetched_from_nowhere_else(url: str) -> None:
    with pytest.raises(Misconfigured, match="JWT_JWKS_URL must be a URL that begins with https://") as raised:
        read("RS256", JWT_JWKS_URL=url)
    assert "canary" not in str(raised.value)


@thorough
@given(
    st.sampled_from(ALGORITHMS),
    st.dictionaries(
        st.sampled_from(["JWT_SECRET", "JWT_SECRET_ID", "JWT_JWKS_URL", "JWT_ISSUER", "JWT_LEEWAY_SECONDS"]),
        st.text() | st.from_regex(r"https?://[\[\]@:/.\w]*", fullmatch=True) | st.just("x" * 32),
    ),
)
def test_any_environment_gives_settings_or_a_configuration_error(algorithm: str, env: dict[str, str]) -> None:
    try:
        of = TokenSettings.from_env(env, algorithm)
    except ConfigurationError as error:
        assert str(error).isprintable()
    else:
        key_ring(of, FakeClock())


def test_settings_do_not_show_their_secret() -> None:
    assert SECRET not in repr(read("HS256", JWT_SECRET=SECRET))


def test_settings_without_a_source_of_keys_are_said_to_be() -> None:
    with pytest.raises(Misconfigured, match="no source of keys"):
        key_ring(TokenSettings("HS256"), FakeClock())


@pytest.mark.parametrize(
    ("of", "kind"),
    [
        (TokenSettings("HS256", secret_parameter="p"), keys._read_parameter),
        (TokenSettings("HS256", secret_id="s"), keys._read_secret),
        (TokenSettings("ES256", jwks_url="https://i/k"), keys._read_jwks),
    ],
)
def test_keys_come_from_the_source_that_is_set(of: TokenSettings, kind: Any) -> None:
    assert key_ring(of, FakeClock())._read.func is kind  # type: ignore[attr-defined]
