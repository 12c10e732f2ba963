"""What came of each invocation, and what is left at the end, held against the model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from chalicelib.ranges import position_of

from . import lambdas, store
from .gateway import THROTTLED, Client
from .model import MUST, NEVER, Failure, Publish
from .stage import CHANNELS, REQUEST_ID, Stage
from .world import KILLED, RAISED, RETURNED, Invocation

A_DAY_MS = 87_000_000


class Judge:
    """Judges what is on the stage; each check raises Failure. `reached` counts what it has come to."""

    def __init__(self, stage: Stage, reached: Counter[str]) -> None:
        self._stage = stage
        self._reached = reached

    def check_end(self) -> None:
        """When all has ended and those that joined last are old enough to be pruned: what is left is what must be."""
        world = self._stage.world
        last = [self._stage.publish(channel) for channel in CHANNELS]
        world.settle()
        for publish in last:
            for client in self._stage.clients:
                self._check_membership(publish, client)
        self._check_records()
        world.pass_time(A_DAY_MS)
        self._stage.store.sweep()
        left = {channel for channel, _member in self._stage.store.items} - {"@address"}
        if left:
            raise Failure(f"a day later there is still something in {sorted(left)}")

    def check(self, invocation: Invocation) -> None:
        """What came of an invocation, and of the publish that it was the last run of."""
        if self._stage.tracebacks:
            raise Failure(self._stage.tracebacks[0])
        self._reached[f"invocations {invocation.outcome}"] += 1
        self._reached.update(invocation.hits)
        self._reached.update(post.fault for post in self._stage.gateway.posts if post.by is invocation and post.fault)
        if client := self._stage.handshakes.get(invocation):
            self._check_handshake(invocation, client)
        elif client := self._stage.disconnects.get(invocation):
            self._check_disconnect(invocation, client)
        elif invocation in self._stage.frames:
            self._check_frame(invocation)
        elif invocation.outcome == RAISED and not self._may_fail(invocation):
            raise Failure(f"{invocation} has failed without a cause: {invocation.answer!r}")
        if publish := self._stage.sending.get(invocation):
            self._stage.model.check_once(publish.mark)
            if publish.begun and publish.ended:
                self._stage.model.check_told(publish)
                self._reached.update(self._stage.model.check_publish(publish, self._stage.clients))
                self._reached["pairs"] += self._stage.model.check_pairs(publish)

    def _check_handshake(self, invocation: Invocation, client: Client) -> None:
        """API Gateway lets the client in, or not."""
        status = invocation.answer["statusCode"] if invocation.outcome == RETURNED else 502
        if status == 200:
            client.opened = self._stage.world.moment() if client.gone is None else None
            return
        invocation.error = str(status)
        client.gone = client.gone or self._stage.world.moment()
        if invocation.outcome != KILLED and not self._may_fail(invocation):
            raise Failure(f"{invocation} was refused without a cause")

    def _check_disconnect(self, invocation: Invocation, client: Client) -> None:
        """Nothing is left, where nothing else has been under way and nothing has failed."""
        begun = invocation.begun
        if begun is None or not invocation.done or self._may_fail(invocation):
            return
        before = [run for run, (sender, *_) in self._stage.frames.items() if sender is client]
        before += [run for run, sender in self._stage.handshakes.items() if sender is client]
        seen = begun.ms - self._stage.store.lag_ms
        if all(run.ended and run.ended < begun and run.ended.ms <= seen for run in before):
            self._reached["clean disconnects"] += 1
            left = self._items_of(client)
            if left:
                raise Failure(f"{invocation} has left {left}")

    def _check_frame(self, invocation: Invocation) -> None:
        """The client is told what came of its frame: once, and of a failure only where there was one."""
        client, mark, answered = self._stage.frames[invocation]
        if invocation.outcome == KILLED:
            return
        if invocation.outcome == RAISED:
            raise Failure(f"{invocation} has raised {invocation.answer!r}")
        if invocation.error:
            self._reached[invocation.error] += 1
            self._check_error(invocation, client)
        else:
            self._stage.model.check_word(invocation)
        if answered:
            self._stage.model.check_once(mark)
            texts = {post.text for post in self._stage.gateway.posts if post.by is invocation and mark in post.text}
            if len(texts) != 1:
                raise Failure(f"{invocation} was answered {texts}")
            answer = json.loads(texts.pop())
            publish = self._stage.sending.get(invocation)
            if publish and answer["type"] == "ack":
                accepted = [
                    post for post in self._stage.model.posts_of(publish) if post.by is invocation and post.accepted
                ]
                if answer["delivered"] != len(accepted):
                    raise Failure(f"{invocation} was answered {answer}; {len(accepted)} posts were taken")

    def _check_error(self, invocation: Invocation, client: Client) -> None:
        """The code says what has happened, and of the server's own failure the frame says where the log has it."""
        code = invocation.error
        own = code in {"unavailable", "partly_delivered"}
        for post in self._stage.gateway.posts:
            if (
                own
                and post.by is invocation
                and '"error"' in post.text
                and json.loads(post.text).get("requestId") != REQUEST_ID
            ):
                raise Failure(f"{invocation} was answered {post.text}, without the request's id")
        words = [word for word in self._stage.model.words if word.by is invocation]
        later = [
            word
            for said in words
            for word in self._stage.model.said(client, said.channel)
            if not word.joins and word.at > said.at
        ]
        over = client.gone is not None or client.expires_at * 1_000 <= self._stage.world.now + 1_000
        allowed = {
            "unavailable": self._may_fail(invocation),
            "partly_delivered": self._may_fail(invocation) and self._may_have_sent(invocation),
            # Or what a later join has made is gone again.
            "superseded": bool(later) or over,
            "no_home_channel": client.home is None or client.gone is not None,
            "token_expired": self._stage.rights and over,
        }
        if not allowed.get(code):
            raise Failure(f"{invocation} was answered {code} without a cause")

    def _check_membership(self, publish: Publish, client: Client) -> None:
        """At the end, who is in a channel must be, and who must be is."""
        items = [item for (_channel, _member), item in self._memberships(client) if self._is_of(item, publish.channel)]
        if client.gone is not None:
            # What has expired is left to TTL.
            if any(int(item["expires_at"]["N"]) * 1_000 > self._stage.world.now for item in items):
                raise Failure(f"{client.id} is gone, and still in {publish.channel}")
            return
        verdict, reason = self._stage.model.verdict(publish, client)
        self._reached[f"{verdict} be a member"] += 1
        if verdict == MUST and not items:
            raise Failure(f"{client.id} is not in {publish.channel}: {reason}")
        if verdict == NEVER and items and "expired" not in reason:
            raise Failure(f"{client.id} is in {publish.channel}: {reason}")
        if items:
            self._check_attributes(publish, client, items[0])

    def _check_attributes(self, publish: Publish, client: Client, item: Mapping[str, Any]) -> None:
        """By the last of its joins in its form, and as old as the first of them, where that can be told."""
        words = self._stage.model.said(client, publish.channel)
        if not words or not all(word.joins and word.by.done for word in words):
            return
        last = max(words, key=lambda word: (word.at, not word.home))
        if [word.at for word in words if not word.home].count(last.at) <= 1 and item["dialect"]["S"] != last.dialect:
            raise Failure(f"{client.id} is in {publish.channel} as {item['dialect']['S']}, not {last.dialect}")
        first = min(word.by.ended.ms for word in words if word.by.ended)
        if int(item["joined_at"]["N"]) > first + self._stage.skew_ms:
            raise Failure(f"{client.id} is in {publish.channel} since later than its first join")

    def _check_records(self) -> None:
        """Who is open has its record, and at the end nobody is still connecting."""
        for client in self._stage.clients:
            if client.gone is None and (f"@connection#{client.id}", "@") not in self._stage.store.items:
                expired = client.expires_at * 1_000 < self._stage.world.now
                if not expired:
                    raise Failure(f"{client.id} is open, and its record is gone")

    def _may_fail(self, invocation: Invocation) -> bool:
        return bool((store.ERRORS | {*lambdas.FAULTS}).intersection(invocation.hits))

    def _may_have_sent(self, invocation: Invocation) -> bool:
        """Whether anyone has what it was to send, or may have, as far as it can tell. A post that was given up counts,
        whatever the cause: Result.failed does not tell them apart.
        """
        publish = self._stage.sending.get(invocation)
        if publish is None:
            return False
        posts = [post for post in self._stage.model.posts_of(publish) if post.by is invocation]
        sent = any(post.accepted or post.fault not in {"", THROTTLED} for post in posts)
        return sent or publish.runs != [invocation] or not {*lambdas.FAULTS}.isdisjoint(invocation.hits)

    def _items_of(self, client: Client) -> list[Any]:
        own = {f"@connection#{client.id}"}
        return [
            key
            for key, item in self._stage.store.items.items()
            if key[0] in own or ("connection_id" in item and item["connection_id"]["S"] == client.id)
        ]

    def _memberships(self, client: Client) -> list[tuple[Any, Any]]:
        position = position_of(client.id)  # type: ignore[arg-type]
        return [
            (key, item) for key, item in self._stage.store.items.items() if key[1] == position and "joined_at" in item
        ]

    def _is_of(self, item: Mapping[str, Any], channel: str) -> bool:
        return bool((item["name"]["S"] if "name" in item else item["channel"]["S"]) == channel)
