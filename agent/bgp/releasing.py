"""Has BIRD give up the routes of machines that are gone.

A session that ends without a word may end because the other's BIRD died: so its routes are held, for the time that a
BIRD needs to be back (graceful restart). The agent knows better: whom its probes reach no more, by no way, is gone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from uuid import UUID

from agent.bgp.control import CommandError, Control
from agent.bgp.intent import BgpIntent
from agent.bgp.names import network_label, read_session_name
from agent.bgp.parse import Protocol, read_protocols


class Releasing:
    """Who is gone, and what was done about it."""

    def __init__(self) -> None:
        self.gone: Mapping[UUID, Collection[UUID]] = {}
        """The machines that are, by network."""
        self._settled: Mapping[UUID, Collection[UUID]] = {}
        self._done: set[str] = set()

    @property
    def is_due(self) -> bool:
        """Whether there may be something to do."""
        return self.gone != self._settled

    async def release(self, control: Control, intent: BgpIntent) -> None:
        """Give up the routes of who is gone, once for each session that has ended. Raises ControlError."""
        if not self.is_due:
            return
        gone = self.gone
        protocols = read_protocols(line.text for line in await control.ask("show protocols all"))
        sessions = list(_sessions(protocols, intent, gone))
        ended = {session.name for session in sessions if session.state != "Established"}
        for name in sorted(ended - self._done):
            try:
                await control.ask(f'restart "{name}"')
            except CommandError:  # it has just gone by itself
                continue
        self._done = ended
        if len(ended) == len(sessions):
            self._settled = gone


def _sessions(
    protocols: list[Protocol], intent: BgpIntent, gone: Mapping[UUID, Collection[UUID]]
) -> Iterator[Protocol]:
    """The sessions with machines that are gone."""
    for network in intent.networks:
        lost = gone.get(network.network_id, ())
        label = network_label(network.network_id)
        by_address = {member.address: member.machine_id for member in network.members}
        for protocol in protocols:
            name = read_session_name(protocol.name)
            if name is None or name.label != label:
                continue
            peer = name.machine_id or (by_address.get(protocol.neighbour) if protocol.neighbour else None)
            if peer in lost:
                yield protocol
