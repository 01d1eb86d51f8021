"""Callers who assign many machines to a network at the same time, and do not give up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any
from uuid import UUID, uuid4

from events.domain import MachinesAssigned
from tests.support.ledger import Ledger
from tests.support.plane import NETWORKS, Plane
from tests.support.waiting import wait_until

CALLERS = 16


@dataclass
class Callers:
    """What they were told. Every second one asks over HTTP, the others over the bus."""

    plane: Plane
    network_id: UUID
    told: dict[UUID, tuple[UUID, IPv4Address]] = field(default_factory=dict)
    """For each acknowledged command its machine and address."""

    async def reach(self, count: int) -> None:
        """Wait until so many commands are acknowledged."""
        await wait_until(lambda: len(self.told) >= count, what=f"{count} acknowledgements")

    @asynccontextmanager
    async def calling(self, machine_ids: Sequence[UUID]) -> AsyncIterator[None]:
        """They are at work while the block lasts; at its end all have been answered."""
        work = asyncio.create_task(self._work(machine_ids))
        try:
            yield
            await work
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    def assert_kept(self, ledger: Ledger) -> None:
        """Everything that was acknowledged is in the log, as it was acknowledged, exactly once."""
        written = ledger.events_of()
        assert {command_id: written[command_id] for command_id in self.told} == dict.fromkeys(self.told, 1)
        logged = {
            logged.event.command_id: (assignment.machine_id, assignment.address)
            for logged in ledger.events
            if isinstance(logged.event, MachinesAssigned) and logged.event.network_id == self.network_id
            for assignment in logged.event.assignments
        }
        assert logged == self.told
        assert len({address for _, address in self.told.values()}) == len(self.told)

    async def _work(self, machine_ids: Sequence[UUID]) -> None:
        waiting = list(reversed(machine_ids))
        async with asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                group.create_task(self._call(waiting, over_http=number % 2 == 0))

    async def _call(self, waiting: list[UUID], *, over_http: bool) -> None:
        while waiting:
            machine_id, command_id = waiting.pop(), uuid4()
            assign = self._over_http if over_http else self._over_bus
            self.told[command_id] = machine_id, await assign(machine_id, command_id)

    async def _over_bus(self, machine_id: UUID, command_id: UUID) -> IPv4Address:
        outcome = await self.plane.give("assign-machine", command_id, network_id=self.network_id, machine_id=machine_id)
        return outcome.assignments[0].address

    async def _over_http(self, machine_id: UUID, command_id: UUID) -> IPv4Address:
        path, body = f"{NETWORKS}/{self.network_id}/machines", {"machine_uuid": str(machine_id)}
        answer: Any = await self.plane.change("POST", path, body, command_id)
        return IPv4Address(answer["wg_ip_address"])
