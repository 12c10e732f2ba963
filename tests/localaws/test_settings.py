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
    assert Settings() == Settings(threads=256, serial_frames=False, frame_delay_s=(0, 0), seed=None, persist=None)


def test_every_setting_is_read() -> None:
    environ = {
        "LOCALAWS_THREADS": "8",
        "LOCALAWS_SERIAL_FRAMES": "1",
        "LOCALAWS_FRAME_DELAY_MS": "0-80",
        "LOCALAWS_SEED": "0",
        "PERSIST": "kept",
        "LOCALAWS_FAULTS": '{"seed": 7}',
        "LOCALAWS_WORKERS": "4",
    }
    assert Settings.from_environ(environ, PROJECT) == Settings(
        8, True, (0.0, 0.08), 0, PROJECT / "kept", Plan(seed=7), 4
    )


@pytest.mark.parametrize(("text", "bounds"), [("50", (0.05, 0.05)), ("1.5-2", (0.0015, 0.002)), ("", (0, 0))])
def test_a_delay_is_a_range_or_one_time(text: str, bounds: tuple[float, float]) -> None:
    assert Settings.from_environ({"LOCALAWS_FRAME_DELAY_MS": text}, PROJECT).frame_delay_s == bounds


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
        ("LOCALAWS_WORKERS", "-1", "a whole number from 0 to 1000"),
        ("LOCALAWS_FRAME_DELAY_MS", "80-0", "milliseconds like 50 or 0-80"),
        ("LOCALAWS_FRAME_DELAY_MS", "-5", "milliseconds like 50 or 0-80"),
        ("LOCALAWS_FRAME_DELAY_MS", "nan", "milliseconds like 50 or 0-80"),
        ("LOCALAWS_FRAME_DELAY_MS", "0-inf", "milliseconds like 50 or 0-80"),
        ("LOCALAWS_FRAME_DELAY_MS", "0..80", "milliseconds like 50 or 0-80"),
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
