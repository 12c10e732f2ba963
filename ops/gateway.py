"""The API that holds the connections: which one is the stage's, its throttles, its URL.

Knows API Gateway's control plane, and no file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import ConfigError, Differs
from .project import Stage


@dataclass(frozen=True)
class Api:
    """A WebSocket API."""

    id: str
    endpoint: str
    """ApiEndpoint: wss://… on AWS, whatever leads to it on an emulator."""


@dataclass(frozen=True)
class Throttles:
    """What a stage lets through, of messages and new connections together."""

    rate: float
    """Requests per second."""
    burst: int


def find_api(client: Any, stage: Stage) -> Api | None:
    """The API of the stage, None where there is none yet. Raises Differs if there are several.

    Names of APIs are not unique, and a CloudFormation stack of the same stage has one of the same name: what its
    integrations call tells them apart. One without integrations comes from a deploy that did not get that far.
    """
    pages = client.get_paginator("get_apis").paginate()
    found = [
        Api(api["ApiId"], api["ApiEndpoint"])
        for page in pages
        for api in page["Items"]
        if api["Name"] == stage.api and _calls_only(client, api["ApiId"], stage)
    ]
    if len(found) > 1:
        raise Differs(
            f"There should be one API named {stage.api} that calls the functions of {stage.app}, and there are "
            f"{len(found)}: {', '.join(api.id for api in found)}. Delete those that no client uses "
            "(`aws apigatewayv2 delete-api --api-id ID`), then run this again."
        )
    return found[0] if found else None


def _calls_only(client: Any, api_id: str, stage: Stage) -> bool:
    pages = client.get_paginator("get_integrations").paginate(ApiId=api_id)
    ours = f":function:{stage.function('')}"
    return all(ours in integration.get("IntegrationUri", "") for page in pages for integration in page["Items"])


def throttles(resources: Mapping[str, Any]) -> Throttles:
    """Those of the template's parameters. Raises ConfigError."""
    parameters = resources.get("Parameters", {})
    try:
        return Throttles(
            rate=float(parameters["ThrottlingRate"]["Default"]), burst=int(parameters["ThrottlingBurst"]["Default"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            ".chalice/resources.json: the Parameters ThrottlingRate and ThrottlingBurst need a number as Default."
        ) from error


def ensure_stage(client: Any, api: Api, stage: Stage, wanted: Throttles) -> Sequence[str]:
    """The API's stage is there and has these throttles; returns what had to be done for it."""
    done = []
    try:
        found = client.get_stage(ApiId=api.id, StageName=stage.gateway_stage).get("DefaultRouteSettings", {})
    except client.exceptions.NotFoundException:
        # A deploy that ended between API and stage: Chalice makes a stage only with a new API.
        deployment = client.create_deployment(ApiId=api.id)["DeploymentId"]
        client.create_stage(ApiId=api.id, StageName=stage.gateway_stage, DeploymentId=deployment)
        found = {}
        done.append(f"stage {stage.gateway_stage} made")
    settings = {"ThrottlingRateLimit": wanted.rate, "ThrottlingBurstLimit": wanted.burst}
    if not settings.items() <= found.items():
        client.update_stage(ApiId=api.id, StageName=stage.gateway_stage, DefaultRouteSettings={**found, **settings})
        done.append("set")
    return done


def url(api: Api, stage: Stage) -> str:
    """Where clients connect: the custom domain, or else the API's own address."""
    if stage.custom_domain:
        prefix = stage.custom_domain.get("url_prefix", "").strip("/")
        return f"wss://{stage.custom_domain['domain_name']}/{prefix}".rstrip("/")
    scheme, _, rest = api.endpoint.partition("://")
    return f"{scheme.replace('http', 'ws')}://{rest}/{stage.gateway_stage}"
