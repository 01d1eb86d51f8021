"""Every event has words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from events.domain import (
    EVENT_TYPES,
    DefaultNetworkSet,
    DomainEvent,
    MachineAgentUpdated,
    MachineDeleted,
    MachineRegistered,
    MachineRenamed,
    MachinesAssigned,
    MachinesUnassigned,
    MembershipRegistered,
    NetworkCreated,
    NetworkDeleted,
    NetworkRenamed,
    RouteReflectorModeSet,
)
from services.gateway.history import about
from services.gateway.words import in_words, machines_of, networks_of

OFFICE, LAB, DB, WEB = (UUID(int=number) for number in (1, 2, 3, 4))
NAMES = {OFFICE: "office-mesh", LAB: "lab", DB: "db-1", WEB: "web-1"}
KEY = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY="


def event(event_type: type[DomainEvent], **fields: Any) -> DomainEvent:
    beside = {
        "originator_id": uuid4(),
        "originator_version": 1,
        "previous_hash": "",
        "time": datetime(2026, 5, 3, tzinfo=UTC),
        "actor": "cli:alice",
        "command_id": uuid4(),
    }
    return event_type.model_validate(beside | fields)


def assignments(*machines: UUID) -> list[dict[str, Any]]:
    return [{"machine_id": machine, "address": f"172.16.0.{n}"} for n, machine in enumerate(machines, 1)]


SAID = [
    (
        event(
            NetworkCreated,
            network_id=OFFICE,
            name="office-mesh",
            network_cidr="172.16.0.0/24",
            route_reflector_mode=True,
            is_default=True,
        ),
        "created network office-mesh with 172.16.0.0/24, the default, in route reflector mode",
    ),
    (
        event(NetworkRenamed, network_id=OFFICE, name="office", previous_name="home"),
        "renamed network home to office",
    ),
    (
        event(DefaultNetworkSet, network_id=OFFICE, previous_network_id=LAB),
        "made office-mesh the default network instead of lab",
    ),
    (
        event(RouteReflectorModeSet, network_id=OFFICE, enabled=False),
        "turned route reflector mode off in office-mesh",
    ),
    (
        event(NetworkDeleted, network_id=OFFICE, name="office-mesh", machine_count=2),
        "deleted network office-mesh with its 2 machines",
    ),
    (
        event(MachinesAssigned, network_id=OFFICE, assignments=assignments(DB)),
        "assigned db-1 to office-mesh as 172.16.0.1",
    ),
    (
        event(MachinesUnassigned, network_id=OFFICE, assignments=assignments(DB, WEB)),
        "unassigned 2 machines from office-mesh: db-1 (172.16.0.1), web-1 (172.16.0.2)",
    ),
    (
        event(
            MembershipRegistered,
            network_id=OFFICE,
            machine_id=DB,
            public_key=KEY,
            listen_port=51820,
            endpoints=["192.0.2.1:51820"],
        ),
        "announced the key and endpoints of db-1 in office-mesh (192.0.2.1:51820)",
    ),
    (
        event(MachineRegistered, machine_id=DB, hostname="db-1", agent_version="0.1.0"),
        "registered machine db-1 with agent 0.1.0",
    ),
    (event(MachineRenamed, machine_id=DB, hostname="db-2", previous_hostname="db-1"), "renamed machine db-1 to db-2"),
    (event(MachineAgentUpdated, machine_id=DB, agent_version="0.2.0"), "noted agent 0.2.0 on db-1"),
    (event(MachineDeleted, machine_id=DB, hostname="db-1"), "deleted machine db-1"),
]


@pytest.mark.parametrize(("said", "text"), SAID, ids=[said.kind for said, _ in SAID])
def test_words(said: DomainEvent, text: str) -> None:
    assert in_words(said, NAMES.get) == text


def test_every_event_has_words() -> None:
    assert {type(said) for said, _ in SAID} == set(EVENT_TYPES)


def test_unknown_names_are_uuids() -> None:
    said = event(MachinesAssigned, network_id=OFFICE, assignments=assignments(DB))
    assert in_words(said, lambda item: None) == f"assigned machine {DB} to network {OFFICE} as 172.16.0.1"


def test_no_default_any_more() -> None:
    said = event(DefaultNetworkSet, network_id=None, previous_network_id=LAB)
    assert in_words(said, NAMES.get) == "made no network the default instead of lab"


def test_a_large_assignment_stays_readable() -> None:
    machines = [uuid4() for _ in range(200)]
    said = event(MachinesAssigned, network_id=OFFICE, assignments=assignments(*machines))
    text = in_words(said, NAMES.get)
    assert text.startswith("assigned 200 machines to office-mesh: machine ")
    assert text.endswith(" and 196 more")
    assert len(text) < 400


def test_which_networks_and_machines_an_event_is_about() -> None:
    moved = event(DefaultNetworkSet, network_id=OFFICE, previous_network_id=LAB)
    assert (networks_of(moved), machines_of(moved)) == ((OFFICE, LAB), ())
    joined = event(MachinesAssigned, network_id=OFFICE, assignments=assignments(DB, WEB))
    assert (networks_of(joined), machines_of(joined)) == ((OFFICE,), (DB, WEB))
    assert about(OFFICE, WEB)(joined)
    assert not about(LAB, None)(joined)
    assert not about(None, LAB)(joined)
