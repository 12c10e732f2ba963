"""What a template's parameters, and the domain of config.json, change in its stack, and what they may not be."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from .cloudformation import Rejected, Stack, references, stack
from .packages import CERTIFICATE, with_domain

TOPIC = "arn:aws:sns:eu-central-1:123456789012:alarms"
DOMAIN = {"DomainName": "ws.example.com"}
ZONE = {"HostedZoneId": "Z0123456789ABCDEFGHIJ"}

ALL_WAYS: list[Mapping[str, str]] = [
    {},
    {"AlarmTopicArn": TOPIC, "AccessLogs": "true", **DOMAIN, **ZONE},
    {**DOMAIN, "CertificateArn": CERTIFICATE},
    {**DOMAIN, **ZONE, "CertificateArn": CERTIFICATE},
]


def test_the_table_is_protected_in_production_and_elsewhere_if_asked_for(
    prod: dict[str, Any], dev: dict[str, Any]
) -> None:
    def protected(template: dict[str, Any], **given: str) -> str:
        return str(stack(template, **given).properties("ChannelTable")["DeletionProtectionEnabled"])

    assert protected(prod) == "true"
    assert protected(dev) == "false"
    assert protected(prod, DeletionProtection="false") == "false"
    assert protected(dev, DeletionProtection="true") == "true"


def test_throttles_can_be_raised(prod: dict[str, Any]) -> None:
    raised = stack(prod, ThrottlingRate="20000", ThrottlingBurst="5000").properties("WebsocketAPIStage")
    assert raised["DefaultRouteSettings"].items() >= {
        ("ThrottlingRateLimit", "20000"),
        ("ThrottlingBurstLimit", "5000"),
    }


def test_access_logs_are_written_if_asked_for(prod: dict[str, Any]) -> None:
    assert "AccessLogSettings" not in stack(prod).properties("WebsocketAPIStage")
    made = stack(prod, AccessLogs="true")
    (group,) = made.of_type("AWS::Logs::LogGroup").keys() - stack(prod).of_type("AWS::Logs::LogGroup").keys()
    settings = made.properties("WebsocketAPIStage")["AccessLogSettings"]
    assert settings["DestinationArn"] == {"Fn::GetAtt": [group, "Arn"]}
    assert made.properties(group)["RetentionInDays"] == 30
    line = json.loads(re.sub(r"\$context[.\w]+", "value", settings["Format"]))
    assert set(line.values()) == {"value"}


def test_alarms_tell_a_topic_where_there_is_one(prod: dict[str, Any]) -> None:
    for alarm in stack(prod).of_type("AWS::CloudWatch::Alarm").values():
        assert "AlarmActions" not in alarm
    for alarm in stack(prod, AlarmTopicArn=TOPIC).of_type("AWS::CloudWatch::Alarm").values():
        assert alarm["AlarmActions"] == [TOPIC]


# --- a domain of one's own


def test_there_is_no_domain_unless_asked_for(prod: dict[str, Any]) -> None:
    made = stack(prod)
    assert not [
        name for name, each in made.resources.items() if re.search("Domain|Mapping|Route53|Certificate", each["Type"])
    ]
    assert not [name for name in made.outputs if "Domain" in name]


def test_a_domain_in_a_zone_gets_a_certificate_and_an_address(prod: dict[str, Any]) -> None:
    made = stack(prod, **DOMAIN, **ZONE)
    assert made.properties("DomainCertificate") == {
        "DomainName": "ws.example.com",
        "ValidationMethod": "DNS",
        "DomainValidationOptions": [{"DomainName": "ws.example.com", **ZONE}],
    }
    assert _configuration(made, "CustomDomain")["CertificateArn"] == {"Ref": "DomainCertificate"}
    assert made.properties("CustomDomainAlias") == {
        **ZONE,
        "Name": "ws.example.com",
        "Type": "A",
        "AliasTarget": {
            "DNSName": {"Fn::GetAtt": ["CustomDomain", "RegionalDomainName"]},
            "HostedZoneId": {"Fn::GetAtt": ["CustomDomain", "RegionalHostedZoneId"]},
        },
    }
    assert made.outputs["CustomDomainURL"]["Value"] == {"Fn::Sub": "wss://${CustomDomain}/"}


@pytest.mark.parametrize("zone", [{}, ZONE])
def test_a_domain_may_have_a_certificate_of_its_own(prod: dict[str, Any], zone: Mapping[str, str]) -> None:
    made = stack(prod, **DOMAIN, **zone, CertificateArn=CERTIFICATE)
    assert _configuration(made, "CustomDomain")["CertificateArn"] == CERTIFICATE
    assert "DomainCertificate" not in made.resources
    assert ("CustomDomainAlias" in made.resources) == bool(zone)
    assert made.outputs["CustomDomainTarget"]["Value"] == {"Fn::GetAtt": ["CustomDomain", "RegionalDomainName"]}


def test_a_domain_leads_to_the_stage_at_its_root(prod: dict[str, Any]) -> None:
    made = stack(prod, **DOMAIN, **ZONE)
    assert made.properties("CustomDomainMapping") == {
        "DomainName": {"Ref": "CustomDomain"},
        "ApiId": {"Ref": "WebsocketAPI"},
        "Stage": {"Ref": "WebsocketAPIStage"},
    }
    configuration = _configuration(made, "CustomDomain")
    assert (configuration["EndpointType"], configuration["SecurityPolicy"]) == ("REGIONAL", "TLS_1_2")


def test_the_domain_of_config_json_has_its_tls_version_and_the_root(configured: dict[str, Any]) -> None:
    made = stack(configured)
    assert _configuration(made, "WebsocketApiCustomDomain") == {
        "CertificateArn": CERTIFICATE,
        "EndpointType": "REGIONAL",
        "SecurityPolicy": "TLS_1_2",
    }
    assert "ApiMappingKey" not in made.properties("WebsocketApiCustomDomainMapping")
    assert made.outputs["ConfiguredDomainURL"]["Value"] == "wss://ws.example.com/"


def test_the_domain_of_config_json_has_no_older_tls_than_1_2_and_its_prefix(tmp_path: Path) -> None:
    made = stack(with_domain(tmp_path, {"url_prefix": "/live/"}))
    assert _configuration(made, "WebsocketApiCustomDomain")["SecurityPolicy"] == "TLS_1_2"
    assert made.properties("WebsocketApiCustomDomainMapping")["ApiMappingKey"] == "live"
    assert made.outputs["ConfiguredDomainURL"]["Value"] == "wss://ws.example.com/live"


def _configuration(made: Stack, domain: str) -> dict[str, Any]:
    (configuration,) = made.properties(domain)["DomainNameConfigurations"]
    return dict(configuration)


# --- as a whole


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (DOMAIN, "give HostedZoneId"),
        (ZONE, "of use with DomainName only"),
        ({"CertificateArn": CERTIFICATE}, "of use with DomainName only"),
        ({**ZONE, "DomainName": "https://ws.example.com"}, "such as ws.example.com"),
        ({**ZONE, "DomainName": "*.example.com"}, "such as ws.example.com"),
        ({**ZONE, "DomainName": "WS.example.com"}, "in lower case"),
        ({**ZONE, "DomainName": "localhost"}, "such as ws.example.com"),
        ({**DOMAIN, "HostedZoneId": "/hostedzone/Z0123456789"}, "hosted zone, such as"),
        ({**DOMAIN, "CertificateArn": "arn:aws:iam::123456789012:server-certificate/c"}, "certificate in ACM"),
        ({"AlarmTopicArn": "alarms"}, "SNS topic, such as"),
        ({"AlarmTopicArn": f"{TOPIC}\n"}, "SNS topic, such as"),
        ({"AccessLogs": "yes"}, "true"),
        ({"DeletionProtection": ""}, "true"),
        ({"ThrottlingRate": "0"}, "below 1"),
        ({"ThrottlingBurst": "-1"}, "below 1"),
    ],
)
def test_parameters_that_cannot_work_are_refused_before_anything_is_made(
    prod: dict[str, Any], given: Mapping[str, str], said: str
) -> None:
    with pytest.raises(Rejected, match=re.escape(said)):
        stack(prod, **given)


def test_each_parameter_says_what_it_is_for(prod: dict[str, Any]) -> None:
    shown = [
        name
        for group in prod["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
        for name in group["Parameters"]
    ]
    assert sorted(shown) == sorted(prod["Parameters"])
    assert all(each["Description"].endswith(".") for each in prod["Parameters"].values())


@pytest.mark.parametrize("given", ALL_WAYS)
def test_all_references_lead_to_what_there_is_and_none_in_a_circle(
    prod: dict[str, Any], configured: dict[str, Any], given: Mapping[str, str]
) -> None:
    for made in (stack(prod, **given), stack(configured, **given)):
        assert set(made.order()) == made.resources.keys()
        assert set(references(dict(made.outputs))) <= made.resources.keys()
