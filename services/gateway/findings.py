"""What machines reported, and the ways and plans that followed: of now, or of a moment that is past. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from uuid import UUID

from events.peering import BgpPlan
from events.records import BgpEvent, BgpPlanRecord, ReachEvent, Record
from events.subjects import reach
from services.gateway.bgp import Bgp, subject_of
from services.gateway.reach import Reach
from services.gateway.ways import Kind, Way, Ways


class Findings:
    """How machines reach each other and speak BGP."""

    def __init__(self, dated: bool = True) -> None:
        """`dated` is as that of `Ways`."""
        self.reach = Reach()
        self.ways = Ways(dated)
        self.bgp = Bgp()
        self._plans: dict[UUID, BgpPlanRecord] = {}

    def way(self, network_id: UUID, machine_id: UUID, peer_id: UUID) -> Way:
        """How a machine reaches a peer."""
        return self.ways.way(self.reach, network_id, machine_id, peer_id)

    def kind(self, network_id: UUID, machine_id: UUID, peer_id: UUID) -> Kind:
        """As that of `way`, for who counts very many."""
        return self.ways.kind(self.reach, network_id, machine_id, peer_id)

    def kinds(self, network_id: UUID, machine_id: UUID, peer_ids: Iterable[UUID]) -> Iterator[tuple[UUID, Kind]]:
        """The kind of the way to each of these peers."""
        return self.ways.kinds(self.reach, network_id, machine_id, peer_ids)

    def plan(self, network_id: UUID) -> BgpPlan:
        """How a network's members are to speak BGP."""
        return BgpPlan.of(self._plans.get(network_id))

    def take_reach(self, subject: str, sequence: int, payload: bytes) -> UUID | None:
        """What stands in REACH; of which network, or None where it does not belong there. Raises `ValidationError`."""
        event = ReachEvent.model_validate_json(payload)
        if subject != reach(event.network_id, event.machine_id, event.link.peer_id):
            return None
        self.reach.take(sequence, event)
        return event.network_id

    def take_bgp(self, subject: str, sequence: int, payload: bytes) -> UUID | None:
        """What stands in BGP; as `take_reach`."""
        event = BgpEvent.model_validate_json(payload)
        if subject_of(event) != subject:
            return None
        self.bgp.take(sequence, event)
        return event.network_id

    def take_path(self, subject: str, record: Record) -> None:
        """What stands in PATHS: a way, or a plan."""
        if isinstance(record.body, BgpPlanRecord):
            self._plans[record.body.network_id] = record.body
        else:
            self.ways.take(subject, record)

    def forget_reach(self) -> None:
        """REACH is no more."""
        self.reach = Reach()

    def forget_bgp(self) -> None:
        """BGP is no more."""
        self.bgp = Bgp()

    def forget_paths(self) -> None:
        """PATHS is no more."""
        self.ways = Ways()
        self._plans.clear()
