"""The whole of Wireloom but real tunnels: bus, services and agents as processes, from a network's start to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from events.domain import MachinesAssigned
from events.errors import InUseError
from services.cli.embedded import EmbeddedServer
from tests.support.fleet import Fleet, running_fleet
from tests.support.ledger import read_ledger
from tests.support.plane import MACHINES, NETWORKS, Plane, running_plane

MACHINE_IDS = [uuid4() for _ in range(8)]


@pytest.fixture
async def plane(bus_server: EmbeddedServer) -> AsyncIterator[Plane]:
    bus_server.port = int(bus_server.url.rsplit(":", 1)[1])
    async with running_plane(bus_server.url) as plane:
        yield plane
        plane.assert_running()


@pytest.fixture
async def fleet(plane: Plane, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Agents that have made their machines known."""
    async with running_fleet(plane.bus_url, tmp_path / "fleet", MACHINE_IDS) as fleet:
        await fleet.follows(plane.client)
        yield fleet


async def test_from_a_networks_creation_to_its_end(plane: Plane, fleet: Fleet) -> None:
    office, lab = await plane.network("office", "172.20.0.0/24"), uuid4()
    await plane.give("create-network", network_id=lab, name="lab", network_cidr="10.1.0.0/24")

    # Four over HTTP, one by one; five over the bus, at once; one machine is in both.
    for machine_id in MACHINE_IDS[:4]:
        await plane.change("POST", f"{NETWORKS}/{office}/machines", {"machine_uuid": str(machine_id)})
    await plane.give("assign-machines", network_id=lab, machine_ids=MACHINE_IDS[3:])
    ledger = await fleet.follows(plane.client)
    report = await fleet.report(plane.client)
    assert [len(report[machine_id]) for machine_id in MACHINE_IDS] == [1, 1, 1, 2, 1, 1, 1, 1]
    assert sorted(len(tunnel["peers"]) for tunnel in report[MACHINE_IDS[3]].values()) == [3, 4]
    assert str(ledger.members[office][MACHINE_IDS[2]].address) == "172.20.0.3"
    assert (await plane.get(MACHINES, is_online="true"))["total"] == len(MACHINE_IDS)

    # A rename reaches the peers, in both networks.
    await plane.change("PATCH", f"{MACHINES}/{MACHINE_IDS[3]}", {"hostname": "db-1.example.org"})
    ledger = await fleet.follows(plane.client)
    assert ledger.hostnames[MACHINE_IDS[3]] == "db-1.example.org"

    # Who leaves one network stays in the other; the freed address goes to who comes next.
    await plane.change("DELETE", f"{NETWORKS}/{office}/machines/{MACHINE_IDS[3]}")
    await plane.change("DELETE", f"{NETWORKS}/{office}/machines/{MACHINE_IDS[0]}")
    await plane.give("assign-machine", network_id=office, machine_id=MACHINE_IDS[7])
    ledger = await fleet.follows(plane.client)
    assert {machine: str(member.address) for machine, member in ledger.members[office].items()} == {
        MACHINE_IDS[1]: "172.20.0.2",
        MACHINE_IDS[2]: "172.20.0.3",
        MACHINE_IDS[7]: "172.20.0.1",
    }
    assert not (await fleet.report(plane.client))[MACHINE_IDS[0]]

    # A network in use is deleted by force only, and then all its interfaces go.
    with pytest.raises(InUseError):
        await plane.change("DELETE", f"{NETWORKS}/{lab}")
    with pytest.raises(InUseError):
        await plane.give("delete-machine", machine_id=MACHINE_IDS[1])
    await plane.change("DELETE", f"{NETWORKS}/{lab}?force=true")
    await plane.give("delete-machine", machine_id=MACHINE_IDS[1], force=True)
    await fleet.follows(plane.client)
    report = await fleet.report(plane.client)
    assert [machine_id for machine_id in MACHINE_IDS if report[machine_id]] == [MACHINE_IDS[2], MACHINE_IDS[7]]
    await plane.change("DELETE", f"{NETWORKS}/{office}?force=true")
    await fleet.follows(plane.client)
    assert not any((await fleet.report(plane.client)).values())
    assert (await plane.get(NETWORKS))["total"] == 0
    await plane.state_follows()


async def test_a_repeated_request_is_executed_once_and_answered_the_same(plane: Plane, fleet: Fleet) -> None:
    office, key = await plane.network("office", "172.20.0.0/24"), uuid4()
    place, body = f"{NETWORKS}/{office}/machines", {"machine_uuid": str(MACHINE_IDS[0])}
    answers = [await plane.change("POST", place, body, key) for _ in range(2)]
    await plane.stop("allocator")
    await plane.start("allocator")
    answers.append(await plane.change("POST", place, body, key))
    assert answers == [{**answers[0], "wg_ip_address": "172.20.0.1"}] * 3
    # Over the bus it is the same command, too.
    outcome = await plane.give("assign-machine", key, network_id=office, machine_id=MACHINE_IDS[0])
    assert outcome.changed
    assert [str(assignment.address) for assignment in outcome.assignments] == ["172.20.0.1"]
    ledger = await fleet.follows(plane.client)
    assert ledger.events_of()[key] == 1


async def test_a_restart_of_every_part_loses_nothing(plane: Plane, fleet: Fleet, bus_server: EmbeddedServer) -> None:
    office = await plane.network("office", "172.20.0.0/24")
    machines = iter(MACHINE_IDS)
    given: dict[UUID, UUID] = {}

    async def assign_one() -> None:
        command_id, machine_id = uuid4(), next(machines)
        outcome = await plane.give("assign-machine", command_id, network_id=office, machine_id=machine_id)
        assert outcome.changed
        given[command_id] = machine_id
        await fleet.follows(plane.client)

    await assign_one()
    for name in ("allocator", "topology", "gateway"):
        await plane.stop(name)
        # What is asked while a part is down is done when it is back.
        waiting = asyncio.create_task(assign_one())
        await plane.start(name)
        await waiting
    await bus_server.stop()
    waiting = asyncio.create_task(assign_one())
    await bus_server.start()
    await waiting
    await fleet.stop()
    await fleet.start()
    await assign_one()

    await plane.ready()
    ledger = await read_ledger(plane.client)
    assigned = [logged.event for logged in ledger.events if isinstance(logged.event, MachinesAssigned)]
    assert {event.command_id: event.assignments[0].machine_id for event in assigned} == given
    assert [str(event.assignments[0].address) for event in assigned] == [f"172.20.0.{n}" for n in range(1, 7)]
    shown = await plane.get(f"{NETWORKS}/{office}/machines")
    assert [UUID(machine["uuid"]) for machine in shown["items"]] == list(given.values())
    await plane.state_follows()
