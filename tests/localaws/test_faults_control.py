"""The HTTP control of faults: who may use it, what it takes, what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.sync.client import connect

from tests.faults import ask, hits, inject, lift
from tests.localaws.faulty import faulty
from tests.localaws.test_faults import plans, values
from tests.localaws.test_server import failure
from tests.localaws.tiny import Tiny, served, until, write_project

LOSE = {"at": "disconnect", "do": "lose"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    with faulty(tmp_path_factory.mktemp("tiny"), env={"LOCALAWS_SEED": "3"}) as running:
        yield running


def test_without_the_setting_there_is_no_control(tmp_path: Path) -> None:
    with served(tmp_path) as plain:
        for method, path in (("GET", "/_faults"), ("PUT", "/_faults"), ("GET", "/_faults/hits")):
            assert ask(plain.server, method, path, "{}")[0] == 404
        assert "faults" not in plain.server.log()


def test_a_plan_of_the_setting_runs_from_the_start_and_is_shown(tmp_path: Path) -> None:
    with faulty(tmp_path, plan=json.dumps({"seed": 7, "rules": [LOSE]})) as other:
        address = f"{other.server.http}/_faults"
        assert f"  faults     {address} (seed 7)\n\nCtrl-C stops.\n" in other.server.log()
        with connect(other.url):
            pass
        until(lambda: hits(other.server) or None, "a lost $disconnect")
        assert ask(other.server, "GET", "/_faults") == (200, {"seed": 7, "rules": [{**LOSE, "hits": 1}]})


def test_a_plan_replaces_the_one_before_and_delete_leaves_none(tiny: Tiny) -> None:
    rule = {"at": "frame", "do": "delay", "share": 0.5, "match": "é", "ms": "0-80", "skip": 1, "times": 9}
    told = {"seed": 5, "rules": [{**rule, "hits": 0}]}
    assert ask(tiny.server, "PUT", "/_faults", json.dumps({"seed": 5, "rules": [rule]})) == (200, told)
    assert ask(tiny.server, "GET", "/_faults") == (200, told)
    assert ask(tiny.server, "PUT", "/_faults", json.dumps({"rules": [LOSE]}))[1]["rules"] == [{**LOSE, "hits": 0}]
    lift(tiny.server)


def test_a_plan_without_a_seed_takes_the_one_of_localaws_seed(tiny: Tiny) -> None:
    assert ask(tiny.server, "PUT", "/_faults", "{}") == (200, {"seed": 3, "rules": []})


def test_hits_are_told_from_a_number_on(tiny: Tiny) -> None:
    after = inject(tiny.server, LOSE)
    for _ in range(3):
        with connect(tiny.url):
            pass
    last = until(lambda: (told := hits(tiny.server, after))[2:] and told[-1].number, "three lost $disconnects")
    assert [hit.number for hit in hits(tiny.server, after)] == [after + 1, after + 2, after + 3]
    assert ask(tiny.server, "GET", f"/_faults/hits?after={last}") == (200, {"last": last, "hits": []})
    for wrong in ("x", "-1", "%C2%B2", "9" * 5000):
        status, said = ask(tiny.server, "GET", f"/_faults/hits?after={wrong}")
        assert (status, said["message"][:31]) == (400, "after takes the number of a hit")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://example.com"},
        {"Origin": "null"},
        {"Host": "rebound.example.com"},
        {"Host": "127.0.0.1.example.com"},
        {"Host": "[2001:db8::1]"},
    ],
)
def test_a_page_in_a_browser_can_do_nothing_with_it(tiny: Tiny, method: str, headers: dict[str, str]) -> None:
    inject(tiny.server, LOSE)
    status, said = ask(tiny.server, method, "/_faults", "{}", headers)
    assert (status, said["message"]) == (403, "Faults are for this machine's own programs, not for pages.")
    assert ask(tiny.server, "GET", "/_faults")[1]["rules"] == [{**LOSE, "hits": 0}]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1", "[::1]:8000"])
def test_this_machine_may_be_called_by_its_names(tiny: Tiny, host: str) -> None:
    assert ask(tiny.server, "GET", "/_faults", headers={"Host": host})[0] == 200


def test_other_methods_are_named(tiny: Tiny) -> None:
    assert ask(tiny.server, "POST", "/_faults", "{}") == (405, {"message": "This takes GET, PUT, DELETE."})
    assert ask(tiny.server, "PUT", "/_faults/hits", "{}") == (405, {"message": "This takes GET."})


@given(
    st.binary(max_size=50)
    | (values | values.map(lambda value: {"rules": [value]})).map(json.dumps)
    | plans.map(lambda plan: json.dumps(plan.as_json()))
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_put_is_taken_or_refused_with_a_sentence_and_the_server_lives_on(
    tiny: Tiny, body: str | bytes
) -> None:
    status, said = ask(tiny.server, "PUT", "/_faults", body)
    if status == 200:
        assert set(said) == {"seed", "rules"}
    else:
        assert status == 400
        assert 0 < len(said["message"]) < 500
    lift(tiny.server)
    assert "Traceback" not in tiny.server.log()


@pytest.mark.parametrize(
    "body", ["[" * 100_000, '{"seed": ' + "9" * 5_000 + "}", '{"rules": [' + "{}," * 2_000 + "{}]}"]
)
def test_a_plan_that_is_meant_to_hurt_is_refused(tiny: Tiny, body: str) -> None:
    status, said = ask(tiny.server, "PUT", "/_faults", body)
    assert (status, len(said["message"]) < 500) == (400, True)


def test_a_setting_that_is_no_plan_is_named(tmp_path: Path) -> None:
    write_project(tmp_path)
    assert failure(tmp_path, {"LOCALAWS_FAULTS": '{"rules": [{"at": "moon"}]}'}) == (
        "\nlocalaws: LOCALAWS_FAULTS: rules[0].at takes frame, delivery, store, invocation, disconnect, socket, "
        "not 'moon'.\n"
    )


def test_a_server_that_others_can_reach_takes_no_faults(tmp_path: Path) -> None:
    write_project(tmp_path)
    assert failure(tmp_path, {"LOCALAWS_FAULTS": "{}"}, ("--host", "0.0.0.0")) == (
        "\nlocalaws: LOCALAWS_FAULTS is for this machine alone, and 0.0.0.0 is reachable from others: "
        "listen on 127.0.0.1, or start without it.\n"
    )


def test_a_kill_without_workers_is_refused_at_the_start_and_later(tmp_path: Path, tiny: Tiny) -> None:
    write_project(tmp_path)
    plan = '{"rules": [{"at": "invocation", "do": "kill"}]}'
    reason = "an invocation can be killed only where it has a process: start with LOCALAWS_WORKERS=4."
    assert failure(tmp_path, {"LOCALAWS_FAULTS": plan}) == f"\nlocalaws: LOCALAWS_FAULTS: {reason}\n"
    assert ask(tiny.server, "PUT", "/_faults", plan) == (400, {"message": reason})
