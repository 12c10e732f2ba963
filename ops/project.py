"""The project's own files: stages and names from .chalice/config.json, resources from .chalice/resources.json.

The only module that knows how Chalice names what it deploys.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent

FUNCTIONS = ("websocket_connect", "websocket_message", "websocket_disconnect", "publish")
"""app.py's functions, by the names that Chalice gives them."""


@dataclass(frozen=True)
class Stage:
    """One stage of .chalice/config.json: what it is called, and what its parts are called on AWS."""

    name: str
    app: str
    gateway_stage: str
    """The stage of the API, as it stands in URLs."""
    table: str
    variables: Mapping[str, str]
    """The functions' environment."""
    tags: Mapping[str, str]
    custom_domain: Mapping[str, Any] | None
    """`websocket_api_custom_domain`, where it is filled in."""

    @property
    def is_production(self) -> bool:
        """prod, and prod-… for its further regions: IAM's names are the account's, so each region is a stage."""
        return self.name == "prod" or self.name.startswith("prod-")

    @property
    def api(self) -> str:
        """The WebSocket API's name on AWS."""
        return f"{self.app}-{self.name}-websocket-api"

    def function(self, name: str) -> str:
        """The Lambda function's name on AWS, and its role's."""
        return f"{self.app}-{self.name}-{name}"

    def policy_file(self, name: str) -> str:
        """Where that function's policy lies, in .chalice/."""
        return f"policies/{self.name}-{name}.json"


def load_stage(name: str, root: Path = ROOT) -> Stage:
    """The stage of that name; raises ConfigError."""
    config = _read(root / ".chalice/config.json")
    stages = _mapping(config.get("stages"), "stages")
    if name not in stages:
        raise ConfigError(f"There is no stage {name!r} in .chalice/config.json; there is: {', '.join(stages)}.")
    stage = _mapping(stages[name], f"stages.{name}")
    variables = _mapping(stage.get("environment_variables"), f"stages.{name}.environment_variables")
    table = variables.get("TABLE_NAME")
    if not isinstance(table, str) or not table:
        raise ConfigError(f"stages.{name}.environment_variables in .chalice/config.json needs a TABLE_NAME.")
    domain = stage.get("websocket_api_custom_domain")
    if domain is not None:
        domain = _mapping(domain, f"stages.{name}.websocket_api_custom_domain")
        _text(domain.get("domain_name"), f"stages.{name}.websocket_api_custom_domain.domain_name")
    made = Stage(
        name=name,
        app=_text(config.get("app_name"), "app_name"),
        gateway_stage=_text(
            stage.get("api_gateway_stage", config.get("api_gateway_stage", "api")), "api_gateway_stage"
        ),
        table=table,
        variables=variables,
        tags=_mapping(stage.get("tags", {}), f"stages.{name}.tags"),
        custom_domain=domain,
    )
    _check_names(made, stage)
    return made


def _check_names(made: Stage, stage: Mapping[str, Any]) -> None:
    """A stage that was copied from another must not have the other's rights and publish function."""
    given = made.variables.get("PUBLISH_FUNCTION")
    if given != made.function("publish"):
        raise ConfigError(
            f"stages.{made.name}.environment_variables.PUBLISH_FUNCTION in .chalice/config.json must be "
            f"{made.function('publish')!r}, not {given!r}."
        )
    functions = _mapping(stage.get("lambda_functions", {}), f"stages.{made.name}.lambda_functions")
    for function in FUNCTIONS:
        file = _mapping(functions.get(function, {}), f"stages.{made.name}.lambda_functions.{function}").get(
            "iam_policy_file"
        )
        if file != made.policy_file(function):
            raise ConfigError(
                f"stages.{made.name}.lambda_functions.{function}.iam_policy_file in .chalice/config.json must be "
                f"{made.policy_file(function)!r}, not {file!r}."
            )


def load_resources(root: Path = ROOT) -> Mapping[str, Any]:
    """.chalice/resources.json: what Chalice does not make, as CloudFormation takes it. Raises ConfigError."""
    return _read(root / ".chalice/resources.json")


def deployed_file(stage: Stage, root: Path = ROOT) -> Path:
    """Where Chalice keeps what it made of a stage."""
    return root / f".chalice/deployed/{stage.name}.json"


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return _mapping(json.loads(path.read_text(encoding="utf-8")), path.name)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}.") from error


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{what} must be a JSON object.")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{what} in .chalice/config.json must be a string that is not empty.")
    return value
