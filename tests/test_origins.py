from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chalicelib.origins import Origins

LISTED = Origins.parse(
    "https://app.example.com, http://localhost:3000 https://*.example.org,https://*.example.net:8443,"
    "http://127.0.0.1:5173 http://[::1]:3000 capacitor://localhost"
)


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com",
        "https://app.example.com:443",
        "HTTPS://App.EXAMPLE.com",
        "http://localhost:3000",
        "https://www.example.org",
        "https://a.b.c.d.example.org",
        "https://xn--bcher-kva.example.org",
        "https://under_score.-odd-.example.org:443",
        "https://www.example.net:8443",
        "http://127.0.0.1:5173",
        "http://[::1]:3000",
        "http://[0:0:0:0:0:0:0:1]:3000",
        "capacitor://localhost",
    ],
)
def test_an_origin_on_the_list_is_allowed(origin: str) -> None:
    assert LISTED.allows(origin)


@pytest.mark.parametrize(
    "origin",
    [
        # no origin at all
        "",
        " ",
        "null",
        "Null",
        "*",
        "https://",
        "://app.example.com",
        "//app.example.com",
        "app.example.com",
        "https:app.example.com",
        "https:/app.example.com",
        "https:///app.example.com",
        r"https:\\app.example.com",
        # another scheme or port
        "http://app.example.com",
        "wss://app.example.com",
        "https://app.example.com:80",
        "https://app.example.com:8443",
        "https://app.example.com:4430",
        "https://app.example.com:",
        "https://app.example.com:0443",
        "https://app.example.com:+443",
        "https://app.example.com:443:443",
        "https://app.example.com:65979",
        "https://app.example.com:99999999999999999999",
        "https://app.example.com:\u0664\u0664\u0663",
        "http://localhost",
        "http://localhost:80",
        "https://localhost:3000",
        "https://www.example.net",
        "capacitor://localhost:443",
        # near the host
        "https://example.com",
        "https://www.app.example.com",
        "https://app.example.com.evil.io",
        "https://evilapp.example.com",
        "https://app-example.com",
        "https://appxexample.com",
        "https://app.example.co",
        "https://app.example.com.",
        "https://.app.example.com",
        "https://app..example.com",
        "https://example.org",
        "https://.example.org",
        "https://..example.org",
        "https://a..example.org",
        "https://evilexample.org",
        "https://example.org.evil.io",
        "https://www.example.org.evil.io",
        "https://www.example.org.",
        "https://*.example.org",
        f"https://{'a' * 64}.example.org",
        "http://www.example.org",
        "http://127.0.0.1.evil.io:5173",
        "http://127.1:5173",
        "http://0x7f.0.0.1:5173",
        "http://2130706433:5173",
        # userinfo, path, query, fragment
        "https://user@app.example.com",
        "https://user:password@app.example.com",
        "https://app.example.com@evil.io",
        "https://app.example.com:443@evil.io",
        "https://evil.io@app.example.com",
        "https://evil.io%40app.example.com",
        "https://app.example.com/",
        "https://app.example.com/path",
        "https://evil.io/app.example.com",
        "https://evil.io/.example.org",
        "https://evil.io?.example.org",
        "https://evil.io#.example.org",
        r"https://evil.io\.example.org",
        "https://evil.io:443/.example.org",
        "https://evil.io,.example.org",
        "https://evil.io;.example.org",
        "https://evil.io%2f.example.org",
        "https://app.example.com?",
        "https://app.example.com#",
        # names in other scripts, and what looks the same or folds into it
        "https://bücher.example.org",
        "https://app.ex\u0430mple.com",
        "https://app\u3002example\u3002com",
        "https://\uff41pp.example.com",
        "https://app.example.com\u200b",
        "capacitor://localho\u017ft",
        "https://\u212a.example.org",
        "https://xn--app.example.com",
        # IPv6
        "http://[::1]",
        "http://::1:3000",
        "http://[::1:3000",
        "http://[::2]:3000",
        "http://[::1%25eth0]:3000",
        "http://[::1%eth0]:3000",
        "http://[]:3000",
        "http://[:::1]:3000",
        "http://[::ffff:127.0.0.1]:5173",
        "http://[v1.a]:3000",
        "https://[::1].example.org",
        # white space and control characters
        " https://app.example.com",
        "https://app.example.com ",
        "https://app.example.com\n",
        "https://app.example.com\r\n",
        "https://app.example.com\x00",
        "https://app.example.com\x00.evil.io",
        "https://evil.io\n.example.org",
        "https://evil.io\x00.example.org",
        "https://app.exam\tple.com",
        "https\n://app.example.com",
        "\ud800https://app.example.com",
        # two of them
        "https://app.example.com https://app.example.com",
        "https://app.example.com,https://app.example.com",
        "https://app.example.com, https://evil.io",
        "https://evil.io https://www.example.org",
        "https://evil.io,https://www.example.org",
        # absurdly long
        "https://" + "a." * 10_000 + "example.org",
        "https://" + "a." * 140 + "example.org",
        "https://app.example.com" + ":" * 1_000_000,
        "a" * 1_000_000,
    ],
)
def test_an_origin_that_is_not_exactly_on_the_list_is_refused(origin: str) -> None:
    assert not LISTED.allows(origin)


