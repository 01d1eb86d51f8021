"""Says that the machine is alive, and acknowledges how far its interfaces agree with the records: a shell."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple
from uuid import UUID

from nats.aio.client import Client
from nats.errors import Error as NatsError

from events.records import Heartbeat
from events.subjects import beat

_SOON = 0.2
"""For so many seconds what is owed is gathered."""

_APART = 1.0
"""Seconds between two beats, at least: where many machines join, each of the others has something to tell each time."""


class Applied(NamedTuple):
    """How far an interface agrees with the records of its network."""

    revision: int
    at: float
    """When it came to that (`time.monotonic`)."""


class Heart:
    """Beats on the connection that there is."""

    def __init__(
        self,
        machine_id: UUID,
        boot_id: UUID,
        *,
        applied: Callable[[], dict[UUID, Applied]],
        refused: Mapping[str, int],
    ) -> None:
        """`applied` and `refused` are what `Heartbeat` says of them."""
        self._subject = beat(machine_id)
        self._boot_id = boot_id
        self._applied = applied
        self._refused = refused
        self._beats = 0
        self._owed = asyncio.Event()

    def owe(self) -> None:
        """Beat soon: there is something to tell."""
        self._owed.set()

    async def live(self, client: Callable[[], Client | None], interval: float) -> None:
        """Beat every so many seconds, and when it is owed, on the connection that `client` gives."""
        while True:
            self._owed.clear()
            current = client()
            if current is not None and current.is_connected:
                await self.beat(current)
            earliest = time.monotonic() + _APART
            with suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._owed.wait()
                    await asyncio.sleep(max(_SOON, earliest - time.monotonic()))

    async def beat(self, client: Client, leaving: bool = False) -> None:
        """Beat once. What cannot be said is said next time."""
        self._beats += 1
        applied, now = self._applied(), time.monotonic()
        heartbeat = Heartbeat(
            boot_id=self._boot_id,
            counter=self._beats,
            leaving=leaving,
            applied={network_id: known.revision for network_id, known in applied.items()},
            applied_ago={network_id: int((now - known.at) * 1000) for network_id, known in applied.items()},
            refused=dict(self._refused),
        )
        with suppress(NatsError):
            await client.publish(self._subject, heartbeat.model_dump_json().encode())

    async def stop(self, client: Client | None) -> None:
        """Say that the machine goes."""
        if client is not None and client.is_connected:
            await self.beat(client, leaving=True)
            with suppress(NatsError, TimeoutError):
                await client.flush(timeout=1)
