"""Ranges, names, endpoints and errors: the rules that all parts share."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from events import cidr
from events.errors import InternalError, InvalidCidrError, NameTakenError, WireloomError
from events.fields import Endpoint, Moment, PublicKey, check_hostname, check_network_name, shown, split_endpoint

ENDPOINT: TypeAdapter[str] = TypeAdapter(Endpoint)
KEY: TypeAdapter[str] = TypeAdapter(PublicKey)


@given(st.sampled_from(cidr.PRIVATE_RANGES), st.data())
def test_a_network_is_accepted_just_as_it_is_written(private: IPv4Network, data: st.DataObject) -> None:
    length = data.draw(st.integers(private.prefixlen, cidr.LONGEST_PREFIX))
    address = int(private.network_address) + data.draw(st.integers(0, private.num_addresses - 1))
    inside = IPv4Address(address)
    network = IPv4Network((address, length), strict=False)
    assert cidr.parse_network_cidr(str(network)) == network
    if inside != network.network_address:
        with pytest.raises(InvalidCidrError) as refusal:
            cidr.parse_network_cidr(f"{inside}/{length}")
        assert refusal.value.hint == f"Did you mean {network}?"


@given(st.text(max_size=40))
def test_whatever_is_written_is_accepted_or_refused_with_a_hint(text: str) -> None:
    try:
        accepted, refusal = str(cidr.parse_network_cidr(text)), None
    except InvalidCidrError as error:
        accepted, refusal = text, error
    assert accepted == text
    assert refusal is None or (refusal.hint and refusal.detail.isprintable())


def test_the_capacity_leaves_out_network_and_broadcast_address() -> None:
    assert cidr.capacity(IPv4Network("172.16.0.0/24")) == 254
    assert cidr.capacity(IPv4Network("10.0.0.0/16")) == 65_534
    office = IPv4Network("172.16.0.0/24")
    wanted = {"172.16.0.0": None, "172.16.0.1": 1, "172.16.0.254": 254, "172.16.0.255": None, "10.0.0.1": None}
    assert {text: cidr.host_index(office, IPv4Address(text)) for text in wanted} == wanted


@pytest.mark.parametrize("name", ["a", "office", "Office-2", "a.b_c", "0", "x" * 63])
def test_names_that_can_be(name: str) -> None:
    assert check_network_name(name) == name


@pytest.mark.parametrize("name", ["db-1", "DB-1.example.org", "0", "x" * 63, ".".join(["x" * 49] * 5)])
def test_hostnames_that_can_be(name: str) -> None:
    assert check_hostname(name) == name


@pytest.mark.parametrize("endpoint", ["192.0.2.1:1", "192.0.2.1:65535", "[2001:db8::1]:51820"])
def test_endpoints_that_can_be(endpoint: str) -> None:
    assert ENDPOINT.validate_python(endpoint) == endpoint


def test_an_endpoint_is_written_in_one_way() -> None:
    assert ENDPOINT.validate_python("[2001:DB8:0::1]:51820") == "[2001:db8::1]:51820"
    assert split_endpoint("[2001:db8::1]:51820")[1] == 51820


@pytest.mark.parametrize(
    "endpoint",
    ["", "192.0.2.1", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:x", "host:1", "2001:db8::1:5",
     "[192.0.2.1]:5", "0.0.0.0:5", "[::]:5", "224.0.0.1:5", "[fe80::1%eth0]:5", "192.0.2.1:\u0665"],
)  # fmt: skip
def test_endpoints_that_cannot_be(endpoint: str) -> None:
    with pytest.raises(ValidationError):
        ENDPOINT.validate_python(endpoint)


@pytest.mark.parametrize("key", ["", "AAAA", "A" * 43 + "=", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=", "é" * 44])
def test_keys_that_cannot_be(key: str) -> None:
    with pytest.raises(ValidationError):
        KEY.validate_python(key)


@given(st.text())
def test_what_is_shown_has_no_control_characters(text: str) -> None:
    assert shown(text).isprintable()


def test_an_error_survives_the_way_over_the_wire() -> None:
    for kind in WireloomError.all_codes().values():
        error = kind("This was asked.", hint="Do that.", field="name")
        back = WireloomError.from_problem(error.to_problem())
        assert (type(back), back.to_problem()) == (kind, error.to_problem())
    assert isinstance(WireloomError.from_problem({"code": "from-the-future", "detail": "x"}), InternalError)


def test_an_error_is_mapped_once() -> None:
    kinds = WireloomError.all_codes().values()
    by_status = {422: 2, 401: 6, 403: 6, 404: 3, 409: 4, 429: 5, 503: 5}
    assert {kind.code: kind.exit_code for kind in kinds} == {kind.code: by_status.get(kind.status, 1) for kind in kinds}
    assert NameTakenError("x").to_problem()["type"] == "urn:wireloom:problem:name-taken"
    assert len({kind.code for kind in kinds}) == len(list(kinds))


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
def test_a_time_that_is_none_in_utc_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="also in UTC"):
        TypeAdapter(Moment).validate_python(text)
