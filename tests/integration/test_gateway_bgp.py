"""What machines report of their BGP speakers, on a secured bus; and that they are told their network's plan."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from nats.aio.client import Client

from events import bus
from events.client import BusClient
from events.errors import NotFoundError, UnavailableError
from events.peering import BgpPlan
from events.records import (
    AnnouncementRecord,
    BgpReply,
    BgpRequest,
    Record,
    RibRoute,
    RibState,
    RoutingRecord,
    SessionState,
    SpeakerState,
    SyncReply,
    SyncRequest,
)
from events.state import decode_record, encode_record
from events.subjects import ask, bgp_plan, live_scope, machine_routing, network_announcement, scope
from services.gateway.reporters import StaleReportError
from tests.support.gateway_place import Machine, Place, placed
from tests.support.waiting import wait_until


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with placed(tmp_path) as found:
        await found.make_streams()
        yield found


async def report(
    client: Client, machine: Machine, network: UUID, *states: object, boot: UUID, counter: int, whole: bool = False
) -> int:
    request = BgpRequest(network_id=network, boot_id=boot, counter=counter, whole=whole, states=states)  # type: ignore[arg-type]
    answer = await bus.ask(client, ask(machine.id, "bgp"), request.model_dump_json().encode(), 5)
    return BgpReply.model_validate_json(answer).sequence


async def sync(client: Client, machine: Machine, name: str, since: int = 0) -> SyncReply:
    body = SyncRequest(scope=name, since=since).model_dump_json().encode()
    return SyncReply.model_validate_json(await bus.ask(client, ask(machine.id, "sync"), body, 10))


async def is_following(client: Client, machine: Machine) -> bool:
    """Whether the gateway has read the streams."""
    try:
        await sync(client, machine, scope("paths", machine.id))
        await report(client, machine, uuid4(), boot=uuid4(), counter=1)
    except UnavailableError:
        return False
    except NotFoundError:
        return True
    return False


@asynccontextmanager
async def heard(place: Place, machine: Machine) -> AsyncIterator[BusClient]:
    """A machine's connection, once the gateway takes its reports."""
    async with place.agent(machine) as client:
        await wait_until(lambda: is_following(client, machine), what="the gateway follows the streams")
        yield client


async def test_what_a_machine_reports_is_kept_and_shown_also_by_another_gateway(place: Place) -> None:
    one, two = await place.machine(1), await place.machine(2)
    now, boot = datetime.now(UTC), uuid4()
    lan, hop = IPv4Network("10.20.0.0/16"), IPv4Address("172.16.0.2")
    said = (
        SpeakerState(state="running", version="2.0.12", since=now, announced=(lan,)),
        SessionState(peer_id=two.id, purpose="mesh", state="established", since=now, imported=1, exported=2),
        RibState(
            part=0, parts=1, total=1, routes=(RibRoute(prefix=lan, next_hop=hop, best=True, local_pref=100, since=now),)
        ),
    )
    async with heard(place, one) as client:
        assert await report(client, one, place.office, *said, boot=boot, counter=1, whole=True) == 3
        with pytest.raises(StaleReportError):
            await report(client, one, place.office, *said, boot=boot, counter=1)
    for _ in range(2):
        network = await place.look(f"mesh-networks/{place.office}/bgp")
        assert (network["stage"], network["speakers"]) == (
            "mesh",
            {"running": 1, "off": 0, "failed": 0, "unknown": 1},
        )
        assert network["sessions"]["planned"] == 1
        (session,) = (await place.look(f"mesh-networks/{place.office}/bgp/sessions", machine=str(one.id)))["items"]
        assert (session["peer"]["uuid"], session["state"], session["exported"]) == (str(two.id), "established", 2)
        (speaker,) = (await place.look(f"machines/{one.id}/bgp"))["items"]
        assert (speaker["state"], speaker["announced"], speaker["sessions_established"]) == ("running", [str(lan)], 1)
        rib = await place.look(f"machines/{one.id}/mesh-networks/{place.office}/rib")
        assert (rib["total"], rib["items"][0]["machine"]["uuid"]) == (1, str(two.id))
        await place.start_gateway()
        async with heard(place, one) as client:
            with pytest.raises(StaleReportError):
                await report(client, one, place.office, *said, boot=boot, counter=1)


async def test_a_machine_hears_and_is_told_its_networks_plan_and_no_others(place: Place) -> None:
    one = await place.machine(1)
    plan = BgpPlan("reflectors", frozenset({one.id}))
    for network in (place.office, place.lab):
        record = Record(revision=7, previous=0, cause=1, time=datetime.now(UTC), body=plan.record(network))
        await place.client.jetstream().publish(bgp_plan(network), encode_record(record))
    async with heard(place, one) as client:
        arrived: list[bytes] = []

        async def hear(message: object) -> None:
            arrived.append(message.data)  # type: ignore[attr-defined]

        await client.subscribe(live_scope("bgp", place.office), cb=hear)
        await client.flush()
        told = await sync(client, one, scope("bgp", place.office))
        assert [decode_record(entry.payload.encode()).body for entry in told.records] == [plan.record(place.office)]
        assert (told.revision, told.gone) == (7, False)
        assert (await sync(client, one, scope("bgp", place.office), since=7)).records == ()
        assert (await sync(client, one, scope("bgp", place.lab))).gone
        after = Record(revision=8, previous=7, cause=2, time=datetime.now(UTC), body=BgpPlan().record(place.office))
        await place.client.jetstream().publish(bgp_plan(place.office), encode_record(after))
        await wait_until(lambda: bool(arrived), what="the new plan")
        assert decode_record(arrived[0]) == after


async def test_what_follows_from_the_routing_list_is_told_with_the_scopes_that_it_is_in(place: Place) -> None:
    one = await place.machine(1)
    lan = IPv4Network("10.20.0.0/16")
    announced = AnnouncementRecord(network_id=place.office, machine_id=one.id, prefixes=(lan,), vips=())
    duties = RoutingRecord(machine_id=one.id, prefixes=(lan,), vips=(), gateway=(), policies=())
    await place.state.put(network_announcement(place.office, one.id), announced)
    await place.state.put(machine_routing(one.id), duties)
    async with heard(place, one) as client:
        for name, body in ((scope("network", place.office), announced), (scope("machine", one.id), duties)):
            told = await sync(client, one, name)
            assert body in [decode_record(entry.payload.encode()).body for entry in told.records]
