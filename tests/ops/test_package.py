"""`make package`: what the zip holds, that the same sources give the same files, and how it fails."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from ops.errors import ConfigError
from ops.package import TEMPLATE, ZIP, package
from ops.project import ROOT, load_stage

from .packages import edit, project, template

LARGEST = 8 * 2**20


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a package of prod is in."""
    out = tmp_path_factory.mktemp("packed")
    package(load_stage("prod"), out)
    return out


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# --- what is packed


def test_the_folder_has_the_template_and_the_zip(packed: Path) -> None:
    assert files(packed) == {TEMPLATE, ZIP}


def test_the_zip_has_what_lambda_runs_and_nothing_else(packed: Path) -> None:
    sources = {f"chalicelib/{path.relative_to(ROOT / 'chalicelib')}" for path in (ROOT / "chalicelib").rglob("*.py")}
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    required = {line.replace("==", "-") for line in lines if line and not line.startswith("#")}
    with ZipFile(packed / ZIP) as zipped:
        assert zipped.testzip() is None
        names = zipped.namelist()
        records = {name for name in names if name.endswith(".dist-info/RECORD")}
        assert {record.removesuffix(".dist-info/RECORD") for record in records} == required
        installed = {line.split(",")[0] for record in records for line in zipped.read(record).decode().splitlines()}
    assert names == sorted(set(names))
    assert set(names) - installed == {"app.py", "chalice/__init__.py", "chalice/app.py"} | sources
    assert not [name for name in names if "__pycache__" in name]
    assert (packed / ZIP).stat().st_size < LARGEST


def test_lambda_may_read_all_of_the_zip(packed: Path) -> None:
    with ZipFile(packed / ZIP) as zipped:
        assert all((entry.external_attr >> 16) & 0o444 == 0o444 for entry in zipped.infolist())


