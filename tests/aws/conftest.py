"""An emulator for the session, the project deployed to it once, and clients."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.clients.plain_client import Client

from .emulator import Emulator, emulator
from .inside.sitecustomize import leading_to
from .project import Project

Connect = Callable[..., Client]


@dataclass(frozen=True)
class Deployed:
    """A project and the URL that deploying it printed."""

    project: Project
    url: str


@pytest.fixture(scope="session")
def aws() -> Iterator[Emulator]:
    with emulator() as served:
        yield served


@pytest.fixture(scope="session")
def dev(aws: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """The stage dev, deployed by the one command from a fresh copy. Tests may deploy to it again, not destroy it."""
    project = Project.copy(tmp_path_factory.mktemp("dev") / "project", aws)
    return Deployed(project, project.deploy("dev"))


@pytest.fixture
def names_lead_there(aws: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process too AWS's names for APIs are the emulator's, and its certificate is trusted."""
    monkeypatch.setattr(socket, "getaddrinfo", leading_to(aws.gateway))
    monkeypatch.setenv("SSL_CERT_FILE", aws.ca_file)


@pytest.fixture
def connect(aws: Emulator) -> Iterator[Connect]:
    """Connects a client to a URL; all are closed at the end."""
    with ExitStack() as stack:
        yield lambda url, **query: Client(
            stack.enter_context(
                aws.connect(url + ("?" + "&".join(f"{k}={v}" for k, v in query.items()) if query else ""))
            )
        )
