"""What a month costs on AWS, by connections and by how they are used. `python -m bench.costs` prints it as Markdown.

Every number that is not arithmetic is a named constant up here: prices to be replaced by those of your region and day,
and usage by what your own metrics say. Nothing here was billed by AWS. Free tiers are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

CONNECTIONS = (1_000, 20_000, 100_000)
"""Open at any time, day and night."""

SHOWN = 20_000
"""The size whose steps are printed."""

# --- Prices: US dollars, us-east-1, as collected on 25 November 2026 (docs/scaling.md says from where). Check them.

PRICES_OF = "us-east-1, 25 November 2026"

# https://aws.amazon.com/api-gateway/pricing/
MESSAGES_PER_MILLION = 1.00
"""Sent and received, the first FIRST_MESSAGES of a month. $connect and $disconnect are taken to cost nothing but their
Lambdas: check it on a bill.
"""
FIRST_MESSAGES = 1e9
FURTHER_MESSAGES_PER_MILLION = 0.80
"""Unconfirmed."""
MESSAGE_STEP_BYTES = 32 * 1_024
CONNECTION_MINUTES_PER_MILLION = 0.25

# https://aws.amazon.com/lambda/pricing/ (x86, the first 6 billion GB-s)
LAMBDA_REQUESTS_PER_MILLION = 0.20
LAMBDA_PER_GB_SECOND = 0.000_016_666_7

# https://aws.amazon.com/dynamodb/pricing/on-demand/
WRITES_PER_MILLION = 0.625
READS_PER_MILLION = 0.125

# https://aws.amazon.com/cloudwatch/pricing/ (Lambda's logs: the first 10 TB a month)
LOGS_PER_GB = 0.50

# https://aws.amazon.com/ec2/pricing/on-demand/#Data_Transfer (to the internet, the first 10 TB a month)
DATA_OUT_PER_GB = 0.09

# --- The system. Units are measured (python -m bench units); the rest is for your own metrics to correct.

MONTH_HOURS = 730
FRAME_GB = 1_769 / 1_024
"""Of `websocket_message` and `publish`: one vCPU."""
CONNECT_GB = 512 / 1_024
"""Of `websocket_connect` and `websocket_disconnect`."""

CONNECT_MS, DISCONNECT_MS, FRAME_MS = 20, 25, 15
"""Billed for an invocation whose environment is warm, apart from the posts of a broadcast. Not measured on AWS."""

POSTS_PER_SECOND = 8_000
"""BROADCAST_RATE."""

LOG_BYTES = 400
"""A log line of ours, and START, END and REPORT of Lambda's."""

ITEM_WRITES = 2
"""Units for each item that comes or goes, a connection's record or a membership: itself, and its entry in the index."""

DISCONNECT_READS = 0.5
GET_READS = 1
"""Of one item, consistently: a y-webrtc client's record as it subscribes, and its membership as it publishes."""

MEMBERS_PER_READ = 28
"""Members that fit into the 4 KB of one unit: some 147 bytes each."""


@dataclass(frozen=True)
class Usage:
    """What one connection does."""

    name: str
    session_minutes: float
    """From a connect to the next."""
    joins: int
    """Channels that it joins by a frame after connecting; one without has its home channel instead."""
    ping_seconds: float
    frames_per_session: float
    """Publishes, beside pings and joins."""
    frame_members: int
    """Who gets one of them."""
    broadcasts_per_hour: float
    """From a backend, to all connections, in one channel."""
    message_bytes: int
    pings_reach_lambda: bool = True


Y_WEBRTC = Usage(
    name="y-webrtc: pages with an editor, in documents of three, a ping each 15 s",
    session_minutes=60,
    joins=1,
    ping_seconds=15,
    frames_per_session=13,  # one announce; offer, answer and candidates with two peers
    frame_members=3,
    broadcasts_per_hour=0,
    message_bytes=1_024,
)
QUIET = Usage(
    name="quiet pub/sub: six messages an hour to everyone, a ping each 5 min",
    session_minutes=115,
    joins=0,
    ping_seconds=300,
    frames_per_session=0,
    frame_members=0,
    broadcasts_per_hour=6,
    message_bytes=2_048,
)


Y_WEBRTC_MOCK = replace(
    Y_WEBRTC,
    name="the same, its pings answered by API Gateway itself (the CloudFormation way)",
    pings_reach_lambda=False,
)


@dataclass(frozen=True)
class Item:
    """One line of the bill."""

    what: str
    how: str
    """The amount's arithmetic."""
    amount: float
    unit: str
    price: str
    dollars: float


