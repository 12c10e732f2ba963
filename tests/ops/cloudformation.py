"""A template as CloudFormation reads it: what a stack has, for given parameters.

The SAM transform is AWS's own. Conditions, parameters and rules are worked out here, as far as this project uses them;
references to resources stay as they are.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any

import pytest

PSEUDO = ("AWS::AccountId", "AWS::NoValue", "AWS::Partition", "AWS::Region", "AWS::StackName", "AWS::URLSuffix")

_NOTHING = object()


class Rejected(Exception):
    """CloudFormation would not make a stack with these parameters."""


@dataclass(frozen=True)
class Stack:
    """What there is of a template with certain parameters."""

    resources: Mapping[str, Any]
    outputs: Mapping[str, Any]

    def of_type(self, name: str) -> dict[str, Any]:
        """The properties of the resources of a type, by logical id."""
        return {key: value["Properties"] for key, value in self.resources.items() if value["Type"] == name}

    def properties(self, name: str) -> Any:
        return self.resources[name]["Properties"]

    def order(self) -> list[str]:
        """An order in which the resources can be made. Raises graphlib.CycleError."""
        return list(
            TopologicalSorter({name: set(references(each)) for name, each in self.resources.items()}).static_order()
        )


def expand(template: Mapping[str, Any]) -> dict[str, Any]:
    """The template without SAM."""
    from samtranslator.parser.parser import Parser  # type: ignore[import-untyped]
    from samtranslator.translator.translator import Translator  # type: ignore[import-untyped]

    template = copy.deepcopy(dict(template))
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://bucket/deployment.zip"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        expanded: dict[str, Any] = Translator({}, Parser()).translate(template, parameter_values={})
    return expanded


def stack(template: Mapping[str, Any], **given: str) -> Stack:
    """What CloudFormation makes of it. Raises Rejected."""
    expanded = expand(template)
    reading = _Reading(expanded, _parameters(expanded["Parameters"], given))
    reading.keep_rules()
    return Stack(reading.present(expanded["Resources"]), reading.present(expanded["Outputs"]))


def references(value: Any) -> Iterator[str]:
    """The logical ids and parameters that a part of a template names, without pseudo parameters."""
    match value:
        case {"Ref": str(name)} if name not in PSEUDO:
            yield name
        case {"Fn::GetAtt": [str(name), _]}:
            yield name
        case {"Fn::Sub": str(text)}:
            yield from _names(text)
        case {"Fn::Sub": [str(text), dict(local)]}:
            yield from (name for name in _names(text) if name not in local)
            yield from references(local)
        case dict():
            depends = value.get("DependsOn", [])
            yield from [depends] if isinstance(depends, str) else depends
            for each in value.values():
                yield from references(each)
        case list():
            for each in value:
                yield from references(each)


def _names(text: str) -> Iterator[str]:
    for name in re.findall(r"\$\{([^!}]+)\}", text):
        if name not in PSEUDO:
            yield name.partition(".")[0]


def _parameters(declared: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    assert given.keys() <= declared.keys()
    values = {}
    for name, parameter in declared.items():
        value = str(given.get(name, parameter["Default"]))
        if parameter["Type"] == "Number" and float(value) < parameter["MinValue"]:
            raise Rejected(f"{name} is below {parameter['MinValue']}")
        if value not in parameter.get("AllowedValues", [value]):
            raise Rejected(f"{name} must be one of {parameter['AllowedValues']}")
        if not re.fullmatch(parameter.get("AllowedPattern", "(?s:.*)"), value):
            raise Rejected(f"{name} {parameter['ConstraintDescription']}")
        values[name] = value
    return values


@dataclass(frozen=True)
class _Reading:
    template: Mapping[str, Any]
    values: Mapping[str, str]

    def keep_rules(self) -> None:
        for rule in self.template["Rules"].values():
            if self.holds(rule["RuleCondition"]):
                for assertion in rule["Assertions"]:
                    if not self.holds(assertion["Assert"]):
                        raise Rejected(assertion["AssertDescription"])

    def present(self, entries: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: self.resolved(entry)
            for name, entry in entries.items()
            if "Condition" not in entry or self.holds({"Condition": entry["Condition"]})
        }

    def holds(self, condition: Any) -> bool:
        match condition:
            case {"Condition": str(name)}:
                return self.holds(self.template["Conditions"][name])
            case {"Fn::Not": [one]}:
                return not self.holds(one)
            case {"Fn::And": list(all_of)}:
                return all(map(self.holds, all_of))
            case {"Fn::Equals": [left, right]}:
                return bool(self.resolved(left) == self.resolved(right))
        raise AssertionError(f"no condition: {json.dumps(condition)}")

    def resolved(self, value: Any) -> Any:
        """With parameters in their places and the branches of Fn::If chosen; _NOTHING for AWS::NoValue."""
        match value:
            case {"Ref": "AWS::NoValue"}:
                return _NOTHING
            case {"Ref": str(name)} if name in self.values:
                return self.values[name]
            case {"Fn::If": [str(name), yes, no]}:
                return self.resolved(yes if self.holds({"Condition": name}) else no)
            case dict():
                parts = ((key, self.resolved(each)) for key, each in value.items())
                return {key: each for key, each in parts if each is not _NOTHING}
            case list():
                return [each for each in map(self.resolved, value) if each is not _NOTHING]
        return value
