"""Which events somebody wants to see, told before they are read and after; what one changed; and how it is shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import Any
from uuid import UUID, uuid4

import pytest

from events import codec
from events.client import Entry
from events.domain import (
    ACCESS_ID,
    EVENT_TYPES,
    REGISTRY_ID,
    ROUTING_ID,
    ApiTokenIssued,
    Assignment,
    DomainEvent,
    MachineAgentUpdated,
    MachineRegistered,
    MachinesAssigned,
    MachinesUnassigned,
    MachineTransitSet,
    MembershipRegistered,
    NetworkCreated,
    NetworkRenamed,
    RouteCreated,
    RouteDeleted,
    RouteReflectorModeSet,
    RouteUpdated,
)
from events.log import LoggedEvent
from events.subjects import log_subject
from services.gateway.mirror import Mirror
from services.gateway.pages.effects import THREADS, Before, Effect, effect_of
from services.gateway.pages.kinds import GROUPS, NAMES
from services.gateway.pages.lines import days_of, lines_of
from services.gateway.pages.log_filters import Asked, is_plain, read
from services.gateway.wanted import KINDS, Wanted, actors_called

OFFICE, LAB, DB, ROUTE = (UUID(int=number) for number in range(1, 5))
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
KEY = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY="


def event(kind: type[DomainEvent], where: UUID = REGISTRY_ID, actor: str = "cli:alice", **fields: Any) -> DomainEvent:
    beside = {"originator_version": 2, "previous_hash": "", "command_id": uuid4(), "time": NOON}
    return kind(originator_id=where, actor=actor, **(beside | fields))


def entry(of: DomainEvent) -> Entry:
    headers = f"NATS/1.0\r\nWl-Event: 2 {codec.topic_of(type(of))}\r\n\r\n".encode()
    return Entry(1, log_subject(of.originator_id), headers, codec.encode(of))


CREATED = event(
    NetworkCreated,
    network_id=OFFICE,
    name="office",
    network_cidr="172.16.0.0/24",
    route_reflector_mode=False,
    is_default=True,
)
ASSIGNED = event(
    MachinesAssigned,
    OFFICE,
    "account:Alice/laptop",
    network_id=OFFICE,
    assignments=(Assignment(machine_id=DB, address=IPv4Address("172.16.0.1")),),
)
BY_MACHINE = event(MachineTransitSet, DB, f"machine:{DB}", machine_id=DB, transit="always")
ALL = (CREATED, ASSIGNED, BY_MACHINE)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(), ALL),
        (Wanted(network=OFFICE), (CREATED, ASSIGNED)),
        (Wanted(machine=DB), (ASSIGNED, BY_MACHINE)),
        (Wanted(network=OFFICE, machine=DB), (ASSIGNED,)),
        (Wanted(network=LAB), ()),
        (Wanted(kinds=frozenset({"network.created", "machine.transit_set"})), (CREATED, BY_MACHINE)),
        (Wanted(actors=frozenset({"alice"})), (CREATED, ASSIGNED)),
        (Wanted(actors=frozenset({"account:alice"})), (ASSIGNED,)),
        (Wanted(actors=frozenset({"alice/laptop"})), (ASSIGNED,)),
        (Wanted(actors=frozenset({"cli:alice"})), (CREATED,)),
        (Wanted(actors=frozenset({"alic"})), ()),
        (Wanted(actors=frozenset({f"machine:{DB}"})), (BY_MACHINE,)),
        (Wanted(since=NOON), ALL),
        (Wanted(until=NOON), ()),
        (Wanted(since=NOON + timedelta(seconds=1)), ()),
    ],
)
def test_what_is_wanted(wanted: Wanted, found: tuple[DomainEvent, ...]) -> None:
    assert tuple(each for each in ALL if wanted.matches(each)) == found
    assert all(wanted.may_match(entry(each)) for each in found), "what matches is never passed over"
    if wanted.since is None and wanted.until is None and wanted.actors != {"alic"}:
        assert tuple(each for each in ALL if wanted.may_match(entry(each))) == found


def test_actors_with_odd_names_are_not_passed_over() -> None:
    odd = event(MachineTransitSet, DB, 'cli:"O\\\'Hara"', machine_id=DB, transit="always")
    wanted = Wanted(actors=actors_called('  "o\\\'HARA" ', Mirror()))
    assert wanted.matches(odd)
    assert wanted.may_match(entry(odd))


def test_every_kind_has_a_name() -> None:
    assert set(NAMES) == set(KINDS)
    assert sum(map(len, GROUPS.values())) == len(EVENT_TYPES)
    assert len(set(NAMES.values())) == len(NAMES)


def test_an_address_and_its_filters() -> None:
    asked = Asked(network=str(OFFICE), actor="alice", since="2026-05-04T08:30", until="2026-05-05T00:00:01+02:00",
                  kind=["network.created", "nonsense"])  # fmt: skip
    filters = read(asked, Mirror())
    assert not filters.faults
    assert (filters.since, filters.until) == (
        datetime(2026, 5, 4, 8, 30, tzinfo=UTC),
        datetime(2026, 5, 4, 22, 0, 1, tzinfo=UTC),
    )
    address = filters.address(before=7)
    assert address == (
        f"/events?network={OFFICE}&actor=alice&since=2026-05-04T08%3A30&until=2026-05-04T22%3A00%3A01"
        "&kind=network.created&before=7"
    )
    assert is_plain(asked, address.partition("?")[2])
    assert not is_plain(asked, "network=&actor=alice")
    labels = [(each.label, each.value) for each in filters.chosen(Mirror())]
    assert labels == [("Network", str(OFFICE)), ("By", "alice"), ("From", "2026-05-04 08:30:00 UTC"),
                      ("Until", "2026-05-04 22:00:01 UTC"), ("Kind", "Network created")]  # fmt: skip
    assert "alice" not in next(each for each in filters.chosen(Mirror()) if each.label == "By").without


def test_filters_that_mean_nothing_say_so() -> None:
    filters = read(
        Asked(network="nowhere", machine="nobody", since="yesterday", until="9999-12-31T23:59-23:59"), Mirror()
    )
    assert set(filters.faults) == {"network", "machine", "since", "until"}


def effect(changed: DomainEvent, *log: DomainEvent, everywhere: bool = True) -> Effect:
    """What it changed, where these happened before, the newest last."""
    search = Before(changed)
    found = [each for each in reversed(log) if search.may_match(entry(each)) and search.matches(each)]
    return effect_of(changed, found[0] if found else None, everywhere, Mirror())


def shown(of: Effect) -> list[tuple[str, Any, Any]]:
    return [(change.label, change.before, change.after) for change in of.changes]


def route(kind: type[DomainEvent], *prefixes: str, **fields: Any) -> DomainEvent:
    given: dict[str, Any] = {
        "route_id": ROUTE,
        "name": "lan",
        "enabled": True,
        "prefixes": prefixes,
        "machine_ids": (DB,),
    }
    return event(kind, ROUTING_ID, **(given | fields))


def test_before_and_after() -> None:
    made, other = route(RouteCreated, "10.0.0.0/8"), route(RouteCreated, "10.9.0.0/16", route_id=LAB)
    changed = route(RouteUpdated, "10.0.0.0/8", "10.9.0.0/16")
    told = effect(changed, made, other)
    assert shown(told) == [("Prefixes", ("10.0.0.0/8",), ("10.0.0.0/8", "10.9.0.0/16"))]
    assert {change.label for change in told.same} == {"Name", "Enabled", "Machines"}
    gone = event(RouteDeleted, ROUTING_ID, route_id=ROUTE, name="lan")
    assert ("Prefixes", ("10.0.0.0/8", "10.9.0.0/16"), None) in shown(effect(gone, made, changed, other))
    assert shown(effect(made)) == [
        ("Name", None, ("lan",)),
        ("Enabled", None, ("yes",)),
        ("Prefixes", None, ("10.0.0.0/8",)),
        ("Machines", None, (str(DB),)),
    ]
    unknown = effect(changed, everywhere=False)
    assert unknown.incomplete
    assert not unknown.compared


def test_before_that_another_kind_tells() -> None:
    renamed = event(NetworkRenamed, network_id=OFFICE, name="hq", previous_name="office")
    assert shown(effect(renamed)) == [("Name", ("office",), ("hq",))]
    mode = event(RouteReflectorModeSet, network_id=OFFICE, enabled=True)
    assert shown(effect(mode, CREATED)) == [("Enabled", ("no",), ("yes",))]
    assert shown(effect(BY_MACHINE)) == [("Transit", ("auto",), ("always",))]
    registered = event(MachineRegistered, DB, machine_id=DB, hostname="db-1", agent_version="0.1")
    updated = event(MachineAgentUpdated, DB, machine_id=DB, agent_version="0.2")
    assert shown(effect(updated, registered)) == [("Agent", ("0.1",), ("0.2",))]


def test_what_ended_is_no_before() -> None:
    def announced(port: int) -> DomainEvent:
        return event(
            MembershipRegistered,
            OFFICE,
            network_id=OFFICE,
            machine_id=DB,
            public_key=KEY,
            listen_port=port,
            endpoints=(),
        )

    assigned = (Assignment(machine_id=DB, address=IPv4Address("172.16.0.1")),)
    left = event(MachinesUnassigned, OFFICE, network_id=OFFICE, assignments=assigned)
    assert ("Listen port", ("1",), ("2",)) in shown(effect(announced(2), announced(1)))
    assert ("Listen port", None, ("2",)) in shown(effect(announced(2), announced(1), left))


def test_no_hash_of_a_secret_is_shown() -> None:
    issued = event(
        ApiTokenIssued, ACCESS_ID, token_id=LAB, account_id=DB, name="laptop", role="viewer", use="api",
        secret_hash="ab" * 32, expires_at=None,
    )  # fmt: skip
    assert "abab" not in str(effect(issued))
    assert ("Expires at", None, ("never",)) in shown(effect(issued))


def test_every_thread_leads_to_kinds_that_there_are() -> None:
    for kind, thread in THREADS.items():
        assert {kind, *thread.kinds, *thread.ends} <= set(KINDS)


def test_lines_and_days() -> None:
    yesterday = CREATED.model_copy(update={"time": NOON - timedelta(days=1)})
    older = CREATED.model_copy(update={"time": NOON - timedelta(days=9)})
    events = [LoggedEvent(3, ASSIGNED, ""), LoggedEvent(2, yesterday, ""), LoggedEvent(1, older, "")]
    lines = lines_of(events, Mirror())
    assert [day.title for day in days_of(lines, NOON)] == [
        "Today, 4 May 2026",
        "Yesterday, 3 May 2026",
        "Saturday, 25 April 2026",
    ]
    assert (lines[0].who.name, lines[0].who.detail) == ("Alice", "laptop")
    assert [(thing.kind, thing.name, thing.href) for thing in lines[0].things] == [
        ("network", "office", None),
        ("machine", "machine 00000000", None),
    ]
    assert [thing.id for thing in lines[0].about_others(OFFICE)] == [DB]
    (line,) = lines_of([LoggedEvent(1, BY_MACHINE, "")], Mirror())
    assert (line.who.kind, line.who.name) == ("machine", "machine 00000000")
