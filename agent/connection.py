"""The agent's connection to the bus, for as long as the agent lives: a shell.

An enrolled machine's access ends after an hour, and when it leaves a network or is revoked; then the server drops the
connection for good. So access is renewed when half its time is over, and at once when something shows that the present
one is not enough. Whatever is new is tried on a second connection, and only when that stands is the first one closed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress
from random import SystemRandom
from typing import Any, Protocol
from uuid import UUID

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from agent.access import Connect, Door, lifetime, remaining
from agent.backoff import Backoff
from events.enrolment import Access
from events.errors import (
    MachineDeletedError,
    MachineRevokedError,
    UnauthenticatedError,
    UnavailableError,
    WireloomError,
)

_LOOK_AGAIN = 30.0
"""The wall clock is looked at so often: it goes on while a machine sleeps, and timers do not."""

_SOUND_AFTER = 10.0
"""A connection that lasted so many seconds was worth trying."""

_ANSWERS_WITHIN = 2.0
"""Seconds that the server has to answer, when it is doubtful whether the connection still stands."""

_EXPELLED_PAUSE = 600.0
_random = SystemRandom()


class User(Protocol):
    """Who uses the connection."""

    def memberships(self) -> tuple[UUID, ...]:
        """The networks that the machine knows it is in."""

    async def attach(self, client: Client) -> None:
        """Hear everything on this connection from now on."""

    def greet(self) -> None:
        """The connection is new, or back."""

    def renewed(self, access: Access) -> None:
        """There is new access."""

    def expelled(self, error: WireloomError) -> None:
        """The machine is to leave for good."""


class Connection:
    """Keeps an agent on the bus. `keep` and `renew` run for as long as the agent lives."""

    def __init__(self, connect: Connect, door: Door | None, user: User) -> None:
        """Without a door the bus lets everybody in."""
        self.client: Client | None = None
        """The connection, which may be lost for the moment; None before the first, and after one that ended."""
        self._connect = connect
        self._door = door
        self._user = user
        self._replace = asyncio.Event()
        self._is_expelled = False
        self._wanted = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger("agent")

    def may_hear(self, network_id: UUID) -> bool:
        """Whether the machine's access is enough for a network."""
        return self._door is None or network_id in self._door.access.networks

    def want(self) -> None:
        """Renew the access soon: it is not what it should be."""
        self._wanted.set()

    async def check(self) -> None:
        """Have another connection if this one does not answer: called when this machine's addresses have changed, after
        which the old one may be dead without a sign of it, for half a minute."""
        client = self.client
        if client is None or not client.is_connected:
            return  # one is being made already
        with suppress(NatsError, OSError, TimeoutError):
            async with asyncio.timeout(_ANSWERS_WITHIN):
                await client.flush()
                return
        if self.client is client:
            self._replace.set()

    async def close(self) -> None:
        """Leave the bus."""
        client, self.client = self.client, None
        if client is not None:
            await _close(client)
        await asyncio.gather(*self._closing)

    # -- being connected

    async def keep(self) -> None:
        """Have a connection, always with the newest access."""
        backoff = Backoff(0.2, 30.0)
        while True:
            self._replace.clear()
            ended = asyncio.Event()
            try:
                client = await self._unless_replaced(self._connect(self._greet, ended.set))
            except UnauthenticatedError as error:
                self._log.warning("the message bus does not let this machine in", error=error.detail)
                self.want()
                await self._unless_replaced(self._replace.wait() if self._is_expelled else backoff.wait())
                continue
            except UnavailableError as error:
                self._log.warning("no connection to the control plane", error=error.detail, hint=error.hint)
                await self._unless_replaced(backoff.wait())
                continue
            if client is None:
                continue
            since = time.monotonic()
            await self._take(client)
            await self._unless_replaced(ended.wait())
            if time.monotonic() - since > _SOUND_AFTER:
                backoff.reset()
            if ended.is_set():
                self._log.warning("the connection to the control plane was ended")
                self.client = None
                self.want()
                await self._unless_replaced(backoff.wait())

    async def _unless_replaced(self, something: Awaitable[Any]) -> Any:
        """What `something` gives; None if there is new access before it gives anything."""
        task = asyncio.ensure_future(something)
        replaced = asyncio.ensure_future(self._replace.wait())
        try:
            await asyncio.wait({task, replaced}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
        finally:
            replaced.cancel()
            await _ended(task)
        return None

    def _greet(self) -> None:
        self._user.greet()

    async def _take(self, client: Client) -> None:
        former, self.client = self.client, client
        await self._user.attach(client)
        self._user.greet()
        if former is not None:
            closing = asyncio.get_running_loop().create_task(_close(former))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    # -- access

    async def renew(self) -> None:
        """Renew the access in time, and whenever it is wanted."""
        if self._door is None:
            return
        door, failing, pace = self._door, Backoff(1.0, 30.0), Backoff(0.25, 60.0)
        due = time.time() + remaining(door.access) - lifetime(door.access) / 2
        while True:
            if not await self._until(due):
                pace.reset()
            self._wanted.clear()
            former = door.access
            try:
                access = await door.renew(self._user.memberships())
            except (MachineRevokedError, MachineDeletedError) as error:
                self._is_expelled = True
                self._user.expelled(error)
                await asyncio.sleep(_EXPELLED_PAUSE)
            except WireloomError as error:
                self._log.warning("cannot renew the access", error=error.detail, hint=error.hint)
                self.want()
                await failing.wait()
            else:
                failing.reset()
                self._is_expelled = False
                due = time.time() + lifetime(access) * _random.uniform(0.45, 0.55)
                self._log.info("access renewed", networks=len(access.networks), until=access.expires_at.isoformat())
                self._user.renewed(access)
                self._replace.set()
                if set(access.networks) != set(former.networks):
                    pace.reset()
                await pace.wait()
                if any(not self.may_hear(network_id) for network_id in self._user.memberships()):
                    self.want()

    async def _until(self, due: float) -> bool:
        """Wait for a time of the wall clock; returns whether somebody wanted not to wait for it."""
        while not self._wanted.is_set() and (left := due - time.time()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, _LOOK_AGAIN)):
                    await self._wanted.wait()
        return self._wanted.is_set()


async def _ended(task: asyncio.Future[Any]) -> None:
    """End a task that is not done; a connection that it brings all the same is not wanted any more."""
    if task.done():
        return
    # A task that waits in asyncio.wait_for can miss its cancellation (Python before 3.12), so it is repeated.
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)
    if not task.cancelled() and task.exception() is None and isinstance(client := task.result(), Client):
        await _close(client)


async def _close(client: Client) -> None:
    with suppress(NatsError, OSError):
        await client.close()
