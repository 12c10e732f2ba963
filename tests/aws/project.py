"""A copy of the project, as a clone has it, and the commands that are run in it with the emulator for AWS."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .emulator import ROOT, Emulator

LONGEST_S = 120

_WHAT_IS_DEPLOYED = ("app.py", "requirements.txt", "chalicelib", "localaws", "ops", ".chalice")
_MADE = shutil.ignore_patterns("__pycache__", "deployed", "deployments", "policies")
"""What a clone has not."""


@dataclass(frozen=True)
class Packaged:
    """A template and the zip that it names."""

    template: Mapping[str, Any]
    code: bytes


class Project:
    """The project in `folder`; `python -m ops` and `chalice` are run in it as at a shell."""

    def __init__(self, folder: Path, aws: Emulator) -> None:
        self.folder = folder
        self._aws = aws

    @classmethod
    def copy(cls, folder: Path, aws: Emulator) -> Project:
        """The work tree as it is, with nothing that a command has made there."""
        folder.mkdir()
        for name in _WHAT_IS_DEPLOYED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name, ignore=_MADE)
            else:
                shutil.copy(ROOT / name, folder)
        return cls(folder, aws)

    def deploy(self, stage: str) -> str:
        """`python -m ops deploy`; returns the URL that it prints, in the end."""
        return str(re.findall(r"wss://\S+", self.ops("deploy", stage))[-1])

    def package(self, stage: str) -> Packaged:
        """`python -m ops package`."""
        self.ops("package", stage, "packaged")
        folder = self.folder / "packaged"
        return Packaged(json.loads((folder / "sam.json").read_text()), (folder / "deployment.zip").read_bytes())

    def ops(self, *arguments: str) -> str:
        return self._run(sys.executable, "-m", "ops", *arguments)

    def chalice(self, *arguments: str) -> str:
        return self._run(str(Path(sys.executable).with_name("chalice")), *arguments)

    def add_the_action_of_the_readme(self) -> None:
        """`shout`, as a reader of the README would add it."""
        [shout] = re.findall(r"```python\n([^`]*def shout[^`]*)```", (ROOT / "README.md").read_text())
        actions = self.folder / "chalicelib/actions"
        (actions / "shout.py").write_text(shout)
        registry = (actions / "__init__.py").read_text()
        row, line = '"chat": chat,', "from .chat import chat\n"
        assert row in registry
        assert line in registry
        registry = registry.replace(line, f"{line}from .shout import shout\n")
        (actions / "__init__.py").write_text(registry.replace(row, f'{row} "shout": shout,'))

    def _run(self, *command: str) -> str:
        """Its stdout; what it says on stderr is shown where it fails."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **self._aws.environment()}
        ran = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=LONGEST_S, check=False
        )
        assert ran.returncode == 0, f"{' '.join(command)}: {ran.returncode}\n{ran.stdout}\n{ran.stderr}"
        return ran.stdout
