"""What changed of routes, virtual IPs, route policies, gateways and announcements between two moments. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from events.records import AnnouncementRecord, PolicyRecord, RouteRecord, VipRecord
from events.state import decode_record
from services.gateway.diff_sides import Sides, together
from services.gateway.differences import Change, Named, What
from services.gateway.naming import listed

_Item = RouteRecord | VipRecord | PolicyRecord
_Show = Callable[[Sides, Any], list[str]]


def routing_changes(sides: Sides) -> Iterator[Change]:
    """All of them, one kind after the other."""
    before, after = sides.before.mirror.routing, sides.after.mirror.routing
    yield from _of_items(sides, "route", "route", before.routes, after.routes)
    yield from _of_items(sides, "vip", "virtual IP", before.vips, after.vips)
    yield from _of_items(sides, "policy", "route policy", before.policies, after.policies)
    yield from _of_gateways(sides)
    yield from _of_announcements(sides)


def _of_items(
    sides: Sides, what: What, noun: str, old: Mapping[UUID, _Item], new: Mapping[UUID, _Item]
) -> Iterator[Change]:
    differing = [each for each in old.keys() | new.keys() if old.get(each) != new.get(each)]
    for item_id in sides.in_order(differing):
        was, item = old.get(item_id), new.get(item_id)
        named = Named(item_id, sides.name(item_id) or str(item_id))
        sets = [each for each in (was, item) if each is not None]
        networks = {one for each in sets if isinstance(each, PolicyRecord) for one in each.network_ids}
        if not sides.is_meant(networks, {one for each in sets for one in each.machine_ids}):
            continue
        if was is None and item is not None:
            content = _summary(sides, item)
            text = f"there is a {noun} {named.name}: {content}"
            yield Change(what, "added", text, machines=sides.machines(item.machine_ids), item=named, after=content)
        elif item is None and was is not None:
            text, content = f"there is no {noun} {named.name} any more", _summary(sides, was)
            yield Change(what, "removed", text, machines=sides.machines(was.machine_ids), item=named, before=content)
        elif was is not None and item is not None:
            machines = sides.machines(dict.fromkeys((*was.machine_ids, *item.machine_ids)))
            about = Change(what, "changed", f"{noun} {named.name}", machines=machines, item=named)
            yield from _fields(sides, about, was, item)


def _fields(sides: Sides, about: Change, was: _Item, item: _Item) -> Iterator[Change]:
    thing = about.text
    for field, (label, show) in _FIELDS.items():
        if not hasattr(item, field) or getattr(was, field) == getattr(item, field):
            continue
        old, new = show(sides, getattr(was, field)), show(sides, getattr(item, field))
        text = f"the {label} of {thing} is {_listed(new)}, before {_listed(old)}"
        yield about.became(field, text, ", ".join(old), ", ".join(new))
    if isinstance(was, PolicyRecord) and isinstance(item, PolicyRecord):
        for field, before, after in _of_policy(was, item):
            label = field if field.startswith("rule") else f"the {field.replace('_', ' ')}"
            text = f"{label} of {thing} is {after or 'gone'}, before {before or 'not there'}"
            yield about.became(field, text, before, after)


def _of_policy(was: PolicyRecord, item: PolicyRecord) -> Iterator[tuple[str, str | None, str | None]]:
    for field in ("direction", "default_action", "local_pref"):
        old, new = getattr(was.policy, field), getattr(item.policy, field)
        if old != new:
            yield field, _or_none(old), _or_none(new)
    rules, now = ({rule.sequence: rule for rule in each.policy.rules} for each in (was, item))
    for sequence in sorted(rules.keys() | now.keys()):
        if rules.get(sequence) != now.get(sequence):
            yield f"rule {sequence}", _rule(rules.get(sequence)), _rule(now.get(sequence))


def _of_gateways(sides: Sides) -> Iterator[Change]:
    before, after = sides.before.mirror.routing.gateways, sides.after.mirror.routing.gateways
    for machine_id in sides.in_order(before.keys() | after.keys()):
        old, new = (side[machine_id].network_ids if machine_id in side else () for side in (before, after))
        if old == new or not sides.is_meant((*old, *new), (machine_id,)):
            continue
        machine = sides.machine(machine_id)
        was, now = ([sides.network(each).name for each in ids] for ids in (old, new))
        kind = "changed" if old and new else "added" if new else "removed"
        between = f"is a gateway between {listed(now)}" if new else "is a gateway no more"
        text = f"{machine.name} {between}" + (f", before {listed(was)}" if old and new else "")
        yield Change(
            "gateway",
            kind,  # type: ignore[arg-type]
            text,
            machines=(machine,),
            field="networks" if kind == "changed" else "",
            before=", ".join(was) or None,
            after=", ".join(now) or None,
        )


def _of_announcements(sides: Sides) -> Iterator[Change]:
    for network_id in sides.network_ids:
        changes = list(_in_network(sides, network_id))
        yield from together(sides, network_id, "announcement", "{count} machines may announce in {network}", changes)


def _in_network(sides: Sides, network_id: UUID) -> Iterator[Change]:
    before, after = (side.mirror.announcements(network_id) for side in (sides.before, sides.after))
    network = sides.network(network_id)
    differing = [each for each in before.keys() | after.keys() if before.get(each) != after.get(each)]
    for machine_id in sides.in_order(differing):
        old, new = (_announced(side.get(machine_id)) for side in (before, after))
        machine = sides.machine(machine_id)
        gone, more = [each for each in old if each not in new], [each for each in new if each not in old]
        if old == new:
            continue
        kind = "changed" if old and new else "added" if new else "removed"
        told = f"may announce {listed(more)}" + (f", and not {listed(gone)} any more" if gone else "")
        if not more:
            told = f"may not announce {listed(gone)} any more" if gone else "may announce the same in another order"
        text = f"{machine.name} in {network.name} {told}"
        field = "announced" if kind == "changed" else ""
        values = {"field": field, "before": ", ".join(old) or None, "after": ", ".join(new) or None}
        yield Change("announcement", kind, text, network, (machine,), **values)  # type: ignore[arg-type]


def _announced(payload: str | None) -> list[str]:
    body = decode_record(payload.encode()).body if payload is not None else None
    if not isinstance(body, AnnouncementRecord):
        return []
    vips = (f"{vip.address} (preference {vip.local_pref})" for vip in body.vips)
    return [*map(str, body.prefixes), *vips, *(f"{prefix} (crossing)" for prefix in body.crossing)]


def _summary(sides: Sides, item: _Item) -> str:
    off = "" if getattr(item, "enabled", True) else ", disabled"
    machines = [each.name for each in sides.machines(item.machine_ids)]
    if isinstance(item, RouteRecord):
        return f"{listed([str(each) for each in item.prefixes])} behind {listed(machines) or 'no machine'}{off}"
    if isinstance(item, VipRecord):
        return f"{item.address} on {listed(machines, ', then ') or 'no machine'}{off}"
    targets = [sides.network(each).name for each in item.network_ids] + machines
    return f"{item.policy.direction} for {listed(targets) or 'nobody'}"


def _rule(rule: BaseModel | None) -> str | None:
    return None if rule is None else "; ".join(_told(rule))


def _told(model: BaseModel) -> list[str]:
    """What of a model is not as by default."""
    said = model.model_dump(mode="json", exclude_defaults=True, exclude={"sequence"})
    parts = [f"{name.replace('_', ' ')} {_plain(value)}" for name, value in said.items()]
    return parts or [f"{name} {value}" for name, value in list(model.model_dump(mode="json").items())[:1]]


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _or_none(value: Any) -> str | None:
    return None if value is None else str(value)


def _listed(values: list[str]) -> str:
    return listed(values) or "none"


_FIELDS: dict[str, tuple[str, _Show]] = {
    "name": ("name", lambda sides, value: [value]),
    "description": ("description", lambda sides, value: [value] if value else []),
    "enabled": ("state", lambda sides, value: ["enabled" if value else "disabled"]),
    "prefixes": ("list of prefixes", lambda sides, value: [str(each) for each in value]),
    "address": ("address", lambda sides, value: [str(value)]),
    "health_check": ("health check", lambda sides, value: ["; ".join(_told(value))]),
    "network_ids": ("list of networks", lambda sides, value: [sides.network(each).name for each in value]),
    "machine_ids": ("list of machines", lambda sides, value: [sides.machine(each).name for each in value]),
}
