"""What follows from the routing list and from who is in which network, for the machines. Pure.

For each member of a network what it may announce there, for each network its route policies, and for each machine its
own duties. A record is written only where it says something else than the one that stands.

A gateway's announcement in a network also holds what *crosses* there: the ranges of the other networks that it joins,
and what their members may announce by themselves. What another gateway lets cross into those does not cross again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from ipaddress import IPv4Network
from typing import NamedTuple, Protocol
from uuid import UUID

from events.records import (
    AnnouncedVip,
    AnnouncementRecord,
    GatewayRecord,
    NetworkPolicyRecord,
    PolicyRecord,
    RouteRecord,
    RoutingRecord,
    VipDuty,
    VipRecord,
)
from events.routing import FIRST_PREFERENCE, Direction
from events.subjects import network_announcement, network_policy
from services.topology.derived import Draft
from services.topology.routing import RoutingList

_DIRECTIONS: tuple[Direction, ...] = ("export", "import")


class Places(Protocol):
    """Who is where."""

    def networks_of(self, machine_id: UUID) -> Collection[UUID]:
        """The networks that a machine is in; none where there is no such machine."""

    def cidr_of(self, network_id: UUID) -> IPv4Network | None:
        """A network's range; None where there is no such network."""

    def has_machine(self, machine_id: UUID) -> bool:
        """Whether there is such a machine."""

    def tell_duties(self, machine_id: UUID, record: RoutingRecord | None, draft: Draft) -> None:
        """Have the record of a machine's duties written."""


class Own(NamedTuple):
    """What a member may announce by itself."""

    prefixes: tuple[IPv4Network, ...] = ()
    vips: tuple[AnnouncedVip, ...] = ()

    @property
    def ranges(self) -> tuple[IPv4Network, ...]:
        """All of it, as prefixes."""
        return (*self.prefixes, *(IPv4Network(vip.address) for vip in self.vips))


