"""What Chalice packs, for which Python, and its failures in a sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import boto3
import pytest

from ops.chalice_command import check_runtime, failure, run_chalice
from ops.errors import AWSError, ConfigError
from ops.project import ROOT, load_stage


def test_a_python_that_lambda_does_not_have_is_refused() -> None:
    client = boto3.client("lambda", region_name="us-east-1")
    check_runtime(client, (3, 11))
    check_runtime(client)
    with pytest.raises(ConfigError, match=r"Lambda runs no Python 3\.99, .*`make clean`.* PYTHON=python3\.\d\d\.$"):
        check_runtime(client, (3, 99))


def test_what_chalice_packs_has_no_byte_code_and_is_readable_by_lambda(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "chalicelib", folder / "chalicelib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "app.py", folder)
    (folder / "chalicelib/dialects/__pycache__").mkdir()
    (folder / "chalicelib/dialects/__pycache__/pubsub.cpython-311.pyc").write_bytes(b"old")
    (folder / "app.py").chmod(0o600)
    (folder / "chalicelib/dialects").chmod(0o700)
    with pytest.raises(AWSError):
        run_chalice("no-such-command", load_stage("dev"), folder)
    assert not list((folder / "chalicelib").rglob("__pycache__"))
    assert {oct(path.stat().st_mode & 0o777) for path in (folder / "app.py", folder / "chalicelib/model.py")} == {
        "0o644"
    }
    assert oct((folder / "chalicelib/dialects").stat().st_mode & 0o777) == "0o755"


CHALICE_FAILED = """Traceback (most recent call last):
  File "/x/chalice/deploy/deployer.py", line 379, in deploy
    return self._deploy(config, chalice_stage_name)
botocore.errorfactory.LimitExceededException: An error occurred (LimitExceededException) when calling the CreateRole \
operation: Cannot exceed quota for RolesPerAccount: 1000

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/x/chalice/cli/__init__.py", line 642, in main
    return cli(obj={})
           ^^^^^^^^^^^
chalice.deploy.deployer.ChaliceDeploymentError: ERROR - While deploying your chalice application, received the \
following error:

 An error occurred (LimitExceededException) when calling the CreateRole
 operation: Cannot exceed quota for RolesPerAccount: 1000

"""

APP_FAILED = """Traceback (most recent call last):
  File "/x/app.py", line 9, in <module>
    import nosuch
ModuleNotFoundError: No module named 'nosuch'
"""


@pytest.mark.parametrize(
    ("traceback", "sentence"),
    [
        (
            CHALICE_FAILED,
            "`chalice deploy` failed. A quota of the account stands in the way of CreateRole: "
            "Cannot exceed quota for RolesPerAccount: 1000. Run this again in a minute; if that does not help, "
            "have it raised in the Service Quotas console.",
        ),
        (APP_FAILED, "`chalice deploy` failed: No module named 'nosuch'."),
        ("", "`chalice deploy` failed: it ended with exit code 2."),
    ],
    ids=["AWS", "app", "silent"],
)
def test_a_failure_of_chalice_is_one_sentence(traceback: str, sentence: str) -> None:
    assert failure("chalice deploy", traceback, 2) == sentence
