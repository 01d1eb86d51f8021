"""Has one network's peers probed, follows what is found, and reports it: a shell."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from uuid import UUID

import structlog
from nats.aio.client import Client

from agent.context import Context
from agent.device import Device, DeviceError
from agent.members import Increment
from agent.pathfinding import Pathfinder
from agent.reporting import Reporter
from agent.store import LinkNote
from agent.view import NetworkView
from events.fields import split_endpoint
from events.interfaces import interface_name
from events.records import LinkState

_LOOK_EVERY = 1.0
"""Seconds, at least, between two looks at what the tunnels carry."""

_LOOK_SOON = 0.25
"""The same, while peers are awaited."""

_LOOK_SHARE = 20
"""Of a processor's time, looking takes one part in so many at most."""


class Reaching:
    """What one network knows of how its peers are reached. Where nothing is probed, it does nothing."""

    def __init__(
        self,
        view: NetworkView,
        network_id: UUID,
        context: Context,
        *,
        change: Callable[[Increment], None],
        news: Callable[[], None],
    ) -> None:
        """`change` is given what follows for the interface; `news` is called when others see this machine elsewhere."""
        self.observed_endpoints: tuple[str, ...] = ()
        """Where others see this machine's packets come from."""
        self._view = view
        self._network_id = network_id
        self._context = context
        self._change = change
        self._news = news
        self._reporter = Reporter(context.machine_id, network_id, context.reports, context.spawn)
        self._finder = None if context.probing is None else Pathfinder(self, context.probing, context.spawn)
        self._looking: asyncio.Task[None] | None = None
        self._apart: set[UUID] = set()
        self._log = structlog.get_logger("agent").bind(network=str(network_id))
        view.is_probed = self._finder is not None

    def attach(self, client: Client) -> None:
        """Report on this connection."""
        if self._finder is not None:
            self._reporter.attach(client)

    def begin(self, private_key: str, listen_port: int, own: tuple[str, ...]) -> None:
        """Probe all peers with this key, from WireGuard's port; harmless to repeat. `own` are the machine's own
        endpoints."""
        finder = self._finder
        if finder is None:
            return
        if not finder.open(listen_port) and self._view.is_probed:
            self._view.unprobed()
            self._change(Increment(compare=True))
        if finder.is_open and finder.use_key(private_key, self._view.public_key):
            self.moved(own)
            if self._looking is None:
                self._looking = self._context.spawn(self._look())

    def moved(self, own: tuple[str, ...]) -> None:
        """This machine's endpoints or surroundings are others than before."""
        if self._finder is not None:
            self._finder.stir(own)
            for machine_id in self._view.members:
                self.seek(machine_id)

    def announced(self) -> None:
        """Peers hear of this machine's new endpoints now, and send to them: so does this machine to theirs."""
        if self._finder is not None:
            self._finder.announced()

    def seek(self, machine_id: UUID) -> None:
        """Probe a peer as its record says, or no more. Peers hear this machine's own at this moment too."""
        if self._finder is None:
            return
        if machine_id == self._context.machine_id:
            self._finder.announced()
            return
        member = self._view.members.get(machine_id)
        if member is None:
            self._finder.drop(machine_id)
            self._apart.discard(machine_id)
            self._reporter.forget(machine_id)
            self._context.store.forget_link(self._network_id, machine_id)
        elif self._finder.is_open:
            self._reporter.search(machine_id)
            self._finder.peer(machine_id, member.public_key, member.endpoints)

    def close(self) -> None:
        """Probe and report nothing more."""
        self._reporter.close()
        if self._finder is not None:
            self._finder.close()
        if self._looking is not None:
            self._looking.cancel()

    # -- what is found

    def reached(self, machine_id: UUID, endpoint: str) -> None:
        """See `Traveller.reached`."""
        self._change(self._view.found(machine_id, endpoint))

    def linked(self, link: LinkState) -> None:
        """See `Traveller.linked`."""
        if link.state == "unreachable":
            self._change(self._view.found(link.peer_id, ""))
        self._context.routed()
        self._say(link)
        self._reporter.say(link)
        self._context.store.note_link(self._network_id, LinkNote(link, time.time()))
        self._context.wrote()

    def _say(self, link: LinkState) -> None:
        """Log who is lost, and who is back."""
        member = self._view.members.get(link.peer_id)
        peer = member.hostname if member is not None else str(link.peer_id)
        if link.state == "unreachable":
            if link.peer_id in self._apart:
                return  # other addresses were tried
            self._apart.add(link.peer_id)
            way = [str(transit) for transit in member.way.transits] if member is not None and member.way else []
            self._log.info("a peer is not reached directly", peer=peer, through=way)
        elif link.peer_id in self._apart:
            self._apart.discard(link.peer_id)
            self._log.info("a peer is reached directly again", peer=peer, endpoint=link.endpoint, rtt_ms=link.rtt)

    def observed(self, endpoints: tuple[str, ...]) -> None:
        """See `Traveller.observed`."""
        self.observed_endpoints = endpoints
        self._news()

    def permits(self, endpoint: str) -> bool:
        """See `Traveller.permits`."""
        return self._view.may_be(endpoint)

    def is_near(self, endpoint: str) -> bool:
        """See `Traveller.is_near`."""
        address, _ = split_endpoint(endpoint)
        return any(address in own.network for own in self._view.locality.addresses)

    async def _look(self) -> None:
        """See again and again what the tunnels carry."""
        devices, interface, pause = self._context.devices, interface_name(self._network_id), _LOOK_EVERY

        def read() -> tuple[Device | None, float]:
            begun = time.thread_time()
            return devices.read(interface), time.thread_time() - begun

        while True:
            await asyncio.sleep(pause)
            try:
                device, effort = await self._context.run(read)
            except DeviceError:
                continue  # reconciling says so, and repairs it
            if device is not None and self._finder is not None:
                self._finder.look(self._view.keys, device.peers)
                self._change(self._view.watch(time.monotonic(), device.peers))
            pause = max(_LOOK_SOON if self._view.is_expecting else _LOOK_EVERY, _LOOK_SHARE * effort)
