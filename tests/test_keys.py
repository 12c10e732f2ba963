from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from chalicelib import keys
from chalicelib.errors import Misconfigured, UpstreamError
from chalicelib.keys import AGAIN_MS, SECRET_FRESH_MS, KeyRing, Keys

from .fakes import FakeClock
from .jwks import SECRET, ec_key, jwk, public_pem, rsa_key
from .vault import Vault, running_aws, use

OTHER = "another secret of at least thirty-two bytes"


@pytest.fixture(name="clock")
def a_clock() -> FakeClock:
    return FakeClock()


def materials(found: Keys) -> list[Any]:
    return [key.material for key in found.all]


# --- secrets


@pytest.mark.parametrize("text", [SECRET, f"{SECRET}\n", f"{SECRET}\r\n", f"\n{SECRET}\n\n"])
def test_a_secret_is_a_line(text: str) -> None:
    assert keys.secrets(text, "it") == (SECRET.encode(),)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_while_one_secret_replaces_another_there_are_two(end: str) -> None:
    found = keys.of_secret(f"{SECRET}{end}{OTHER}{end}", FakeClock()).current()
    assert materials(found) == [SECRET.encode(), OTHER.encode()]


def test_any_token_may_be_signed_with_any_of_the_secrets() -> None:
    found = keys.of_secret(f"{SECRET}\n{OTHER}", FakeClock()).current()
    assert found.matching(None) == found.matching("some kid") == found.all


@pytest.mark.parametrize(
    "text",
    ["", "\n", "x" * 31, f"{SECRET}\nshort", f"{SECRET}\n{OTHER}\n{SECRET}", SECRET + "\udcff", "é" * 15],
)
def test_what_is_not_one_secret_or_two_of_32_bytes_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(Misconfigured) as raised:
        keys.secrets(text, "The parameter /jwt")
    assert str(raised.value) == (
        "The parameter /jwt must hold one secret or two, one a line, of at least 32 bytes each."
    )


@pytest.mark.parametrize(
    "text",
    [
        public_pem(ec_key()).decode().replace("\n", ""),
        json.dumps(jwk(rsa_key())),
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC7",
    ],
)
def test_a_public_key_is_no_secret(text: str) -> None:
    with pytest.raises(Misconfigured, match="JWT_SECRET must hold"):
        keys.of_secret(text, FakeClock()).current()


def test_what_a_key_is_does_not_show() -> None:
    assert SECRET not in repr(keys.of_secret(SECRET, FakeClock()).current())


# --- secrets that AWS keeps


@pytest.fixture(scope="module", name="endpoint")
def an_endpoint() -> Iterator[str]:
    with running_aws() as endpoint:
        yield endpoint


@pytest.fixture(params=["ssm", "secretsmanager"], name="vault")
def a_vault(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> Iterator[Vault]:
    use(monkeypatch, endpoint)
    yield Vault(request.param)
    keys._client.cache_clear()


def test_a_secret_is_read_when_it_is_first_needed_and_kept_for_five_minutes(vault: Vault, clock: FakeClock) -> None:
    vault.keep("a secret that was there when the ring was made")
    ring = vault.ring(clock)
    vault.keep(SECRET)
    assert materials(ring.current()) == [SECRET.encode()]
    vault.keep(OTHER)
    clock.sleep(SECRET_FRESH_MS - 1)
    assert materials(ring.current()) == [SECRET.encode()]
    clock.sleep(1)
    assert materials(ring.current()) == [OTHER.encode()]


def test_a_rotated_secret_is_known_as_soon_as_a_token_needs_it(vault: Vault, clock: FakeClock) -> None:
    vault.keep(SECRET)
    ring = vault.ring(clock)
    known = ring.current()
    vault.keep(f"{OTHER}\n{SECRET}")
    clock.sleep(AGAIN_MS - 1)
    assert ring.newer(known) is known
    clock.sleep(1)
    assert materials(ring.newer(known)) == [OTHER.encode(), SECRET.encode()]


def test_a_secret_that_is_none_is_said_to_be_by_the_name_of_its_place(
    vault: Vault, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    vault.keep("canary")
    with pytest.raises(Misconfigured, match=r"^The (parameter|secret) jwt must hold one secret or two") as raised:
        vault.ring(clock).current()
    assert "keys not read, none known" in caplog.text
    assert "canary" not in caplog.text + str(raised.value)


@pytest.mark.parametrize(
    ("ring", "says"),
    [
        (keys.of_parameter("none", FakeClock()), "JWT_SECRET_PARAMETER must name a parameter .* it is none"),
        (keys.of_secrets_manager("none", FakeClock()), "JWT_SECRET_ID must name a secret .* it is none"),
    ],
)
def test_a_place_that_there_is_not_is_named_with_what_to_set(
    ring: KeyRing, says: str, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    use(monkeypatch, endpoint)
    with pytest.raises(UpstreamError, match=says):
        ring.current()


def test_a_binary_secret_is_none(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    use(monkeypatch, endpoint)
    boto3.client("secretsmanager").create_secret(Name="binary", SecretBinary=SECRET.encode())
    with pytest.raises(Misconfigured, match="The secret binary must hold one secret or two"):
        keys.of_secrets_manager("binary", FakeClock()).current()


def test_an_outage_of_aws_keeps_the_secret_that_is_known(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    with running_aws() as endpoint:
        use(monkeypatch, endpoint)
        vault = Vault("ssm")
        vault.keep(SECRET)
        ring = vault.ring(clock)
        ring.current()
    clock.sleep(SECRET_FRESH_MS)
    assert materials(ring.current()) == [SECRET.encode()]
    with pytest.raises(UpstreamError, match="GetParameter failed"):
        vault.ring(clock).current()
