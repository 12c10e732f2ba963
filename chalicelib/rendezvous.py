"""How two y-webrtc clients meet exactly once (guarantee 2 of the design).

A client sends subscribe and publish(announce) back to back, and Lambda may run the two at the same time. Of each pair
of clients exactly one announce must come first, the later comer's, at the earlier: with none, the pair never meets;
with both before the first signal, both sides offer, report "connected", and no data ever flows. Both failures are
silent and permanent.

So a publish first waits until its sender's own membership can be read, and only then reads the members, once. Of two
clients, whichever reads last sees the other, so that no pair is missed. And an announce reaches a member that came
later than its sender only some time after it was read, when the member's own announce has long been answered: late,
never skipped, so that clocks cannot make a pair miss. The time counts from the read and not from the member's join,
whose clock is read before its write: a write that is throttled can take longer than all the rest. Only with those who
have been there for long nothing is left to wait for: y-webrtc announces itself again each time that it loses a peer.
"""

from __future__ import annotations

from .clock import Clock
from .model import ChannelName, ConnectionId, Member
from .table import Table

ANNOUNCE_DELAY_MS = 3_000
"""How long after it was seen a later comer gets an earlier one's announce: the time that its own announce has to be
answered, if Lambda takes two seconds to begin with it.
"""

SETTLED_MS = 60_000
"""How long after its join a member's own announce has long been answered, however slow the store and Lambda were: each
ends within 30 s, or has failed.
"""

FIRST_PAUSE_MS = 50
LONGEST_PAUSE_MS = 200
"""The wait for a membership doubles its pauses up to this. It bounds how long after its join a client announces itself:
pauses that went on doubling would come too near to ANNOUNCE_DELAY_MS where subscribing is slow."""


def await_membership(
    table: Table, clock: Clock, channel: ChannelName, connection_id: ConnectionId, most_ms: int
) -> Member | None:
    """The sender's own membership, polled by its one key for at most `most_ms`; None for a sender that did not
    subscribe.
    """
    waited, pause = 0, FIRST_PAUSE_MS
    while (member := table.membership(channel, connection_id)) is None and waited < most_ms:
        pause = min(pause, most_ms - waited)
        clock.sleep(pause)
        waited, pause = waited + pause, min(pause * 2, LONGEST_PAUSE_MS)
    return member


def announce_at(sender: Member | None, receiver: Member, now: int) -> int:
    """When an announce may reach `receiver`, which has been read by `now` (ms since 1970): at once, or after the delay
    if it came later than the sender, and not long ago.

    Of two members that joined in the same millisecond, the one with the greater id came later: one order for all
    Lambdas.
    """
    if sender is None or _arrival(receiver) <= _arrival(sender) or now - receiver.joined_at > SETTLED_MS:
        return 0
    return now + ANNOUNCE_DELAY_MS


def _arrival(member: Member) -> tuple[int, ConnectionId]:
    return member.joined_at, member.connection_id