class Announcing:
    """The records that stand, and what must change of them."""

    def __init__(self, routing: RoutingList, places: Places) -> None:
        self.duties: dict[UUID, RoutingRecord] = {}
        """What stands, by machine."""
        self.policies: dict[tuple[UUID, Direction], NetworkPolicyRecord] = {}
        """What stands, by network."""
        self._announced: defaultdict[UUID, dict[UUID, AnnouncementRecord]] = defaultdict(dict)
        """What stands: for each network, by machine."""
        self._own: defaultdict[UUID, dict[UUID, Own]] = defaultdict(dict)
        """For each network, the machines that may announce something by themselves."""
        self._routing = routing
        self._places = places
        self._places_touched: set[tuple[UUID, UUID]] = set()
        """Networks and machines whose announcement may have changed."""
        self._machines_touched: set[UUID] = set()
        """Machines whose duties may have changed."""
        self._networks_touched: set[UUID] = set()
        """Networks whose policies may have changed."""

    def hold(self, record: AnnouncementRecord) -> None:
        """Keep in mind an announcement that stands."""
        self._announced[record.network_id][record.machine_id] = record
        if record.prefixes or record.vips:
            self._own[record.network_id][record.machine_id] = Own(record.prefixes, record.vips)

    def routing_changed(self, machine_ids: Iterable[UUID], network_ids: Iterable[UUID]) -> None:
        """What people set for these machines and networks may be something else."""
        for machine_id in machine_ids:
            self._machine_changed(machine_id)
        self._networks_touched.update(network_ids)

    def moved(self, network_id: UUID, machine_id: UUID) -> None:
        """A machine joined a network, or left it."""
        self._places_touched.add((network_id, machine_id))
        if self._routing.crossed_by(machine_id):
            self._machine_changed(machine_id)

    def network_deleted(self, network_id: UUID) -> None:
        """A network was deleted, and what stood in its scope is purged."""
        self._announced.pop(network_id, None)
        self._own.pop(network_id, None)
        for direction in _DIRECTIONS:
            self.policies.pop((network_id, direction), None)
        for gateway in self._routing.about_network(network_id, GatewayRecord):
            self._machine_changed(gateway.machine_id)

    def machine_deleted(self, machine_id: UUID) -> None:
        """A machine was deleted, after it left its networks, and what stood in its scope is purged."""
        self.duties.pop(machine_id, None)

    def settle(self, draft: Draft) -> None:
        """Write what has changed."""
        places, machines, networks = self._places_touched, self._machines_touched, self._networks_touched
        self._places_touched, self._machines_touched, self._networks_touched = set(), set(), set()
        for network_id, machine_id in list(places):
            if self._find_own(network_id, machine_id):
                places.update(self._crossings_of(network_id))
        for network_id, machine_id in sorted(places):
            self._tell_announcement(network_id, machine_id, draft)
        for network_id in sorted(networks):
            self._tell_policies(network_id, draft)
        for machine_id in sorted(machines):
            self._tell_duties(machine_id, draft)

    def _machine_changed(self, machine_id: UUID) -> None:
        self._machines_touched.add(machine_id)
        self._places_touched.update((network_id, machine_id) for network_id in self._places.networks_of(machine_id))

    # Announcements

    def _find_own(self, network_id: UUID, machine_id: UUID) -> bool:
        """Whether a machine may announce something else in a network by itself than before."""
        before = self._own.get(network_id, {}).get(machine_id, Own())
        own = self._own_of(machine_id) if network_id in self._places.networks_of(machine_id) else Own()
        if own == before:
            return False
        if own == Own():
            del self._own[network_id][machine_id]
        else:
            self._own[network_id][machine_id] = own
        return True

    def _own_of(self, machine_id: UUID) -> Own:
        routes = self._routing.about_machine(machine_id, RouteRecord)
        prefixes = {prefix for route in routes if route.enabled for prefix in route.prefixes}
        vips = (AnnouncedVip(address=vip.address, local_pref=vip.local_pref) for vip in self._vips_of(machine_id))
        return Own(tuple(sorted(prefixes)), tuple(vips))

    def _vips_of(self, machine_id: UUID) -> list[VipDuty]:
        """The virtual IPs that a machine is to answer for, by address."""
        enabled = [vip for vip in self._routing.about_machine(machine_id, VipRecord) if vip.enabled]
        return [
            VipDuty(
                vip_id=vip.vip_id,
                address=vip.address,
                local_pref=FIRST_PREFERENCE - vip.machine_ids.index(machine_id),
                health_check=vip.health_check,
            )
            for vip in sorted(enabled, key=lambda vip: vip.address)
        ]

    def _joined_by(self, machine_id: UUID) -> tuple[UUID, ...]:
        """The networks between which a machine is a gateway, in order; none, or two at least."""
        joined = set(self._routing.crossed_by(machine_id)).intersection(self._places.networks_of(machine_id))
        return tuple(sorted(joined)) if len(joined) > 1 else ()

    def _crossings_of(self, network_id: UUID) -> Iterable[tuple[UUID, UUID]]:
        """Where it is told what crosses from a network."""
        for gateway in self._routing.about_network(network_id, GatewayRecord):
            joined = self._joined_by(gateway.machine_id)
            if network_id in joined:
                yield from ((other, gateway.machine_id) for other in joined if other != network_id)

    def _crossing(self, network_id: UUID, machine_id: UUID) -> tuple[IPv4Network, ...]:
        """What a machine lets cross into a network."""
        joined = self._joined_by(machine_id)
        if network_id not in joined:
            return ()
        found: set[IPv4Network] = set()
        for other in joined:
            cidr = self._places.cidr_of(other)
            if other != network_id and cidr is not None:
                found.add(cidr)
                for member, own in self._own.get(other, {}).items():
                    if member != machine_id:
                        found.update(own.ranges)
        return tuple(sorted(found))

    def _tell_announcement(self, network_id: UUID, machine_id: UUID, draft: Draft) -> None:
        if self._places.cidr_of(network_id) is None:
            return
        record = self._announcement(network_id, machine_id)
        if record == self._announced.get(network_id, {}).get(machine_id):
            return
        if record is None:
            del self._announced[network_id][machine_id]
        else:
            self._announced[network_id][machine_id] = record
        draft.put(network_announcement(network_id, machine_id), record)

    def _announcement(self, network_id: UUID, machine_id: UUID) -> AnnouncementRecord | None:
        own = self._own.get(network_id, {}).get(machine_id, Own())
        crossing = self._crossing(network_id, machine_id)
        if own == Own() and not crossing:
            return None
        return AnnouncementRecord(
            network_id=network_id, machine_id=machine_id, prefixes=own.prefixes, vips=own.vips, crossing=crossing
        )

    # Policies and duties

    def _tell_policies(self, network_id: UUID, draft: Draft) -> None:
        if self._places.cidr_of(network_id) is None:
            return
        said = self._routing.about_network(network_id, PolicyRecord)
        named = {item.policy.direction: _of_network(network_id, item) for item in said}
        for direction in _DIRECTIONS:
            record, key = named.get(direction), (network_id, direction)
            if record == self.policies.get(key):
                continue
            if record is None:
                del self.policies[key]
            else:
                self.policies[key] = record
            draft.put(network_policy(network_id, direction), record)

    def _tell_duties(self, machine_id: UUID, draft: Draft) -> None:
        if not self._places.has_machine(machine_id):
            return
        record = self._duties_of(machine_id)
        if record == self.duties.get(machine_id):
            return
        if record is None:
            del self.duties[machine_id]
        else:
            self.duties[machine_id] = record
        self._places.tell_duties(machine_id, record, draft)

    def _duties_of(self, machine_id: UUID) -> RoutingRecord | None:
        own = self._own_of(machine_id)
        named = {item.policy.direction: item.policy for item in self._routing.about_machine(machine_id, PolicyRecord)}
        record = RoutingRecord(
            machine_id=machine_id,
            prefixes=own.prefixes,
            vips=tuple(self._vips_of(machine_id)),
            gateway=self._joined_by(machine_id),
            policies=tuple(policy for _, policy in sorted(named.items())),
        )
        return record if record.prefixes or record.vips or record.gateway or record.policies else None


def _of_network(network_id: UUID, item: PolicyRecord) -> NetworkPolicyRecord:
    return NetworkPolicyRecord(network_id=network_id, policy_id=item.policy_id, policy=item.policy)
