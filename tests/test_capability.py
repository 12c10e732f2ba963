from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.capability import EVERYTHING, MOST_BYTES, Capability, Operation
from chalicelib.model import ChannelName

OPERATIONS: tuple[Operation, ...] = ("subscribe", "publish")


def matches(pattern: str, channel: str) -> bool:
    """Whether a capability of this one pattern matches the channel."""
    return Capability.parse({pattern: ["subscribe"]}).allows("subscribe", ChannelName(channel))


# The rules of Ably.


@pytest.mark.parametrize(
    ("pattern", "channel"),
    [
        ("lobby", "lobby"),
        ("*", "lobby"),
        ("*", "orders:7:notes"),
        ("*", ""),
        ("*", "[meta]log"),
        ("*", "*"),
        ("orders:*", "orders:7"),
        ("orders:*", "orders:7:notes"),
        ("orders:*", "orders:"),
        ("orders:*", "orders"),
        ("orders:*", "orders:*"),
        ("foo:*:baz", "foo:bar:baz"),
        ("foo:*:baz", "foo::baz"),
        ("*:baz", "foo:baz"),
        ("foo:*:baz:*", "foo:bar:baz"),
        ("foo:*:baz:*", "foo:bar:baz:1:2"),
        ("*:*", "foo"),
        ("foo*", "foo*"),
        ("foo:*bar", "foo:*bar"),
        ("*:foo*", "a:foo*"),
        ("", ""),
        ("a::b", "a::b"),
    ],
)
def test_a_pattern_matches(pattern: str, channel: str) -> None:
    assert matches(pattern, channel)


@pytest.mark.parametrize(
    ("pattern", "channel"),
    [
        ("lobby", "Lobby"),
        ("lobby", "lobby:1"),
        ("lobby", "lobby "),
        ("lobby", "lobby\n"),
        ("lobby", ""),
        ("orders:*", "orders2"),
        ("orders:*", "orders2:7"),
        ("orders:*", "my:orders:7"),
        ("orders:*", ""),
        ("foo:*:baz", "foo:bar:bam:baz"),
        ("foo:*:baz", "foo:baz"),
        ("foo:*:baz", "foo:bar:baz:1"),
        ("*:baz", "foo:bar:baz"),
        ("*:baz", "baz"),
        ("foo*", "foobar"),
        ("foo*", "foo"),
        ("foo:*bar", "foo:bar"),
        ("*:foo*", "a:foobar"),
        ("orders:*", " orders:7"),
        ("*:baz", "foo:baz\n"),
        ("foo:**", "foo:bar"),
        (" *", "foo"),
        ("", "foo"),
        ("a::b", "a:b"),
        ("é", "e\u0301"),
    ],
)
def test_a_pattern_does_not_match(pattern: str, channel: str) -> None:
    assert not matches(pattern, channel)


@pytest.mark.parametrize(
    ("pattern", "channel"),
    [
        ("a", "*"),
        ("a:b", "a:*"),
        ("a:b", "*:b"),
        ("a:*", "*"),
        ("a:*", "*:b"),
        ("a:*:c", "*:b:c"),
        ("a:*:c", "a:b:*"),
        ("*:b", "a:*"),
        ("a", "a*"),
        ("a", "[a-z]"),
        ("[meta]log", "[meta]*"),
        ("[meta]log:1", "[*]*"),
        ("[meta]log:1", "[*]log:*"),
        ("a", "?"),
        ("a", ".*"),
        ("a", "(a|b)"),
    ],
)
def test_a_channels_own_name_is_never_a_pattern(pattern: str, channel: str) -> None:
    assert matches(pattern, pattern)
    assert not matches(pattern, channel)


@pytest.mark.parametrize("resource", ["[*]*", "[meta]*", "[queue]*", "[meta]log"])
def test_ablys_resources_in_brackets_are_plain_text_here(resource: str) -> None:
    assert matches(resource, resource)
    for channel in ("log", "[meta]log2", "[queue]a", "anything"):
        assert not matches(resource, channel)


def test_an_operation_is_allowed_only_where_it_is_given() -> None:
    capability = Capability.parse({"orders:*": ["subscribe"], "lobby": ["subscribe", "publish"], "in": ["publish"]})
    allowed = {
        (operation, channel)
        for operation in OPERATIONS
        for channel in ("orders:7", "lobby", "in", "other")
        if capability.allows(operation, ChannelName(channel))
    }
    assert allowed == {
        ("subscribe", "orders:7"),
        ("subscribe", "lobby"),
        ("publish", "lobby"),
        ("publish", "in"),
    }


