"""The derivation of the routing list: routes, virtual IPs, route policies and gateways, as people set them. Pure.

What follows from them for networks and machines is in `announcing`. Pinned reflectors stand in their network's record.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from events.domain import (
    DomainEvent,
    GatewaySet,
    MachineUnrouted,
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
from events.records import GatewayRecord, PolicyRecord, RouteRecord, VipRecord
from events.subjects import RoutingPart, routing
from services.topology.derived import Draft

Item = RouteRecord | VipRecord | PolicyRecord | GatewayRecord
Key = tuple[RoutingPart, UUID]
"""What it is, and its id; of a gateway the machine's."""

_Kind = TypeVar("_Kind", RouteRecord, VipRecord, PolicyRecord, GatewayRecord)

_SET: dict[type[DomainEvent], tuple[RoutingPart, type[RouteRecord | VipRecord | PolicyRecord]]] = {
    RouteCreated: ("route", RouteRecord),
    RouteUpdated: ("route", RouteRecord),
    VipCreated: ("vip", VipRecord),
    VipUpdated: ("vip", VipRecord),
    PolicyCreated: ("policy", PolicyRecord),
    PolicyUpdated: ("policy", PolicyRecord),
}
"""The events that say all of an item."""

_DELETED: dict[type[DomainEvent], RoutingPart] = {RouteDeleted: "route", VipDeleted: "vip", PolicyDeleted: "policy"}

EVENTS: tuple[type[DomainEvent], ...] = (*_SET, *_DELETED, GatewaySet, MachineUnrouted, NetworkUnrouted)
"""The events that belong here."""


