"""The field types that are checked on their way in."""

from __future__ import annotations

import pytest

from events.fields import check_endpoint


@pytest.mark.parametrize("endpoint", ["192.0.2.1:51820", "[2001:db8::1]:1"])
def test_an_endpoint_stays_as_it_is(endpoint: str) -> None:
    assert check_endpoint(endpoint) == endpoint


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "192.0.2.1",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "192.0.2.1:" + "9" * 6000,
        "2001:db8::1:51820",
        "[192.0.2.1]:51820",
        "0.0.0.0:51820",
        "[::]:51820",
        "224.0.0.1:51820",
        "[fe80::1%eth0]:51820",
        "host.example:51820",
    ],
)
def test_nobody_can_send_there(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"not an? |not appear"):
        check_endpoint(endpoint)
