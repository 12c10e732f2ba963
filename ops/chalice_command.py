"""`chalice` as a command of its own: its output as it comes, and its failure in one sentence.

Knows how Chalice's command line fails: it prints a traceback that ends with AWS's answer.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

from click import echo as say

from .aws import one_line, refusal
from .errors import AWSError, ConfigError
from .project import ROOT, Stage

STILL_S = 10.0
"""Chalice is silent while IAM spreads the news of a role: a line this often says that it is alive."""

_ENTRY = "import sys; from chalice.cli import main; sys.exit(main())"


def check_runtime(client: Any, version: tuple[int, int] = sys.version_info[:2]) -> None:
    """Chalice deploys for the Python that runs it: is that one of Lambda's? `client` is the SDK's for Lambda.

    Raises ConfigError.
    """
    runtimes = client.meta.service_model.shape_for("Runtime").enum
    if f"python{version[0]}.{version[1]}" not in runtimes:
        newest = [each.removeprefix("python") for each in runtimes if each.startswith("python3.")][-1]
        raise ConfigError(
            f"Lambda runs no Python {version[0]}.{version[1]}, and Chalice deploys for the Python that runs it. Make "
            f".venv anew with one that Lambda has: `make clean`, then this command with PYTHON=python{newest}."
        )


def run_chalice(command: str, stage: Stage, root: Path = ROOT) -> None:
    """`chalice COMMAND --stage STAGE` in the project's folder. Raises AWSError if it fails."""
    _tidy(root)
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
    arguments = [sys.executable, "-c", _ENTRY, command, "--stage", stage.name]
    with subprocess.Popen(  # noqa: S603  our own arguments
        arguments, cwd=root, env=environ, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        traceback: list[str] = []
        reader = threading.Thread(target=_pass_on, args=(process.stderr, traceback), daemon=True)
        reader.start()
        began = time.monotonic()
        while True:
            try:
                code = process.wait(STILL_S)
                break
            except subprocess.TimeoutExpired:
                say(f"  ... chalice is at work, for {time.monotonic() - began:.0f} s now")
        reader.join()
    if code:
        raise AWSError(failure(f"chalice {command} --stage {stage.name}", "".join(traceback), code))


def _tidy(root: Path) -> None:
    """What Chalice packs depends on the sources alone.

    Byte code would be packed, and make another zip each time. So would a clone's permissions; and what only its owner
    may read, as under a umask of 077, Lambda cannot.
    """
    for folder in [*(root / "chalicelib").rglob("__pycache__")]:
        shutil.rmtree(folder, ignore_errors=True)
    for path in (root / "app.py", *(root / "chalicelib").rglob("*"), *(root / "vendor").rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _pass_on(stderr: IO[str], traceback: list[str]) -> None:
    """Warnings go to the user as they come; a traceback, which ends what Chalice has to say, is kept."""
    for line in stderr:
        if traceback or line.startswith("Traceback "):
            traceback.append(line)
        else:
            say(line, err=True, nl=False)


_ANSWER = re.compile(
    r"An error occurred \((\w+)\) when calling the (\w+) operation[^:]*:(.*?)(?:\n\s*\n|\Z)", re.DOTALL
)
"""AWS's answer as botocore words it, up to an empty line: code, operation, message."""


def failure(command: str, traceback: str, code: int) -> str:
    """What a traceback of Chalice's means, in a sentence."""
    answer = _ANSWER.search(traceback)
    if answer:
        return f"`{command}` failed. {refusal(*answer.groups())}"
    # The error itself stands after the last line that is indented as part of the stack.
    words = one_line(re.split(r"^\s+.*\n(?=\S)", traceback, flags=re.MULTILINE)[-1])
    words = re.sub(r"^[\w.]+(Error|Exception)?: ", "", words)
    return f"`{command}` failed: {words or f'it ended with exit code {code}'}".rstrip(".") + "."
