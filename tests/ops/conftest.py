"""Templates of the project, each made once."""

from __future__ import annotations

from typing import Any

import pytest

from .packages import template, with_domain


@pytest.fixture(scope="session")
def prod(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return template("prod", tmp_path_factory.mktemp("prod"))


@pytest.fixture(scope="session")
def dev(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return template("dev", tmp_path_factory.mktemp("dev"))


@pytest.fixture(scope="session")
def configured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """With websocket_api_custom_domain of config.json filled in."""
    return with_domain(tmp_path_factory.mktemp("configured"), {"tls_version": "TLS_1_2"})
