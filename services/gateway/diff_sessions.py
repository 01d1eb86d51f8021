"""What changed of the BGP sessions between two moments: which are meant to be, and how those are. Pure.

Which sessions are meant to be follows from the plan and the members, so they are counted without being listed. Of those
that are meant to be at both moments, the ones are looked at of which an end has reported since.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal
from uuid import UUID

from events.peering import BgpPlan
from events.records import SessionState
from services.gateway.diff_sides import Alike, Sides, Step, names_of
from services.gateway.differences import Change, ChangeKind, Named
from services.gateway.seen import Seen

_STAGES = {"mesh": "in full mesh", "switching": "in full mesh and with reflectors", "reflectors": "with reflectors"}
_NOT_REPORTED = "not reported"

_Session = tuple[UUID, UUID, Literal["mesh", "client"]]
"""Two machines of the full mesh, or a client and its reflector."""


@dataclass(frozen=True)
class _Wanted:
    """The sessions that a network is to have."""

    members: frozenset[UUID]
    plan: BgpPlan

    @property
    def mesh(self) -> frozenset[UUID]:
        """Who has one with everybody."""
        return frozenset() if self.plan.stage == "reflectors" else self.members

    @property
    def reflectors(self) -> frozenset[UUID]:
        """With whom everybody has one."""
        return frozenset() if self.plan.stage == "mesh" else self.plan.reflectors & self.members

    def has(self, session: _Session) -> bool:
        """Whether a session is one of them."""
        one, other, purpose = session
        if purpose == "mesh":
            return one in self.mesh and other in self.mesh
        return one in self.members and other in self.reflectors


def session_changes(sides: Sides, network_id: UUID) -> Iterator[Step]:
    """How a network's machines are to speak BGP, which sessions came or went, and the states of the others."""
    old, new = (
        _Wanted(frozenset(network.members), side.tracks.plan(network_id))
        for network, side in zip(sides.networks(network_id), (sides.before, sides.after), strict=True)
    )
    if sides.had(network_id) and sides.has(network_id):
        yield from _plan(sides, network_id, old.plan, new.plan)
    yield from _wanted(sides, network_id, "added", old, new)
    yield from _wanted(sides, network_id, "removed", new, old)
    yield from _speakers(sides, network_id, old.members & new.members)
    yield from _states(sides, network_id, old, new)


def _plan(sides: Sides, network_id: UUID, old: BgpPlan, new: BgpPlan) -> Iterator[Change]:
    network = sides.network(network_id)
    if old.stage != new.stage:
        text = f"BGP sessions in {network.name} are {_STAGES[new.stage]}, before {_STAGES[old.stage]}"
        yield Change("session", "changed", "", network).became("stage", text, old.stage, new.stage)
    if old.reflectors != new.reflectors:
        were, are = (sides.machines(sides.in_order(plan.reflectors)) for plan in (old, new))
        text = f"the reflectors in {network.name} are {names_of(are) or 'none'}, before {names_of(were) or 'none'}"
        values = (", ".join(each.name for each in them) for them in (were, are))
        yield Change("session", "changed", "", network).became("reflectors", text, *values)


def _wanted(sides: Sides, network_id: UUID, kind: ChangeKind, old: _Wanted, new: _Wanted) -> Iterator[Step]:
    """The sessions of `new` that are none of `old`: those of the full mesh, then those with each reflector."""
    network = sides.network(network_id)
    mesh = _Batch(kind, network, "", new.mesh - old.mesh, old.mesh & new.mesh)
    yield from _came(sides, mesh)
    for reflector in sides.in_order(new.reflectors):
        known = old.members if reflector in old.reflectors else frozenset[UUID]()
        name, clients = sides.machine(reflector).name, new.members - known - {reflector}
        yield from _came(sides, _Batch(kind, network, f", {name} as reflector", frozenset({reflector}), clients))


@dataclass(frozen=True)
class _Batch:
    """Sessions that came or went: some machines' with each other, and with others."""

    kind: ChangeKind
    network: Named
    how: str
    ones: frozenset[UUID]
    others: frozenset[UUID]

    @property
    def count(self) -> int:
        """How many they are."""
        return len(self.ones) * (len(self.ones) - 1) // 2 + len(self.ones) * len(self.others)

    def text(self, who: str) -> str:
        """What is told of them."""
        to, end = ("to", "") if self.kind == "added" else ("not to", " any more")
        return f"{who} are {to} speak BGP in {self.network.name}{end}{self.how}"


