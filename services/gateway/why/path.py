"""Why a machine reaches another the way it does, or not at all. Pure.

The cost goes with the number of links that the two machines have reported, not with the network's size squared.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

from events.domain import MachineTransitSet
from events.errors import InvalidInputError
from events.records import MachineRecord
from events.subjects import PATHS_STREAM, network_peer, path
from services.gateway.path_words import chosen
from services.gateway.reach import Link
from services.gateway.ways import Way, round_trip
from services.gateway.why.known import LastOf
from services.gateway.why.peer import peer_chain
from services.gateway.why.steps import Step, thing
from services.gateway.why.teller import Teller

_OTHERS = 3
"""So many of the ways that were not taken are told of one by one."""

_PREFERENCE = {"always": 0, "auto": 1, "never": 2}


class _Other(NamedTuple):
    """A machine that reaches both: the better, the less."""

    preference: int
    rtt: int
    machine_id: UUID


def path_chain(tell: Teller, machine_id: UUID, peer_id: UUID, network_id: UUID) -> Step:
    """Why one machine reaches another in a network as it does. Raises `InvalidInputError` for a machine and itself, and
    `NotFoundError` for what never was."""
    if machine_id == peer_id:
        raise InvalidInputError("A machine has no path to itself.", hint="Name two machines.", field="peer")
    network = tell.mirror.networks.get(network_id)
    if network is None or network.record is None or not {machine_id, peer_id} <= network.members.keys():
        denied = peer_chain(tell, machine_id, peer_id, network_id)
        text = f"{tell.machine(machine_id)} has no path to {tell.machine(peer_id)} in {tell.network(network_id)}"
        return thing(text, *denied.follows_from, uuids=denied.uuids)
    way = tell.seen.tracks.way(network_id, machine_id, peer_id)
    places = [tell.membership(network_id, one) for one in (machine_id, peer_id)]
    ends = f"{tell.machine(machine_id)} %s {tell.machine(peer_id)} in {tell.network(network_id)}"
    follows = {"direct": _direct, "transit": _transit, "none": _none, "unknown": _unknown}[way.kind](tell, way)
    text = {
        "direct": ends % "reaches" + " directly" + _trip(way.rtt),
        "transit": ends % "reaches" + f" through {_names(tell, way.ways[0]) if way.ways else ''}" + _trip(way.rtt),
        "none": ends % "does not reach" + ": there is no way",
        "unknown": f"how {ends % 'reaches'} is not known",
    }[way.kind]
    return thing(text, *follows, *places, time=way.since, uuids=(network_id, machine_id, peer_id))


def _direct(tell: Teller, way: Way) -> list[Step]:
    return _links(tell, way)


def _unknown(tell: Teller, way: Way) -> list[Step]:
    return [thing("neither has reported of the other yet")]


def _transit(tell: Teller, way: Way) -> list[Step]:
    used = way.ways[0]
    hops = [
        _hop(tell, way.network_id, one, other)
        for one, other in itertools.pairwise((way.machine_id, *used, way.peer_id))
    ]
    settings = [_setting(tell, transit) for transit in used]
    return [
        _choice(tell, way, *hops, *settings),
        thing("they do not reach each other directly", *_links(tell, way)),
        *_not_taken(tell, way),
    ]


def _none(tell: Teller, way: Way) -> list[Step]:
    steps = [thing("they do not reach each other directly", *_links(tell, way))]
    others = _others(tell, way)
    if not others:
        return [*steps, thing("nobody reaches both")]
    return [*steps, *_not_taken(tell, way)]


def _choice(tell: Teller, way: Way, *follows_from: Step) -> Step:
    """The record that names the ways. Of the past it was derived anew, and its revision is not known."""
    assert way.record is not None
    text = f"the control plane {chosen(way.ways, tell.machine)}"
    subject = path(way.machine_id, way.network_id, way.peer_id)
    if tell.seen.is_past:
        return Step("record", text, follows_from, subject=subject, stream=PATHS_STREAM)
    return Step(
        "record",
        text,
        follows_from,
        time=way.record.time,
        subject=subject,
        revision=way.record.revision,
        stream=PATHS_STREAM,
        position=way.record.cause,
    )


def _hop(tell: Teller, network_id: UUID, one: UUID, other: UUID) -> Step:
    reach = tell.seen.tracks.reach
    links = (reach.link(network_id, one, other), reach.link(network_id, other, one))
    said = [tell.report(link.newest, since=link) for link in links if link is not None]
    rtt = round_trip(reach, network_id, one, other)
    return thing(f"{tell.machine(one)} and {tell.machine(other)} reach each other directly{_trip(rtt)}", *said)


def _setting(tell: Teller, transit: UUID) -> Step:
    mode = _mode(tell, transit)
    words = {
        "auto": f"{tell.machine(transit)} lets others' traffic through where that is the shortest way",
        "always": f"{tell.machine(transit)} is preferred for others' traffic",
        "never": f"{tell.machine(transit)} lets no traffic of others through",
    }
    return thing(words[mode], *tell.last(LastOf(transit, tell.until, (MachineTransitSet.kind,))), uuids=(transit,))


def _not_taken(tell: Teller, way: Way) -> Iterator[Step]:
    """Why other machines that reach both are not the way."""
    used = {machine_id for each in way.ways[:1] for machine_id in each}
    others = [other for other in _others(tell, way) if other.machine_id not in used]
    standing_by = way.ways[1] if len(way.ways) > 1 else ()
    for other in others[:_OTHERS]:
        yield _other(tell, way, other, is_next=standing_by == (other.machine_id,))
    if len(others) > _OTHERS:
        yield thing(f"{len(others) - _OTHERS} more machines reach both, and are no better")


def _other(tell: Teller, way: Way, other: _Other, *, is_next: bool) -> Step:
    name, mode = tell.machine(other.machine_id), _mode(tell, other.machine_id)
    if mode == "never":
        return thing(f"not through {name}, which reaches both", _setting(tell, other.machine_id))
    standby = ", and stands by" if is_next else ""
    if not way.ways:
        return thing(f"{name} reaches both, but no way was chosen yet")
    first = way.ways[0][0]
    if len(way.ways[0]) == 1 and _PREFERENCE[_mode(tell, first)] < other.preference:
        return thing(
            f"{name} reaches both{_trip(other.rtt)}{standby}: {tell.machine(first)} goes first, by its setting"
        )
    worse = "takes longer" if way.rtt is not None and other.rtt > way.rtt else "is as good: the lot decides"
    return thing(f"{name} reaches both{_trip(other.rtt)}{standby}: that {worse}")


def _others(tell: Teller, way: Way) -> list[_Other]:
    """The machines that reach both ends directly, as both sides report, the best first."""
    reach, network_id = tell.seen.tracks.reach, way.network_id
    members = tell.mirror.networks[network_id].members
    here, there = reach.links(network_id, way.machine_id), reach.links(network_id, way.peer_id)
    found = []
    for one in here.keys() & there.keys() & members.keys():
        back = (reach.link(network_id, one, way.machine_id), reach.link(network_id, one, way.peer_id))
        if all(link is not None and link.is_direct for link in (here[one], there[one], *back)):
            trips = [round_trip(reach, network_id, one, end) or 0 for end in (way.machine_id, way.peer_id)]
            found.append(_Other(_PREFERENCE[_mode(tell, one)], sum(trips), one))
    return sorted(found)


def _links(tell: Teller, way: Way) -> list[Step]:
    """What the two ends report of the direct link."""
    ends = ((way.machine_id, way.peer_id, way.links[0]), (way.peer_id, way.machine_id, way.links[1]))
    steps = []
    for machine_id, peer_id, link in ends:
        if link is None:
            steps.append(thing(f"{tell.machine(machine_id)} has not reported of {tell.machine(peer_id)}"))
        else:
            steps.append(tell.link(link, *_announced(tell, way.network_id, link)))
    return steps


def _announced(tell: Teller, network_id: UUID, link: Link) -> tuple[Step, ...]:
    """From where a machine knows the endpoint that it uses: where the other announced it, that."""
    peer_id, endpoint = link.newest.event.link.peer_id, link.newest.event.link.endpoint
    peer = tell.mirror.networks[network_id].peers.get(peer_id)
    if peer is None or not endpoint:
        return ()
    if endpoint not in peer.endpoints:
        return (thing(f"{endpoint} is not what {tell.machine(peer_id)} announced: it was found by probing"),)
    subject = network_peer(network_id, peer_id)
    record = tell.mirror.record(subject)
    announced = tell.announcement(network_id, peer_id, record.cause) if record is not None else ()
    return (thing(f"{tell.machine(peer_id)} announced {endpoint}", *announced),)


def _mode(tell: Teller, machine_id: UUID) -> str:
    machine = tell.mirror.machines.get(machine_id)
    record: MachineRecord | None = machine.record if machine is not None else None
    return record.transit if record is not None else "auto"


def _names(tell: Teller, way: tuple[UUID, ...]) -> str:
    return ", then ".join(map(tell.machine, way))


def _trip(rtt: int | None) -> str:
    return "" if rtt is None else f", in {rtt:,} ms"
