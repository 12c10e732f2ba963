"""What stops a command: one sentence for the person at the keyboard, without a traceback.

OpsError
├── ConfigError       .chalice/ or the command line is wrong
├── AWSError          AWS refused, or cannot be reached or asked
└── Differs           what is deployed is not what the project says, and must not be changed by itself
"""

from __future__ import annotations


class OpsError(Exception):
    """The root. Its text says what was expected, what came, and what to do next."""


class ConfigError(OpsError):
    """A stage that there is not, a file that cannot be read, a value of the wrong type."""


class AWSError(OpsError):
    """No credentials, no region, no permission, no connection, or an answer that ends the matter."""


class Differs(OpsError):
    """Something deployed has another shape than the project's; it is reported and never dropped."""
