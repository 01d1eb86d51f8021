"""Machines whose direct path is cut and comes back, with wireguard-go, real probes, and ways that a test names."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from events.transit import transit_address
from tests.support.stage import Host, Stage, staged
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timed]

PROMISED = 3.0
"""Seconds without a reply."""


@pytest.fixture
async def stage(bus_url: str, tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(bus_url, tmp_path, 4) as stage:
        await stage.all_direct()
        yield stage


def through(stage: Stage, here: Host, there: Host, via: Host) -> bool:
    """Whether one sends the other's packets through a transit."""
    address = transit_address(stage.network_id, there.machine_id, via.machine_id)
    return stage.endpoint(here, there).startswith(f"[{address}]")


async def test_a_cut_leads_through_a_transit_and_back(stage: Stage) -> None:
    left, right, north, south = stage.hosts
    assert stage.endpoint(left, right).startswith(right.outer)
    async with left.pinging(right) as pings:
        # The control plane names ways as soon as it hears of the loss; here they are known before.
        await stage.lead(left, right, (north,), (south,))
        await wait_until(lambda: len(pings.times) > 50, what="traffic that has been noticed")
        stage.cut(left, right)
        cut = time.time()
        back = await pings.heard_after(cut + 0.1)
        assert back - cut <= PROMISED
        print(f"direct cut: {back - cut:.2f} s")
        await wait_until(lambda: through(stage, left, right, north) and through(stage, right, left, north))
        await wait_until(lambda: stage.reported(left, right) == "unreachable", what="the report")

        stage.cut(left, north)
        cut = time.time()
        back = await pings.heard_after(cut + 0.1)
        assert back - cut <= PROMISED
        print(f"transit cut: {back - cut:.2f} s")
        await wait_until(lambda: through(stage, left, right, south) and through(stage, right, left, south))

        stage.mend(left, north)
        before = max(pings.times)
        stage.mend(left, right)
        direct = (left.outer, right.outer)
        await wait_until(
            lambda: (
                stage.endpoint(left, right).startswith(direct[1]) and stage.endpoint(right, left).startswith(direct[0])
            ),
            60,
            what="the direct path",
        )
        await stage.lead(left, right)
        await pings.heard_after(time.time())
        assert pings.lost_since(before) == 0
        await wait_until(lambda: stage.reported(left, right) == "direct", what="the report")
    await wait_until(lambda: stage.device(left).addresses == {f"{left.address}/32"}, what="no transit addresses")


async def test_a_way_may_lead_through_two_transits_and_lasts_without_the_control_plane(stage: Stage) -> None:
    left, right, north, south = stage.hosts
    # left ── north ── south ── right, and nothing else.
    await stage.relay(north, south, (right, south))
    await stage.relay(south, north, (left, north))
    await stage.lead(left, right, (north, south))
    for one, other in ((left, right), (left, south), (north, right)):
        stage.cut(one, other)
    await wait_until(lambda: through(stage, left, right, south) and through(stage, right, left, north))
    await wait_until(lambda: left.ping(right), what="a reply")

    await stage.gateway.stop()
    for host in (left, north):
        await host.stop()
        stage.forget_interface(host)
        host.start()
    await wait_until(lambda: left.ping(right), what="a reply")
    assert through(stage, left, right, south)


async def test_who_may_be_no_transit_lets_nothing_pass(stage: Stage) -> None:
    left, right, north, _ = stage.hosts
    await stage.set_transit(north, "never")
    static = f"{transit_address(stage.network_id, left.machine_id, north.machine_id)}/128"
    await wait_until(lambda: not any(static in peer.allowed_ips for peer in stage.device(north).peers.values()))
    await stage.lead(left, right, (north,))
    stage.cut(left, right)
    await wait_until(lambda: through(stage, left, right, north))
    assert not await left.ping(right, 1.0)
    await stage.set_transit(north, "auto")
    await wait_until(lambda: left.ping(right), what="a reply")
