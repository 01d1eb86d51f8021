"""Machines that report their BGP speakers, on a real bus: as the gateway would write it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import count
from uuid import UUID, uuid4

from nats.aio.client import Client
from nats.js.errors import NotFoundError

from events import bus, state
from events.peering import BgpPlan
from events.records import BgpEvent, BgpPlanRecord, Record, SessionState, SpeakerState
from events.subjects import BGP, PATHS, REACH, bgp_plan, bgp_session, bgp_speaker, state_of
from events.trust.signing import SIGNATURE_HEADER
from tests.support.histories import History
from tests.support.log_writer import write_events
from tests.support.waiting import wait_until


class Fleet:
    """One network, and what its machines report."""

    def __init__(self, topology: Client, gateway: Client, allocator: Client) -> None:
        """The connections with which a topology service, gateway and allocator would speak."""
        self.history = History()
        self.network = self.history.create_network()
        self.heard: list[Record] = []
        self._topology = topology
        self._gateway = gateway
        self._allocator = allocator
        self._counter = count(1)
        self._boot = uuid4()
        self._written = 0

    async def prepare(self) -> None:
        """Have the streams made."""
        await bus.ensure_streams(self._topology, (REACH, PATHS, BGP), 1)

    async def listen(self) -> None:
        """Hear what machines hear."""

        async def hear(message: object) -> None:
            assert state_of(message.subject) == bgp_plan(self.network)  # type: ignore[attr-defined]
            self.heard.append(state.decode_record(message.data))  # type: ignore[attr-defined]

        await self._gateway.subscribe("live.bgp.>", cb=hear)

    async def log(self) -> None:
        """What happened goes into the log."""
        self._written, written = len(self.history.events), self._written
        await write_events(self._allocator, self.history.events[written:])

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

    async def standing(self) -> tuple[bytes, str]:
        """The record that stands, and its signature; empty where there is none."""
        try:
            message = await self._topology.jetstream().get_last_msg(PATHS.name, bgp_plan(self.network))
        except NotFoundError:
            return b"", ""
        return message.data or b"", (message.headers or {}).get(SIGNATURE_HEADER, "")

    async def plan(self) -> BgpPlan:
        """What stands."""
        payload, _ = await self.standing()
        if not payload:
            return BgpPlan()
        body = state.decode_record(payload).body
        assert isinstance(body, BgpPlanRecord)
        return BgpPlan.of(body)

    async def becomes(self, stage: str, size: int = 3) -> BgpPlan:
        """Wait for a plan."""

        async def is_so() -> bool:
            plan = await self.plan()
            return plan.stage == stage and len(plan.reflectors) == (0 if stage == "mesh" else size)

        await wait_until(is_so, what=f"{stage} with {size} reflectors")
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
        await self._gateway.jetstream().publish(subject, event.model_dump_json().encode(), timeout=30)