def test_the_handlers_of_the_template_are_in_the_zip(tmp_path: Path) -> None:
    made = template("prod", tmp_path)
    functions = [each["Properties"] for each in made["Resources"].values() if each["Type"].endswith("::Function")]
    assert len(functions) == 4
    assert {each["CodeUri"] for each in functions} == {f"./{ZIP}"}
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / ZIP)!r})\n"
        "import app, chalice, chalicelib\n"
        "print(chalice.__file__, chalicelib.__file__)\n"
        f"for name in {[each['Handler'] for each in functions]!r}:\n"
        "    module, _, attribute = name.partition('.')\n"
        "    assert callable(getattr(sys.modules[module], attribute)), name\n"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code] if sys.version_info >= (3, 11) else [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(ZIP) == 2


def test_a_vendor_folder_is_packed_as_chalice_promises(tmp_path: Path) -> None:
    root = project(tmp_path / "project")
    (root / "vendor/speedups").mkdir(parents=True)
    (root / "vendor/speedups/__init__.py").touch()
    package(load_stage("prod", root), tmp_path / "out", root)
    with ZipFile(tmp_path / "out" / ZIP) as zipped:
        assert "speedups/__init__.py" in zipped.namelist()


# --- the same sources, the same files


def test_what_lies_about_does_not_get_in(packed: Path, tmp_path: Path) -> None:
    root = project(tmp_path / "project")
    for name in (
        "chalicelib/__pycache__/errors.cpython-311.pyc",
        "chalicelib/dialects/__pycache__/rooms.cpython-39.pyc",
        "chalicelib/errors.pyc",
        "chalicelib/.DS_Store",
        "chalicelib/.idea/workspace.xml",
        "ops/package.py",
        "tests/test_app.py",
        "bench/results.json",
        ".chalice/policies/prod-publish.json",
        ".chalice/deployed/prod.json",
        ".chalice/deployments/0123-python3.11.zip",
        "sam.json",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text('{"Statement": "of a deploy"}', encoding="utf-8")
    (root / "chalicelib/.#errors.py").symlink_to("someone@somewhere.1234")
    same(packed, root, tmp_path / "out")


def test_the_machine_does_not_matter(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = project(tmp_path / "there")
    root = tmp_path / "project"
    for name in sorted(files(there), reverse=True):  # another order in the folders
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(there / name, root / name)
        (root / name).chmod(0o600)
        os.utime(root / name, (1_000_000_000, 1_000_000_000))
    (tmp_path / ".aws").mkdir()
    for name in ("config", "credentials"):
        (tmp_path / ".aws" / name).write_text("[profile", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("AWS_PROFILE", "of-someone-else")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "cn-north-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    same(packed, root, tmp_path / "out")


def test_a_changed_source_changes_the_zip(packed: Path, tmp_path: Path) -> None:
    root = project(tmp_path / "project")
    with (root / "chalicelib/limits.py").open("a") as source:
        source.write("\n")
    package(load_stage("prod", root), tmp_path / "out", root)
    assert (tmp_path / "out" / ZIP).read_bytes() != (packed / ZIP).read_bytes()


def same(packed: Path, root: Path, out: Path) -> None:
    before = files(root)
    package(load_stage("prod", root), out, root)
    assert (out / ZIP).read_bytes() == (packed / ZIP).read_bytes()
    assert (out / TEMPLATE).read_text() == (packed / TEMPLATE).read_text()
    assert files(root) == before


def test_a_second_package_takes_the_place_of_the_first(packed: Path, tmp_path: Path) -> None:
    package(load_stage("dev"), tmp_path)
    package(load_stage("prod"), tmp_path)
    assert files(tmp_path) == {TEMPLATE, ZIP}
    assert (tmp_path / TEMPLATE).read_bytes() == (packed / TEMPLATE).read_bytes()


def test_stages_differ_in_what_config_json_says_and_in_the_tables_protection(tmp_path: Path) -> None:
    prod, staging = template("prod", tmp_path / "prod"), template("staging", tmp_path / "staging")
    assert {name for name in prod if prod[name] != staging[name]} == {"Parameters", "Resources"}
    assert (tmp_path / "prod" / ZIP).read_bytes() == (tmp_path / "staging" / ZIP).read_bytes()
    changed = {name for name, each in prod["Parameters"].items() if each != staging["Parameters"][name]}
    assert changed == {"DeletionProtection"}


# --- the command, and how it fails


def command(*arguments: str, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ops", "package", *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_says_where_it_has_put_them_and_what_comes_next(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    done = command("prod", str(out))
    assert (done.returncode, done.stderr) == (0, "")
    assert files(out) == {TEMPLATE, ZIP}
    assert str(out / TEMPLATE) in done.stdout
    assert str(out / ZIP) in done.stdout
    assert "aws cloudformation deploy" in done.stdout


@pytest.mark.parametrize("stage", ["nope", "", "Prod", "../prod", "prod\n", "--stage"])
def test_a_stage_that_there_is_not_is_one_sentence(tmp_path: Path, stage: str) -> None:
    done = command("--", stage, str(tmp_path / "out"))
    assert done.returncode == 1
    assert re.fullmatch(
        r"There is no stage .* in \.chalice/config\.json; there is: dev, staging, prod\.\n", done.stderr
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("out", ["file", "file/below", "/proc/nowhere"])
def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path, out: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"^OUT must be a folder that you may write to; .*\.$") as raised:
        package(load_stage("prod"), tmp_path / out)
    assert out in str(raised.value)


def test_a_file_in_the_place_of_the_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = command("prod", str(tmp_path / "file"))
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_an_app_that_cannot_be_imported_is_one_sentence(tmp_path: Path) -> None:
    root = project(tmp_path / "project")
    (root / "app.py").write_text("import nothing_of_this_name\n", encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"chalice package --stage prod.*No module named 'nothing_of_this_name'"
    ) as raised:
        package(load_stage("prod", root), tmp_path / "out", root)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_a_policy_file_of_another_name_is_one_sentence(tmp_path: Path) -> None:
    def rename(config: Any) -> None:
        config["stages"]["prod"]["lambda_functions"]["publish"]["iam_policy_file"] = "policies/mine.json"

    root = project(tmp_path / "project")
    edit(root / ".chalice/config.json", rename)
    with pytest.raises(ConfigError, match=r"policies/mine\.json") as raised:
        package(load_stage("prod", root), tmp_path / "out", root)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["", "[]", '{"Resources": ', "\0"])
def test_resources_that_are_not_a_template_are_one_sentence(tmp_path: Path, text: str) -> None:
    root = project(tmp_path / "project")
    (root / ".chalice/resources.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"resources\.json") as raised:
        package(load_stage("prod", root), tmp_path / "out", root)
    assert "\n" not in str(raised.value)


def test_a_domain_without_a_certificate_is_one_sentence(tmp_path: Path) -> None:
    root = project(tmp_path / "project")
    domain = {"domain_name": "ws.example.com"}
    edit(
        root / ".chalice/config.json",
        lambda config: config["stages"]["prod"].update(websocket_api_custom_domain=domain),
    )
    with pytest.raises(ConfigError, match="needs a certificate_arn"):
        package(load_stage("prod", root), tmp_path / "out", root)


def test_a_source_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    root = project(tmp_path / "project")
    (root / "chalicelib/lost.py").symlink_to("nowhere")
    with pytest.raises(ConfigError, match=r"The sources cannot be copied.*lost\.py"):
        package(load_stage("prod", root), tmp_path / "out", root)