def month(usage: Usage, connections: int) -> list[Item]:
    """The bill of a month in which so many connections are open all the time."""
    hours = connections * MONTH_HOURS
    sessions = hours * 60 / usage.session_minutes
    pings = hours * 3_600 / usage.ping_seconds
    frames = sessions * usage.frames_per_session
    joins = sessions * usage.joins
    broadcasts = MONTH_HOURS * usage.broadcasts_per_hour
    posts = frames * usage.frame_members + broadcasts * connections
    metered = ceil(usage.message_bytes / MESSAGE_STEP_BYTES)
    messages = 2 * pings + joins + (frames + posts) * metered
    first = min(messages, FIRST_MESSAGES)
    further = messages - first
    invoked = (pings if usage.pings_reach_lambda else 0) + joins + frames + broadcasts
    requests = 2 * sessions + invoked
    gb_seconds = sessions * (CONNECT_MS + DISCONNECT_MS) / 1e3 * CONNECT_GB
    gb_seconds += (invoked * FRAME_MS / 1e3 + posts / POSTS_PER_SECOND) * FRAME_GB
    items = 1 + (usage.joins or 1)
    reads_a_frame = GET_READS + ceil(usage.frame_members / MEMBERS_PER_READ)
    reads_a_broadcast = ceil(connections / MEMBERS_PER_READ)
    n = _number
    return [
        Item(
            "API Gateway, messages",
            f"2 * {n(pings)} pings + {n(joins)} joins + ({n(frames)} publishes + {n(posts)} posts) * {metered}",
            messages,
            "messages",
            f"${MESSAGES_PER_MILLION:.2f} a million, ${FURTHER_MESSAGES_PER_MILLION:.2f} beyond {n(FIRST_MESSAGES)}",
            first / 1e6 * MESSAGES_PER_MILLION + further / 1e6 * FURTHER_MESSAGES_PER_MILLION,
        ),
        _millions(
            "API Gateway, connections",
            f"{connections:,} connections * {MONTH_HOURS} h * 60",
            hours * 60,
            "minutes",
            CONNECTION_MINUTES_PER_MILLION,
        ),
        _millions(
            "Lambda, requests",
            f"2 * {n(sessions)} sessions + {n(invoked)} frames and broadcasts",
            requests,
            "requests",
            LAMBDA_REQUESTS_PER_MILLION,
        ),
        _millions(
            "Lambda, time",
            f"{n(sessions)} sessions * {CONNECT_MS + DISCONNECT_MS} ms * {CONNECT_GB:.3f} GB + ({n(invoked)} frames "
            f"and broadcasts * {FRAME_MS} ms + {n(posts)} posts / {POSTS_PER_SECOND:,} a second) * {FRAME_GB:.3f} GB",
            gb_seconds,
            "GB-s",
            LAMBDA_PER_GB_SECOND * 1e6,
        ),
        _millions(
            "DynamoDB, writes",
            f"{n(sessions)} sessions * {items} items * {ITEM_WRITES} as they come, and as many as they go",
            2 * sessions * items * ITEM_WRITES,
            "units",
            WRITES_PER_MILLION,
        ),
        _millions(
            "DynamoDB, reads",
            f"{n(sessions)} sessions * {DISCONNECT_READS:g} + {n(joins)} joins * {GET_READS} + {n(frames)} publishes * "
            f"{reads_a_frame} + {n(broadcasts)} broadcasts * {reads_a_broadcast:,}",
            sessions * DISCONNECT_READS + joins * GET_READS + frames * reads_a_frame + broadcasts * reads_a_broadcast,
            "units",
            READS_PER_MILLION,
        ),
        _gigabytes(
            "CloudWatch, logs", f"{n(requests)} requests * {LOG_BYTES} bytes", requests * LOG_BYTES, LOGS_PER_GB
        ),
        _gigabytes(
            "Data to the internet",
            f"{n(posts)} posts * {usage.message_bytes:,} bytes",
            posts * usage.message_bytes,
            DATA_OUT_PER_GB,
        ),
    ]


def _millions(what: str, how: str, amount: float, unit: str, price: float) -> Item:
    return Item(what, how, amount, unit, f"${price:.6g} a million", amount / 1e6 * price)


def _gigabytes(what: str, how: str, amount: float, price: float) -> Item:
    return Item(what, how, amount / 1e9, "GB", f"${price:g} each", amount / 1e9 * price)


def _number(amount: float) -> str:
    """Millions as such: 14.6 M."""
    if amount >= 100e6:
        return f"{amount / 1e6:,.0f} M"
    return f"{amount / 1e6:,.1f} M" if amount >= 1e6 else f"{amount:,.0f}"


def bills(usage: Usage) -> str:
    """The bills of all sizes as a table."""
    months = [month(usage, connections) for connections in CONNECTIONS]
    rows = [
        [f"dollars a month, {PRICES_OF}", *(f"{connections:,}" for connections in CONNECTIONS)],
        ["---", *("--:" for _ in CONNECTIONS)],
        *([items[0].what, *(_dollars(item.dollars) for item in items)] for items in zip(*months, strict=True)),
        ["**all**", *(f"**{_dollars(sum(item.dollars for item in items))}**" for items in months)],
    ]
    return "\n".join([f"**{usage.name}**", "", *(f"| {' | '.join(row)} |" for row in rows)])


def steps(usage: Usage, connections: int) -> str:
    """One of the bills, step by step."""
    lines = [
        f"- {item.what}: {item.how} = {_number(item.amount)} {item.unit}; at {item.price}: ${_dollars(item.dollars)}"
        for item in month(usage, connections)
    ]
    return "\n".join([f"Step by step for {connections:,} connections:", "", *lines])


def _dollars(dollars: float) -> str:
    return f"{dollars:,.2f}" if dollars < 10 else f"{dollars:,.0f}"


if __name__ == "__main__":
    print(bills(Y_WEBRTC), steps(Y_WEBRTC, SHOWN), bills(Y_WEBRTC_MOCK), bills(QUIET), steps(QUIET, SHOWN), sep="\n\n")