def test_the_longest_name_there_can_be_is_allowed() -> None:
    name = f"{'a.' * 121}example.org"
    assert len(name) == 253
    assert LISTED.allows(f"https://{name}:443")


def test_a_list_of_one_star_has_any_origin() -> None:
    for origin in ("https://app.example.com", "null", ""):
        assert Origins.parse("*").allows(origin)


def test_a_listed_default_port_equals_none() -> None:
    for listed in ("https://example.com", "https://example.com:443"):
        for origin in ("https://example.com", "https://example.com:443"):
            assert Origins.parse(listed).allows(origin)
    assert Origins.parse("http://example.com:80") == Origins.parse("HTTP://EXAMPLE.COM")


def test_a_domain_and_its_subdomains_are_two_entries() -> None:
    both = Origins.parse("https://example.com https://*.example.com")
    assert both.allows("https://example.com")
    assert both.allows("https://www.example.com")


@pytest.mark.parametrize(
    "text", ["https://a.io,http://b.io:81", "https://a.io http://b.io:81", " ,https://a.io , ,http://b.io:81, "]
)
def test_entries_are_separated_by_commas_and_spaces(text: str) -> None:
    origins = Origins.parse(text)
    assert origins.allows("https://a.io")
    assert origins.allows("http://b.io:81")
    assert origins == Origins.parse("http://b.io:81 https://a.io")


SUBDOMAINS = "subdomains of a domain, as in https://*.example.com"
EXAMPLES = "write origins such as https://app.example.com, http://localhost:3000 or https://*.example.com"


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("", "write at least one origin"),
        (" , ", "write at least one origin"),
        ("https://example.com/", "write 'https://example.com'"),
        ("https://example.com/app?a=1#b", "write 'https://example.com'"),
        ("https://example.com?a", "write 'https://example.com'"),
        ("https://example.com#a", "write 'https://example.com'"),
        ("https://example.com.", "write 'https://example.com'"),
        ("http://localhost:3000/", "write 'http://localhost:3000'"),
        ("https://*.example.com/", "write 'https://*.example.com'"),
        ("https://user:canary@example.com", "write 'https://example.com'"),
        ("example.com", "write 'https://example.com'"),
        ("localhost:3000", "write 'https://localhost:3000'"),
        ("*.example.com", "write 'https://*.example.com'"),
        ("example.com/app", "write 'https://example.com'"),
        ("wss://example.com", "write 'https://example.com'"),
        ("WS://localhost:3000/api", "write 'http://localhost:3000'"),
        ("wss://*.example.com", "write 'https://*.example.com'"),
        ("null", "sandboxed frame"),
        ("https://bücher.example", "xn--"),
        ("bücher.example", "xn--"),
        ("https://*", SUBDOMAINS),
        ("https://*.com", SUBDOMAINS),
        ("http://*.0.0.1", SUBDOMAINS),
        ("http://*.[::1]", SUBDOMAINS),
        ("https://*example.com", SUBDOMAINS),
        ("https://app.*.com", SUBDOMAINS),
        ("https://*.*.example.com", SUBDOMAINS),
        ("https://app*.example.com", SUBDOMAINS),
        ("*://example.com", SUBDOMAINS),
        ("http://localhost:*", SUBDOMAINS),
        ("* https://example.com", SUBDOMAINS),
        ("https://a.io, *", SUBDOMAINS),
        ("**", SUBDOMAINS),
        ("https://", EXAMPLES),
        ("https:/example.com", EXAMPLES),
        ("https:example.com", EXAMPLES),
        ("https://example.com:", EXAMPLES),
        ("https://example.com:99999", EXAMPLES),
        ("https://example.com:http", EXAMPLES),
        ("https://[::1", EXAMPLES),
        ("https://[fe80::1%25eth0]", EXAMPLES),
        ("https://a..b", EXAMPLES),
        ("https://a.io;https://b.io", EXAMPLES),
        ("https://user:canary@exa:mple.com", EXAMPLES),
        ("user:canary@", EXAMPLES),
        ("https://" + "a" * 300, EXAMPLES),
        ("https://\x1b[31m", EXAMPLES),
    ],
)
def test_a_list_that_cannot_be_taken_says_what_to_write_instead(text: str, instead: str) -> None:
    with pytest.raises(ValueError, match=r"write|stand") as raised:
        Origins.parse(f"https://good.example {text}" if text.strip(" ,") else text)
    advice = str(raised.value)
    assert instead in advice
    assert "canary" not in advice
    assert advice.isprintable()
    assert len(advice) < 250


