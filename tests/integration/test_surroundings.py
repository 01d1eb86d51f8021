"""Where a machine stands in the networks underneath, in network namespaces."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from agent.desired import Locality
from agent.surroundings import SystemSurroundings
from agent.wireguard_go import WireguardGoDevices
from tests.support.stations import cable, station

pytestmark = pytest.mark.lab


def test_what_leads_into_a_mesh_leads_nowhere_underneath() -> None:
    """A machine that has only IPv6 sends nothing to the IPv4 addresses of others, although its mesh has IPv4."""
    with station(WireguardGoDevices) as here, station(WireguardGoDevices) as there:
        cable(here, ("fd01::1/64",), there, ("fd01::2/64",))
        here.up(52001, "172.20.0.1/24")

        def look() -> Locality:
            surroundings = SystemSurroundings()
            try:
                return surroundings.look()
            finally:
                surroundings.close()

        # A new thread is in the namespace of the one that begins it, and free of that one's event loop.
        with ThreadPoolExecutor(1) as thread:
            locality = here.do(thread.submit, look).result()
    assert locality.families == {6}
    assert [str(interface) for interface in locality.addresses] == ["fd01::1/64"]
