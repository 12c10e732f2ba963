from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import quote

import pytest

from bench import bar
from bench.gateway import Gateway, Receiver, running_gateway
from bench.machine import Child
from bench.quota import settle
from bench.sink import MESSAGE_BYTES, Rules

from .conftest import ROOT

IDS = [f"of3NoskRTmI8{number:03}=" for number in range(200)]


@pytest.fixture(scope="module", name="running")
def a_running_gateway() -> Iterator[Gateway]:
    with running_gateway(tls=False) as gateway:
        yield gateway


@pytest.fixture(name="gateway")
def a_gateway_without_rules(running: Gateway) -> Gateway:
    running.rule(Rules())
    return running


def post(gateway: Gateway, *connection_ids: str, body: str = "hello") -> list[tuple[int, str | None]]:
    """Each post's status and error, over one connection."""
    answers = []
    with closing(HTTPConnection(gateway.address, timeout=5)) as connection:
        for connection_id in connection_ids:
            connection.request("POST", f"/api/@connections/{quote(connection_id)}", body)
            response = connection.getresponse()
            response.read()
            answers.append((response.status, response.headers["x-amzn-ErrorType"]))
    return answers


def test_the_sink_counts_what_each_receiver_got(gateway: Gateway) -> None:
    assert set(post(gateway, IDS[0], IDS[1], IDS[0])) == {(200, None)}
    assert gateway.receivers() == {IDS[0]: Receiver(2, 0), IDS[1]: Receiver(1, 0)}
    assert gateway.totals().accepted == 3


def test_the_sink_lets_through_its_burst_and_its_rate_and_no_more(gateway: Gateway) -> None:
    rate, burst = 400.0, 50.0
    gateway.rule(Rules(rate=rate, burst=burst))
    began = time.monotonic()
    answers = post(gateway, *(IDS * 3))
    most = burst + rate * (time.monotonic() - began)
    accepted = answers.count((200, None))
    assert burst <= accepted <= most
    assert accepted + answers.count((429, "LimitExceededException")) == len(answers)
    totals = gateway.totals()
    assert (totals.accepted, totals.over_quota) == (accepted, len(answers) - accepted)


def test_a_stale_receiver_is_gone_each_time(gateway: Gateway) -> None:
    rules = Rules(stale=0.3)
    gateway.rule(rules)
    first = post(gateway, *IDS)
    assert first == [(410, "GoneException") if rules.is_stale(name) else (200, None) for name in IDS]
    assert post(gateway, *IDS) == first
    assert 0 < gateway.totals().gone < 2 * len(IDS)


def test_a_receiver_that_has_left_is_gone(gateway: Gateway) -> None:
    rules = Rules(leaving=0.3, leaving_seconds=0.0)
    gateway.rule(rules)
    leaves = [rules.leaves_at(name) is not None for name in IDS]
    assert [status for status, _error in post(gateway, *IDS)] == [410 if left else 200 for left in leaves]


def test_a_socket_that_dies_is_counted_and_so_is_what_it_took_along(gateway: Gateway) -> None:
    gateway.rule(Rules(cut=1.0))
    for name in IDS:
        with suppress(OSError, HTTPException):
            post(gateway, name)
    totals, got = gateway.totals(), gateway.receivers()
    assert min(totals.cuts.values()) > 0
    assert sum(totals.cuts.values()) == len(IDS)
    assert totals.accepted == len(IDS) - totals.cuts["unread"]
    assert sum(receiver.unanswered for receiver in got.values()) == totals.cuts["unanswered"] + totals.cuts["half"]


def test_a_share_of_posts_is_throttled(gateway: Gateway) -> None:
    gateway.rule(Rules(throttled=0.5))
    answers = post(gateway, *IDS)
    assert 0 < answers.count((429, "LimitExceededException")) == gateway.totals().throttled_at_random < len(IDS)


def test_a_message_of_more_than_128_kb_is_refused(gateway: Gateway) -> None:
    assert post(gateway, IDS[0], body="x" * MESSAGE_BYTES) == [(200, None)]
    with suppress(OSError):  # it answers and hangs up without having read it
        assert post(gateway, IDS[1], body="x" * (MESSAGE_BYTES + 1)) == [(413, "PayloadTooLargeException")]
    assert gateway.receivers() == {IDS[0]: Receiver(1, 0)}
    assert gateway.totals().too_large == 1


def test_the_sink_ends_with_whoever_started_it() -> None:
    sink = Child.python("bench.sink", env={}, core=None)
    sink.hear()
    assert sink.close() == 0


NOTHING_COUNTED: dict[str, int] = {}


@pytest.mark.parametrize(
    ("got", "counted", "lost", "twice"),
    [
        ({"a": Receiver(1, 0), "b": Receiver(1, 0)}, NOTHING_COUNTED, 0, 0),
        ({"a": Receiver(1, 0)}, NOTHING_COUNTED, 1, 0),
        ({"a": Receiver(1, 0), "b": Receiver(2, 0)}, NOTHING_COUNTED, 0, 1),
        ({"a": Receiver(1, 0), "b": Receiver(0, 0)}, {"stale": 1}, 0, 0),
        ({"a": Receiver(1, 0), "b": Receiver(0, 0)}, {"delivered": 2}, 1, 0),
        # An answer that was cut off counts as failed, but its receiver was not the one that got nothing.
        ({"a": Receiver(1, 1)}, {"failed": 1}, 1, 0),
        ({"a": Receiver(1, 1)}, {"failed": 2}, 0, 0),
    ],
)
def test_who_got_nothing_and_is_in_no_count_is_lost(
    got: dict[str, Receiver], counted: dict[str, int], lost: int, twice: int
) -> None:
    assert settle(["a", "b"], got, Rules(), [counted, {}]) == (lost, twice)


def test_who_left_before_its_turn_is_not_lost() -> None:
    assert settle(["a", "b"], {"a": Receiver(1, 0)}, Rules(leaving=1.0), [{}]) == (0, 0)


def test_a_row_of_the_bar_is_held_or_missed_or_not_measured() -> None:
    assert bar.missed({"rate_over_wrk": 0.6, "lost": 0, "units_join": [2.0, 2.0]}) == []
    assert bar.missed({"rate_over_wrk": None}) == []
    assert len(bar.missed({"rate_over_wrk": 0.5, "lost": 1, "units_join": [2.0, 3.0]})) == 3


def test_results_have_every_key_and_keep_what_was_not_measured_again_only_if_told(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    bar.save({"zip_mb": 1.0, "lost": 2}, keep=False, path=results)
    bar.save({"lost": 0}, keep=True, path=results)
    kept = json.loads(results.read_text())
    assert tuple(kept) == bar.KEYS
    assert (kept["zip_mb"], kept["lost"], kept["twice"]) == (1.0, 0, None)
    bar.save({"lost": 0}, keep=False, path=results)
    assert json.loads(results.read_text())["zip_mb"] is None


def test_what_two_measurements_lost_is_summed_up() -> None:
    assert bar.gather([{"lost": 1, "zip_mb": 1.0}, {"lost": 2}]) == {"lost": 3, "zip_mb": 1.0}


def test_the_bench_explains_itself_where_what_it_needs_is_not_installed() -> None:
    program = "import runpy, sys; sys.modules['rich'] = None; runpy.run_module('bench', run_name='__main__')"
    command = [sys.executable, "-c", program, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "coldstart" in done.stdout
