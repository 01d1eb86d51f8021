"""A bus on which machines report their links, and what PATHS must come to hold."""

from __future__ import annotations

import random
from collections import defaultdict
from contextlib import aclosing
from uuid import UUID

from nats.aio.client import Client
from nats.aio.msg import Msg

from events import state
from events.bus import ensure_streams
from events.errors import UnavailableError
from events.feed import standing
from events.records import PathRecord, PeerRecord, ReachEvent, Record, RelayRecord
from events.subjects import PATHS, PATHS_PREFIX, PATHS_STREAM, REACH, path, reach, scope_of, state_of
from events.trust.signing import signed_with
from services.topology.paths_core import Paths
from tests.support.histories import History
from tests.support.links import drained, report
from tests.support.log_writer import write_events
from tests.support.waiting import wait_until


class PathWatch:
    """Reports links, as the gateway does for the machines, and judges what comes of it."""

    def __init__(self, reader: Client, gateway: Client, allocator: Client, seed: int = 1) -> None:
        self.history = History(seed)
        self.chance = random.Random(seed)
        self.network = self.history.create_network()
        self.heard: list[tuple[str, Record]] = []
        self._newest: dict[str, tuple[int, ReachEvent]] = {}
        self._reader = reader
        self._gateway = gateway
        self._allocator = allocator
        self._written = 0

    async def prepare(self) -> None:
        """Have the streams made."""
        await ensure_streams(self._reader, (REACH, PATHS), 1)

    async def listen(self) -> None:
        """Hear what machines hear."""
        await self._gateway.subscribe("live.paths.>", cb=self._hear, pending_msgs_limit=0, pending_bytes_limit=0)
        await self._gateway.flush()

    async def _hear(self, message: Msg) -> None:
        self.heard.append((state_of(message.subject), state.decode_record(message.data)))

    async def log(self) -> None:
        """Write what happened into the log."""
        self._written, written = len(self.history.events), self._written
        await write_events(self._allocator, self.history.events[written:])

    async def join(self, count: int) -> list[UUID]:
        """New members."""
        joined = [self.history.join(self.network) for _ in range(count)]
        await self.log()
        return joined

    async def say(self, one: UUID, other: UUID, rtt: int | None, *, both: bool = True) -> None:
        """A machine reports a link, or each end does."""
        for here, there in ((one, other), (other, one)) if both else ((one, other),):
            event = report(here, there, rtt, self.network)
            subject = reach(self.network, here, there)
            answer = await self._gateway.jetstream().publish(subject, event.model_dump_json().encode(), timeout=30)
            self._newest[subject] = (answer.seq, event)

    def forget_reports(self) -> None:
        """Nothing that was reported counts any more."""
        self._newest.clear()

    async def random_report(self, machines: list[UUID], density: float = 0.5) -> None:
        """Any link is any way."""
        one, other = self.chance.sample(machines, 2)
        await self.say(one, other, self.chance.choice((1, 2, 5)) if self.chance.random() < density else None)

    async def held(self) -> dict[str, tuple[bytes, str]]:
        """What stands in PATHS, with the signatures."""
        found: dict[str, tuple[bytes, str]] = {}
        async with aclosing(standing(self._reader, PATHS_STREAM, f"{PATHS_PREFIX}.>")) as batches:
            async for batch in batches:
                found |= {message.subject: (message.data, state.signature_of(message)) for _, message in batch}
        return found

    async def bodies(self) -> dict[str, PathRecord | RelayRecord]:
        """What PATHS says."""
        decoded = {subject: state.decode_record(payload).body for subject, (payload, _) in (await self.held()).items()}
        return {subject: body for subject, body in decoded.items() if isinstance(body, PathRecord | RelayRecord)}

    async def expected(self) -> dict[str, object]:
        """What follows from REACH and STATE as they are."""
        paths = Paths()
        for sequence, event in self._newest.values():
            paths.link(sequence, event)
        dump = await state.load(self._reader)
        for entry in dump.records():
            if isinstance(entry.record.body, PeerRecord):
                peer = entry.record.body
                paths.member(peer.network_id, peer.machine_id, peer.transit)
        return {change.subject: change.body for change in drained(paths)}

    async def settled(self, signed: str = "") -> None:
        """Wait until PATHS holds what follows, with a key's signatures, and the log is derived."""

        async def is_settled() -> bool:
            try:
                last = await state.last_message(self._reader)
                if last is None or last.position < self._written or await self.bodies() != await self.expected():
                    return False
                signatures = {signed_with(signature) for _, signature in (await self.held()).values()}
                return not signed or signatures <= {signed}
            except UnavailableError:
                return False

        await wait_until(is_settled, what="PATHS holds what follows from REACH and STATE")

    async def ways(self, one: UUID, other: UUID) -> tuple[tuple[UUID, ...], ...] | None:
        """The ways that PATHS has."""
        body = (await self.bodies()).get(path(one, self.network, other))
        return body.ways if isinstance(body, PathRecord) else None

    def assert_each_once(self, *, gaps: bool = False) -> None:
        """Every scope's records came one after the other."""
        held: dict[str, int] = defaultdict(int)
        for subject, record in self.heard:
            scope = scope_of(subject)
            assert record.revision > held[scope], subject
            assert gaps or record.previous == held[scope], subject
            held[scope] = record.revision
