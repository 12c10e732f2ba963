from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from ops.errors import ConfigError
from ops.project import FUNCTIONS, load_stage

from .packages import edit, project


def copied_stage(folder: Path, change: Callable[[Any], object]) -> Path:
    """The project with a stage prod-us, a copy of prod whose names are right but for `change`."""

    def add(config: Any) -> None:
        stage = config["stages"]["prod-us"] = deepcopy(config["stages"]["prod"])
        stage["environment_variables"] = {
            "TABLE_NAME": "channels-prod-us",
            "PUBLISH_FUNCTION": "channels-prod-us-publish",
        }
        for name in FUNCTIONS:
            stage["lambda_functions"][name]["iam_policy_file"] = f"policies/prod-us-{name}.json"
        change(stage)

    root = project(folder / "project")
    edit(root / ".chalice/config.json", add)
    return root


def test_a_stage_that_is_copied_and_named_anew_is_one_of_production(tmp_path: Path) -> None:
    stage = load_stage("prod-us", copied_stage(tmp_path, lambda _stage: None))
    assert (stage.table, stage.is_production) == ("channels-prod-us", True)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("given", ["policies/prod-{}.json", None, 5])
def test_a_copied_stage_with_another_stages_rights_is_refused(tmp_path: Path, function: str, given: Any) -> None:
    file = given.format(function) if isinstance(given, str) else given
    root = copied_stage(tmp_path, lambda stage: stage["lambda_functions"][function].update(iam_policy_file=file))
    with pytest.raises(
        ConfigError, match=rf"{function}\.iam_policy_file .* must be 'policies/prod-us-{function}\.json'"
    ):
        load_stage("prod-us", root)


@pytest.mark.parametrize("given", ["channels-prod-publish", "", None])
def test_a_copied_stage_that_hands_on_to_another_stages_function_is_refused(tmp_path: Path, given: Any) -> None:
    root = copied_stage(tmp_path, lambda stage: stage["environment_variables"].update(PUBLISH_FUNCTION=given))
    with pytest.raises(ConfigError, match=r"PUBLISH_FUNCTION .* must be 'channels-prod-us-publish'"):
        load_stage("prod-us", root)


def test_a_stage_without_functions_is_refused(tmp_path: Path) -> None:
    root = copied_stage(tmp_path, lambda stage: stage.pop("lambda_functions"))
    with pytest.raises(ConfigError, match="iam_policy_file"):
        load_stage("prod-us", root)
