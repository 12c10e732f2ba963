"""AWS, as seen from a laptop: who asks, where, and what each refusal means in one sentence.

Knows the SDK's errors and no service's resources.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
import botocore.exceptions as sdk
from botocore.config import Config

from .errors import AWSError

# A laptop's network may be gone: the SDK's own minute, five times over, is too long to wait for that.
_PATIENCE = Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 3})


@dataclass(frozen=True)
class Account:
    """The account and the region that the credentials at hand lead to."""

    session: boto3.Session
    partition: str
    region: str
    number: str
    caller: str
    """The ARN of who asks."""

    def client(self, service: str) -> Any:
        """A client of that service, in this region. Raises AWSError."""
        return _client(self.session, service)


def sign_in() -> Account:
    """Whose the credentials are, as AWS itself says. Raises AWSError; changes nothing."""
    with explained():
        session = boto3.Session()
        region = session.region_name
        if not region:
            raise sdk.NoRegionError
        answer = _client(session, "sts").get_caller_identity()
    return Account(
        session=session,
        partition=answer["Arn"].split(":")[1],
        region=region,
        number=answer["Account"],
        caller=answer["Arn"],
    )


def _client(session: boto3.Session, service: str) -> Any:
    with explained():
        try:
            return session.client(service, config=_PATIENCE)  # type: ignore[call-overload]
        except sdk.InvalidRegionError:  # a ValueError too
            raise
        except ValueError as error:
            raise AWSError(f"{error}. AWS_ENDPOINT_URL, where it is set, takes a URL.") from error


@contextmanager
def explained() -> Iterator[None]:
    """Turns what the SDK raises in here into AWSError."""
    try:
        yield
    except sdk.ClientError as error:
        answer = error.response.get("Error", {})
        raise AWSError(
            refusal(answer.get("Code", "Unknown"), error.operation_name, answer.get("Message", ""))
        ) from error
    except sdk.BotoCoreError as error:
        raise AWSError(_trouble(error)) from error


_LOST_CREDENTIALS = (
    "Get new ones (`aws sso login`, `aws login`, or new keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, with "
    "AWS_SESSION_TOKEN where they are temporary) and run this again."
)

_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
_NOT_KNOWN = {
    "AuthFailure",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_NOT_ALLOWED = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "ForbiddenException"}
_QUOTAS = {
    "CodeStorageExceededException",
    "LimitExceeded",
    "LimitExceededException",
    "RequestLimitExceeded",
    "ServiceQuotaExceededException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}


def refusal(code: str, operation: str, message: str) -> str:
    """What an error of AWS's means: its code, the operation that was asked for, and AWS's own words."""
    words = one_line(message).rstrip(".") or code
    if code in _EXPIRED:
        return f"The AWS credentials have expired ({words}). {_LOST_CREDENTIALS}"
    if code in _NOT_KNOWN:
        return f"AWS does not accept the credentials ({words}). {_LOST_CREDENTIALS}"
    if code in _NOT_ALLOWED:
        return (
            f"These credentials may not do {operation}: {words}. Have it allowed by whoever administers the account, "
            "or use others (AWS_PROFILE names them)."
        )
    if code in _QUOTAS:
        return (
            f"A quota of the account stands in the way of {operation}: {words}. Run this again in a minute; "
            "if that does not help, have it raised in the Service Quotas console."
        )
    return f"AWS refused {operation}: {words} ({code})."


def one_line(text: str) -> str:
    return " ".join(text.split())


_TROUBLES: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    (
        (sdk.NoRegionError,),
        "No AWS region is chosen. Set AWS_DEFAULT_REGION (such as eu-central-1; AWS_REGION is not read), or run "
        "`aws configure set region eu-central-1`.",
    ),
    ((sdk.InvalidRegionError,), "{words}. AWS's regions are called like eu-central-1."),
    ((sdk.ProfileNotFound,), "{words}. AWS_PROFILE takes a name that stands in ~/.aws/config."),
    (
        (sdk.NoCredentialsError, sdk.NoAuthTokenError),
        "There are no AWS credentials. Run `aws configure` or `aws sso login`, set AWS_PROFILE to a profile that has "
        "some, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
    ),
    (
        (sdk.PartialCredentialsError,),
        "The AWS credentials are not whole: {words}. Set what is missing, or AWS_PROFILE to another profile.",
    ),
    (
        (sdk.SSOError, sdk.LoginError, sdk.TokenRetrievalError, sdk.CredentialRetrievalError),
        f"The AWS credentials cannot be had: {{words}}. {_LOST_CREDENTIALS}",
    ),
    (
        (sdk.SSLError,),
        "{words}. Where a proxy of your company opens TLS, AWS_CA_BUNDLE must name a file with its certificate.",
    ),
    (
        (sdk.ConnectionError, sdk.HTTPClientError),
        "AWS does not answer: {words}. See whether the network is up, whether AWS has a region of that name, and "
        "whether HTTPS_PROXY and AWS_ENDPOINT_URL are right where they are set.",
    ),
)
"""The SDK's own errors, the first that fits, and what to do about each."""


def _trouble(error: Exception) -> str:
    words = one_line(str(error)).rstrip(".")
    sentence = next((text for types, text in _TROUBLES if isinstance(error, types)), "AWS cannot be asked: {words}.")
    return sentence.format(words=words)
