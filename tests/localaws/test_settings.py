"""LOCALAWS_* and PERSIST: what they take, and what is said of what they do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from localaws.errors import StartupError
from localaws.faults import Plan
from localaws.settings import Settings

PROJECT = Path("project")


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_environ({}, PROJECT) == Settings()
    assert Settings() == Settings(
        threads=256,
        serial_frames=False,
        seed=None,
        idle_s=600,
        life_s=7200,
        request_s=60,
        signatures=True,
        request_rate=10_000,
        request_burst=5_000,
        connect_rate=500,
        integration_s=29,
        persist=None,
        faults=None,
        workers=0,
    )


def test_every_setting_is_read() -> None:
    environ = {
        "LOCALAWS_THREADS": "8",
        "LOCALAWS_SERIAL_FRAMES": "1",
        "LOCALAWS_SEED": "0",
        "LOCALAWS_IDLE_MS": "1",
        "LOCALAWS_LIFE_MS": "86400000",
        "LOCALAWS_REQUEST_MS": "1500",
        "LOCALAWS_SIGNATURES": "0",
        "LOCALAWS_REQUEST_RATE": "2500",
        "LOCALAWS_REQUEST_BURST": "1250",
        "LOCALAWS_CONNECT_RATE": "50",
        "LOCALAWS_INTEGRATION_MS": "1500",
        "PERSIST": "kept",
        "LOCALAWS_FAULTS": '{"seed": 7}',
        "LOCALAWS_WORKERS": "4",
    }
    assert Settings.from_environ(environ, PROJECT) == Settings(
        threads=8,
        serial_frames=True,
        seed=0,
        idle_s=0.001,
        life_s=86_400,
        request_s=1.5,
        signatures=False,
        request_rate=2_500,
        request_burst=1_250,
        connect_rate=50,
        integration_s=1.5,
        persist=PROJECT / "kept",
        faults=Plan(seed=7),
        workers=4,
    )


def test_0_turns_a_quota_and_the_wait_for_functions_off() -> None:
    names = ("LOCALAWS_REQUEST_RATE", "LOCALAWS_CONNECT_RATE", "LOCALAWS_INTEGRATION_MS")
    settings = Settings.from_environ(dict.fromkeys(names, "0"), PROJECT)
    assert (settings.request_rate, settings.connect_rate, settings.integration_s) == (0, 0, None)


def test_a_folder_outside_the_project_may_keep_the_table(tmp_path: Path) -> None:
    assert Settings.from_environ({"PERSIST": str(tmp_path)}, PROJECT).persist == tmp_path


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("LOCALAWS_THREADS", "0", "a whole number from 1 to 10000"),
        ("LOCALAWS_THREADS", "many", "a whole number from 1 to 10000"),
        ("LOCALAWS_THREADS", "²", "a whole number from 1 to 10000"),
        ("LOCALAWS_SERIAL_FRAMES", "yes", "a whole number from 0 to 1"),
        ("LOCALAWS_SEED", "-1", "a whole number from 0"),
        ("LOCALAWS_IDLE_MS", "0", "a whole number from 1 to 86400000"),
        ("LOCALAWS_LIFE_MS", "2h", "a whole number from 1 to 86400000"),
        ("LOCALAWS_REQUEST_MS", "1.5", "a whole number from 1 to 86400000"),
        ("LOCALAWS_SEED", "9" * 5_000, "a whole number from 0"),
        ("LOCALAWS_SIGNATURES", "off", "a whole number from 0 to 1"),
        ("LOCALAWS_REQUEST_RATE", "1e4", "a whole number from 0 to 1000000"),
        ("LOCALAWS_REQUEST_BURST", "0", "a whole number from 1 to 1000000"),
        ("LOCALAWS_CONNECT_RATE", "-1", "a whole number from 0 to 1000000"),
        ("LOCALAWS_INTEGRATION_MS", "29001", "a whole number from 0 to 29000"),
        ("LOCALAWS_WORKERS", "-1", "a whole number from 0 to 1000"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected_and_what_came(name: str, text: str, expected: str) -> None:
    with pytest.raises(StartupError) as error:
        Settings.from_environ({name: text}, PROJECT)
    assert str(error.value).startswith(f"{name} takes {expected}")
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"), [("7", "the plan is a JSON object, not 7."), ("{", "a plan is JSON like")]
)
def test_faults_that_are_no_plan_are_named(text: str, expected: str) -> None:
    with pytest.raises(StartupError) as error:
        Settings.from_environ({"LOCALAWS_FAULTS": text}, PROJECT)
    assert str(error.value).startswith(f"LOCALAWS_FAULTS: {expected}")
