"""Networks' BGP plans on a real server: derived from what machines report, whatever is killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from uuid import UUID, uuid4

import pytest
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from events import bus, state
from events.peering import BgpPlan
from events.records import BgpEvent, BgpPlanRecord, Record, SessionState, SpeakerState
from events.subjects import BGP, PATHS, REACH, bgp_plan, bgp_session, bgp_speaker, state_of
from services.topology.service import serve
from services.topology.settings import Settings
from services.topology.tasks import end
from tests.support.histories import History
from tests.support.log_writer import write_events
from tests.support.waiting import wait_until


class Fleet:
    """One network, and what its machines report."""

    def __init__(self, client: Client) -> None:
        self.history = History()
        self.network = self.history.create_network()
        self.heard: list[Record] = []
        self._client = client
        self._counter = count(1)
        self._boot = uuid4()
        self._written = 0

    async def prepare(self) -> None:
        """Streams, and somebody who listens."""
        await bus.ensure_streams(self._client, (REACH, PATHS, BGP), 1)

        async def hear(message: object) -> None:
            assert state_of(message.subject) == bgp_plan(self.network)  # type: ignore[attr-defined]
            self.heard.append(state.decode_record(message.data))  # type: ignore[attr-defined]

        await self._client.subscribe("live.bgp.>", cb=hear)

    async def log(self) -> None:
        """What happened goes into the log."""
        self._written, written = len(self.history.events), self._written
        await write_events(self._client, self.history.events[written:])

    async def join(self, size: int) -> list[UUID]:
        """New machines, whose speakers run."""
        machines = [self.history.join(self.network) for _ in range(size)]
        await self.log()
        for one in machines:
            await self.speak(one)
        return machines

    async def speak(self, one: UUID, said: str = "running") -> None:
        """A machine reports its speaker."""
        body = SpeakerState(state=said, since=datetime.now(UTC))  # type: ignore[arg-type]
        await self._say(bgp_speaker(self.network, one), one, body)

    async def follow(self, plan: BgpPlan, machines: Iterable[UUID]) -> None:
        """All machines do what the plan says, and report it."""
        everybody = list(machines)
        for one in everybody:
            meant = plan.sessions(one, everybody)
            for peer in everybody:
                for kind in ("mesh", "client") if peer != one else ():
                    said = "established" if (peer, kind) in meant else "gone"
                    body = SessionState(peer_id=peer, purpose=kind, state=said, since=datetime.now(UTC))  # type: ignore[arg-type]
                    await self._say(bgp_session(self.network, one, peer, kind), one, body)  # type: ignore[arg-type]

    async def plan(self) -> BgpPlan:
        """What stands."""
        try:
            message = await self._client.jetstream().get_last_msg(PATHS.name, bgp_plan(self.network))
        except NotFoundError:
            return BgpPlan()
        body = state.decode_record(message.data or b"").body
        assert isinstance(body, BgpPlanRecord)
        return BgpPlan.of(body)

    async def becomes(self, stage: str, size: int = 3) -> BgpPlan:
        """Wait for a plan."""

        async def is_so() -> bool:
            plan = await self.plan()
            return plan.stage == stage and len(plan.reflectors) == (0 if stage == "mesh" else size)

        await wait_until(is_so, timeout=20, what=f"{stage} with {size} reflectors")
        return await self.plan()

    def assert_in_order(self) -> None:
        """Everything was heard once."""
        revisions = [record.revision for record in self.heard]
        assert revisions == sorted(set(revisions))
        assert [record.previous for record in self.heard[1:]] == revisions[:-1]

    async def _say(self, subject: str, one: UUID, body: SpeakerState | SessionState) -> None:
        event = BgpEvent(
            network_id=self.network,
            machine_id=one,
            boot_id=self._boot,
            counter=next(self._counter),
            time=datetime.now(UTC),
            state=body,
        )
        await self._client.jetstream().publish(subject, event.model_dump_json().encode(), timeout=30)


@pytest.fixture
async def fleet(bus_url: str) -> AsyncIterator[Fleet]:
    client = await bus.connect(bus_url, "test")
    fleet = Fleet(client)
    await fleet.prepare()
    yield fleet
    await client.close()


@asynccontextmanager
async def topology(url: str) -> AsyncIterator[None]:
    """A running service. It is cancelled in the middle of whatever it does."""
    task = asyncio.create_task(serve(Settings(nats_url=url), asyncio.Event()))
    try:
        yield
    finally:
        with suppress(asyncio.CancelledError):
            await end(task)


async def test_a_network_is_switched_there_and_back_by_two_services_one_of_which_is_killed(
    fleet: Fleet, bus_url: str
) -> None:
    async with topology(bus_url):
        async with topology(bus_url):
            machines = await fleet.join(4)
            await fleet.follow(BgpPlan(), machines)
            assert await fleet.plan() == BgpPlan()
            fleet.history.set_route_reflector_mode(fleet.network, True)
            await fleet.log()
            await fleet.follow(await fleet.becomes("switching"), machines)
            await fleet.becomes("reflectors")
        plan = await fleet.plan()
        await fleet.follow(plan, machines)
        off = min(plan.reflectors)
        await fleet.speak(off, "off")
        # The fourth takes its place at once, for nobody is the first one's client alone.
        await wait_until(lambda: _lacks(fleet, off), what="another reflector")
        fleet.history.set_route_reflector_mode(fleet.network, False)
        await fleet.log()
        await fleet.follow(await fleet.becomes("switching"), machines)
        await fleet.becomes("mesh")
    fleet.assert_in_order()


async def _lacks(fleet: Fleet, machine_id: UUID) -> bool:
    plan = await fleet.plan()
    return machine_id not in plan.reflectors and len(plan.reflectors) == 3


async def test_who_was_killed_goes_on_from_what_stands_and_a_deleted_network_leaves_nothing(
    fleet: Fleet, bus_url: str
) -> None:
    async with topology(bus_url):
        machines = await fleet.join(2)
        fleet.history.set_route_reflector_mode(fleet.network, True)
        await fleet.log()
        await fleet.becomes("switching", 2)
    await fleet.follow(await fleet.plan(), machines)
    async with topology(bus_url):
        await fleet.becomes("reflectors", 2)
        fleet.assert_in_order()
        fleet.history.delete_network(fleet.network)
        await fleet.log()

        async def is_gone() -> bool:
            return await fleet.plan() == BgpPlan()

        await wait_until(is_gone, what="the plan is purged")