def _came(sides: Sides, batch: _Batch) -> Iterator[Step]:
    if batch.count > sides.few:
        machines = sides.machines(batch.ones) if len(batch.ones) == 1 else ()
        who = f"{machines[0].name} and {batch.count:,} others" if machines else f"{batch.count:,} pairs"
        yield Change("session", batch.kind, batch.text(who), batch.network, machines, count=batch.count)
        return
    others = sides.in_order(batch.others)
    for one in sides.in_order(batch.ones):
        for other in others:
            ends = sides.machines(sides.pair(one, other))
            yield Change("session", batch.kind, batch.text(names_of(ends)), batch.network, ends)
        others.append(one)
        yield None


def _speakers(sides: Sides, network_id: UUID, members: frozenset[UUID]) -> Iterator[Change]:
    network = sides.network(network_id)
    found = []
    for machine_id in members:
        old, new = (side.tracks.bgp.speaker(network_id, machine_id) for side in (sides.before, sides.after))
        was, now = (_NOT_REPORTED if each is None else each.state for each in (old, new))
        if was != now:
            found.append((machine_id, was, now))
    for machine_id, was, now in sorted(found, key=lambda each: sides.order(each[0])):
        machine = sides.machine(machine_id)
        text = f"the BGP speaker of {machine.name} in {network.name} is {now}, before {was}"
        yield Change("session", "changed", "", network, (machine,)).became("speaker", text, was, now)


def _states(sides: Sides, network_id: UUID, old: _Wanted, new: _Wanted) -> Iterator[Step]:
    network = sides.network(network_id)
    groups: dict[tuple[str, str], Alike[_Session]] = {}
    for session in _reported(sides, network_id, old, new):
        if session is None:
            yield None
            continue
        was, now = (_state(side, network_id, session) for side in (sides.before, sides.after))
        if was != now:
            groups.setdefault((was, now), Alike(sides.few)).add(session, *session[:2])
    for (was, now), alike in sorted(groups.items(), key=lambda each: each[0]):
        if alike.are_few:
            ordered = [(sides.pair(*each[:2]) if each[2] == "mesh" else each[:2], each[2]) for each in alike.places]
            for pair, purpose in sorted(ordered, key=lambda each: (*map(sides.order, each[0]), each[1])):
                ends = sides.machines(pair)
                joint = " and " if purpose == "mesh" else " with its reflector "
                text = (
                    f"the BGP session of {ends[0].name}{joint}{ends[1].name} in {network.name} is {now}, before {was}"
                )
                yield Change("session", "changed", "", network, ends).became("state", text, was, now)
            continue
        about = Change("session", "changed", "", network, () if alike.hub is None else (sides.machine(alike.hub),))
        who = f" of {about.machines[0].name}" if about.machines else ""
        text = f"{alike.count:,} BGP sessions{who} in {network.name} are {now}, before {was}"
        yield replace(about.became("state", text, was, now), count=alike.count)


def _reported(sides: Sides, network_id: UUID, old: _Wanted, new: _Wanted) -> Iterator[_Session | None]:
    """The sessions meant to be at both moments of which an end has reported between them; None now and then, when
    others may run."""
    before, after = sides.before.tracks.bgp, sides.after.tracks.bgp
    found: set[_Session] = set()
    for one in old.members & new.members:
        if before.newest_session(network_id, one) == after.newest_session(network_id, one):
            continue
        earlier, later = before.sessions(network_id, one), after.sessions(network_id, one)
        for peering in earlier.keys() | later.keys():
            if _said(earlier.get(peering)) == _said(later.get(peering)):
                continue
            peer, purpose = peering
            session: _Session = (one, peer, "client")
            if purpose == "mesh":
                session = (min(one, peer), max(one, peer), "mesh")
            elif purpose == "reflector":
                session = (peer, one, "client")
            if session not in found and old.has(session) and new.has(session):
                found.add(session)
                yield session
        yield None


def _said(state: SessionState | None) -> str | None:
    return None if state is None else state.state


def _state(side: Seen, network_id: UUID, session: _Session) -> str:
    """As its first end finds it, unless that finds it established and the other end does not."""
    one, other, purpose = session
    mine = side.tracks.bgp.sessions(network_id, one).get((other, purpose))
    theirs = side.tracks.bgp.other_end(network_id, one, other, purpose)
    if mine is None or (mine.state == "established" and theirs is not None):
        mine = theirs
    return _NOT_REPORTED if mine is None else mine.state