def test_all_patterns_that_match_add_up() -> None:
    capability = Capability.parse({"*": ["subscribe"], "chat:1": ["publish"]})
    assert capability.allows("subscribe", ChannelName("chat:1"))
    assert capability.allows("publish", ChannelName("chat:1"))
    assert not capability.allows("publish", ChannelName("chat:2"))


def test_the_operation_star_is_all_of_them() -> None:
    capability = Capability.parse({"lobby": ["*"]})
    assert all(capability.allows(operation, ChannelName("lobby")) for operation in OPERATIONS)
    assert not any(capability.allows(operation, ChannelName("other")) for operation in OPERATIONS)


@pytest.mark.parametrize("operation", ["presence", "history", "Subscribe", "publish ", "", "**", "sub*"])
def test_operations_that_are_not_known_are_tolerated_and_have_no_effect(operation: str) -> None:
    capability = Capability.parse({"a": [operation], "b": ["publish", operation]})
    assert capability == Capability.parse({"b": ["publish"]})
    assert not any(capability.allows(known, ChannelName("a")) for known in OPERATIONS)


def test_an_empty_capability_allows_nothing() -> None:
    for text in ("{}", '{"*":[]}', '{"*":["presence"]}'):
        capability = Capability.parse(text)
        assert not any(capability.allows(operation, ChannelName("a")) for operation in OPERATIONS)


def test_everything_is_everything() -> None:
    assert EVERYTHING.text == '{"*":["*"]}'
    for name in ("", "a", "*", "[meta]x", "a\nb", "\ud800", ":" * 10_000):
        assert all(EVERYTHING.allows(operation, ChannelName(name)) for operation in OPERATIONS)


# Values.


def test_a_capability_reads_from_a_dict_and_from_its_text() -> None:
    claim = {"orders:*": ["subscribe"], "lobby": ["subscribe", "publish"]}
    assert Capability.parse(claim) == Capability.parse(json.dumps(claim, indent=2))


def test_the_text_is_compact_and_in_one_order_without_what_has_no_effect() -> None:
    claim = {"b": ["publish", "subscribe", "publish"], "é": ["*", "publish"], "a": ["subscribe", "history"], "c": []}
    assert Capability.parse(claim).text == '{"a":["subscribe"],"b":["subscribe","publish"],"é":["*"]}'


def test_equal_capabilities_are_one_in_a_set_and_cannot_be_changed() -> None:
    one, other = Capability.parse({"a": ["*"], "b": ["publish"]}), Capability.parse({"b": ["publish"], "a": ["*"]})
    assert len({one, other, EVERYTHING}) == 2
    with pytest.raises(FrozenInstanceError):
        one.text = "{}"  # type: ignore[misc]


# What is refused.

CIRCLE: dict[str, Any] = {}
CIRCLE["a"] = CIRCLE


def nested(levels: int) -> dict[str, Any]:
    value: Any = "*"
    for _ in range(levels):
        value = [value]
    return {"a": value}


@pytest.mark.parametrize(
    ("claim", "came"),
    [
        (None, "this is null"),
        (True, "this is a boolean"),
        (7, "this is a number"),
        (["subscribe"], "this is an array"),
        (b"{}", "this is binary data"),
        ("", "this is not JSON"),
        ("*", "this is not JSON"),
        ("{'a':['*']}", "this is not JSON"),
        ('{"a":NaN}', "this is not JSON"),
        ('{"a":1e999}', "this is not JSON"),
        ('{"a":["*"]}{', "this is not JSON"),
        ('["*"]', "this is an array"),
        ('"{}"', "this is a string"),
        ({"a": "*"}, "'a' has a string"),
        ({"a": None}, "'a' has null"),
        ({"a": {"*": True}}, "'a' has an object"),
        ({"a": ["*", 1]}, "among the operations of 'a' is a number"),
        ({"a": [["*"]]}, "among the operations of 'a' is an array"),
        ({"a": {"*"}}, "this is not JSON"),
        (CIRCLE, "this is not JSON"),
        ("[" * 4_000, "this is not JSON"),
        ('{"a":' * 300 + "[]" + "}" * 300, "'a' has an object"),
        (nested(300), "among the operations of 'a' is an array"),
        (nested(100_000), "this is not JSON, or nested too deeply"),
        ({"a\n\x1b[31m" + "x" * 100: 1}, r"'a\\n\\x1b\[31m(x{57})'… has a number"),
    ],
)
def test_what_is_no_capability_is_refused_in_one_line_that_says_what_was_expected(claim: object, came: str) -> None:
    with pytest.raises(ValueError, match=f"a JSON object .* array of operations, such as .*; ({came})") as raised:
        Capability.parse(claim)
    text = str(raised.value)
    assert text.isprintable()
    assert len(text) < 350


