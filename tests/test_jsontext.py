from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import ClientError, InvalidNumber, TooDeep
from chalicelib.jsontext import NotJSON, compact, parse, plain

any_text = st.text(alphabet=st.characters(exclude_categories=[]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_text,
    lambda values: st.lists(values) | st.dictionaries(any_text, values),
    max_leaves=20,
)


@pytest.mark.parametrize(
    "text", ["", "hello", "{", "{'a':1}", "NaN", "Infinity", "-Infinity", '{"a":NaN}', "\ufeff{}", "01"]
)
def test_what_is_not_json_is_told_apart(text: str) -> None:
    with pytest.raises(NotJSON):
        parse(text)


@pytest.mark.parametrize(
    "number", ["1e400", "-1e400", "9" * 309, "-" + "9" * 309, "9" * 311, "9" * 5_000, "1" + "0" * 100_000]
)
def test_a_number_that_no_float_can_hold_is_refused(number: str) -> None:
    with pytest.raises(InvalidNumber):
        parse(f'{{"a":[{number}]}}')


@pytest.mark.parametrize("number", ["9007199254740993", "9" * 308, "-0.0", "1e308", "0.1"])
def test_other_numbers_go_through_unchanged(number: str) -> None:
    assert float(compact(parse(number))) == float(number)
    assert "." in number or "e" in number or compact(parse(number)) == number


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, "[" * 100_000 + "]" * 100_000])
def test_deep_nesting_is_refused(text: str) -> None:
    with pytest.raises(TooDeep):
        parse(text)


def test_a_value_nested_too_deeply_to_be_written_is_refused() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(TooDeep):
        compact(value)


def test_of_duplicate_keys_the_last_counts() -> None:
    assert parse('{"a":1,"a":2}') == {"a": 2}


def test_json_is_compact_and_not_escaped() -> None:
    assert compact({"a": [1, "é€😀"], "b": None}) == '{"a":[1,"é€😀"],"b":null}'


def test_only_what_utf8_cannot_carry_is_escaped() -> None:
    assert compact({"a": "é\ud800\udfff-\udc00"}) == '{"a":"é\\ud800\\udfff-\\udc00"}'
    assert plain("é\ud800-\udc00") == "é\ufffd-\ufffd"


@given(json_values)
def test_what_is_written_is_utf8_and_reads_the_same(value: Any) -> None:
    text = compact(value)
    text.encode()
    assert json.loads(text) == json.loads(json.dumps(value))


@given(any_text)
def test_any_text_is_a_value_or_not_json_or_a_client_error(text: str) -> None:
    try:
        value = parse(text)
    except (NotJSON, ClientError):
        return
    compact(value).encode()


@given(any_text)
def test_plain_text_is_utf8_of_the_same_length(text: str) -> None:
    assert len(plain(text).encode().decode()) == len(text)