class RoutingList:
    """All that people set, as it is at one position of the log."""

    def __init__(self) -> None:
        self.items: dict[Key, Item] = {}
        self._of_machine: defaultdict[UUID, set[Key]] = defaultdict(set)
        self._of_network: defaultdict[UUID, set[Key]] = defaultdict(set)

    def apply(self, event: DomainEvent, draft: Draft) -> tuple[set[UUID], set[UUID]]:
        """Derive from one of `EVENTS`; the machines and the networks that it was about before or is about now.

        Raises KeyError where it speaks of what is not there.
        """
        if type(event) in _SET:
            return self._set(event, draft)
        if type(event) in _DELETED:
            part = _DELETED[type(event)]
            return self._put((part, getattr(event, f"{part}_id")), None, draft)
        if isinstance(event, GatewaySet):
            return self._set_gateway(event.machine_id, event.network_ids, draft)
        if isinstance(event, MachineUnrouted):
            return self._without_machine(event.machine_id, event.time, draft)
        assert isinstance(event, NetworkUnrouted)
        return self._without_network(event.network_id, event.time, draft)

    def hold(self, item: Item) -> None:
        """Keep in mind what people set, in place of what was there."""
        key = _key_of(item)
        self._forget(key)
        self.items[key] = item
        machine_ids, network_ids = _named(item)
        for machine_id in machine_ids:
            self._of_machine[machine_id].add(key)
        for network_id in network_ids:
            self._of_network[network_id].add(key)

    def about_machine(self, machine_id: UUID, kind: type[_Kind]) -> list[_Kind]:
        """The items of a kind that name a machine, in order."""
        found = (self.items[key] for key in sorted(self._of_machine.get(machine_id, ())))
        return [item for item in found if isinstance(item, kind)]

    def about_network(self, network_id: UUID, kind: type[_Kind]) -> list[_Kind]:
        """The policies or gateways that name a network, in order."""
        found = (self.items[key] for key in sorted(self._of_network.get(network_id, ())))
        return [item for item in found if isinstance(item, kind)]

    def crossed_by(self, machine_id: UUID) -> tuple[UUID, ...]:
        """The networks between which a machine is said to be a gateway."""
        gateway = self.items.get(("gateway", machine_id))
        return gateway.network_ids if isinstance(gateway, GatewayRecord) else ()

    def _set(self, event: DomainEvent, draft: Draft) -> tuple[set[UUID], set[UUID]]:
        part, kind = _SET[type(event)]
        key: Key = (part, getattr(event, f"{part}_id"))
        is_new = isinstance(event, RouteCreated | VipCreated | PolicyCreated)
        created_at = event.time if is_new else self._created_at(key)
        said = {name: getattr(event, name) for name in kind.model_fields.keys() - {"kind", "created_at", "updated_at"}}
        return self._put(key, kind(**said, created_at=created_at, updated_at=event.time), draft)

    def _created_at(self, key: Key) -> datetime:
        item = self.items[key]
        assert not isinstance(item, GatewayRecord)
        return item.created_at

    def _set_gateway(
        self, machine_id: UUID, network_ids: tuple[UUID, ...], draft: Draft
    ) -> tuple[set[UUID], set[UUID]]:
        record = GatewayRecord(machine_id=machine_id, network_ids=network_ids) if network_ids else None
        return self._put(("gateway", machine_id), record, draft)

    def _without_machine(self, gone: UUID, time: datetime, draft: Draft) -> tuple[set[UUID], set[UUID]]:
        touched = {gone}
        for part, item_id in sorted(self._of_machine.get(gone, set()) - {("gateway", gone)}):
            item = self.items[part, item_id]
            assert not isinstance(item, GatewayRecord)
            left = tuple(each for each in item.machine_ids if each != gone)
            after = item.model_copy(update={"machine_ids": left, "updated_at": time})
            touched |= self._put((part, item_id), after, draft)[0]
        # Also where it is none: something must tell that the event was read.
        self._set_gateway(gone, (), draft)
        return touched, set()

    def _without_network(self, gone: UUID, time: datetime, draft: Draft) -> tuple[set[UUID], set[UUID]]:
        machines, networks = set(), {gone}
        keys = sorted(self._of_network.get(gone, ()))
        for part, item_id in keys:
            item = self.items[part, item_id]
            assert isinstance(item, PolicyRecord | GatewayRecord)
            left = tuple(each for each in item.network_ids if each != gone)
            if isinstance(item, GatewayRecord):
                touched = self._set_gateway(item_id, left, draft)
            else:
                after = item.model_copy(update={"network_ids": left, "updated_at": time})
                touched = self._put((part, item_id), after, draft)
            machines |= touched[0]
            networks |= touched[1]
        if not keys:
            # Only its reflectors were pinned, which its own record told. Something must tell that the event was read.
            draft.put(routing("gateway", gone), None)
        return machines, networks

    def _put(self, key: Key, item: Item | None, draft: Draft) -> tuple[set[UUID], set[UUID]]:
        if item is None and key[0] != "gateway" and key not in self.items:
            raise KeyError(key[1])
        before = self.items.get(key)
        if item is None:
            self._forget(key)
        else:
            self.hold(item)
        draft.put(routing(*key), item)
        machines, networks = set(), set()
        for each in (before, item):
            if each is not None:
                machine_ids, network_ids = _named(each)
                machines |= set(machine_ids)
                networks |= set(network_ids)
        return machines, networks

    def _forget(self, key: Key) -> None:
        item = self.items.pop(key, None)
        if item is not None:
            machine_ids, network_ids = _named(item)
            _discard(self._of_machine, machine_ids, key)
            _discard(self._of_network, network_ids, key)


def _discard(index: defaultdict[UUID, set[Key]], named: Iterable[UUID], key: Key) -> None:
    for each in named:
        index[each].discard(key)
        if not index[each]:
            del index[each]


def _key_of(item: Item) -> Key:
    if isinstance(item, RouteRecord):
        return "route", item.route_id
    if isinstance(item, VipRecord):
        return "vip", item.vip_id
    if isinstance(item, PolicyRecord):
        return "policy", item.policy_id
    return "gateway", item.machine_id


def _named(item: Item) -> tuple[tuple[UUID, ...], tuple[UUID, ...]]:
    """The machines and the networks that an item names."""
    if isinstance(item, GatewayRecord):
        return (item.machine_id,), item.network_ids
    return item.machine_ids, item.network_ids if isinstance(item, PolicyRecord) else ()
