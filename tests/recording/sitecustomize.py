"""Python imports this when a process starts whose PYTHONPATH names this folder: a server that a test has started."""

import os
from pathlib import Path

from tests import recorder

recorder.install(Path(os.environ[recorder.VARIABLE]))
