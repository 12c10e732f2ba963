"""The SDK's configuration as on a machine that has none, but for what a test sets."""

from __future__ import annotations

import os
from functools import lru_cache

import boto3
import pytest
from botocore.session import Session

from chalicelib import aws

ACCESS_KEY = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMIK7MDENG"
TOKEN = "FwoGZXIvYXdzEXAMPLETOKEN"


def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable, no file, no session of before, and no look at the network for credentials."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    new_sessions(monkeypatch)


def new_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read of the SDK's configuration before counts no more, neither for ours nor for boto3."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    monkeypatch.setattr(aws, "_session", lru_cache(maxsize=1)(Session))


def configured(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a Lambda: a region, and credentials with a session token."""
    unset(monkeypatch)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
