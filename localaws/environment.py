"""What AWS SDKs in this process read, set so that no call of the app's leaves the machine.

Knows the variables of botocore and no AWS service. The user's own account is neither needed nor used: credentials
become dummies, profiles and configuration files are out of sight, and services that have no stand-in resolve to the
gateway, which answers 404.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping

from localaws.errors import StartupError

NOBODY = "local"
"""Access key and secret of dummy credentials."""

STORE = "AWS_ENDPOINT_URL_DYNAMODB"

Environ = MutableMapping[str, str]

# https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html
_IDENTITY = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")
_NOBODYS = {"AWS_ACCESS_KEY_ID": NOBODY, "AWS_SECRET_ACCESS_KEY": NOBODY}
_DETOURS = ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT")

# What makes a process the server: a worker's app is to believe that it is on Lambda.
_SERVERS = ("AWS_CHALICE_CLI_MODE", "CHALICE_WORKER")


def use_own_store(environ: Environ, endpoint: str) -> None:
    """DynamoDB is at `endpoint`, a store of ours, and nobody's credentials are used."""
    _use_nobodys_credentials(environ)
    environ[STORE] = endpoint


def use_given_store(environ: Environ) -> None:
    """DynamoDB is where AWS_ENDPOINT_URL_DYNAMODB says. Keys in the environment are kept: it may check them.

    Raises StartupError for a key without its secret.
    """
    if "AWS_ACCESS_KEY_ID" not in environ:
        _use_nobodys_credentials(environ)
    elif not environ.get("AWS_SECRET_ACCESS_KEY"):
        raise StartupError("AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY: set both, or neither.")


def use_gateway(environ: Environ, http: str, stage: str) -> None:
    """@connections is at `http`/`stage`, Lambda at `http`; there too, in order to fail, is what has no stand-in."""
    for name in _DETOURS:
        environ.pop(name, None)
    # An ignore_configured_endpoint_urls in the user's file would undo all of this.
    environ["AWS_CONFIG_FILE"] = os.devnull
    environ.setdefault("AWS_REGION", environ.get("AWS_DEFAULT_REGION", "us-east-1"))
    environ.setdefault("AWS_DEFAULT_REGION", environ["AWS_REGION"])
    # A LocalStack's or an earlier server's, left over in a shell, would have what is handed on, and nobody would know.
    environ["AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"] = f"{http}/{stage}"
    environ["AWS_ENDPOINT_URL_LAMBDA"] = environ["AWS_ENDPOINT_URL"] = http
    for name in ("NO_PROXY", "no_proxy"):  # a company's proxy does not know this machine's loopback
        environ[name] = ",".join(filter(None, (environ.get(name), "127.0.0.1", "localhost")))


def has_own_keys(environ: Mapping[str, str]) -> bool:
    """Whether the app signs with keys of the user's, which only a store that is given may check."""
    return STORE in environ and environ.get("AWS_ACCESS_KEY_ID", NOBODY) != NOBODY


def worker_environment(environ: Mapping[str, str], number: int, packages: str) -> tuple[str, dict[str, str]]:
    """The access key of a worker, and the environment of its process, which finds this package in `packages`.

    Where nobody's credentials are in use each worker has a key of its own (local1, local2, …), by which its requests
    are known. Own credentials of the user's are not to be told apart.
    """
    theirs = {name: value for name, value in environ.items() if name not in _SERVERS}
    theirs["AWS_ACCESS_KEY_ID"] = _worker_key(environ, number)
    theirs["PYTHONPATH"] = os.pathsep.join(filter(None, (environ.get("PYTHONPATH"), packages)))
    return theirs["AWS_ACCESS_KEY_ID"], theirs


def secrets(environ: Mapping[str, str], workers: int = 0) -> dict[str, str]:
    """Whose signatures the gateway takes: the secret of the access key in use, and of the workers' own keys."""
    key, secret = environ["AWS_ACCESS_KEY_ID"], environ["AWS_SECRET_ACCESS_KEY"]
    return dict.fromkeys((key, *(_worker_key(environ, number + 1) for number in range(workers))), secret)


def uses_nobodys_credentials(environ: Mapping[str, str]) -> bool:
    """Whether the credentials are the dummies, which are no secret."""
    return _NOBODYS.items() <= environ.items()


def _worker_key(environ: Mapping[str, str], number: int) -> str:
    # DynamoDB Local takes letters and digits alone.
    return environ["AWS_ACCESS_KEY_ID"] if has_own_keys(environ) else f"{NOBODY}{number}"


def _use_nobodys_credentials(environ: Environ) -> None:
    for name in _IDENTITY:
        environ.pop(name, None)
    environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    environ.update(_NOBODYS)