# Properties.

entries = st.sampled_from(
    ["https://a.com", "https://b.a.com", "http://a.com", "https://a.com:8443", "https://*.a.com", "http://*.b.a.com:81"]
)
lists = st.lists(entries, min_size=1, max_size=4)
labels = st.sampled_from(["a", "b", "com", "A", "eviLa", "", "-", "a" * 63, "a" * 64])
suffixes = st.sampled_from(["a.com", "b.a.com", "B.A.Com", "a.com.", "a.com.b", "a-com", "ba.com"])
hosts = st.builds(lambda left, right: ".".join([*left, right]), st.lists(labels, max_size=3), suffixes)
ports = st.sampled_from(["", ":80", ":443", ":8443", ":81", ":", ":0443"])
origins = st.builds(lambda *parts: "".join(parts), st.sampled_from(["https://", "http://", "HTTPS://"]), hosts, ports)
odd = st.sampled_from([*"*@/\\?#:.,; \n\t\x00%[]é", "\u212a", "://", "null"]) | st.characters(exclude_categories=[])
any_text = st.text(alphabet=st.characters(exclude_categories=[]))


def written(entry: str, origin: str) -> bool:
    """Whether an entry means an origin, as text: for each spelling of the entry's port, the text before and after
    the wildcard is compared, and what is between is read character by character.
    """
    before, wildcard, after = entry.partition("*")
    scheme = entry.partition(":")[0]
    default = {"https": ":443", "http": ":80"}[scheme]
    has_port = entry.count(":") == 2
    spellings = [(before, after)] if has_port else [(before, after), (before, after + default)]
    if not wildcard:
        return origin.lower() in ([entry] if has_port else [entry, entry + default])
    for start, end in spellings:
        low = origin.lower()
        between = low.removeprefix(start).removesuffix(end)
        if low == start + between + end and all(
            0 < len(label) < 64 and set(label) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_")
            for label in between.split(".")
        ):
            return True
    return False


@given(lists, origins)
def test_the_list_has_what_its_entries_say_and_nothing_else(listed: list[str], origin: str) -> None:
    assert Origins.parse(" ".join(listed)).allows(origin) == any(written(entry, origin) for entry in listed)


@given(lists, origins, odd, st.integers(0, 40))
def test_a_character_more_in_an_origin_is_another_origin(listed: list[str], origin: str, more: str, at: int) -> None:
    origin = origin[:at] + more + origin[at:]
    assume(origin.isascii())
    assert Origins.parse(" ".join(listed)).allows(origin) == any(written(entry, origin) for entry in listed)


@given(lists, origins, st.characters(min_codepoint=128, exclude_categories=[]), st.integers(0, 40))
def test_an_origin_with_a_character_that_is_not_ascii_is_refused(
    listed: list[str], origin: str, more: str, at: int
) -> None:
    assert not Origins.parse(" ".join(listed)).allows(origin[:at] + more + origin[at:])
    assert not Origins.parse(" ".join(listed)).allows(origin[:at] + more + origin[at + 1 :])


@given(any_text)
def test_any_text_is_refused_without_an_exception(text: str) -> None:
    assert not LISTED.allows(text)
    assert not LISTED.allows(f"https://{text}")
    assert not LISTED.allows(f"http://[{text}]:3000") or text == "::1"


@given(st.lists(origins | entries | any_text | odd).map(" ".join))
def test_any_list_is_taken_or_a_value_error_of_one_line(text: str) -> None:
    try:
        Origins.parse(text)
    except ValueError as error:
        assert type(error) is ValueError
        assert str(error).isprintable()


@given(lists, entries, origins)
def test_another_entry_never_takes_an_origin_away(listed: list[str], more: str, origin: str) -> None:
    before, after = Origins.parse(" ".join(listed)), Origins.parse(" ".join([*listed, more]))
    assert after.allows(origin) or not before.allows(origin)
