"""The environment, read into one frozen `Settings`.

Read on each event and never at import: chalice.test.Client and Lambda set the variables at different times. Knows the
names and the types of variables; what they are for is in the modules that use them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from .capability import EVERYTHING, Capability
from .errors import InvalidSetting, Misconfigured, MissingSetting
from .jsontext import plain
from .limits import MESSAGE_BYTES
from .model import ChannelName

if TYPE_CHECKING:
    from .origins import Origins
    from .tokens import TokenSettings

T = TypeVar("T")
D = TypeVar("D")

DEFAULT_HOME_CHANNEL = ChannelName("default")

OPEN, AUTHORIZER = "none", "authorizer"
ALGORITHMS = ("HS256", "RS256", "ES256")
"""The values of AUTHENTICATION: nobody is asked, API Gateway has asked, or tokens, by their algorithm."""

ALLOW, REFUSE = _CHOICE = ("allow", "refuse")


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
    """How many posts are under way at once; each holds a thread and a file descriptor, up to four of them while posts
    hang, of which a Lambda has 1,024."""

    broadcast_rate: int = 8_000
    """How many posts a second a broadcast may reach. They share API Gateway's quota (10,000, in some regions 2,500)
    with all inbound frames and connects, so stay below it."""

    invocation_rate: int = 10_000
    """How many posts a second one invocation reaches. Where BROADCAST_RATE is above it, several work side by side."""

    publish_function: str | None = None
    """The name of this stage's publish function, to which work is handed that one invocation cannot finish."""

    authentication: str = "none"
    """How a connection says who it is: by a token of that algorithm, by API Gateway's authorizer, or not at all."""

    tokens: TokenSettings | None = None
    """How tokens are checked, JWT_*; None where there are none."""

    allowed_origins: Origins | None = None
    """Pages of which origins may connect; None for all."""

    missing_origin: bool = True
    """Whether a client that names no origin may connect: a program, not a page (allow or refuse)."""

    default_capability: Capability = EVERYTHING
    """What a token may do that does not say what it may do."""

    max_message_bytes: int = MESSAGE_BYTES
    """The largest frame, in bytes of UTF-8."""

    max_topics: int = 2_000
    """How many channels one frame may name."""

    max_channels: int = 0
    """How many channels a connection may be in; 0 for no limit, which saves a request of the index for each join."""

    frames_per_second: int = 0
    """How many frames a second a connection may send, as far as one Lambda environment sees them; 0 for no limit."""

    publish_unjoined: bool = True
    """Whether a connection may publish to channels that it has not joined (allow or refuse)."""

    strikes: int = 20
    """A connection that is over a limit that often within a minute is closed."""

    @property
    def is_open(self) -> bool:
        """Whether anyone may connect, join and publish."""
        return self.authentication == OPEN

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Reads the settings from `env`; raises MissingSetting or InvalidSetting, which say what to set to what."""
        table_name = env.get("TABLE_NAME", "")
        if not table_name:
            raise MissingSetting("TABLE_NAME", "the name of the DynamoDB table of channels")
        home_channel = plain(env.get("HOME_CHANNEL", DEFAULT_HOME_CHANNEL))
        authentication = _one_of(env, "AUTHENTICATION", (OPEN, *ALGORITHMS, AUTHORIZER))
        if authentication not in ALGORITHMS and (
            ignored := sorted(name for name, value in env.items() if value and name.startswith("JWT_"))
        ):
            raise Misconfigured(
                f"{ignored[0]} is set, but AUTHENTICATION is {authentication}: set it to the algorithm."
            )
        return cls(
            table_name=table_name,
            home_channel=ChannelName(home_channel) if home_channel else None,
            rendezvous_ms=_whole_number(env, "RENDEZVOUS_MS", cls.rendezvous_ms, 0, 20_000),
            broadcast_threads=_whole_number(env, "BROADCAST_THREADS", cls.broadcast_threads, 1, 192),
            broadcast_rate=_whole_number(env, "BROADCAST_RATE", cls.broadcast_rate, 1, 1_000_000),
            invocation_rate=_whole_number(env, "INVOCATION_RATE", cls.invocation_rate, 1, 1_000_000),
            publish_function=env.get("PUBLISH_FUNCTION") or None,
            authentication=authentication,
            tokens=_tokens(env, authentication) if authentication in ALGORITHMS else None,
            allowed_origins=_parsed(env, "ALLOWED_ORIGINS", _origins, cls.allowed_origins),
            missing_origin=_one_of(env, "MISSING_ORIGIN", _CHOICE) == ALLOW,
            default_capability=_parsed(env, "DEFAULT_CAPABILITY", Capability.parse, cls.default_capability),
            max_message_bytes=_whole_number(env, "MAX_MESSAGE_BYTES", cls.max_message_bytes, 1, MESSAGE_BYTES),
            max_topics=_whole_number(env, "MAX_TOPICS", cls.max_topics, 1, 100_000),
            max_channels=_whole_number(env, "MAX_CHANNELS", cls.max_channels, 0, 100_000),
            frames_per_second=_whole_number(env, "FRAMES_PER_SECOND", cls.frames_per_second, 0, 10_000),
            publish_unjoined=_one_of(env, "PUBLISH_UNJOINED", _CHOICE) == ALLOW,
            strikes=_whole_number(env, "STRIKES", cls.strikes, 1, 1_000_000),
        )


# What an open server has no use for is not imported there: each first event of a Lambda would pay for it.


def _tokens(env: Mapping[str, str], algorithm: str) -> TokenSettings:
    from .tokens import TokenSettings  # noqa: PLC0415

    return TokenSettings.from_env(env, algorithm)


def _origins(text: str) -> Origins:
    from .origins import Origins  # noqa: PLC0415

    return Origins.parse(text)


def _one_of(env: Mapping[str, str], name: str, choices: Sequence[str]) -> str:
    """The variable's value, which is the first choice where it is not set."""
    value = env.get(name, "") or choices[0]
    if value not in choices:
        raise InvalidSetting(name, f"one of {', '.join(choices)}", value)
    return value


def _parsed(env: Mapping[str, str], name: str, parse: Callable[[str], T], default: D) -> T | D:
    text = env.get(name, "")
    try:
        return parse(text) if text else default
    except ValueError as error:
        raise Misconfigured(f"The environment variable {name} cannot be used: {error}") from error


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
