"""Why a prefix is announced in a network or not, and why a machine has a route to it or not. Pure.

Who may announce it follows from the routes, virtual IPs and gateways alone, so that no network's members are gone
through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from uuid import UUID

from events.domain import ROUTING_ID, RouteCreated, RouteDeleted, RouteUpdated, VipCreated, VipDeleted, VipUpdated
from events.records import AnnouncementRecord, RouteRecord, VipRecord
from events.subjects import RoutingPart, network_announcement, routing
from services.gateway.naming import listed
from services.gateway.why.known import LastOf
from services.gateway.why.receiving import announced_by, receiving, speaking
from services.gateway.why.steps import Step, thing
from services.gateway.why.teller import Teller


@dataclass(frozen=True)
class _Source:
    """What has a prefix announced: a route or virtual IP, or a gateway that lets it cross."""

    part: RoutingPart
    item_id: UUID
    text: str
    machine_ids: tuple[UUID, ...]
    enabled: bool = True


def route_chains(tell: Teller, prefix: IPv4Network, machine_id: UUID | None, network_id: UUID | None) -> list[Step]:
    """Why a prefix is announced in a network, or wherever it is; and why a machine has a route to it there. Raises
    `NotFoundError` for what never was."""
    if network_id is not None and (gone := tell.gone(network_id)):
        return [thing(f"{prefix} is not announced in {tell.network(network_id)}", gone)]
    if machine_id is not None and (gone := tell.machine_gone(machine_id)):
        return [thing(f"{tell.machine(machine_id)} has no route to {prefix}", gone)]
    sources = list(_sources(tell, prefix))
    networks = _networks(tell, prefix, sources, machine_id, network_id)
    if not networks:
        return [_nowhere(tell, prefix, sources)]
    return [_in_network(tell, prefix, item, sources, machine_id) for item in networks]


def networks_about(tell: Teller, prefix: IPv4Network, machine_id: UUID | None, network_id: UUID | None) -> list[UUID]:
    """In which networks there is something to tell of a prefix."""
    return _networks(tell, prefix, _sources(tell, prefix), machine_id, network_id)


def _sources(tell: Teller, prefix: IPv4Network) -> Iterator[_Source]:
    view = tell.mirror.routing
    for route in view.routes.values():
        if prefix in route.prefixes:
            yield _Source("route", route.route_id, _text("route", route), route.machine_ids, route.enabled)
    for vip in view.vips.values():
        if IPv4Network(vip.address) == prefix:
            yield _Source("vip", vip.vip_id, _text("virtual IP", vip), vip.machine_ids, vip.enabled)
    for gateway in view.gateways.values():
        names = " and ".join(map(tell.network, gateway.network_ids))
        text = f"{tell.machine(gateway.machine_id)} is a gateway between {names}"
        yield _Source("gateway", gateway.machine_id, text, (gateway.machine_id,))


def _text(what: str, item: RouteRecord | VipRecord) -> str:
    return f"{what} {item.name}" + ("" if item.enabled else ", which is disabled")


def _announces(tell: Teller, prefix: IPv4Network, network_id: UUID, machine_id: UUID) -> bool:
    record = tell.mirror.record(network_announcement(network_id, machine_id))
    body = record.body if record is not None else None
    if not isinstance(body, AnnouncementRecord):
        return False
    ranges = (*body.prefixes, *body.crossing, *(IPv4Network(vip.address) for vip in body.vips))
    return prefix in ranges


def _networks(
    tell: Teller, prefix: IPv4Network, sources: Iterable[_Source], machine_id: UUID | None, network_id: UUID | None
) -> list[UUID]:
    """In which networks there is something to tell."""
    if network_id is not None:
        return [network_id]
    if machine_id is not None:
        return list(tell.mirror.networks_of(machine_id))
    named = {one for source in sources for one in source.machine_ids}
    found = {(item, one) for one in named for item in tell.mirror.networks_of(one)}
    return sorted({item for item, one in found if _announces(tell, prefix, item, one)})


def _in_network(
    tell: Teller, prefix: IPv4Network, network_id: UUID, sources: list[_Source], machine_id: UUID | None
) -> Step:
    named = dict.fromkeys(one for source in sources for one in source.machine_ids)
    announcers = [one for one in named if _announces(tell, prefix, network_id, one)]
    name = tell.network(network_id)
    steps = [_announcer(tell, prefix, network_id, one, sources) for one in announcers]
    if not announcers:
        steps += [step for source in sources if (step := _in_vain(tell, network_id, source)) is not None]
    if not announcers and not steps:
        steps += _former(tell, prefix)
    uuids = (network_id, *announcers)
    if machine_id is not None:
        has, reasons = receiving(tell, prefix, network_id, machine_id, announcers)
        text = f"{tell.machine(machine_id)} {'has a' if has else 'has no'} route to {prefix} in {name}"
        if not announcers:
            steps = [thing(f"{prefix} is not announced in {name}", *steps)]
        return thing(text, *reasons, *steps, uuids=(machine_id, *uuids))
    if not announcers:
        return thing(f"{prefix} is not announced in {name}", *steps, uuids=uuids)
    doing = [one for one in announcers if announced_by(tell, prefix, network_id, one)]
    by = listed([tell.machine(one) for one in doing or announcers])
    text = f"{prefix} is announced in {name} by {by}" if doing else f"{prefix} is not announced in {name} by {by} yet"
    return thing(text, *steps, uuids=uuids)


def _announcer(tell: Teller, prefix: IPv4Network, network_id: UUID, machine_id: UUID, sources: list[_Source]) -> Step:
    """A machine that may announce the prefix: by which record, and whether it does."""
    name = tell.machine(machine_id)
    counting = [each for each in sources if machine_id in each.machine_ids and each.enabled]
    own = [each for each in counting if each.part != "gateway"]
    # What a gateway announces by itself needs no crossing; what crosses is another's route or virtual IP.
    others = [each for each in sources if each.part != "gateway" and each.enabled]
    causes = [
        step
        for source in own or [*counting, *others]
        for step in tell.derived(routing(source.part, source.item_id), source.text)
    ]
    subject = network_announcement(network_id, machine_id)
    record = tell.mirror.record(subject)
    text = f"{name} may announce it in {tell.network(network_id)}"
    told = [tell.record(subject, text, record, *causes)] if record is not None else []
    does = announced_by(tell, prefix, network_id, machine_id)
    return thing(
        f"{name} announces it" if does else f"{name} is to announce it",
        *told,
        tell.membership(network_id, machine_id),
        *speaking(tell, prefix, network_id, machine_id),
    )


def _in_vain(tell: Teller, network_id: UUID, source: _Source) -> Step | None:
    """Why a source does not lead to an announcement in the network, where it is meant to."""
    if source.part == "gateway":
        return None
    told = tell.derived(routing(source.part, source.item_id), source.text)
    if not source.enabled:
        return thing(f"{source.text} announces nothing", *told)
    if not source.machine_ids:
        return thing(f"{source.text} has no machine", *told)
    members = tell.mirror.networks[network_id].members
    absent = [one for one in source.machine_ids if one not in members]
    if len(absent) < len(source.machine_ids):
        return None
    return thing(f"{source.text} has no machine here", *told, *(tell.absence(network_id, one) for one in absent[:4]))


def _nowhere(tell: Teller, prefix: IPv4Network, sources: list[_Source]) -> Step:
    """A prefix that is announced in no network."""
    steps = []
    for source in sources:
        if source.part == "gateway":
            continue
        told = tell.derived(routing(source.part, source.item_id), source.text)
        if not source.enabled:
            steps.append(thing(f"{source.text} announces nothing", *told))
        elif not source.machine_ids:
            steps.append(thing(f"{source.text} has no machine", *told))
        else:
            names = " and ".join(map(tell.machine, source.machine_ids[:4]))
            steps.append(thing(f"{source.text} is for {names}, in no network", *told))
    return thing(f"{prefix} is announced nowhere", *(steps or _former(tell, prefix)))


def _former(tell: Teller, prefix: IPv4Network) -> list[Step]:
    """What last had the prefix, and what became of it."""
    kinds = (RouteCreated.kind, RouteUpdated.kind, VipCreated.kind, VipUpdated.kind)
    mention = f'"{prefix.network_address}"' if prefix.prefixlen == 32 else f'"{prefix}"'
    found = tell.known.last(LastOf(ROUTING_ID, tell.until, kinds, mention))
    if found.event is None:
        never = "no route or virtual IP has ever had it" if found.is_whole else "none has had it for long"
        return [thing(never)]
    event = found.event.event
    item_id = event.route_id if isinstance(event, RouteCreated | RouteUpdated) else getattr(event, "vip_id", None)
    ends = (RouteUpdated.kind, RouteDeleted.kind, VipUpdated.kind, VipDeleted.kind)
    after = LastOf(ROUTING_ID, tell.until, ends, str(item_id), found.event.sequence + 1)
    ended = tell.last(after)
    what = "route" if isinstance(event, RouteCreated | RouteUpdated) else "virtual IP"
    name = getattr(event, "name", "")
    return [thing(f"{what} {name} had it", tell.event(found.event), *ended)]
