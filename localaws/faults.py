"""Faults on demand: which of the things that happen here go wrong and how, from a plan and a seed.

A plan is a list of rules. Each place where something can go wrong asks before it goes on (`Faults.strike`), does what
it is told, and the ledger says afterwards what was done to whom, so that an injected loss can be told from a real one.
Knows the plan, the dice and the ledger, and neither HTTP nor sockets: those are the places' own.
"""

from __future__ import annotations

import json
import random
import reprlib
import secrets
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

from localaws.batches import UNDONE

LEDGER_SIZE = 100_000
"""Hits that are kept."""

DETAIL_CHARACTERS = 256
"""How much of a text the ledger shows."""

MOST_RULES = 1_000
LONGEST_MS = 3_600_000
BIGGEST_NUMBER = 2**63
"""Bounds of what a plan may ask for: beyond what anybody means, and small enough to cost nothing."""

PLACES: Mapping[str, tuple[str, ...]] = {
    "frame": ("delay", "fail"),
    "delivery": ("drop", "double", "delay", "throttle", "fail", "forget"),
    "store": ("delay", "throttle", "fail", "forget", "unprocessed", "down"),
    "invocation": ("kill",),
    "disconnect": ("lose",),
    "socket": ("freeze", "cut"),
}
"""What can be done where."""

# After these the thing itself still happens, and a later rule may apply to it too. All others settle it.
_NOT_SETTLING = {"delay", "double", "unprocessed", "freeze", "cut"}

_LATER = {"kill", "cut"}
"""Drawn when their thing begins, and entered when they come: the thing may have ended by then."""

_NAMELESS = {"disconnect", "socket"}
"""Places where nothing has a text or a name to match."""

_TIMED = {"delay", "freeze", "cut"}


class PlanError(Exception):
    """What was given is no plan. Its text says what was expected where, and what came."""


@dataclass(frozen=True)
class Rule:
    """What is done to which things."""

    at: str
    """Where: one of PLACES."""
    do: str
    """What: one of that place's."""
    share: float = 1.0
    """Of the things that match, how many: 0 to 1."""
    match: str = ""
    """Part of the text of a frame or delivery, of a DynamoDB operation's name, of a function's name."""
    ms: str | None = None
    """Milliseconds, one time ("50") or a range ("0-80")."""
    skip: int = 0
    """The first of those that match are left alone."""
    times: int | None = None
    """At most so many hits."""
    request: int = 1
    """For a kill: which request of the invocation sets it off; 0 is the invocation's start."""
    after: bool = False
    """For a kill: once that request was carried out, and before it is answered."""

    @classmethod
    def parse(cls, value: object, where: str = "a rule") -> Rule:
        """Parse. Raises PlanError that begins with `where`."""
        given = _object(value, where, [field.name for field in fields(cls)])
        place = _one_of(given.get("at"), PLACES, f"{where}.at")
        do = _one_of(given.get("do"), PLACES[place], f"{where}.do at {place!r}")
        for name, allowed in (
            ("ms", do in _TIMED),
            ("match", place not in _NAMELESS),
            ("request", do == "kill"),
            ("after", do == "kill"),
        ):
            if name in given and not allowed:
                raise PlanError(f"{where}.{name} has no meaning for {place} {do}.")
        if do == "delay" and "ms" not in given:
            raise PlanError(f'{where}.ms is needed for a delay: milliseconds like "50" or "0-80".')
        rule = cls(
            place,
            do,
            _share(given.get("share", cls.share), f"{where}.share"),
            _text(given.get("match", cls.match), f"{where}.match"),
            _milliseconds(given["ms"], f"{where}.ms") if "ms" in given else None,
            _whole(given.get("skip", cls.skip), f"{where}.skip"),
            _whole(given["times"], f"{where}.times") if "times" in given else None,
            _whole(given.get("request", cls.request), f"{where}.request"),
            _flag(given.get("after", cls.after), f"{where}.after"),
        )
        if rule.after and not rule.request:
            raise PlanError(f"{where}.after needs a request of 1 or more: nothing has been carried out at the start.")
        return rule

    def as_json(self) -> dict[str, Any]:
        """What `parse` takes to make this rule, and no more."""
        default = Rule(self.at, self.do)
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in told.items() if name in {"at", "do"} or value != getattr(default, name)}

    def concerns(self, text: str) -> bool:
        return self.match in text and (self.do != "unprocessed" or text in UNDONE)


