"""A server whose settings of tokens, origins and rights cannot be used: it lets nobody in, and says in its log what to
set, without a word of a secret. From the environment to the log, by way of the handlers.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from .captured import event
from .connections import connections_endpoint
from .handshakes import FAILED, ME, OK, Handlers, handshake
from .jwks import SECRET
from .tokens import USER, VARIABLES, token_for

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TOKEN = token_for(USER, {"*": ["*"]})
HS256, RS256 = {"AUTHENTICATION": "HS256"}, {"AUTHENTICATION": "RS256"}
SHORT = "canary"


@pytest.mark.parametrize(
    ("variables", "advice"),
    [
        (HS256, "JWT_SECRET_PARAMETER is not set; it must hold"),
        ({**HS256, "JWT_SECRET": ""}, "JWT_SECRET_PARAMETER is not set; it must hold"),
        ({**HS256, "JWT_SECRET": SHORT}, "JWT_SECRET must hold one secret or two, one a line, of at least 32 bytes"),
        ({**HS256, "JWT_SECRET": f"{SECRET}\n{SHORT}"}, "JWT_SECRET must hold one secret or two, one a line, of at"),
        ({**VARIABLES, "JWT_SECRET_PARAMETER": "jwt"}, "JWT_SECRET and JWT_SECRET_PARAMETER are set; set one of them"),
        ({**VARIABLES, "JWT_LEEWAY_SECONDS": "1e9"}, "JWT_LEEWAY_SECONDS must be a whole number from 0 to 300"),
        (RS256, "JWT_JWKS_URL is not set; it must hold"),
        ({**RS256, "JWT_SECRET": SECRET}, "JWT_SECRET is set, but keys for RS256 come from JWT_JWKS_URL"),
        ({**RS256, "JWT_JWKS_URL": "http://ada:canary@issuer.example/"}, "JWT_JWKS_URL must be a URL that begins with"),
        ({"AUTHENTICATION": "HS512", "JWT_SECRET": SECRET}, "AUTHENTICATION must be one of none, HS256, RS256, ES256"),
        ({"AUTHENTICATION": "true"}, "AUTHENTICATION must be one of none, HS256, RS256, ES256, authorizer, not 'true'"),
        ({"JWT_SECRET": SECRET}, "JWT_SECRET is set, but AUTHENTICATION is none: set it to the algorithm"),
        ({**VARIABLES, "AUTHENTICATION": "none"}, "JWT_SECRET is set, but AUTHENTICATION is none"),
        ({**VARIABLES, "AUTHENTICATION": "authorizer"}, "JWT_SECRET is set, but AUTHENTICATION is authorizer"),
        ({**VARIABLES, "DEFAULT_CAPABILITY": "*"}, "DEFAULT_CAPABILITY cannot be used: a capability must be a JSON"),
        ({**VARIABLES, "DEFAULT_CAPABILITY": '{"*":"*"}'}, "DEFAULT_CAPABILITY cannot be used: a capability must be"),
        (
            {**VARIABLES, "ALLOWED_ORIGINS": "app.example.com"},
            "ALLOWED_ORIGINS cannot be used: an origin is the page",
        ),
        ({"ALLOWED_ORIGINS": "https://app.example.com/"}, "write 'https://app.example.com'"),
        ({"MISSING_ORIGIN": "no"}, "MISSING_ORIGIN must be one of allow, refuse, not 'no'"),
    ],
)
def test_a_server_whose_settings_cannot_be_used_lets_nobody_in_and_says_what_to_set(
    ministack: DynamoDBClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    variables: dict[str, str],
    advice: str,
) -> None:
    with connections_endpoint() as clients:
        server = Handlers(ministack, monkeypatch, variables, clients.url)
        server.refuses(handshake(), FAILED)
        server.refuses(handshake([("Authorization", f"Bearer {TOKEN}"), ("Origin", "https://app.example.com")]), FAILED)
        assert server.message(event("message", connectionId=ME)) == OK
        assert server.disconnect(event("disconnect", connectionId=ME)) == OK
        [answer] = clients.frames(ME)
    assert isinstance(answer, dict)
    assert answer["code"] == "misconfigured"
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 4
    assert all(advice in line for line in said)
    for secret in (SECRET, "canary", TOKEN):
        assert secret not in caplog.text
        assert secret not in json.dumps(answer)
    assert advice not in json.dumps(answer)
