"""Events of API Gateway as strangers cause them: a round of handshakes, frames and disconnects, from one seed.

They are of the shape of the captured ones (tests/events). What a stranger decides may be anything: headers, query,
body, what an authorizer of the operator's own says. What API Gateway decides is as it documents it, but for a few
events that are none of its own, or have been led to the wrong handler: those must come to nothing.
"""

from __future__ import annotations

import random
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from tests import jwks
from tests.captured import event

from .arrivals import ALLOWED_ORIGINS, Arrival
from .model import Handshake
from .texts import CHANNELS, frame, text
from .wallet import AUDIENCE, ISSUER, START_MS, Wallet, wallet

Handler: TypeAlias = Literal["connect", "message", "disconnect"]

STEPS = 250
"""In a round. Tables stay small, and so does what must be looked through when something fails."""


@dataclass(frozen=True)
class Step:
    """An event for a handler at a time (ms since 1970). `handshake` is what is known of a $connect; `stray` is whether
    the event is none that API Gateway would hand to it.
    """

    at: int
    handler: Handler
    event: Mapping[str, Any]
    handshake: Handshake | None = None
    stray: bool = False


@dataclass(frozen=True)
class Scene:
    """A server's variables, the tokens that it takes, and whether it has hooks."""

    variables: Mapping[str, str]
    wallet: Wallet
    hooked: bool


def scene(rng: random.Random) -> Scene:
    authentication = rng.choice(("none", *("HS256",) * 6, "ES256", "RS256", "authorizer"))
    keys = wallet(authentication if authentication in jwks.KEYS else "HS256")
    variables = {"TABLE_NAME": "channels", "RENDEZVOUS_MS": "0", "AUTHENTICATION": authentication}
    if authentication in jwks.KEYS:
        variables |= {"JWT_ISSUER": ISSUER, "JWT_AUDIENCE": AUDIENCE}
        source = ("JWT_SECRET", jwks.SECRET) if authentication == "HS256" else ("JWT_JWKS_URL", ISSUER)
        variables |= dict((source,))
    sometimes = {
        "HOME_CHANNEL": ("", "home", "orders:7", "@home"),
        "ALLOWED_ORIGINS": (ALLOWED_ORIGINS,),
        "MISSING_ORIGIN": ("refuse",),
        "DEFAULT_CAPABILITY": ('{"orders:*":["subscribe"],"lobby":["publish"]}', "{}", '{"*":["subscribe"]}'),
        "MAX_MESSAGE_BYTES": ("1000",),
        "MAX_TOPICS": ("1", "5"),
        "MAX_CHANNELS": ("2", "6"),
        "FRAMES_PER_SECOND": ("2", "20"),
        "PUBLISH_UNJOINED": ("refuse",),
        "STRIKES": ("3",),
    }
    variables |= {name: rng.choice(values) for name, values in sometimes.items() if rng.random() < 0.2}
    return Scene(variables, keys, rng.random() < 0.3)


