"""The ways through transit machines that follow from a network's members and reports. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from uuid import UUID

from pydantic import ValidationError

from events.client import Entry
from events.records import PathRecord, ReachEvent, Record
from events.state import encode_record
from events.subjects import reach
from services.topology.core import Topology
from services.topology.paths_core import Paths

_ALL = 1 << 30
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def ways_of(topology: Topology, network_id: UUID, reports: Sequence[Entry]) -> list[tuple[str, bytes]]:
    """What PATHS held about the ways in a network, as of the newest report of each link: subjects and records. Each
    way's time is that of the pair's last report, for how long it was chosen nobody wrote down."""
    paths, network = Paths(), topology.networks[network_id]
    for machine_id, member in network.members.items():
        if member.public_key is not None:
            paths.member(network_id, machine_id, topology.machines[machine_id].record.transit)
    times: dict[tuple[UUID, UUID], datetime] = {}
    for sequence, event in read_reports(reports):
        paths.link(sequence, event)
        times[event.machine_id, event.link.peer_id] = event.since or event.time
    cause = reports[-1].sequence if reports else 0
    found = []
    while not paths.is_settled:
        for change in paths.drain(_ALL):
            body = change.body
            if body is None:
                continue
            time = _LONG_AGO
            if isinstance(body, PathRecord):
                ends = (body.machine_id, body.peer_id)
                time = max(times.get(ends, _LONG_AGO), times.get(ends[::-1], _LONG_AGO))
            record = Record(revision=1, previous=0, cause=cause, time=time, body=body)
            found.append((change.subject, encode_record(record)))
    return found


def read_reports(reports: Iterable[Entry]) -> Iterable[tuple[int, ReachEvent]]:
    """What can be read, and stands where it belongs."""
    for entry in reports:
        try:
            event = ReachEvent.model_validate_json(entry.data)
        except ValidationError:
            continue
        if entry.subject == reach(event.network_id, event.machine_id, event.link.peer_id):
            yield entry.sequence, event
