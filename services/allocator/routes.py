"""The decisions about routes and virtual IPs: what machines announce. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from ipaddress import IPv4Network
from typing import TypeVar
from uuid import UUID

from rpds import HashTrieMap

from events.commands import CreateRoute, CreateVip, DeleteRoute, DeleteVip, UpdateRoute, UpdateVip
from events.domain import ROUTING_ID, RouteCreated, RouteDeleted, RouteUpdated, VipCreated, VipDeleted, VipUpdated
from events.errors import (
    ConflictError,
    InvalidInputError,
    NameTakenError,
    NotFoundError,
    PrefixTakenError,
    RouteOverlapError,
)
from events.fields import check_label
from events.routing import MAX_ANNOUNCED, MAX_ANSWERED, MAX_CLAIMED
from services.allocator.desk import Desk, id_taken
from services.allocator.lookups import find_machine, require_free_id, require_not_revoked
from services.allocator.routing import PolicySet, Route, Vip

_Item = TypeVar("_Item", Route, Vip, PolicySet)


def create_route(desk: Desk, command: CreateRoute) -> None:
    """A new route, with a name and prefixes of its own, apart from all networks."""
    require_new_item(desk, command.route_id)
    route = Route(command.route_id, command.name, command.enabled, command.prefixes, command.machine_ids)
    require_route(desk, route)
    record_route(desk, RouteCreated, route)


def update_route(desk: Desk, command: UpdateRoute) -> None:
    """What is given changes; nothing happens where all is so already."""
    before = find_item(desk.routing.routes, command.route_id, "route", "route_id")
    route = Route(
        before.route_id,
        before.name if command.name is None else command.name,
        before.enabled if command.enabled is None else command.enabled,
        before.prefixes if command.prefixes is None else command.prefixes,
        before.machine_ids if command.machine_ids is None else command.machine_ids,
    )
    if route != before:
        require_route(desk, route)
        record_route(desk, RouteUpdated, route)


def delete_route(desk: Desk, command: DeleteRoute) -> None:
    """The route goes; its prefixes are free again."""
    route = find_item(desk.routing.routes, command.route_id, "route", "route_id")
    desk.record(RouteDeleted, ROUTING_ID, route_id=route.route_id, name=route.name)


def create_vip(desk: Desk, command: CreateVip) -> None:
    """A new virtual IP, with a name and address of its own, apart from all networks."""
    require_new_item(desk, command.vip_id)
    vip = Vip(command.vip_id, command.name, command.enabled, command.address, command.health_check, command.machine_ids)
    require_vip(desk, vip)
    record_vip(desk, VipCreated, vip)


def update_vip(desk: Desk, command: UpdateVip) -> None:
    """What is given changes; nothing happens where all is so already."""
    before = find_item(desk.routing.vips, command.vip_id, "virtual IP", "vip_id")
    vip = Vip(
        before.vip_id,
        before.name if command.name is None else command.name,
        before.enabled if command.enabled is None else command.enabled,
        before.address if command.address is None else command.address,
        before.health_check if command.health_check is None else command.health_check,
        before.machine_ids if command.machine_ids is None else command.machine_ids,
    )
    if vip != before:
        require_vip(desk, vip)
        record_vip(desk, VipUpdated, vip)


def delete_vip(desk: Desk, command: DeleteVip) -> None:
    """The virtual IP goes; its address is free again."""
    vip = find_item(desk.routing.vips, command.vip_id, "virtual IP", "vip_id")
    desk.record(VipDeleted, ROUTING_ID, vip_id=vip.vip_id, name=vip.name)


def find_item(items: HashTrieMap[UUID, _Item], item_id: UUID, what: str, field: str) -> _Item:
    """A route, virtual IP or route policy that exists. Raises `NotFoundError`."""
    item = items.get(item_id)
    if item is None:
        raise NotFoundError(
            f"There is no {what} with the id {item_id}.",
            hint="List them to find its id; it may have been deleted.",
            field=field,
        )
    return item


def require_new_item(desk: Desk, item_id: UUID) -> None:
    """That nothing has or had this id. Raises `IdTakenError`."""
    require_free_id(desk, item_id)
    if desk.machine(item_id) is not None:
        raise id_taken(item_id, "a machine")


def require_name(items: HashTrieMap[UUID, _Item], item: _Item, what: str) -> None:
    """That the item's name is one, and no other's of its kind. Raises `InvalidNameError`, `NameTakenError`."""
    check_label(item.name, f"a {what}", "office-lan or web")
    for known in items.values():
        if known.name.lower() == item.name.lower() and known.item_id != item.item_id:
            raise NameTakenError(
                f"There is a {what} named {known.name} already.",
                hint="Choose another name; names that differ only in case count as the same.",
                field="name",
            )


def require_machines(desk: Desk, machine_ids: tuple[UUID, ...]) -> None:
    """That these are machines, none of them revoked, each named once. Raises `NotFoundError` and others."""
    require_once(machine_ids, "machine", "machine_ids")
    for machine_id in machine_ids:
        find_machine(desk, machine_id)
        require_not_revoked(desk, machine_id)


def require_once(named: Iterable[Hashable], what: str, field: str) -> None:
    """That nothing is named twice. Raises `InvalidInputError`."""
    seen = set()
    for each in named:
        if each in seen:
            raise InvalidInputError(f"The {what} {each} is named twice.", hint="Name each once.", field=field)
        seen.add(each)


def require_route(desk: Desk, route: Route) -> None:
    require_name(desk.routing.routes, route, "route")
    require_once(route.prefixes, "prefix", "prefixes")
    for prefix in route.prefixes:
        _require_free_prefix(desk, prefix, route.route_id, "prefixes")
    _require_room(desk, route, "prefixes")
    require_machines(desk, route.machine_ids)
    for machine_id in route.machine_ids:
        count = desk.routing.prefix_count(machine_id, route.route_id) + len(route.prefixes)
        _require_bearable(desk, machine_id, count, MAX_ANNOUNCED, "prefixes")


def require_vip(desk: Desk, vip: Vip) -> None:
    require_name(desk.routing.vips, vip, "virtual IP")
    _require_free_prefix(desk, IPv4Network(vip.address), vip.vip_id, "address")
    _require_room(desk, vip, "address")
    require_machines(desk, vip.machine_ids)
    for machine_id in vip.machine_ids:
        count = desk.routing.vip_count(machine_id, vip.vip_id) + 1
        _require_bearable(desk, machine_id, count, MAX_ANSWERED, "virtual IPs")


def _require_free_prefix(desk: Desk, prefix: IPv4Network, item_id: UUID, field: str) -> None:
    shown = str(prefix.network_address) if field == "address" else str(prefix)
    owner = desk.routing.claims.get(prefix)
    if owner is not None and owner != item_id:
        raise PrefixTakenError(
            f"{shown} belongs to {desk.routing.claimant(owner)} already.",
            hint="Name all machines that it lies behind in one place, or take it out of the other first.",
            field=field,
        )
    overlapping = desk.registry.overlapping(prefix)
    if overlapping is not None:
        raise RouteOverlapError(
            f"{shown} shares addresses with {overlapping.network_cidr} of the network {overlapping.name}.",
            hint="Announce only what lies outside of all mesh networks: inside, the mesh knows the way itself.",
            field=field,
        )


def _require_room(desk: Desk, item: Route | Vip, field: str) -> None:
    """That all prefixes and virtual IPs fit into one record."""
    known = desk.routing.routes.get(item.item_id) or desk.routing.vips.get(item.item_id)
    count = len(desk.routing.claims) - len(known.claimed if known else ()) + len(item.claimed)
    if count > MAX_CLAIMED:
        raise ConflictError(
            f"There would be {count:,} prefixes and virtual IPs in all; there may be {MAX_CLAIMED:,}.",
            hint="Announce larger prefixes in place of many small ones, or delete what nobody needs.",
            field=field,
        )


def _require_bearable(desk: Desk, machine_id: UUID, count: int, most: int, what: str) -> None:
    if count > most:
        raise ConflictError(
            f"The machine {find_machine(desk, machine_id).hostname} would have {count} {what}; it may have {most}.",
            hint="Spread them over several machines, or announce fewer.",
            field="machine_ids",
        )


def record_route(desk: Desk, event_type: type[RouteCreated | RouteUpdated], route: Route) -> None:
    desk.record(
        event_type,
        ROUTING_ID,
        route_id=route.route_id,
        name=route.name,
        enabled=route.enabled,
        prefixes=route.prefixes,
        machine_ids=route.machine_ids,
    )


def record_vip(desk: Desk, event_type: type[VipCreated | VipUpdated], vip: Vip) -> None:
    desk.record(
        event_type,
        ROUTING_ID,
        vip_id=vip.vip_id,
        name=vip.name,
        enabled=vip.enabled,
        address=vip.address,
        health_check=vip.health_check,
        machine_ids=vip.machine_ids,
    )
