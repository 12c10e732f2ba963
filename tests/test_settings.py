from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import ConfigurationError, InvalidSetting, MissingSetting
from chalicelib.model import ChannelName
from chalicelib.settings import Settings


def test_a_table_name_is_all_that_must_be_set() -> None:
    assert Settings.from_env({"TABLE_NAME": "channels"}) == Settings(
        table_name="channels",
        home_channel=ChannelName("default"),
        rendezvous_ms=3_000,
        broadcast_threads=128,
        broadcast_rate=8_000,
        invocation_rate=10_000,
        publish_function=None,
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
        "BROADCAST_THREADS": "256",
        "BROADCAST_RATE": "40000",
        "INVOCATION_RATE": "5000",
        "PUBLISH_FUNCTION": "channels-dev-publish",
    }
    assert Settings.from_env(env) == Settings("t", ChannelName("lobby"), 0, 256, 40_000, 5_000, "channels-dev-publish")


@pytest.mark.parametrize("value", ["0", "257", "-1", "1.5", "ten", " 8", "1_0", "٣", "9" * 5_000])
def test_a_number_out_of_range_says_what_was_expected_and_what_came(value: str) -> None:
    with pytest.raises(InvalidSetting) as raised:
        Settings.from_env({"TABLE_NAME": "t", "BROADCAST_THREADS": value})
    assert "BROADCAST_THREADS must be a whole number from 1 to 256" in str(raised.value)
    assert len(str(raised.value)) < 250


@given(
    st.dictionaries(
        st.sampled_from(["TABLE_NAME", "HOME_CHANNEL", "RENDEZVOUS_MS", "BROADCAST_RATE", "PUBLISH_FUNCTION"]),
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
