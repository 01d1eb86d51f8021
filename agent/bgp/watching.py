"""Looks at what BIRD does, again and again, at little cost: what has not changed is not asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from agent.bgp.control import CommandError, Control, Line
from agent.bgp.intent import BgpIntent, NetworkIntent
from agent.bgp.names import INTAKES, intake_name, network_label, port_of, rib_table
from agent.bgp.observed import NetworkObservation
from agent.bgp.parse import Protocol, read_protocols, read_rib, sessions
from events.records import RibRoute

_NO_PORT = "No listening socket"


@dataclass(slots=True)
class _Rib:
    changes: list[str]
    """The counters of what came into the table, when it was read."""
    routes: tuple[RibRoute, ...]


class Watch:
    """What was seen last."""

    def __init__(self) -> None:
        self.networks: dict[UUID, NetworkObservation] = {}
        self.deaf: tuple[str, ...] = ()
        """What BIRD has turned off, because another program had its port."""
        self.unheard: frozenset[tuple[str, int]] = frozenset()
        """The ports, each with the network that it is for, that BIRD should listen on and does not."""
        self._changes: dict[str, list[str]] = {}
        self._ribs: dict[UUID, _Rib] = {}

    async def look(self, control: Control, intent: BgpIntent, whole: bool) -> None:
        """See what has changed; with `whole`, look at everything. Raises ControlError."""
        if not whole and not await self._has_changed(control):
            return
        protocols = read_protocols(_texts(await control.ask("show protocols all")))
        self._changes = _changes(protocols)
        self._listen(protocols)
        for network in intent.networks:
            await self._look_at_rib(control, network)
        wanted = {network.network_id for network in intent.networks}
        self._ribs = {network_id: rib for network_id, rib in self._ribs.items() if network_id in wanted}
        self.networks = {network.network_id: self._seen(network, protocols) for network in intent.networks}

    async def _has_changed(self, control: Control) -> bool:
        try:
            lines = await control.ask(f'show protocols all "{INTAKES}"')
        except CommandError:  # none match
            lines = []
        return _changes(read_protocols(_texts(lines))) != self._changes

    def _listen(self, protocols: Iterable[Protocol]) -> None:
        ports = {protocol.name: port for protocol in protocols if (port := port_of(protocol.name)) is not None}
        self.deaf = tuple(each.name for each in protocols if each.name in ports and each.error.endswith(_NO_PORT))
        heard = {port for name, port in ports.items() if name not in self.deaf}
        self.unheard = frozenset(ports[name] for name in self.deaf) - heard

    async def _look_at_rib(self, control: Control, network: NetworkIntent) -> None:
        changes = self._changes.get(intake_name(network.network_id), [])
        before = self._ribs.get(network.network_id)
        if before is not None and before.changes == changes:
            return
        try:
            lines = await control.ask(f"show route table {rib_table(network.network_id)} all")
        except CommandError:  # there is none yet
            lines = []
        self._ribs[network.network_id] = _Rib(changes, read_rib(_texts(lines), network.address))

    def _seen(self, network: NetworkIntent, protocols: list[Protocol]) -> NetworkObservation:
        by_address = {member.address: member.machine_id for member in network.members}
        return NetworkObservation(
            sessions=sessions(protocols, network_label(network.network_id), by_address),
            rib=self._ribs[network.network_id].routes,
        )


def _texts(lines: Iterable[Line]) -> list[str]:
    return [line.text for line in lines]


def _changes(protocols: Iterable[Protocol]) -> dict[str, list[str]]:
    pattern = INTAKES.removesuffix("*")
    return {protocol.name: protocol.changes for protocol in protocols if protocol.name.startswith(pattern)}
