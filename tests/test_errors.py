from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import errors
from chalicelib.errors import ChannelsError, ClientError, json_type, shown, to_frame

from .conftest import ROOT


def all_errors(root: type[ChannelsError] = ChannelsError) -> list[type[ChannelsError]]:
    return [root, *(error for child in root.__subclasses__() for error in all_errors(child))]


def test_every_error_stands_in_the_tree_at_the_top_of_the_module() -> None:
    for error in all_errors():
        assert f" {error.__name__} " in f" {errors.__doc__} ".replace("\n", " ")


def test_every_client_error_has_a_wire_code_of_its_own_in_the_tree() -> None:
    client_errors = [error for error in all_errors(ClientError) if not error.__subclasses__()]
    codes = [error.code for error in client_errors]
    assert len(set(codes)) == len(codes)
    for error in client_errors:
        assert any(error.__name__ in line and line.endswith(error.code) for line in (errors.__doc__ or "").split("\n"))


def test_every_code_that_a_client_may_meet_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    codes = {error.code for error in all_errors()} - {errors.UnknownName.code}
    assert {code for code in codes if f"`{code}`" not in readme} == set()


def test_a_client_error_speaks_for_itself() -> None:
    assert to_frame(errors.MissingField("channel", "a string")) == {
        "type": "error",
        "code": "missing_field",
        "message": "'channel' is missing; expected a string.",
    }


def test_the_clients_own_id_comes_back() -> None:
    assert to_frame(errors.TooDeep(), "7")["id"] == "7"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("secret"), "internal"),
        (errors.MissingSetting("SECRET", "secret"), "misconfigured"),
        (errors.StoreError("Query", "secret"), "unavailable"),
        (errors.PartlyDelivered("Query", "secret"), "partly_delivered"),
    ],
)
def test_of_other_errors_a_client_learns_the_code_and_the_request_and_no_more(error: Exception, code: str) -> None:
    frame = to_frame(error, "7", "SOqIDEacoAMFaHQ=")
    assert frame["code"] == code
    assert "secret" not in frame["message"].lower()
    assert (frame["id"], frame["requestId"]) == ("7", "SOqIDEacoAMFaHQ=")


def test_where_the_log_says_nothing_a_frame_names_no_request() -> None:
    assert "requestId" not in to_frame(errors.TooDeep(), "7", "SOqIDEacoAMFaHQ=")
    assert "requestId" not in to_frame(RuntimeError(), "7")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            errors.UnknownAction("type", "x\n", ("a", "b")),
            "No frame here has 'type' 'x\\n'; 'type' may be one of: a, b.",
        ),
        (errors.WrongType(None, "a JSON object", []), "The frame must be a JSON object, not an array."),
        (errors.WrongType("id", "a string", 1.5), "'id' must be a string, not a number."),
        (errors.TooLarge("The frame", 200_000, 131_072, "bytes"), "The frame is 200,000 bytes; the limit is 131,072."),
        (errors.InvalidNumber("1e400"), "The number '1e400' is out of range; send it as a string."),
        (errors.StoreError("Query", "ResourceNotFoundException"), "Query failed: ResourceNotFoundException"),
        (errors.Misconfigured("twice"), "twice"),
    ],
)
def test_messages_say_what_was_expected_what_came_and_what_to_do(error: Exception, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "null"),
        (True, "a boolean"),
        (1, "a number"),
        (0.5, "a number"),
        ("", "a string"),
        (b"", "binary data"),
        ([], "an array"),
        ({}, "an object"),
    ],
)
def test_types_have_their_json_names(value: Any, name: str) -> None:
    assert json_type(value) == name


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_a_strangers_value_is_shown_on_one_short_line_of_ascii(value: str) -> None:
    text = shown(value)
    assert text.rstrip("…").isascii()
    assert text.isprintable()
    assert len(text) <= 64 * 10 + 3
