"""Importing localaws: one class replaced, nothing started, nothing heavy loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from tests.localaws.tiny import write_project
from tests.server import ROOT, environment


def run(code: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


HEAVY = "{'aiohttp', 'boto3', 'ministack', 'hypercorn', 'localaws.server', 'localaws.dynamodb', 'localaws.apigateway'}"


def test_importing_it_loads_nothing_heavy_and_starts_no_thread() -> None:
    said = run(
        "import sys, threading, localaws, chalice.local\n"
        f"print(sorted({HEAVY} & set(sys.modules)), threading.active_count())\n"
        "print(chalice.local.LocalDevServer is localaws.make_server)"
    )
    assert said.split("\n") == ["[] 1", "True", ""]


def test_chalice_looks_its_server_up_where_it_is_replaced() -> None:
    said = run(
        "import localaws\n"
        "from chalice import local\n"
        "from chalice.app import Chalice\n"
        "local.LocalDevServer = lambda *given: given\n"
        "app = Chalice('a')\n"
        "print(local.create_local_server(app, 'config', 'host', 1)[1:])"
    )
    assert said == "('config', 'host', 1)\n"


def test_packaging_starts_nothing_and_packs_none_of_it(tmp_path: Path) -> None:
    write_project(tmp_path)
    (tmp_path / "requirements.txt").touch()
    command = [sys.executable, "-c", "from chalice.cli import main; raise SystemExit(main())", "package", "out"]
    keys = {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    packing = subprocess.Popen(
        command, cwd=tmp_path, env=environment(keys), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    family: set[str] = set()
    watched = psutil.Process(packing.pid)
    with packing:
        while packing.poll() is None:
            try:
                family |= {" ".join(child.cmdline()) for child in watched.children(recursive=True)}
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        assert packing.stdout is not None
        assert packing.returncode == 0, packing.stdout.read().decode()
    assert not [line for line in family if "_store_child" in line]
    assert (tmp_path / "out" / "deployment.zip").exists()
    assert not (tmp_path / "out" / "localaws").exists()


def test_lambda_does_not_import_it(tmp_path: Path) -> None:
    write_project(tmp_path)
    assert run("import sys, app; print('localaws' in sys.modules)", tmp_path) == "False\n"
