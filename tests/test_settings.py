from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.capability import EVERYTHING, Capability
from chalicelib.errors import ConfigurationError, InvalidSetting, Misconfigured, MissingSetting
from chalicelib.model import ChannelName
from chalicelib.origins import Origins
from chalicelib.settings import Settings
from chalicelib.tokens import TokenSettings

from .jwks import SECRET


def test_a_table_name_is_all_that_must_be_set() -> None:
    assert Settings.from_env({"TABLE_NAME": "channels"}) == Settings(
        table_name="channels",
        home_channel=ChannelName("default"),
        rendezvous_ms=3_000,
        broadcast_threads=128,
        broadcast_rate=8_000,
        invocation_rate=10_000,
        publish_function=None,
        authentication="none",
        tokens=None,
        allowed_origins=None,
        missing_origin=True,
        default_capability=EVERYTHING,
        max_message_bytes=131_072,
        max_topics=2_000,
        max_channels=0,
        frames_per_second=0,
        publish_unjoined=True,
        strikes=20,
    )


@pytest.mark.parametrize("env", [{}, {"TABLE_NAME": ""}])
def test_a_missing_table_name_says_what_to_set_and_where(env: dict[str, str]) -> None:
    with pytest.raises(MissingSetting) as raised:
        Settings.from_env(env)
    assert "TABLE_NAME" in str(raised.value)
    assert ".chalice/config.json" in str(raised.value)


def test_an_empty_home_channel_is_none() -> None:
    assert Settings.from_env({"TABLE_NAME": "t", "HOME_CHANNEL": ""}).home_channel is None


def test_every_setting_can_be_set() -> None:
    env = {
        "TABLE_NAME": "t",
        "HOME_CHANNEL": "lobby",
        "RENDEZVOUS_MS": "0",
        "BROADCAST_THREADS": "192",
        "BROADCAST_RATE": "40000",
        "INVOCATION_RATE": "5000",
        "PUBLISH_FUNCTION": "channels-dev-publish",
        "AUTHENTICATION": "HS256",
        "JWT_SECRET": SECRET,
        "ALLOWED_ORIGINS": "https://app.example.com",
        "MISSING_ORIGIN": "refuse",
        "DEFAULT_CAPABILITY": '{"lobby":["subscribe"]}',
        "MAX_MESSAGE_BYTES": "32768",
        "MAX_TOPICS": "100",
        "MAX_CHANNELS": "50",
        "FRAMES_PER_SECOND": "20",
        "PUBLISH_UNJOINED": "refuse",
        "STRIKES": "5",
    }
    assert Settings.from_env(env) == Settings(
        "t",
        ChannelName("lobby"),
        0,
        192,
        40_000,
        5_000,
        "channels-dev-publish",
        authentication="HS256",
        tokens=TokenSettings("HS256", secret=SECRET),
        allowed_origins=Origins.parse("https://app.example.com"),
        missing_origin=False,
        default_capability=Capability.parse({"lobby": ["subscribe"]}),
        max_message_bytes=32_768,
        max_topics=100,
        max_channels=50,
        frames_per_second=20,
        publish_unjoined=False,
        strikes=5,
    )
    assert {field.name.upper() for field in fields(Settings)} - {"TOKENS"} == env.keys() - {"JWT_SECRET"}


@pytest.mark.parametrize("value", ["0", "257", "-1", "1.5", "ten", " 8", "1_0", "٣", "9" * 5_000])
def test_a_number_out_of_range_says_what_was_expected_and_what_came(value: str) -> None:
    with pytest.raises(InvalidSetting) as raised:
        Settings.from_env({"TABLE_NAME": "t", "BROADCAST_THREADS": value})
    assert "BROADCAST_THREADS must be a whole number from 1 to 192" in str(raised.value)
    assert len(str(raised.value)) < 250


# --- who is let in


@pytest.mark.parametrize(
    ("authentication", "is_open"), [("", True), ("none", True), ("authorizer", False), ("HS256", False)]
)
def test_a_server_is_open_unless_it_is_told_whom_to_let_in(authentication: str, is_open: bool) -> None:
    secret = {"JWT_SECRET": SECRET} if authentication == "HS256" else {}
    settings = Settings.from_env({"TABLE_NAME": "t", "AUTHENTICATION": authentication, **secret})
    assert settings.is_open == is_open
    assert (settings.tokens is None) == (not secret)


@pytest.mark.parametrize("value", ["None", "NONE", "hs256", "HS512", "jwt", "open", "true", "0", " none"])
def test_a_word_that_is_none_of_the_known_ones_never_means_an_open_server(value: str) -> None:
    with pytest.raises(InvalidSetting, match="AUTHENTICATION must be one of none, HS256, RS256, ES256, authorizer"):
        Settings.from_env({"TABLE_NAME": "t", "AUTHENTICATION": value})


@pytest.mark.parametrize("authentication", ["", "none", "authorizer"])
@pytest.mark.parametrize("name", ["JWT_SECRET", "JWT_SECRET_PARAMETER", "JWT_SECRET_ID", "JWT_JWKS_URL", "JWT_ISSUER"])
def test_settings_of_tokens_that_nobody_would_check_are_said_to_be_none(authentication: str, name: str) -> None:
    env = {"TABLE_NAME": "t", "AUTHENTICATION": authentication}
    with pytest.raises(Misconfigured) as raised:
        Settings.from_env({**env, name: SECRET})
    assert str(raised.value).startswith(f"{name} is set, but AUTHENTICATION is {authentication or 'none'}:")
    assert SECRET not in str(raised.value)
    Settings.from_env({**env, name: ""})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALLOWED_ORIGINS", "app.example.com"),
        ("ALLOWED_ORIGINS", " "),
        ("DEFAULT_CAPABILITY", "*"),
        ("DEFAULT_CAPABILITY", "{}}"),
        ("MISSING_ORIGIN", "yes"),
        ("PUBLISH_UNJOINED", "false"),
        ("MAX_MESSAGE_BYTES", "0"),
        ("MAX_MESSAGE_BYTES", "131073"),
        ("MAX_TOPICS", "0"),
        ("MAX_CHANNELS", "-1"),
        ("FRAMES_PER_SECOND", "1.5"),
        ("STRIKES", "0"),
    ],
)
def test_a_rule_that_cannot_be_read_is_no_rule_left_out(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"The environment variable {name} "):
        Settings.from_env({"TABLE_NAME": "t", name: value})


def test_a_capability_of_nothing_is_one() -> None:
    settings = Settings.from_env({"TABLE_NAME": "t", "DEFAULT_CAPABILITY": "{}"})
    assert settings.default_capability == Capability.parse({})


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "TABLE_NAME",
                "HOME_CHANNEL",
                "RENDEZVOUS_MS",
                "BROADCAST_RATE",
                "PUBLISH_FUNCTION",
                "AUTHENTICATION",
                "ALLOWED_ORIGINS",
                "MISSING_ORIGIN",
                "DEFAULT_CAPABILITY",
                "MAX_TOPICS",
                "STRIKES",
            ]
        ),
        st.text(),
    )
)
def test_any_environment_gives_settings_or_a_configuration_error(env: dict[str, str]) -> None:
    try:
        settings = Settings.from_env(env)
    except ConfigurationError as error:
        assert str(error).isprintable()
    else:
        (settings.home_channel or "").encode()
