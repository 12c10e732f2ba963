"""What must come of what the clients have said, whatever the order and the failures: small, and by other means than the
code's.

A client says a word about its membership of a channel, and the last word counts: by when it was sent, and of a join and
a leave of the same millisecond, the join. Of each publish and each connection it follows whether the connection must
get it, may, or never. Where the design allows a loss, that is an excuse, and has a name here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from . import gateway, store
from .gateway import Client, Post
from .world import Invocation, Moment

MUST, MAY, NEVER = "must", "may", "never"

SIGNAL_MS = 500
"""Two announces of a pair this far apart are no glare: the first has long been answered by a signal."""

PROMPT_MS = 2_000
"""A client whose announce has left so soon after it was written down as a member is safe from the other's, which comes
no sooner than 3 s after it was read.
"""

RENDEZVOUS_MS = 3_000

CLOCKS_MS = 2_000
"""So near to its expiry, a membership may count or not: expiries are whole seconds."""

RETRY_MS, BACKOFF_MS, BACKOFF_MOST_MS = 3_000, 100, 2_000
"""How long, and with which pauses at most, a post is tried again that certainly was not delivered."""


class Failure(AssertionError):
    """Something that must not be."""


@dataclass(eq=False)
class Word:
    """A client's word about a channel. `at` is when API Gateway had it (ms). With `home`, a join is the one that
    connecting makes, and a leave, a y-webrtc subscribe, ends that one only.
    """

    client: Client
    channel: str
    joins: bool
    at: int
    by: Invocation
    dialect: str = ""
    home: bool = False


@dataclass(eq=False)
class Publish:
    """A message, and the runs of functions that send it: more than one where it was handed on, or asked for again."""

    mark: str
    """What only this message has in it."""

    channel: str
    exclude: frozenset[str]
    sender: Client | None
    announces: bool
    runs: list[Invocation] = field(default_factory=list)

    @property
    def begun(self) -> Moment | None:
        """None where none of its runs has taken a step."""
        return min((run.begun for run in self.runs if run.begun), default=None)

    @property
    def ended(self) -> Moment | None:
        """None while it is under way."""
        ends = [run.ended for run in self.runs]
        return None if None in ends else max(end for end in ends if end)


class Entered(NamedTuple):
    """A client that has subscribed, and announced itself."""

    word: Word
    announce: Publish

    @property
    def client(self) -> Client:
        return self.word.client

    @property
    def channel(self) -> str:
        return self.word.channel

    @property
    def subscribe(self) -> Invocation:
        return self.word.by


@dataclass
class Model:
    """All that was said, what was posted, and when an invocation first wrote to the table (ms)."""

    words: list[Word] = field(default_factory=list)
    publishes: list[Publish] = field(default_factory=list)
    posts: Sequence[Post] = ()
    written: Mapping[Invocation, int] = field(default_factory=dict)

    def said(self, client: Client, channel: str) -> list[Word]:
        return [word for word in self.words if word.client is client and word.channel == channel]

    def verdict(self, publish: Publish, client: Client) -> tuple[str, str]:
        """Whether it must, may or never gets that message, all of whose runs have ended, and why."""
        begun, ended = publish.begun, publish.ended
        assert begun and ended
        if client.id in publish.exclude:
            return NEVER, "it is excluded"
        words = self.said(client, publish.channel)
        if reason := self._is_out(client, words, begun, ended):
            return NEVER, reason
        if reason := self._may_be_out(client, words, begun, ended):
            return MAY, reason
        if not all(run.done for run in publish.runs):
            return MAY, "the publish has failed"
        if reason := self._excuse_of_posts(publish, client):
            return MAY, reason
        return MUST, "its join was done before, and nothing excuses a loss"

    def _is_out(self, client: Client, words: Iterable[Word], begun: Moment, ended: Moment) -> str:
        """Why it certainly is no member at any time between."""
        joins = [word for word in words if word.joins and word.by.begun and word.by.begun < ended]
        if not joins:
            return "it has never joined"
        if client.expires_at * 1_000 + CLOCKS_MS < begun.ms:
            return "its membership has expired"
        for leave in words:
            if leave.joins or not leave.by.done or not leave.by.begun or not _before(leave.by.ended, begun):
                continue
            if leave.home:
                if all(join.home for join in joins):
                    return "its subscribe has ended its home membership"
            elif all(join.at < leave.at for join in joins):
                late = [join for join in joins if not _before(join.by.ended, leave.by.begun)]
                # README's limits: a join that is handled after another one, and a leave later than both, brings it
                # back. So does one whose answer is lost, and that the SDK repeats after the leave.
                if not late or (len(joins) == 1 and store.REPEATED not in late[0].by.hits):
                    return "its last word was a leave"
        return ""

    def _may_be_out(self, client: Client, words: Iterable[Word], begun: Moment, ended: Moment) -> str:
        """Why it may be no member at some time between, or cannot be reached."""
        if not _before(client.opened, begun) or _before(client.gone, ended):
            return "it was not open all the time"
        done = [word for word in words if word.joins and word.by.done and _before(word.by.ended, begun)]
        if not done:
            return "its join was not done"
        last = max(done, key=lambda join: (join.at, not join.home))
        for leave in words:
            if not leave.joins and leave.by.asked < ended and (last.home if leave.home else leave.at > last.at):
                return "a leave is later than its last join that was done"
        if _ends(client, ended):
            return "its membership may have expired"
        return ""

    def _excuse_of_posts(self, publish: Publish, client: Client) -> str:
        """Why the post to it may have been lost."""
        tries = [post for post in self.posts_of(publish) if post.to == client.id and post.fault]
        for post in tries:
            if post.fault not in gateway.REPEATABLE:
                return f"its post was {post.fault}"
        if tries:
            first, last = tries[0], tries[-1]
            assert last.by.begun
            pause = min(BACKOFF_MOST_MS, BACKOFF_MS * 2 ** (len(tries) - 1))
            if last.at.ms + pause > min(first.at.ms + RETRY_MS, last.by.begun.ms + last.by.patience_ms):
                return f"its post was {last.fault} for too long"
        return ""

    def posts_of(self, publish: Publish) -> list[Post]:
        return [post for post in self.posts if publish.mark in post.text]

    # --- checks; each raises Failure

    def check_publish(self, publish: Publish, clients: Iterable[Client]) -> list[str]:
        """Once all its runs have ended. Returns the verdicts."""
        verdicts = []
        for client in clients:
            verdict, reason = self.verdict(publish, client)
            verdicts.append(verdict)
            got = any(post.delivered for post in self.posts_of(publish) if post.to == client.id)
            if verdict == MUST and not got:
                raise Failure(f"{client.id} has not got {publish.mark} of {publish.channel}: {reason}; {publish.runs}")
            if verdict == NEVER and got:
                raise Failure(f"{client.id} has got {publish.mark} of {publish.channel}: {reason}")
        return verdicts

    def check_told(self, publish: Publish) -> None:
        """Nobody has got what its sender was told that nobody has: it is going to send it again."""
        told = [run for run in publish.runs if run.error == "unavailable"]
        got = [post.to for post in self.posts_of(publish) if post.delivered]
        if told and got:
            raise Failure(f"{told[0]} has told its sender that nothing was sent, and {got} have got {publish.mark}")

    def check_word(self, done: Invocation) -> None:
        """A join is not said to be done that came after a later leave, with no other join of that channel."""
        for word in self.words:
            if word.by is not done or not word.joins or not done.begun:
                continue
            if word.client.home == word.channel:
                continue
            others = [other for other in self.said(word.client, word.channel) if other is not word]
            leaves = [other for other in others if not other.joins and other.by.done and other.at > word.at]
            if leaves == others and any(_before(leave.by.ended, done.begun) for leave in leaves):
                raise Failure(f"{done} was said to be done, and {leaves[0].by} came before it")

    def check_once(self, mark: str) -> None:
        """Nobody gets anything twice."""
        receivers = [post.to for post in self.posts if post.delivered and mark in post.text]
        twice = {name for name in receivers if receivers.count(name) > 1}
        if twice:
            raise Failure(f"{sorted(twice)} have got {mark} twice")

    def check_pairs(self, announce: Publish) -> int:
        """Two y-webrtc clients that have subscribed and announced have met, and without glare: the sender of that
        announce, which has ended just now, and each that has entered before. Returns how many.
        """
        ended = announce.ended
        assert ended
        entered = self._entered(announce, ended)
        if entered is None:
            return 0
        others = (self._entered(other, ended) for other in self.publishes if other.sender is not announce.sender)
        return sum(self._check_pair(entered, other) for other in others if other and other.channel == entered.channel)

    def _entered(self, announce: Publish, until: Moment) -> Entered | None:
        """The first announce of its sender and its first subscribe, where both did what they were asked for, and where
        it has not said that it leaves until then.
        """
        client, begun = announce.sender, announce.begun
        if not announce.announces or begun is None or client is None or client.home == announce.channel:
            return None
        words = [word for word in self.said(client, announce.channel) if word.by.asked < until]
        if not words or not all(word.dialect == "ywebrtc" for word in words):
            return None
        subscribe = words[0].by
        first = next(each for each in self.publishes if each.announces and each.sender is client)
        holds = (
            first is announce,
            announce.ended and announce.ended <= until,
            all(run.done for run in (subscribe, *announce.runs)),
            subscribe.ended and subscribe.ended.ms < begun.ms + RENDEZVOUS_MS,
            not _before(client.gone, until) and not _ends(client, until),
        )
        return Entered(words[0], announce) if all(holds) else None

    def _member_since(self, entered: Entered) -> int:
        """Before that (ms) nobody can have read it."""
        words = self.said(entered.client, entered.channel)
        return min(self.written[word.by] for word in words if word.by in self.written)

    def _check_pair(self, one: Entered, other: Entered) -> bool:
        to_other = [post for post in self.posts_of(one.announce) if post.to == other.client.id]
        to_one = [post for post in self.posts_of(other.announce) if post.to == one.client.id]
        if any(post.fault for post in [*to_one, *to_other]):
            return False
        if not to_other and not to_one:
            raise Failure(f"{one.client.id} and {other.client.id} have never met in {one.channel}")
        if to_one and to_other and abs(to_one[0].at.ms - to_other[0].at.ms) < SIGNAL_MS:
            left = ((other, to_one[0].at.ms), (one, to_other[0].at.ms))
            if any(at - self._member_since(each) <= PROMPT_MS for each, at in left):
                raise Failure(f"{one.client.id} and {other.client.id} have announced themselves at once: glare")
        return True


def _ends(client: Client, moment: Moment) -> bool:
    """Whether its memberships may have expired by then."""
    return client.expires_at * 1_000 < moment.ms + CLOCKS_MS


def _before(one: Moment | None, other: Moment | None) -> bool:
    """Whether it has happened, and before the other has."""
    return one is not None and (other is None or one < other)