@dataclass(frozen=True)
class Plan:
    """Rules, and the seed of their dice; None leaves the seed to whoever runs the plan."""

    rules: tuple[Rule, ...] = ()
    seed: int | None = None

    @classmethod
    def parse(cls, text: str | bytes) -> Plan:
        """Parse JSON. Raises PlanError."""
        try:
            value = json.loads(text if isinstance(text, str) else text.decode())
        except (ValueError, RecursionError) as error:
            raise PlanError(f'a plan is JSON like {{"seed": 7, "rules": []}}; this is none: {error}.') from None
        given = _object(value, "the plan", ["seed", "rules"])
        rules = given.get("rules", [])
        if not isinstance(rules, list) or len(rules) > MOST_RULES:
            raise PlanError(f"the plan's rules are a list of {MOST_RULES} at most, not {_shown(rules)}.")
        return cls(
            tuple(Rule.parse(rule, f"rules[{index}]") for index, rule in enumerate(rules)),
            _whole(given["seed"], "the plan's seed") if "seed" in given else None,
        )

    def as_json(self) -> dict[str, Any]:
        """What `parse` takes, as JSON, to make this plan."""
        seed = {} if self.seed is None else {"seed": self.seed}
        return {**seed, "rules": [rule.as_json() for rule in self.rules]}


@dataclass(frozen=True)
class Strike:
    """A rule applies to the thing that was asked about."""

    do: str
    wait_s: float | None
    """The rule's time; None if it has none."""
    seed: int
    """Of whatever else is left to chance."""


