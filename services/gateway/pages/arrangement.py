"""In which order a map shows machines: those that reach the same others stand together. Pure.

A picture that people look at must not jump while they do. So the order follows what is reported only when a map is
opened; from then on the browser tells which order it shows (`written`), and machines keep their places in it
(`kept`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from services.gateway.ways import Way

_LONGEST = 2_000


Role = Literal["mixed", "alike", "inner"]
"""`alike`: none of them reaches the same others directly; `inner`: the others go through them, and stand inside."""

_MARKS: dict[Role, str] = {"mixed": "", "alike": "~", "inner": "!"}
_INNER = 6
"""So many machines stand inside, at most."""


@dataclass(frozen=True, slots=True)
class Group:
    """Machines that stand next to each other."""

    members: tuple[UUID, ...]
    role: Role = "mixed"


def arranged(members: Sequence[UUID], ways: Iterable[Way]) -> tuple[Group, ...]:
    """All members, given in the order of their addresses, by whom they do not reach directly; and those that most paths
    go through. Who stands alone with that, or reaches all, is in one group with all others of that kind."""
    ways = list(ways)
    place = {each: index for index, each in enumerate(members)}
    busy = Counter(each for way in ways if way.ways for each in way.ways[0] if each in place)
    inner = sorted(busy, key=lambda each: (-busy[each], place[each]))[:_INNER] if len(members) > 2 else []
    around = [each for each in members if each not in inner]
    unreached = _unreached(around, ways)
    together: defaultdict[frozenset[UUID], list[UUID]] = defaultdict(list)
    for each in around:
        together[unreached[each]].append(each)
    alike = [Group(tuple(found), "alike") for others, found in together.items() if others and len(found) > 1]
    named = {each for group in alike for each in group.members}
    rest = tuple(each for each in around if each not in named)
    groups = [*alike, *([Group(rest)] if rest else [])]
    ordered = sorted(groups, key=lambda group: place[group.members[0]])
    return (*ordered, *([Group(tuple(sorted(inner, key=place.__getitem__)), "inner")] if inner else []))


def _unreached(members: Sequence[UUID], ways: Iterable[Way]) -> dict[UUID, frozenset[UUID]]:
    """Whom each does not reach directly. Those whom nobody reaches say nothing about where others are; they are alike
    themselves."""
    apart: defaultdict[UUID, set[UUID]] = defaultdict(set)
    reaching: set[UUID] = set()
    for way in ways:
        if way.kind in ("transit", "none"):
            apart[way.machine_id].add(way.peer_id)
            apart[way.peer_id].add(way.machine_id)
        if way.kind in ("direct", "transit"):
            reaching |= {way.machine_id, way.peer_id}
    gone = {each for each in members if apart[each] and each not in reaching}
    return {each: frozenset(gone if each in gone else apart[each] - gone) for each in members}


def _role(part: str) -> Role:
    return next((role for role, mark in _MARKS.items() if mark and part.startswith(mark)), "mixed")


def written(groups: Iterable[Group], addresses: Mapping[UUID, int]) -> str:
    """An order, for the browser to keep: groups of addresses."""
    return "_".join(_MARKS[group.role] + ".".join(f"{addresses[each]:x}" for each in group.members) for group in groups)


def kept(text: str, addresses: Mapping[UUID, int]) -> tuple[Group, ...]:
    """The order that a browser shows, without whom has left, and with whom has come at the end; nothing where `text`
    is no order, or there is nobody left of it."""
    at = {f"{address:x}": machine_id for machine_id, address in addresses.items()}
    groups: list[Group] = []
    for part in text[:_LONGEST].split("_"):
        role = _role(part)
        found = (at.pop(each, None) for each in part.removeprefix(_MARKS[role]).split("."))
        if known := tuple(each for each in found if each is not None):
            groups.append(Group(known, role))
    if groups and at:
        new = tuple(sorted(at.values(), key=addresses.__getitem__))
        mixed = next((index for index, group in enumerate(groups) if group.role == "mixed"), None)
        if mixed is None:
            groups.insert(0, Group(new))
        else:
            groups[mixed] = Group(groups[mixed].members + new)
    return tuple(groups)
