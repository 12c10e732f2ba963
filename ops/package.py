"""`make package`: a stage's CloudFormation template and its zip, in a folder, by `chalice package`.

The template is what Chalice makes of app.py and .chalice/config.json, with .chalice/resources.json merged over it, and
the few values that resources.json cannot know. Chalice works on a copy of the sources, so that neither byte code nor
what a deploy has left in .chalice/ gets into either file. Knows Chalice's logical ids, and calls nothing on AWS.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from chalice.package import TemplateDeepMerger
from click import echo as say

from .chalice_command import failure
from .errors import ConfigError
from .permissions import policy, template_arns
from .project import FUNCTIONS, ROOT, Stage, load_resources

TEMPLATE = "sam.json"
ZIP = "deployment.zip"
"""Chalice's own names; the template names the zip."""

SOURCES = ("app.py", "chalicelib", "vendor", "requirements.txt", ".chalice/config.json", "localaws")
"""What Chalice packs or reads, where it is there; localaws, because app.py imports it under Chalice's commands."""

_NOT_SOURCES = shutil.ignore_patterns("*.pyc", ".*")
_NOTHING: Mapping[str, str] = {"Ref": "AWS::NoValue"}
_ENTRY = "import sys; from chalice.cli import main; sys.exit(main())"


def package(stage: Stage, out: Path, root: Path = ROOT) -> None:
    """Writes TEMPLATE and ZIP into the folder `out`, which is made if need be. Raises ConfigError.

    The same sources give the same bytes, whatever the machine's file system, permissions, region and credentials are.
    """
    merged = TemplateDeepMerger().merge(_of_stage(stage), dict(load_resources(root)))
    with TemporaryDirectory(prefix="channels-package-") as folder:
        copy, made = Path(folder, "project"), Path(folder, "made")
        try:
            _copy_sources(root, copy)
        except OSError as error:
            raise ConfigError(f"The sources cannot be copied: {error}.") from error
        _write_policies(stage, copy)
        resources = copy / ".chalice/resources.json"
        resources.write_text(json.dumps(merged), encoding="utf-8")
        _run_chalice(stage, copy, resources, made)
        try:
            out.mkdir(parents=True, exist_ok=True)
            _write_zip(made / ZIP, out / ZIP)
            shutil.copyfile(made / TEMPLATE, out / TEMPLATE)
        except OSError as error:
            raise ConfigError(
                f"OUT must be a folder that you may write to; {error.filename}: {error.strerror}."
            ) from error


def tell_what_next(stage: Stage, out: Path) -> None:
    """Says where the files are, and how they become a stack."""
    packaged = out / "packaged.json"
    say(f"\n{out / TEMPLATE} and {out / ZIP} are written. With a bucket of yours, in the region of the stack:\n")
    say(
        f"  aws cloudformation package --s3-bucket BUCKET --template-file {out / TEMPLATE} "
        f"--use-json --output-template-file {packaged}"
    )
    say(
        f"  aws cloudformation deploy --s3-bucket BUCKET --template-file {packaged} "
        f"--stack-name {stage.app}-{stage.name} --capabilities CAPABILITY_IAM"
    )


def _of_stage(stage: Stage) -> dict[str, Any]:
    """What is merged over .chalice/resources.json."""
    table = {"Tags": [{"Key": key, "Value": value} for key, value in sorted(stage.tags.items())]}
    protection = {"Default": "true" if stage.is_production else "false"}
    values: dict[str, Any] = {
        "Parameters": {"DeletionProtection": protection},
        "Resources": {"ChannelTable": {"Properties": table}},
    }
    if stage.custom_domain is not None:
        values["Resources"] |= _mended_domain(stage.custom_domain)
        values["Outputs"] = {
            "ConfiguredDomainURL": {
                "Description": "The address for clients at the domain of .chalice/config.json.",
                "Value": f"wss://{stage.custom_domain['domain_name']}/{_mapping_key(stage.custom_domain)}",
            },
            "ConfiguredDomainTarget": {
                "Description": "Where that domain must point.",
                "Value": {"Fn::GetAtt": ["WebsocketApiCustomDomain", "RegionalDomainName"]},
            },
        }
    return values


def _mended_domain(domain: Mapping[str, Any]) -> dict[str, Any]:
    """`websocket_api_custom_domain` as it is meant: Chalice drops tls_version, and maps no prefix as "(none)"."""
    certificate = domain.get("certificate_arn")
    if not certificate:
        raise ConfigError(
            "websocket_api_custom_domain in .chalice/config.json needs a certificate_arn, of a certificate in ACM."
        )
    configuration = {
        "CertificateArn": certificate,
        "EndpointType": "REGIONAL",
        "SecurityPolicy": domain.get("tls_version", "TLS_1_2"),
    }
    return {
        "WebsocketApiCustomDomain": {"Properties": {"DomainNameConfigurations": [configuration]}},
        "WebsocketApiCustomDomainMapping": {"Properties": {"ApiMappingKey": _mapping_key(domain) or _NOTHING}},
    }


def _mapping_key(domain: Mapping[str, Any]) -> str:
    return str(domain.get("url_prefix", "")).strip("/")


def _copy_sources(root: Path, copy: Path) -> None:
    for name in SOURCES:
        source, target = root / name, copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=_NOT_SOURCES)
        elif source.exists():
            shutil.copyfile(source, target)


def _write_policies(stage: Stage, copy: Path) -> None:
    """Where config.json looks for them. Chalice puts what it finds there into the functions' roles, as it is."""
    arns = template_arns(stage)
    for name in FUNCTIONS:
        path = copy / ".chalice" / stage.policy_file(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(policy(name, arns)), encoding="utf-8")


def _run_chalice(stage: Stage, copy: Path, resources: Path, made: Path) -> None:
    # A template is for any region and account: Chalice asks for a region, and gets always the same one and no profile.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | {
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    arguments = ["package", "--stage", stage.name, "--merge-template", str(resources), str(made)]
    done = subprocess.run(  # noqa: S603  our own arguments
        [sys.executable, "-c", _ENTRY, *arguments],
        cwd=copy,
        env=environ,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise ConfigError(failure(f"chalice package --stage {stage.name}", done.stderr, done.returncode))


def _write_zip(made: Path, out: Path) -> None:
    """Chalice's zip, its entries sorted, and readable by Lambda whatever umask the project was cloned with."""
    with ZipFile(made) as packed, ZipFile(out, "w", ZIP_DEFLATED) as written:
        for name in sorted(packed.namelist()):
            entry = ZipInfo(name)
            entry.external_attr = 0o755 << 16
            written.writestr(entry, packed.read(name), ZIP_DEFLATED)
