"""Paths as the API's objects. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from services.gateway.http.path_schemas import LinkReport, Path, PathEvent, PathExplanation, PathMachine, Tried
from services.gateway.mirror import Mirror
from services.gateway.path_words import chosen, reported
from services.gateway.presence import Presence
from services.gateway.reach import Link
from services.gateway.ways import Way


class PathViews:
    """Makes views of paths, as of one moment."""

    def __init__(self, mirror: Mirror, presence: Presence, now: datetime) -> None:
        self._mirror = mirror
        self._presence = presence
        self._now = now

    def path(self, way: Way) -> Path:
        """A path. Raises `NotFoundError` where its network is gone."""
        via = way.ways[0] if way.ways else ()
        standby = way.ways[1] if len(way.ways) > 1 else ()
        return Path(
            mesh_network_uuid=way.network_id,
            mesh_network_name=self._mirror.network(way.network_id)[1].name,
            machine=self.machine(way.network_id, way.machine_id),
            peer=self.machine(way.network_id, way.peer_id),
            kind=way.kind,
            via=tuple(self.machine(way.network_id, item) for item in via),
            standby=tuple(self.machine(way.network_id, item) for item in standby),
            rtt_ms=way.rtt,
            since=way.since,
        )

    def explanation(self, way: Way) -> PathExplanation:
        """A path, and why it is so. Raises `NotFoundError` where its network is gone."""
        links = [link for link in way.links if link is not None]
        return PathExplanation(
            **dict(self.path(way)),
            reports=tuple(_report(link) for link in links),
            events=tuple(
                sorted(self._events(way, links), key=lambda event: (event.time or self._now, event.kind == "choice"))
            ),
        )

    def machine(self, network_id: UUID, machine_id: UUID) -> PathMachine:
        """A machine, in a network that it is in or was in. Raises `NotFoundError` where the network is gone."""
        network, _ = self._mirror.network(network_id)
        member = network.members.get(machine_id)
        return PathMachine(
            uuid=machine_id,
            hostname=self._name_of(machine_id),
            wg_ip_address=member.address if member else None,
            is_online=self._presence.told(machine_id, self._now),
        )

    def _events(self, way: Way, links: Iterable[Link]) -> Iterable[PathEvent]:
        for link in links:
            reports = {said.sequence: said for said in (link.before, link.began, link.newest) if said is not None}
            for said in reports.values():
                yield PathEvent(
                    time=said.event.time,
                    kind="report",
                    sequence=said.sequence,
                    machine_uuid=said.event.machine_id,
                    text=reported(said, self._name_of),
                )
        if way.record is not None:
            yield PathEvent(
                time=way.since,
                kind="choice",
                sequence=way.record.cause if way.since is not None else None,
                machine_uuid=None,
                text=chosen(way.ways, self._name_of),
            )

    def _name_of(self, machine_id: UUID) -> str:
        return self._mirror.name_of(machine_id) or f"machine {machine_id}"


def _report(link: Link) -> LinkReport:
    event = link.newest.event
    return LinkReport(
        machine_uuid=event.machine_id,
        peer_uuid=event.link.peer_id,
        state=event.link.state,
        since=link.since,
        rtt_ms=event.link.rtt,
        endpoint=event.link.endpoint or None,
        tried=tuple(Tried(endpoint=endpoint, result=result) for endpoint, result in event.link.tried),
        time=event.time,
        sequence=link.newest.sequence,
    )