@dataclass(frozen=True)
class Hit:
    """A line of the ledger."""

    number: int
    """1, 2, 3, … over all plans."""
    rule: int
    """Its place in the plan."""
    at: str
    do: str
    connection: str | None
    detail: str
    """The beginning of the text, the operation or the function; empty where there is none."""

    def as_json(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


class Dice:
    """One rule of a plan that runs: its own random numbers, what it matched and what it hit.

    Each thing that matches takes the same number of draws, whatever becomes of it: neither another rule nor a hit
    changes what the next ones draw.
    """

    def __init__(self, rule: Rule, seed: int, index: int) -> None:
        self.rule = rule
        self.index = index
        self.hits = 0
        self._random = random.Random(f"{seed}/{index}")  # noqa: S311  a test's dice
        self._matched = 0
        least, _, most = (rule.ms or "0").partition("-")
        self._bounds_s = (float(least) / 1000, float(most or least) / 1000)

    def draw(self, text: str) -> Strike | None:
        """What becomes of a thing with this text; None if it is left alone."""
        if not self.rule.concerns(text):
            return None
        self._matched += 1
        if self._matched <= self.rule.skip:
            return None
        die, wait_s, seed = self._random.random(), self._random.uniform(*self._bounds_s), self._random.getrandbits(64)
        if die >= self.rule.share:
            return None
        return Strike(self.rule.do, None if self.rule.ms is None else wait_s, seed)

    @property
    def used_up(self) -> bool:
        return self.rule.times is not None and self.hits >= self.rule.times


class Faults:
    """The plan that runs, and the ledger. Safe to use from any thread.

    `default_seed` is for plans that name none; without it they get one at random. Raises PlanError, as `run` does, if
    the plan has a kill and there are no `workers`, for a thread cannot be killed, or if it counts requests and those of
    one worker are not `told_apart` from another's.
    """

    def __init__(
        self, plan: Plan, *, default_seed: int | None = None, workers: bool = False, told_apart: bool = True
    ) -> None:
        self._default_seed = default_seed
        self._workers = workers
        self._told_apart = told_apart
        self._lock = threading.Lock()
        self._ledger: deque[Hit] = deque(maxlen=LEDGER_SIZE)
        self._last = 0
        self.run(plan)

    def run(self, plan: Plan) -> None:
        """Replace what runs, and begin its seed anew. The ledger goes on."""
        kills = [rule for rule in plan.rules if rule.do == "kill"]
        if kills and not self._workers:
            raise PlanError("an invocation can be killed only where it has a process: start with LOCALAWS_WORKERS=4.")
        if not self._told_apart and any(kill.request for kill in kills):
            raise PlanError(
                'with keys of your own, which all workers share, only "request": 0 can be killed: unset '
                "AWS_ACCESS_KEY_ID, and each worker signs its requests with a key of its own."
            )
        seed = next((each for each in (plan.seed, self._default_seed) if each is not None), secrets.randbits(32))
        dice = [Dice(rule, seed, index) for index, rule in enumerate(plan.rules)]
        with self._lock:
            self.seed = seed
            self._dice = dice
            self._by_place = {place: [each for each in dice if each.rule.at == place] for place in PLACES}

    def strike(self, at: str, connection_id: str | None = None, text: str = "") -> list[Strike]:
        """What is to be done to a thing that happens, in order; mostly nothing.

        Once a rule settles it (a delivery that is dropped is not doubled) later rules leave it alone.
        """
        if not self._by_place[at]:
            return []
        strikes = []
        with self._lock:
            settled = False
            for dice in self._by_place[at]:
                if dice.rule.do in _LATER:
                    continue
                drawn = dice.draw(text)
                if drawn is None or settled or dice.used_up:
                    continue
                self._enter(dice, connection_id, text)
                strikes.append(drawn)
                settled = drawn.do not in _NOT_SETTLING
        return strikes

    def doom(self, at: str, connection_id: str | None, text: str = "") -> list[Doom]:
        """What a thing that begins now is up for: the kills of an invocation, the cuts of a socket."""
        later = [dice for dice in self._by_place[at] if dice.rule.do in _LATER]
        with self._lock:
            drawn = [(dice, dice.draw(text)) for dice in later]
        return [Doom(self, dice, connection_id, text, each.wait_s) for dice, each in drawn if each is not None]

    def enter(self, dice: Dice, connection_id: str | None, text: str) -> bool:
        """Enter a hit that was drawn earlier; False if its rule is used up or no longer runs."""
        with self._lock:
            if dice.used_up or dice not in self._dice:
                return False
            self._enter(dice, connection_id, text)
            return True

    def rules(self) -> list[dict[str, Any]]:
        """The rules that run, each with the number of its hits."""
        return [{**dice.rule.as_json(), "hits": dice.hits} for dice in self._dice]

    def hits(self, after: int) -> tuple[int, list[Hit]]:
        """The number of the last hit, and those hits after number `after` that are still kept."""
        with self._lock:
            first = self._last - len(self._ledger)
            return self._last, list(islice(self._ledger, max(0, after - first), None))

    def _enter(self, dice: Dice, connection_id: str | None, text: str) -> None:
        dice.hits += 1
        self._last += 1
        rule = dice.rule
        self._ledger.append(Hit(self._last, dice.index, rule.at, rule.do, connection_id, text[:DETAIL_CHARACTERS]))


@dataclass(frozen=True)
class Doom:
    """What a thing is up for; whether it comes to it depends on what the thing does until then."""

    _faults: Faults
    _dice: Dice
    _connection_id: str | None
    _text: str
    wait_s: float | None
    """The rule's time; None if it has none."""

    def due(self, request: int, *, after: bool) -> bool:
        """Whether a kill comes now: before or after the invocation's `request`-th request (0: its start)."""
        rule = self._dice.rule
        return (rule.request, rule.after) == (request, after) and self.comes()

    def comes(self) -> bool:
        """Whether it comes, now that it is due: not if its rule is used up or no longer runs."""
        return self._faults.enter(self._dice, self._connection_id, self._text)


def _object(value: object, where: str, known: list[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PlanError(f"{where} is a JSON object, not {_shown(value)}.")
    for name in value:
        if name not in known:
            raise PlanError(f"{where} takes {', '.join(known)}, not {_shown(name)}.")
    return value


def _one_of(value: object, known: Mapping[str, Any] | tuple[str, ...], where: str) -> str:
    if not isinstance(value, str) or value not in known:
        raise PlanError(f"{where} takes {', '.join(known)}, not {_shown(value)}.")
    return value


def _share(value: object, where: str) -> float:
    # NaN ends here too, and a bool is a number to Python alone.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise PlanError(f"{where} takes a number from 0 to 1, not {_shown(value)}.")
    return float(value)


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise PlanError(f"{where} takes a text, not {_shown(value)}.")
    return value


def _milliseconds(value: object, where: str) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str):
        least, dash, most = text.partition("-")
        whole = [each for each in (least, most or least) if each.isascii() and each.isdigit() and len(each) <= 7]  # noqa: PLR2004
        if len(whole) == 2 and bool(dash) == bool(most) and int(whole[0]) <= int(whole[1]) <= LONGEST_MS:  # noqa: PLR2004
            return text
    raise PlanError(f'{where} takes milliseconds like "50" or "0-80", {LONGEST_MS} at most, not {_shown(value)}.')


def _whole(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= BIGGEST_NUMBER:
        raise PlanError(f"{where} takes a whole number from 0 to {BIGGEST_NUMBER}, not {_shown(value)}.")
    return value


def _flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise PlanError(f"{where} takes true or false, not {_shown(value)}.")
    return value


def _shown(value: object) -> str:
    """A value in an error: short, whatever it is."""
    return reprlib.repr(value)