@dataclass
class Crowd:
    """Those who send: connections by their ids, with when they came and the principal whose token they have shown."""

    rng: random.Random
    scene: Scene
    now: int = START_MS
    came: dict[str, tuple[int, str | None]] = field(default_factory=dict)
    likely: list[str] = field(default_factory=list)
    """Those of them that will have been let in, most of the time."""

    def steps(self) -> Iterator[Step]:
        for number in range(STEPS):
            self.now += self._pause()
            dice = self.rng.random()
            if number < 6 or dice < 0.15:
                yield self._connect(number)
            elif dice < 0.17:
                yield self._disconnect()
            elif dice < 0.18:
                yield self._stray()
            elif dice < 0.185:
                yield from self._swapped()
            else:
                yield self._message()

    def _pause(self) -> int:
        dice = self.rng.random()
        if dice < 0.8:
            return self.rng.choice((0, 1, 7, 40))
        if dice < 0.98:
            return self.rng.randrange(2_000)
        return self.rng.randrange(40_000) if dice < 0.999 else self.rng.choice((3_600_000, 7_800_000))

    def _connect(self, number: int) -> Step:
        name = urlsafe_b64encode(self.rng.randbytes(10) + bytes([number])).decode()
        authentication = self.scene.variables["AUTHENTICATION"]
        arrival = Arrival(self.rng, name, self.now, self.scene.wallet, authentication == "authorizer")
        shown = arrival.credentials()
        self.came[name] = self.now, shown[0].principal if shown else None
        if arrival.handshake.origin != "bad" and (
            [one.holds(self.now) for one in shown] == [True] or authentication == "none"
        ):
            self.likely.append(name)
        return Step(self.now, "connect", arrival.event, arrival.handshake)

    def _message(self) -> Step:
        rng = self.rng
        name, came = self._someone()
        at = self.now - rng.choice((0, 0, 0, 0, 0, 0, 0, 1, 50, 2_000))
        principal = self.came[name][1] if name in self.came else None
        body = frame(rng, lambda: self.scene.wallet.pick(rng, principal if rng.random() < 0.8 else None))
        captured = event("message", connectionId=name, connectedAt=came, requestTimeEpoch=at, body=body)
        if rng.random() < 0.01:
            captured["requestContext"].pop("connectedAt")
        if rng.random() < 0.005:
            captured["isBase64Encoded"] = True
        if rng.random() < 0.005:
            captured["body"] = rng.choice((None, ""))
        return Step(self.now, "message", captured)

    def _swapped(self) -> Iterator[Step]:
        """A join that is handled after the leave that came after it."""
        rng = self.rng
        name, came = self._someone()
        named = text(rng, rng.choice(CHANNELS))
        for action, at in (("leavechannel", self.now), ("joinchannel", self.now - rng.randrange(3))):
            body = f'{{"action":"{action}","channel":{named}}}'
            captured = event("message", connectionId=name, connectedAt=came, requestTimeEpoch=at, body=body)
            yield Step(self.now, "message", captured)

    def _someone(self) -> tuple[str, int]:
        """Of those who came lately and were let in, mostly; or one whom nobody knows."""
        rng = self.rng
        dice = rng.random()
        if dice < 0.02:
            return "AAAAAAAAAAAAAAA=", self.now
        name = rng.choice(self.likely[-12:] if dice < 0.9 and self.likely else list(self.came))
        return name, self.came[name][0]

    def _disconnect(self) -> Step:
        name, came = self._someone()
        more: dict[str, Any] = {"disconnectStatusCode": self.rng.choice((1000, 1001, 1006, None))}
        more |= {"disconnectReason": self.rng.choice(("", "bye\n\x1b[31m", "\ud800", None))}
        return Step(self.now, "disconnect", event("disconnect", connectionId=name, connectedAt=came, **more))

    def _stray(self) -> Step:
        """An event that has reached another handler than its own, or one with something amiss that API Gateway says."""
        rng = self.rng
        name, came = self._someone()
        handler: Handler = rng.choice(("connect", "message", "disconnect"))
        captured = event(handler, connectionId=name, connectedAt=came, requestTimeEpoch=self.now)
        context = captured["requestContext"]
        if rng.random() < 0.5:
            others = ("CONNECT", "MESSAGE", "DISCONNECT", "", "connect", 7, None)
            context["eventType"] = rng.choice([other for other in others if other != context["eventType"]])
        else:
            needed = {"connect": ("apiId", "stage"), "message": ("requestTimeEpoch",), "disconnect": ()}[handler]
            parts = [(captured, "requestContext"), (context, "connectionId"), *((context, name) for name in needed)]
            place, part = rng.choice(parts)
            if rng.random() < 0.5 or (place is context and part != "requestTimeEpoch"):
                del place[part]
            else:
                place[part] = rng.choice(([], None, {}, [7]))
        return Step(self.now, handler, captured, stray=True)


def steps_of(seed: int) -> tuple[Scene, list[Step]]:
    rng = random.Random(seed)
    chosen = scene(rng)
    return chosen, list(Crowd(rng, chosen).steps())
