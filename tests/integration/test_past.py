"""Moments that are past: what the topology service tells about them is what was live then."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID, uuid4

import httpx2
import pytest
from nats.aio.client import Client

from events import bus, log, state
from events.client import BusClient
from events.domain import NetworkRenamed
from events.errors import NotFoundError, UnavailableError
from events.instants import Instant
from events.past import PAST_STATE, PastRequest, ask_past
from events.records import LinkState, MembershipRequest, ReachRequest
from events.subjects import ask
from events.trust.permissions import inbox
from services.gateway.past import Pasts
from tests.support.gateway import control_plane, create_network, done, register_machine
from tests.support.reach_net import direct, unreachable
from tests.support.waiting import wait_until

NETWORKS = "/api/v1/mesh-networks"


class Mesh:
    """A control plane, and what a test does with it."""

    def __init__(self, http: httpx2.AsyncClient, bus_url: str, client: BusClient) -> None:
        self.http = http
        self._bus_url = bus_url
        self.client = client
        self.pasts = Pasts(client)
        self._boot = uuid4()
        self._counter = 0

    async def join(self, network: UUID, hostname: str) -> UUID:
        """A machine that is in the network and has announced its key."""
        machine = await register_machine(self.http, hostname)
        await done(self.http.post(f"{NETWORKS}/{network}/machines", json={"machine_uuid": str(machine)}))
        request = MembershipRequest(network_id=network, public_key=key_of(machine), listen_port=51820)
        async with self._agent(machine) as agent:
            await bus.ask(agent, ask(machine, "membership"), request.model_dump_json().encode(), 5)
        return machine

    @asynccontextmanager
    async def _agent(self, machine: UUID) -> AsyncIterator[BusClient]:
        client = await bus.connect(self._bus_url, "agent", inbox=inbox(str(machine)))
        try:
            yield client
        finally:
            await client.close()

    async def report(self, network: UUID, machine: UUID, *links: LinkState) -> None:
        """Have a machine report its links."""
        self._counter += 1
        request = ReachRequest(network_id=network, boot_id=self._boot, counter=self._counter, links=links)
        body = request.model_dump_json().encode()
        async with self._agent(machine) as agent:
            await wait_until(lambda: _takes(agent, ask(machine, "reach"), body), what="the gateway takes the report")

    async def kind(self, network: UUID, one: UUID, other: UUID) -> str:
        """How a machine reaches another now."""
        return str((await done(self.http.get(f"{NETWORKS}/{network}/paths/{one}/{other}")))["kind"])

    async def held(self) -> tuple[int, dict[str, bytes]]:
        """The log's end, and all that STATE holds there."""
        end = await log.last_sequence(self.client)
        await wait_until(lambda: shows(self.client, end), what="STATE shows the log's end")
        return end, dict((await state.load(self.client)).entries)


async def _takes(agent: BusClient, subject: str, body: bytes) -> bool:
    try:
        await bus.ask(agent, subject, body, 5)
    except UnavailableError:
        return False
    return True


def key_of(machine: UUID) -> str:
    """A machine's WireGuard key."""
    return base64.b64encode(machine.bytes * 2).decode()


async def shows(client: Client, position: int) -> bool:
    last = await state.last_message(client)
    return position == 0 or (last is not None and last.position >= position)


@pytest.fixture
async def mesh(bus_url: str) -> AsyncIterator[Mesh]:
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(control_plane(bus_url))
        client = await bus.connect(bus_url, "test")
        stack.push_async_callback(client.close)
        yield Mesh(http, bus_url, client)


async def test_every_position_tells_what_state_held_then(mesh: Mesh) -> None:
    held = dict([await mesh.held()])
    office = await create_network(mesh.http, "office", "10.1.0.0/16")
    held |= [await mesh.held()]
    for name in ("one", "two"):
        await mesh.join(office, name)
        held |= [await mesh.held()]
    await done(mesh.http.patch(f"{NETWORKS}/{office}", json={"name": "bureau"}))
    held |= [await mesh.held()]
    await done(mesh.http.delete(f"{NETWORKS}/{office}", params={"force": "true"}))
    held |= [await mesh.held()]
    for position, expected in held.items():
        entries = await ask_past(mesh.client, PAST_STATE, PastRequest(position=position))
        assert {entry.subject: entry.payload for entry in entries} == expected


async def test_paths_of_the_past_follow_from_the_reports_of_then(mesh: Mesh) -> None:
    office = await create_network(mesh.http, "office", "10.1.0.0/16")
    one, two, via = [await mesh.join(office, name) for name in ("one", "two", "via")]
    before = datetime.now(UTC)
    await mesh.report(office, via, direct(one), direct(two))
    await mesh.report(office, one, direct(via), unreachable(two))
    await mesh.report(office, two, direct(via), unreachable(one))
    await wait_until(lambda: is_kind(mesh, office, one, two, "transit"), what="they reach each other through the third")
    cut = datetime.now(UTC)
    await mesh.report(office, one, direct(two))
    await mesh.report(office, two, direct(one))
    await wait_until(lambda: is_kind(mesh, office, one, two, "direct"), what="they reach each other directly")
    for time, kind, ways in ((before, "unknown", ()), (cut, "transit", ((via,),)), (datetime.now(UTC), "direct", ())):
        past = await mesh.pasts.at(Instant(time=time))
        await past.look_into([office])
        way = past.tracks.way(office, one, two)
        assert (way.kind, way.ways) == (kind, ways)


async def is_kind(mesh: Mesh, network: UUID, one: UUID, other: UUID, kind: str) -> bool:
    return await mesh.kind(network, one, other) == kind


async def test_a_position_that_the_log_has_not_come_to_is_refused(mesh: Mesh) -> None:
    with pytest.raises(NotFoundError):
        await mesh.pasts.at(Instant(position=99))
    with pytest.raises(NotFoundError):
        await ask_past(mesh.client, PAST_STATE, PastRequest(position=99))


async def test_what_would_be_is_told_and_nothing_is_written(mesh: Mesh) -> None:
    office = await create_network(mesh.http, "office", "10.1.0.0/16")
    end, held = await mesh.held()
    (newest,) = await log.read(mesh.client, end - 1, 1)
    renamed = NetworkRenamed(
        originator_id=newest.event.originator_id,
        originator_version=newest.event.originator_version + 1,
        previous_hash=newest.digest,
        time=datetime.now(UTC),
        actor="test:caller",
        command_id=uuid4(),
        network_id=office,
        name="bureau",
        previous_name="office",
    )
    now, then = await mesh.pasts.supposing([renamed])
    assert (now.mirror.network(office)[1].name, then.mirror.network(office)[1].name) == ("office", "bureau")
    assert await mesh.held() == (end, held)
