"""What `wireloom up` makes of its options, and what certificates are for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from events.errors import InvalidInputError
from services.cli.certificates import SERVER_DAYS, Authority, certificate_hosts, is_due, is_for, server_certificate
from services.cli.keys import Keys, advice
from services.cli.plan import Plan, Welcome, check, environment, remarks, summary

SECURED = Plan(
    data_dir=Path("/data"),
    identity=Path("/data/identity"),
    nats_url="",
    bus_host="127.0.0.1",
    bus_port=7422,
    http_host="127.0.0.1",
    http_port=7480,
    replicas=1,
    host_name="berlin",
)
OPEN = replace(SECURED, identity=None)


@pytest.mark.parametrize(
    ("changes", "url", "bus_urls", "local"),
    [
        ({}, "https://127.0.0.1:7480", "nats://127.0.0.1:7422", "https://127.0.0.1:7480"),
        (
            {"http_host": "0.0.0.0", "bus_host": "0.0.0.0"},
            "https://berlin:7480",
            "nats://berlin:7422",
            "https://127.0.0.1:7480",
        ),
        (
            {"http_host": "::", "bus_host": "2001:db8::1", "public_host": "cp.example.org"},
            "https://cp.example.org:7480",
            "nats://cp.example.org:7422",
            "https://[::1]:7480",
        ),
        (
            {"http_host": "2001:db8::1", "nats_url": "nats://a:1,nats://b:1"},
            "https://[2001:db8::1]:7480",
            "nats://a:1,nats://b:1",
            "https://[2001:db8::1]:7480",
        ),
    ],
)
def test_where_others_and_we_ourselves_find_it(changes: dict[str, str], url: str, bus_urls: str, local: str) -> None:
    plan = check(replace(SECURED, **changes))  # type: ignore[arg-type]
    assert (plan.url, plan.bus_urls, plan.local_url) == (url, bus_urls, local)
    settings = plan.settings()
    assert (settings["WIRELOOM_PUBLIC_URL"], settings["WIRELOOM_BUS_URLS"]) == (url, bus_urls)


@pytest.mark.parametrize("host_name", ["localhost", "", "a b", "x;y"])
def test_who_listens_everywhere_has_a_name_that_others_can_use(host_name: str) -> None:
    plan = replace(SECURED, http_host="0.0.0.0", host_name=host_name)
    with pytest.raises(InvalidInputError, match="--public-host"):
        check(plan)
    check(replace(plan, public_host="cp.example.org"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"http_host": "192.0.2.1", "bus_host": "192.0.2.1"}, []),
        ({"http_host": "0.0.0.0", "bus_host": "0.0.0.0", "public_host": "cp.example.org"}, []),
        ({"http_host": "0.0.0.0", "nats_url": "nats://a:1", "public_host": "cp.example.org"}, []),
        ({"http_host": "0.0.0.0", "bus_host": "0.0.0.0"}, ["by the name berlin"]),
        ({"http_host": "192.0.2.1"}, ["--bus-host"]),
    ],
)
def test_what_would_keep_machines_out_is_said(changes: dict[str, str], said: list[str]) -> None:
    found = remarks(check(replace(SECURED, **changes)))  # type: ignore[arg-type]
    assert len(found) == len(said)
    assert all(words in remark for words, remark in zip(said, found, strict=True))


@pytest.mark.parametrize("option", ["http_host", "bus_host", "public_host"])
def test_an_address_that_counts_on_one_link_only_is_none(option: str) -> None:
    with pytest.raises(InvalidInputError):
        check(replace(SECURED, **{option: "fe80::1%eth0"}))  # type: ignore[arg-type]


def test_certificates_are_for_every_name_that_it_has() -> None:
    assert SECURED.hosts == ["127.0.0.1", "::1", "localhost", "berlin"]
    plan = replace(SECURED, http_host="0.0.0.0", bus_host="192.0.2.1", public_host="cp.example.org")
    assert plan.hosts == ["127.0.0.1", "::1", "localhost", "berlin", "cp.example.org", "192.0.2.1"]
    assert "no name" not in replace(SECURED, host_name="no name").hosts


def test_services_inherit_nothing_that_sets_up_others() -> None:
    inherited = {"PATH": "/bin", "NOTIFY_SOCKET": "/run/x", "WIRELOOM_TOKEN": "wla_x", "WIRELOOM_IDENTITY": "/other"}
    given = environment(OPEN, inherited)
    assert given["PATH"] == "/bin"
    assert not {"NOTIFY_SOCKET", "WIRELOOM_TOKEN", "WIRELOOM_IDENTITY", "WIRELOOM_PUBLIC_URL"} & set(given)
    assert environment(SECURED, inherited)["WIRELOOM_IDENTITY"] == "/data/identity"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "2001:db8::1"])
@pytest.mark.parametrize("option", ["http_host", "bus_host"])
def test_beyond_loopback_only_with_authorisation(option: str, host: str) -> None:
    check(replace(SECURED, **{option: host}))  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="With --no-auth nothing may listen"):
        check(replace(OPEN, **{option: host}))  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_is_open_to_all(host: str) -> None:
    check(replace(OPEN, http_host=host, bus_host=host))


@pytest.mark.parametrize("host", ["a b", "a/b", "https://a", "a:1", "", "-a", "x" * 64, "a..b", "ä.example.org"])
def test_no_public_host(host: str) -> None:
    if not host:
        assert check(replace(SECURED, public_host=host)).url == "https://127.0.0.1:7480"
        return
    with pytest.raises(InvalidInputError, match="no host's name or address"):
        check(replace(SECURED, public_host=host))


def test_a_token_is_shown_with_where_it_is_of_use() -> None:
    said = summary(SECURED, Welcome("wla_secret", "ab12"))
    assert said.count("wla_secret") == 1
    assert "  wireloom login https://127.0.0.1:7480 --ca-sha256 ab12\n" in said
    assert "wla_secret" not in repr(Welcome("wla_secret", "ab12"))
    assert "account recover" in summary(SECURED, Welcome(None, ""))
    assert "login" not in summary(OPEN, None)


def test_certificates_and_hosts() -> None:
    authority = Authority.made()
    pem, _ = server_certificate(authority, ["*.example.org", "Cp.example.net", "192.0.2.1"])
    assert certificate_hosts(pem) == ["*.example.org", "Cp.example.net", "192.0.2.1"]
    assert all(is_for(pem, host) for host in ("a.example.org", "A.EXAMPLE.org", "cp.example.net", "192.0.2.1"))
    assert not any(is_for(pem, host) for host in ("example.org", "a.b.example.org", "192.0.2.2", "example.net", "org"))
    now = datetime.now(UTC)
    assert not is_due(pem, ["192.0.2.1"], now)
    assert is_due(pem, ["192.0.2.2"], now)
    assert is_due(pem, ["192.0.2.1"], now + timedelta(days=SERVER_DAYS / 2 + 1))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (Keys(1, ("a",), "a", {"a": 3}), []),
        (Keys(2, ("b", "a"), "b", {"a": 2, "b": 1}), ["2 records are still to be signed with b."]),
        (Keys(2, ("b", "a"), "b", {"b": 3}), ["Every record is signed with the first key"]),
        (Keys(2, ("b", "a"), "a", {"a": 3}), ["A rotation was interrupted"]),
        (Keys(2, ("b",), "a", {"a": 3}), ["machines refuse its records"]),
        (Keys(1, ("a",), "a", {"": 3}), ["3 records are still to be signed with a."]),
    ],
)
def test_what_the_keys_want_of_people(keys: Keys, said: list[str]) -> None:
    given = list(advice(keys))
    assert len(given) == len(said)
    assert all(part in line for part, line in zip(said, given, strict=True))
