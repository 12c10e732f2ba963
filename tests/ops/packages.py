"""Copies of the project to be packaged, and what became of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ops.package import SOURCES, TEMPLATE, package
from ops.project import ROOT, load_stage

CERTIFICATE = "arn:aws:acm:eu-central-1:123456789012:certificate/0a1b2c3d-1111-2222-3333-444455556666"


def project(folder: Path) -> Path:
    """The sources alone, to be changed at will."""
    for name in (*SOURCES, ".chalice/resources.json"):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copyfile(source, target)
    return folder


def edit(path: Path, change: Callable[[Any], object]) -> None:
    """Changes a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def template(stage: str, out: Path, root: Path = ROOT) -> dict[str, Any]:
    package(load_stage(stage, root), out, root)
    made: dict[str, Any] = json.loads((out / TEMPLATE).read_text(encoding="utf-8"))
    return made


def with_domain(folder: Path, more: Mapping[str, Any]) -> dict[str, Any]:
    """The template of prod with a websocket_api_custom_domain in config.json."""
    root = project(folder / "project")
    domain = {"domain_name": "ws.example.com", "certificate_arn": CERTIFICATE, **more}
    edit(root / ".chalice/config.json", lambda all_: all_["stages"]["prod"].update(websocket_api_custom_domain=domain))
    return template("prod", folder / "out", root)
