"""Checks again and again whether this machine can answer for the virtual IPs that were given to it: a shell."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address
from uuid import UUID

import structlog

from agent.bgp.health import QUICK, Health
from agent.listening import Spawn
from events.records import VipDuty, VipHealth
from events.routing import HealthCheck

Examine = Callable[[HealthCheck, IPv4Address], Awaitable[str]]
"""Makes a check once; returns how it failed, or nothing. See `agent.bgp.examine`."""


@dataclass(slots=True)
class _Watch:
    duty: VipDuty
    health: Health
    since: datetime
    task: asyncio.Task[None]


class Checks:
    """The health checks of one machine."""

    def __init__(self, examine: Examine, spawn: Spawn, changed: Callable[[], None]) -> None:
        """`changed` is called when a virtual IP is healthy that was not, or the other way round, or why changes."""
        self._examine = examine
        self._spawn = spawn
        self._changed = changed
        self._watches: dict[UUID, _Watch] = {}
        self._log = structlog.get_logger("agent")

    def have(self, duties: Iterable[VipDuty]) -> None:
        """Check these virtual IPs and no others. What is checked already, and in the same way, goes on."""
        wanted = {duty.vip_id: duty for duty in duties}
        for vip_id, watch in list(self._watches.items()):
            duty = wanted.get(vip_id)
            if duty is None or (duty.address, duty.health_check) != (watch.duty.address, watch.duty.health_check):
                del self._watches[vip_id]
                watch.task.cancel()
        for vip_id, duty in wanted.items():
            if vip_id not in self._watches:
                health = Health(duty.health_check, asyncio.get_running_loop().time())
                task = self._spawn(self._watch(vip_id))
                self._watches[vip_id] = _Watch(duty, health, datetime.now(UTC), task)

    @property
    def healthy(self) -> frozenset[UUID]:
        """The virtual IPs that this machine can answer for."""
        return frozenset(vip_id for vip_id, watch in self._watches.items() if watch.health.is_healthy)

    @property
    def are_known(self) -> bool:
        """Whether of each it is known if it is healthy, but for those whose first check is still to come."""
        now = asyncio.get_running_loop().time()
        return all(w.health.state != "unknown" or w.health.due > now + QUICK for w in self._watches.values())

    @property
    def states(self) -> tuple[VipHealth, ...]:
        """What is known of each, by address."""
        watches = sorted(self._watches.values(), key=lambda watch: watch.duty.address)
        return tuple(
            VipHealth(
                vip_id=watch.duty.vip_id,
                healthy=watch.health.is_healthy,
                since=watch.since,
                reason=watch.health.why,
            )
            for watch in watches
        )

    def close(self) -> None:
        """Check nothing more."""
        self.have(())

    async def _watch(self, vip_id: UUID) -> None:
        watch = self._watches[vip_id]
        duty, health, clock = watch.duty, watch.health, asyncio.get_running_loop().time
        while health.due < math.inf:
            await asyncio.sleep(max(0.0, health.due - clock()))
            begun, before = clock(), health.why
            failure = await self._examine(duty.health_check, duty.address)
            if health.take(begun, failure):
                watch.since = datetime.now(UTC)
                self._log.info("a virtual IP", address=str(duty.address), state=health.state, why=health.why)
                self._changed()
            elif health.why != before:
                self._changed()
