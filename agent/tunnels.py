"""Tells the control plane of this machine's tunnels while somebody there looks at them: a shell.

Hints are not signed, so they can do no more than this: for each, and once a second at most, the machine's own gateways
are told what its interfaces showed. These are read as seldom as the reading costs: it takes one part in `_SHARE` of a
processor's time at most, and in between the same is told again, with its age.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from uuid import UUID

from nats.aio.client import Client
from nats.errors import Error as NatsError

from agent.context import Context
from agent.device import Device, DeviceError
from agent.network import Network
from agent.tunnel_parts import Described, described, parted
from events.subjects import ask as ask_subject
from events.tunnels import APART, LOOK_COUNTS_FOR, Tunnel, TunnelPart

_SHARE = 10


class Tunnels:
    """Answers hints."""

    def __init__(self, context: Context, networks: Mapping[UUID, Network], client: Callable[[], Client | None]) -> None:
        """`networks` are those that the machine is in, `client` gives the connection that there is."""
        self._context = context
        self._networks = networks
        self._client = client
        self._subject = ask_subject(context.machine_id, "tunnels")
        self._hinted = self._read_at = self._stale_at = self._told_at = float("-inf")
        self._is_due = False
        self._counter = 0
        self._parts: list[tuple[Tunnel, ...]] = []
        self._left_out = 0
        self._telling: asyncio.Task[None] | None = None

    def look(self) -> None:
        """Somebody looks."""
        self._hinted, self._is_due = time.monotonic(), True
        if self._telling is None or self._telling.done():
            self._telling = self._context.spawn(self._tell())

    async def _tell(self) -> None:
        while self._is_due:
            await asyncio.sleep(max(0.0, self._told_at + APART - time.monotonic()))
            if time.monotonic() >= self._stale_at:
                await self._read()
            self._is_due = False
            if time.monotonic() - self._hinted <= LOOK_COUNTS_FOR:
                await self._say()
            self._told_at = time.monotonic()

    async def _read(self) -> None:
        read, effort, begun = list[Described](), 0.0, time.monotonic()
        for network_id, network in list(self._networks.items()):
            tunnel = Tunnel(network_id=network_id, interface=network.interface, backend=self._context.devices.name)
            try:
                device, took = await self._context.run(self._timed, network.interface)
            except DeviceError:  # reconciling says so, and repairs it
                read.append((tunnel.model_copy(update={"state": "unreadable"}), ()))
                continue
            effort += took
            read.append(described(tunnel, device, network.view.keys, time.time()))
        self._parts, self._left_out = parted(read)
        self._read_at, self._stale_at = begun, begun + _SHARE * effort

    def _timed(self, interface: str) -> tuple[Device | None, float]:
        begun = time.thread_time()
        return self._context.devices.read(interface), time.thread_time() - begun

    async def _say(self) -> None:
        client = self._client()
        if client is None or not client.is_connected:
            return
        self._counter += 1
        for number, tunnels in enumerate(self._parts):
            said = TunnelPart(
                boot_id=self._context.reports.boot_id,
                counter=self._counter,
                part=number,
                parts=len(self._parts),
                age=round(time.monotonic() - self._read_at, 3),
                left_out=self._left_out,
                tunnels=tunnels,
            )
            with suppress(NatsError):
                await client.publish(self._subject, said.model_dump_json().encode())
