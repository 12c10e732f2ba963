"""The environment, read into one frozen `Settings`.

Read on each event and never at import: chalice.test.Client and Lambda set the variables at different times. Knows the
names and the types of variables; what they are for is in the modules that use them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .errors import InvalidSetting, MissingSetting
from .jsontext import plain
from .model import ChannelName

DEFAULT_HOME_CHANNEL = ChannelName("default")


@dataclass(frozen=True)
class Settings:
    """One field for each environment variable, which has the field's name in capitals."""

    table_name: str
    """The DynamoDB table. Required."""

    home_channel: ChannelName | None = DEFAULT_HOME_CHANNEL
    """The channel that a connection joins at $connect when its URL names none; empty for none."""

    rendezvous_ms: int = 3_000
    """How long a y-webrtc publish waits for its sender's own subscribe, which Lambda may run at the same time (ms)."""

    broadcast_threads: int = 128
    """How many posts are under way at once; each holds a file descriptor, of which a Lambda has 1,024."""

    broadcast_rate: int = 8_000
    """How many posts a second a broadcast may reach. They share API Gateway's quota (10,000, in some regions 2,500)
    with all inbound frames and connects, so stay below it."""

    invocation_rate: int = 10_000
    """How many posts a second one invocation reaches. Where BROADCAST_RATE is above it, several work side by side."""

    publish_function: str | None = None
    """The name of this stage's publish function, to which work is handed that one invocation cannot finish."""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Reads the settings from `env`; raises MissingSetting or InvalidSetting, which say what to set to what."""
        table_name = env.get("TABLE_NAME", "")
        if not table_name:
            raise MissingSetting("TABLE_NAME", "the name of the DynamoDB table of channels")
        home_channel = plain(env.get("HOME_CHANNEL", DEFAULT_HOME_CHANNEL))
        return cls(
            table_name=table_name,
            home_channel=ChannelName(home_channel) if home_channel else None,
            rendezvous_ms=_whole_number(env, "RENDEZVOUS_MS", cls.rendezvous_ms, 0, 20_000),
            broadcast_threads=_whole_number(env, "BROADCAST_THREADS", cls.broadcast_threads, 1, 256),
            broadcast_rate=_whole_number(env, "BROADCAST_RATE", cls.broadcast_rate, 1, 1_000_000),
            invocation_rate=_whole_number(env, "INVOCATION_RATE", cls.invocation_rate, 1, 1_000_000),
            publish_function=env.get("PUBLISH_FUNCTION") or None,
        )


def _whole_number(env: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = env.get(name, "")
    if not text:
        return default
    expected = f"a whole number from {least:,} to {most:,}"
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(most))):
        raise InvalidSetting(name, expected, text)
    number = int(text)
    if not least <= number <= most:
        raise InvalidSetting(name, expected, text)
    return number
