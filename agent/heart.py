"""Says that the machine is alive, and how far its interfaces agree with the records: a shell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from uuid import UUID

from nats.aio.client import Client
from nats.errors import Error as NatsError

from events.records import Heartbeat
from events.subjects import beat

_SOON = 0.2


class Heart:
    """Beats on the connection that there is."""

    def __init__(
        self,
        machine_id: UUID,
        boot_id: UUID,
        *,
        applied: Callable[[], dict[UUID, int]],
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
            with suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._owed.wait()
                    await asyncio.sleep(_SOON)

    async def beat(self, client: Client, leaving: bool = False) -> None:
        """Beat once. What cannot be said is said next time."""
        self._beats += 1
        heartbeat = Heartbeat(
            boot_id=self._boot_id,
            counter=self._beats,
            leaving=leaving,
            applied=self._applied(),
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
