"""How the name of a channel stands in the table: as it is, or by its hash. Knows no request and no attribute."""

from __future__ import annotations

import hashlib

from .model import ChannelName

LONGEST_PLAIN_NAME = 255
"""A longer channel name (bytes of UTF-8) is stored by its hash: the name repeats in every membership, and in the
index's sort key, which ends at limits.SORT_KEY_BYTES.
"""

STORED_NAME_CHARACTERS = 255
"""How much of a hashed name is kept beside it, for people who look into the table."""

HASHED_PREFIX = "@name#"


def key_of(channel: ChannelName) -> str:
    """A channel's partition key: its name, or a hash of names that are empty, long, like keys of ours or not UTF-8.

    No two names share a key: a plain name never starts with '@'.
    """
    if is_plain(channel):
        return channel
    return f"{HASHED_PREFIX}{hashlib.sha256(channel.encode('utf-8', 'surrogatepass')).hexdigest()}"


def is_plain(channel: ChannelName) -> bool:
    """Whether a name is its own key."""
    if not channel or channel.startswith("@"):
        return False
    try:
        return len(channel.encode()) <= LONGEST_PLAIN_NAME
    except UnicodeEncodeError:
        return False


def shown(channel: ChannelName) -> str:
    """The beginning of a name that is not its own key, as UTF-8."""
    return channel[:STORED_NAME_CHARACTERS].encode("utf-8", "backslashreplace").decode()