@pytest.mark.parametrize("character", ["a", "é", "\u20ac", "\ud800", "\x00"])
def test_a_capability_may_be_as_long_as_a_record_keeps_and_no_longer(character: str) -> None:
    each = len(Capability.parse({character: ["*"]}).text.encode()) - len(Capability.parse({"": ["*"]}).text)
    most = (MOST_BYTES - len('{"":["*"]}')) // each
    longest = Capability.parse({character * most: ["*"]})
    assert MOST_BYTES - each < len(longest.text.encode()) <= MOST_BYTES
    assert Capability.parse(longest.text) == longest
    for too_long in ({character * (most + 1): ["*"]}, json.dumps({character * (most + 1): ["*"]}, ensure_ascii=False)):
        with pytest.raises(ValueError, match=r"at most 4,096 bytes .*; this is longer"):
            Capability.parse(too_long)


def test_huge_claims_are_refused_whatever_they_grant() -> None:
    for huge in (
        {str(number): ["presence"] for number in range(100_000)},
        {"a": ["presence"] * 100_000},
        " " * 10_000_000 + "{}",
    ):
        with pytest.raises(ValueError, match="this is longer"):
            Capability.parse(huge)


# Properties.

any_text = st.text(alphabet=st.characters(exclude_categories=[]))
segments = st.sampled_from(["*", "a", "b", "", "a*", "[*]", "\n", "é", "\ud800"])
names = st.lists(segments, min_size=1, max_size=5).map(":".join) | any_text.map(
    lambda text: json.loads(json.dumps(text))
)
operations = st.lists(st.sampled_from(["subscribe", "publish", "*", "presence"]) | any_text, max_size=3)
claims = st.dictionaries(names, operations, max_size=6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text | operations,
    lambda values: st.lists(values) | st.dictionaries(any_text, values),
    max_leaves=20,
)


def covers(pattern: list[str], channel: list[str]) -> bool:
    """The rules again, one segment at a time."""
    match pattern, channel:
        case (["*"], _) | ([], []):
            return True
        case [first, *pattern_left], [segment, *channel_left]:
            return first in ("*", segment) and covers(pattern_left, channel_left)
        case _:
            return False


@given(claims, names)
def test_it_allows_what_the_rules_say_and_nothing_else(claim: dict[str, list[str]], name: str) -> None:
    capability = Capability.parse(claim)
    for operation in OPERATIONS:
        expected = any(
            covers(pattern.split(":"), name.split(":")) and (operation in given_here or "*" in given_here)
            for pattern, given_here in claim.items()
        )
        assert capability.allows(operation, ChannelName(name)) == expected


@given(claims)
def test_its_text_is_utf8_and_parses_into_the_same(claim: dict[str, list[str]]) -> None:
    capability = Capability.parse(claim)
    again = Capability.parse(capability.text.encode().decode())
    assert again == capability
    assert again.text == capability.text
    assert hash(again) == hash(capability)


@given(claims, names, operations, names)
def test_another_pattern_never_takes_a_right_away(
    claim: dict[str, list[str]], pattern: str, more: list[str], name: str
) -> None:
    before, after = Capability.parse(claim), Capability.parse({**claim, pattern: [*claim.get(pattern, []), *more]})
    for operation in OPERATIONS:
        assert after.allows(operation, ChannelName(name)) or not before.allows(operation, ChannelName(name))


@given(names)
def test_without_a_wildcard_exactly_the_channel_of_that_name_is_meant(name: str) -> None:
    if "*" not in name.split(":"):
        assert matches(name, name)
        assert not matches(name, f"{name}:")
        assert not matches(name, f":{name}")


@given(json_values | st.dictionaries(any_text, json_values) | json_values.map(json.dumps))
def test_any_value_is_a_capability_or_a_value_error_of_one_line(value: object) -> None:
    try:
        capability = Capability.parse(value)
    except ValueError as error:
        assert type(error) is ValueError
        assert str(error).isprintable()
        return
    assert len(capability.text.encode()) <= MOST_BYTES
