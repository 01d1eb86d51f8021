"""What must follow from the routing list, computed anew from everything each time: slow, and simple to read."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any
from uuid import UUID

from events.domain import (
    DomainEvent,
    GatewaySet,
    MachineDeleted,
    MachineRegistered,
    MachinesAssigned,
    MachinesUnassigned,
    MachineUnrouted,
    NetworkCreated,
    NetworkDeleted,
    NetworkUnrouted,
    PolicyCreated,
    PolicyDeleted,
    PolicyUpdated,
    RouteCreated,
    RouteDeleted,
    RouteUpdated,
    VipCreated,
    VipDeleted,
    VipUpdated,
)
from events.records import (
    AnnouncedVip,
    AnnouncementRecord,
    Body,
    GatewayRecord,
    NetworkPolicyRecord,
    PolicyRecord,
    RouteRecord,
    RoutingRecord,
    VipDuty,
    VipRecord,
)
from events.routing import FIRST_PREFERENCE

_RECORDS: dict[str, Any] = {"route": RouteRecord, "vip": VipRecord, "policy": PolicyRecord}


def is_about_routing(subject: str) -> bool:
    """Whether a subject of STATE is one that this knows."""
    return subject.startswith("state.routing.") or any(
        part in subject for part in (".announcement.", ".policy.", ".routing")
    )


class RoutingOracle:
    """Networks, machines, and the routing list."""

    def __init__(self) -> None:
        self.cidrs: dict[UUID, IPv4Network] = {}
        self.members: dict[UUID, set[UUID]] = {}
        self.machines: set[UUID] = set()
        self.items: dict[str, dict[UUID, Any]] = {"route": {}, "vip": {}, "policy": {}}
        self.gateways: dict[UUID, tuple[UUID, ...]] = {}

    def apply(self, event: DomainEvent) -> None:
        """One more event."""
        match event:
            case NetworkCreated():
                self.cidrs[event.network_id], self.members[event.network_id] = event.network_cidr, set()
            case NetworkDeleted():
                del self.cidrs[event.network_id], self.members[event.network_id]
            case MachineRegistered():
                self.machines.add(event.machine_id)
            case MachineDeleted():
                self.machines.discard(event.machine_id)
            case MachinesAssigned():
                self.members[event.network_id] |= {one.machine_id for one in event.assignments}
            case MachinesUnassigned():
                self.members[event.network_id] -= {one.machine_id for one in event.assignments}
            case RouteCreated() | RouteUpdated() | VipCreated() | VipUpdated() | PolicyCreated() | PolicyUpdated():
                self._set(event)
            case RouteDeleted() | VipDeleted() | PolicyDeleted():
                kind = event.kind.split(".")[1].split("_")[0]
                del self.items[kind][getattr(event, f"{kind}_id")]
            case GatewaySet():
                self.gateways[event.machine_id] = event.network_ids
            case MachineUnrouted():
                self.gateways.pop(event.machine_id, None)
                self._take_out("machine_ids", event.machine_id, event)
            case NetworkUnrouted():
                self._take_out("network_ids", event.network_id, event)
                self.gateways = {
                    machine: tuple(each for each in crossed if each != event.network_id)
                    for machine, crossed in self.gateways.items()
                }

    def item_of(self, event: DomainEvent) -> str:
        """The subject of the item that an event is about."""
        kind = event.kind.split(".")[1].split("_")[0]
        return f"state.routing.{kind}.{getattr(event, f'{kind}_id')}"

    def records(self) -> dict[str, Body]:
        """Every record that must stand, but for tombstones."""
        found: dict[str, Body] = {}
        for kind, items in self.items.items():
            found |= {f"state.routing.{kind}.{item_id}": item for item_id, item in items.items()}
        for machine, crossed in self.gateways.items():
            if crossed:
                found[f"state.routing.gateway.{machine}"] = GatewayRecord(machine_id=machine, network_ids=crossed)
        for network, members in self.members.items():
            for machine in members:
                if announcement := self._announcement(network, machine):
                    found[f"state.network.{network}.announcement.{machine}"] = announcement
            for item in self.items["policy"].values():
                if network in item.network_ids:
                    found.setdefault(
                        f"state.network.{network}.policy.{item.policy.direction}",
                        NetworkPolicyRecord(network_id=network, policy_id=item.policy_id, policy=item.policy),
                    )
        for machine in self.machines:
            if duties := self._duties(machine):
                found[f"state.machine.{machine}.routing"] = duties
        return found

    def _set(self, event: Any) -> None:
        kind = event.kind.split(".")[1].split("_")[0]
        item_id = getattr(event, f"{kind}_id")
        before = self.items[kind].get(item_id)
        fields = {name: value for name, value in dict(event).items() if name in _RECORDS[kind].model_fields}
        created_at = before.created_at if before else event.time
        self.items[kind][item_id] = _RECORDS[kind](**fields, created_at=created_at, updated_at=event.time)

    def _take_out(self, which: str, gone: UUID, event: DomainEvent) -> None:
        for items in self.items.values():
            for item_id, item in items.items():
                if gone in getattr(item, which, ()):
                    left = tuple(each for each in getattr(item, which) if each != gone)
                    items[item_id] = item.model_copy(update={which: left, "updated_at": event.time})

    def _own(self, machine: UUID) -> tuple[tuple[IPv4Network, ...], tuple[Any, ...]]:
        routes = [one for one in self.items["route"].values() if one.enabled and machine in one.machine_ids]
        vips = [one for one in self.items["vip"].values() if one.enabled and machine in one.machine_ids]
        prefixes = tuple(sorted({prefix for route in routes for prefix in route.prefixes}))
        return prefixes, tuple(sorted(vips, key=lambda vip: (vip.address, vip.vip_id)))

    def _crossed(self, machine: UUID) -> list[UUID]:
        joined = sorted(n for n in self.gateways.get(machine, ()) if machine in self.members.get(n, ()))
        return joined if len(joined) > 1 else []

    def _announcement(self, network: UUID, machine: UUID) -> AnnouncementRecord | None:
        prefixes, vips = self._own(machine)
        crossing: set[IPv4Network] = set()
        crossed = self._crossed(machine)
        for other in crossed if network in crossed else ():
            if other != network:
                crossing.add(self.cidrs[other])
                for member in self.members[other] - {machine}:
                    theirs, addresses = self._own(member)
                    crossing |= {*theirs, *(IPv4Network(vip.address) for vip in addresses)}
        if not (prefixes or vips or crossing):
            return None
        return AnnouncementRecord(
            network_id=network,
            machine_id=machine,
            prefixes=prefixes,
            vips=tuple(
                AnnouncedVip(address=vip.address, local_pref=FIRST_PREFERENCE - vip.machine_ids.index(machine))
                for vip in vips
            ),
            crossing=tuple(sorted(crossing)),
        )

    def _duties(self, machine: UUID) -> RoutingRecord | None:
        prefixes, vips = self._own(machine)
        policies = {}
        for item in sorted(self.items["policy"].values(), key=lambda item: item.policy_id, reverse=True):
            if machine in item.machine_ids:
                policies[item.policy.direction] = item.policy
        record = RoutingRecord(
            machine_id=machine,
            prefixes=prefixes,
            vips=tuple(
                VipDuty(
                    vip_id=vip.vip_id,
                    address=vip.address,
                    local_pref=FIRST_PREFERENCE - vip.machine_ids.index(machine),
                    health_check=vip.health_check,
                )
                for vip in vips
            ),
            gateway=tuple(self._crossed(machine)),
            policies=tuple(policies[direction] for direction in sorted(policies)),
        )
        return record if prefixes or vips or record.gateway or policies else None
