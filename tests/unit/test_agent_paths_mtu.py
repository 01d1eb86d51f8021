"""Nothing that travels in a tunnel inside a tunnel has to be fragmented."""

from __future__ import annotations

import pytest

from agent.desired import DEFAULT_MTU
from agent.paths import nested_mtu

_HEADERS = 32 + 8 + 40
"""WireGuard's own (its paper, section 5.4.6), UDP's, IPv6's."""


@pytest.mark.parametrize("mtu", range(1360, 1501))
def test_a_packet_of_any_size_fits_even_when_filled_up(mtu: int) -> None:
    largest = nested_mtu(mtu)
    assert all(-(-size // 16) * 16 + _HEADERS <= mtu for size in range(largest - 32, largest + 1))
    assert largest > mtu - _HEADERS - 16, "no more is given away than must be"


def test_the_default() -> None:
    assert nested_mtu(DEFAULT_MTU) == 1328
