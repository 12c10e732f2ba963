"""What is logged goes to the test, and nowhere else."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from chalicelib.transport import ENDPOINT_VARIABLE

from .deployment import Lines


@pytest.fixture(name="lines", autouse=True)
def what_is_logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    log, lines = logging.getLogger("channels"), Lines()
    monkeypatch.setattr(log, "propagate", False)
    monkeypatch.setattr(log, "handlers", [lines])
    monkeypatch.delenv(ENDPOINT_VARIABLE, raising=False)
    level = log.level
    log.setLevel(logging.INFO)
    yield lines
    log.setLevel(level)
