"""Every event has words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from events.domain import (
    EVENT_TYPES,
    AccountCreated,
    AccountDeleted,
    AccountRoleSet,
    ApiTokenIssued,
    ApiTokenRevoked,
    BootstrapTokenCreated,
    BootstrapTokenRevoked,
    DefaultNetworkSet,
    DomainEvent,
    GatewaySet,
    KeyRotationRequested,
    MachineAgentUpdated,
    MachineDeleted,
    MachineEnrolled,
    MachineRegistered,
    MachineRenamed,
    MachineRevoked,
    MachinesAssigned,
    MachinesUnassigned,
    MachineTransitSet,
    MachineUnrouted,
    MembershipRegistered,
    NetworkCreated,
    NetworkDeleted,
    NetworkRenamed,
    NetworkUnrouted,
    PolicyCreated,
    PolicyDeleted,
    PolicyUpdated,
    ReflectorsPinned,
    RouteCreated,
    RouteDeleted,
    RouteReflectorModeSet,
    RouteUpdated,
    VipCreated,
    VipDeleted,
    VipUpdated,
)
from events.routing import HealthCheck, Policy, PolicyRule
from services.gateway.wanted import Wanted
from services.gateway.words import in_words, machines_of, networks_of

OFFICE, LAB, DB, WEB, ALICE, LAPTOP, BOOTSTRAP = (UUID(int=number) for number in range(1, 8))
NAMES = {OFFICE: "office-mesh", LAB: "lab", DB: "db-1", WEB: "web-1", ALICE: "alice", LAPTOP: "laptop"}
IDENTITY = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
HASH = "ab" * 32
SOON = datetime(2026, 5, 4, 8, 30, tzinfo=UTC)
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


CHECK = HealthCheck(type="tcp", target="80")
ROUTE = {"route_id": LAPTOP, "name": "lan", "prefixes": ["10.20.0.0/16", "203.0.113.0/24"]}
VIP = {"vip_id": LAPTOP, "name": "web", "address": "203.0.113.10"}
POLICY = {
    "policy_id": LAPTOP,
    "name": "edge",
    "description": "",
    "policy": Policy(direction="import", default_action="reject", rules=(PolicyRule(sequence=1),)),
}


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
    (event(MachineTransitSet, machine_id=DB, transit="always"), "made db-1 a preferred transit machine"),
    (event(MachineTransitSet, machine_id=DB, transit="never"), "had no traffic of others go through db-1"),
    (
        event(MachineTransitSet, machine_id=DB, transit="auto"),
        "let traffic of others go through db-1 where it is needed",
    ),
    (event(MachineDeleted, machine_id=DB, hostname="db-1"), "deleted machine db-1"),
    (
        event(KeyRotationRequested, network_id=OFFICE, machine_id=DB, generation=2),
        "had db-1 make a new key in office-mesh",
    ),
    (
        event(
            BootstrapTokenCreated,
            token_id=BOOTSTRAP,
            secret_hash=HASH,
            expires_at=SOON,
            uses=1,
            network_id=OFFICE,
        ),
        f"created bootstrap token {BOOTSTRAP} for 1 machine to join office-mesh, until 2026-05-04 08:30 UTC",
    ),
    (event(BootstrapTokenRevoked, token_id=BOOTSTRAP), f"revoked bootstrap token {BOOTSTRAP}"),
    (
        event(MachineEnrolled, machine_id=DB, identity_key=IDENTITY, token_id=BOOTSTRAP),
        f"enrolled db-1 with bootstrap token {BOOTSTRAP}",
    ),
    (event(MachineRevoked, machine_id=DB, identity_key=IDENTITY), "revoked db-1 for good"),
    (event(AccountCreated, account_id=ALICE, name="alice", role="admin"), "created account alice with the role admin"),
    (
        event(AccountRoleSet, account_id=ALICE, role="viewer", previous_role="admin"),
        "gave account alice the role viewer instead of admin",
    ),
    (event(AccountDeleted, account_id=ALICE, name="alice"), "deleted account alice with its tokens"),
    (
        event(
            ApiTokenIssued,
            token_id=LAPTOP,
            account_id=ALICE,
            name="laptop",
            role="operator",
            use="api",
            secret_hash=HASH,
            expires_at=SOON,
        ),
        "issued API token laptop for account alice with the role operator until 2026-05-04 08:30 UTC",
    ),
    (event(ApiTokenRevoked, token_id=LAPTOP, account_id=ALICE), "revoked API token laptop of account alice"),
    (
        event(RouteCreated, **ROUTE, enabled=True, machine_ids=[DB, WEB]),
        "created route lan: 10.20.0.0/16 and 203.0.113.0/24 behind db-1 and web-1",
    ),
    (
        event(RouteUpdated, **ROUTE, enabled=False, machine_ids=[]),
        "changed route lan: 10.20.0.0/16 and 203.0.113.0/24 behind no machine, disabled",
    ),
    (event(RouteDeleted, route_id=LAPTOP, name="lan"), "deleted route lan"),
    (
        event(
            VipCreated, **VIP, enabled=True, machine_ids=[DB, WEB], health_check=HealthCheck(type="tcp", target="80")
        ),
        "created virtual IP web: 203.0.113.10 on db-1, then web-1, checked by tcp every 10 s",
    ),
    (
        event(VipUpdated, **VIP, enabled=False, machine_ids=[WEB], health_check=HealthCheck()),
        "changed virtual IP web: 203.0.113.10 on web-1, disabled",
    ),
    (event(VipDeleted, vip_id=LAPTOP, name="web"), "deleted virtual IP web"),
    (
        event(PolicyCreated, **POLICY, network_ids=[OFFICE], machine_ids=[DB]),
        "created route policy edge for office-mesh and db-1: import, 1 rule, else reject",
    ),
    (
        event(PolicyUpdated, **POLICY, network_ids=[], machine_ids=[]),
        "changed route policy edge for nobody: import, 1 rule, else reject",
    ),
    (event(PolicyDeleted, policy_id=LAPTOP, name="edge"), "deleted route policy edge"),
    (
        event(GatewaySet, machine_id=DB, network_ids=[OFFICE, LAB]),
        "made db-1 a gateway between office-mesh and lab",
    ),
    (event(GatewaySet, machine_id=DB, network_ids=[]), "had db-1 be a gateway no more"),
    (
        event(ReflectorsPinned, network_id=OFFICE, machine_ids=[DB, WEB]),
        "pinned db-1 and web-1 as route reflectors of office-mesh",
    ),
    (
        event(ReflectorsPinned, network_id=OFFICE, machine_ids=[]),
        "had the route reflectors of office-mesh be chosen",
    ),
    (
        event(MachineUnrouted, machine_id=DB),
        "took db-1 out of all routes, virtual IPs, route policies and gateways",
    ),
    (event(NetworkUnrouted, network_id=LAB), "took lab out of all route policies and gateways"),
]


@pytest.mark.parametrize(("said", "text"), SAID, ids=[said.kind for said, _ in SAID])
def test_words(said: DomainEvent, text: str) -> None:
    assert in_words(said, NAMES.get) == text


def test_every_event_has_words() -> None:
    assert {type(said) for said, _ in SAID} == set(EVENT_TYPES)


def test_unknown_names_are_uuids() -> None:
    said = event(MachinesAssigned, network_id=OFFICE, assignments=assignments(DB))
    assert in_words(said, lambda item: None) == f"assigned machine {DB} to network {OFFICE} as 172.16.0.1"


def test_no_sentence_tells_a_hash_or_a_key() -> None:
    for said, _ in SAID:
        text = in_words(said, NAMES.get)
        assert not any(secret in text for secret in (HASH, IDENTITY, KEY))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\r\nb\x00\x1b[31m", "a��b��[31m"),
        ("\u202edcba\u2066", "�dcba�"),
        ("line\u2028end", "line�end"),
        ("x" * 10_000, "x" * (2000 - len("deleted machine ")) + "…"),
        ("<script>", "<script>"),
    ],
)
def test_hostile_names_stay_in_their_line(name: str, shown: str) -> None:
    """Whoever renders a sentence escapes it; it must not break a terminal, a log line or a table before that."""
    assert in_words(event(MachineDeleted, machine_id=DB, hostname=name), NAMES.get) == f"deleted machine {shown}"


def test_a_browser_signs_in() -> None:
    said = event(
        ApiTokenIssued,
        token_id=LAPTOP,
        account_id=ALICE,
        name="browser",
        role="viewer",
        use="session",
        secret_hash=HASH,
        expires_at=SOON,
    )
    assert in_words(said, NAMES.get) == "signed account alice in with the role viewer"


def test_a_token_for_anybody() -> None:
    said = event(
        BootstrapTokenCreated, token_id=BOOTSTRAP, secret_hash=HASH, expires_at=SOON, uses=None, network_id=None
    )
    assert "for any number of machines, until" in in_words(said, NAMES.get)


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
    crossing = event(GatewaySet, machine_id=DB, network_ids=[OFFICE, LAB])
    assert (networks_of(crossing), machines_of(crossing)) == ((OFFICE, LAB), (DB,))
    pinned = event(ReflectorsPinned, network_id=OFFICE, machine_ids=[DB, WEB])
    assert (networks_of(pinned), machines_of(pinned)) == ((OFFICE,), (DB, WEB))
    assert Wanted(OFFICE, WEB).matches(joined)
    assert not Wanted(LAB).matches(joined)
    assert not Wanted(machine=LAB).matches(joined)
