"""How an agent gets on the bus: as a machine that has enrolled, with access that it renews, or openly."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Protocol
from uuid import UUID

from nats.aio.client import Client

from events.bus import Credentials, connect
from events.enrolment import Access
from events.trust.certificates import trusting
from events.trust.jwt import claims
from events.trust.keys import Key
from events.trust.permissions import inbox
from events.trust.signing import Ring

Connect = Callable[[Callable[[], None], Callable[[], None]], Awaitable[Client]]
"""Connects to the bus, and calls the first function when the connection is back, the second when it has ended for
good. Raises `UnavailableError`, and `UnauthenticatedError` if the bus refuses the machine's access."""


class Door(Protocol):
    """Where an enrolled machine gets its access to the bus, over HTTPS."""

    key: Key
    """The machine's identity key."""

    @property
    def access(self) -> Access:
        """The newest access. It is kept on disk, and may have expired."""

    async def renew(self, networks: tuple[UUID, ...]) -> Access:
        """Get new access, and keep it; `networks` are those that the machine knows it is in.

        Raises any `WireloomError`: `UnavailableError` where the control plane cannot be reached, `MachineRevokedError`
        and `MachineDeletedError` where the machine is to leave for good.
        """

    def keep(self, ring: Ring) -> None:
        """Keep another ring of record keys with the access. It was checked."""


def open_bus(url: str, name: str, machine_id: UUID) -> Connect:
    """Connects to a bus that lets everybody in."""

    async def connect_openly(on_reconnect: Callable[[], None], on_closed: Callable[[], None]) -> Client:
        return await connect(url, name, inbox=inbox(str(machine_id)), on_reconnect=on_reconnect, on_closed=on_closed)

    return connect_openly


def secured_bus(door: Door, name: str) -> Connect:
    """Connects with the access that is the newest at the time."""

    async def connect_with_access(on_reconnect: Callable[[], None], on_closed: Callable[[], None]) -> Client:
        access = door.access
        credentials = Credentials(
            token=lambda: door.access.token,
            sign=door.key.sign,
            inbox=inbox(str(access.machine_id)),
            tls=trusting(access.bus_ca) if access.bus_ca else None,
        )
        return await connect(
            ",".join(access.bus), name, credentials, insist=False, on_reconnect=on_reconnect, on_closed=on_closed
        )

    return connect_with_access


def lifetime(access: Access) -> float:
    """For how many seconds access is given in all, whatever this machine's clock says; 0 where its token says
    nothing."""
    try:
        return max(0.0, access.expires_at.timestamp() - float(claims(access.token)["iat"]))
    except (ValueError, KeyError, TypeError):
        return 0.0


def remaining(access: Access) -> float:
    """How many seconds access has left, by this machine's clock; negative when it is over."""
    return access.expires_at.timestamp() - time.time()
