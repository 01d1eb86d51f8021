"""Events as bytes: what stands in the log must be readable for ever."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar
from uuid import UUID

import pytest

from events import codec
from events.codec import UnreadableEventError
from events.domain import (
    EVENT_TYPES,
    REGISTRY_ID,
    AccountCreated,
    AccountDeleted,
    AccountRoleSet,
    ApiTokenIssued,
    ApiTokenRevoked,
    Assignment,
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

NETWORK = UUID("11111111-0000-4000-8000-000000000000")
MACHINE = UUID("22222222-0000-4000-8000-000000000000")
TOKEN = UUID("44444444-0000-4000-8000-000000000000")
ACCOUNT = UUID("55555555-0000-4000-8000-000000000000")
COMMON = {
    "originator_version": 7,
    "previous_hash": "ab" * 32,
    "time": datetime(2026, 5, 3, 14, 2, tzinfo=UTC),
    "actor": "cli:alice",
    "command_id": UUID("33333333-0000-4000-8000-000000000000"),
}
HEAD = (
    '{"previous_hash":"' + "ab" * 32 + '","time":"2026-05-03T14:02:00.000000Z","actor":"cli:alice",'
    '"command_id":"33333333-0000-4000-8000-000000000000",'
)
N, M = f'"network_id":"{NETWORK}"', f'"machine_id":"{MACHINE}"'
T, A = f'"token_id":"{TOKEN}"', f'"account_id":"{ACCOUNT}"'
ASSIGNMENT = Assignment(machine_id=MACHINE, address="172.16.0.1")
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
IDENTITY_KEY = "UAAACAQDAQCQMBYIBEFAWDANBYHRAEISCMKBKFQXDAMRUGY4DUPB63NN"
HASH = "cd" * 32
ITEM = UUID("66666666-0000-4000-8000-000000000000")
ROUTE: dict[str, object] = {
    "route_id": ITEM,
    "name": "lan",
    "enabled": True,
    "prefixes": ("10.20.0.0/16", "203.0.113.0/24"),
    "machine_ids": (MACHINE,),
}
ROUTE_BYTES = (
    f'"route_id":"{ITEM}","name":"lan","enabled":true,"prefixes":["10.20.0.0/16","203.0.113.0/24"],'
    f'"machine_ids":["{MACHINE}"]}}'
)
VIP: dict[str, object] = {
    "vip_id": ITEM,
    "name": "web",
    "enabled": False,
    "address": "203.0.113.10",
    "health_check": HealthCheck(type="http", target="/healthz"),
    "machine_ids": (MACHINE,),
}
VIP_BYTES = (
    f'"vip_id":"{ITEM}","name":"web","enabled":false,"address":"203.0.113.10","health_check":{{"type":"http",'
    '"target":"/healthz","interval_seconds":10,"timeout_seconds":5,"healthy_threshold":2,"unhealthy_threshold":3,'
    f'"holdoff_seconds":0}},"machine_ids":["{MACHINE}"]}}'
)
POLICY: dict[str, object] = {
    "policy_id": ITEM,
    "name": "edge",
    "description": "what comes in",
    "policy": Policy(
        direction="import",
        local_pref=150,
        rules=(
            PolicyRule(
                sequence=10,
                match_type="prefix_list",
                match_prefixes=("10.0.0.0/8",),
                match_prefix_len_max=24,
                set_med=7,
                add_communities=("65000:1",),
            ),
        ),
    ),
    "network_ids": (NETWORK,),
    "machine_ids": (),
}
POLICY_BYTES = (
    f'"policy_id":"{ITEM}","name":"edge","description":"what comes in","policy":{{"direction":"import",'
    '"default_action":"accept","local_pref":150,"rules":[{"sequence":10,"enabled":true,"description":"",'
    '"action":"accept","match_type":"prefix_list","match_prefixes":["10.0.0.0/8"],"match_prefix_len_min":null,'
    '"match_prefix_len_max":24,"match_communities":[],"match_as_path":"","set_local_pref":null,"set_med":7,'
    '"set_communities":null,"add_communities":["65000:1"],"remove_communities":[],"prepend_as_count":0}]},'
    f'"network_ids":["{NETWORK}"],"machine_ids":[]}}'
)

# These bytes stand in logs out there: a change here is a new schema version and an upcast, never a new expectation.
GOLDEN: dict[type[DomainEvent], tuple[dict[str, object], str, str]] = {
    NetworkCreated: (
        {
            "network_id": NETWORK,
            "name": "office",
            "network_cidr": "172.16.0.0/24",
            "route_reflector_mode": False,
            "is_default": True,
        },
        "network.created:1",
        N + ',"name":"office","network_cidr":"172.16.0.0/24","route_reflector_mode":false,"is_default":true}',
    ),
    NetworkRenamed: (
        {"network_id": NETWORK, "name": "hq", "previous_name": "office"},
        "network.renamed:1",
        N + ',"name":"hq","previous_name":"office"}',
    ),
    DefaultNetworkSet: (
        {"network_id": None, "previous_network_id": NETWORK},
        "network.default_set:1",
        f'"network_id":null,"previous_network_id":"{NETWORK}"}}',
    ),
    RouteReflectorModeSet: (
        {"network_id": NETWORK, "enabled": True},
        "network.route_reflector_mode_set:1",
        N + ',"enabled":true}',
    ),
    NetworkDeleted: (
        {"network_id": NETWORK, "name": "hq", "machine_count": 3},
        "network.deleted:1",
        N + ',"name":"hq","machine_count":3}',
    ),
    MachinesAssigned: (
        {"network_id": NETWORK, "assignments": (ASSIGNMENT,)},
        "network.machines_assigned:1",
        N + ',"assignments":[{' + M + ',"address":"172.16.0.1"}]}',
    ),
    MachinesUnassigned: (
        {"network_id": NETWORK, "assignments": (ASSIGNMENT,)},
        "network.machines_unassigned:1",
        N + ',"assignments":[{' + M + ',"address":"172.16.0.1"}]}',
    ),
    MembershipRegistered: (
        {
            "network_id": NETWORK,
            "machine_id": MACHINE,
            "public_key": KEY,
            "listen_port": 51820,
            "endpoints": ("192.0.2.1:51820", "[2001:db8::1]:51820"),
        },
        "network.membership_registered:1",
        f'{N},{M},"public_key":"{KEY}","listen_port":51820,"endpoints":["192.0.2.1:51820","[2001:db8::1]:51820"]}}',
    ),
    MachineRegistered: (
        {"machine_id": MACHINE, "hostname": "db-1", "agent_version": "0.1.0"},
        "machine.registered:1",
        M + ',"hostname":"db-1","agent_version":"0.1.0"}',
    ),
    MachineRenamed: (
        {"machine_id": MACHINE, "hostname": "db-2", "previous_hostname": "db-1"},
        "machine.renamed:1",
        M + ',"hostname":"db-2","previous_hostname":"db-1"}',
    ),
    MachineAgentUpdated: (
        {"machine_id": MACHINE, "agent_version": "0.2.0"},
        "machine.agent_updated:1",
        M + ',"agent_version":"0.2.0"}',
    ),
    MachineTransitSet: (
        {"machine_id": MACHINE, "transit": "never"},
        "machine.transit_set:1",
        M + ',"transit":"never"}',
    ),
    MachineDeleted: (
        {"machine_id": MACHINE, "hostname": "db-2"},
        "machine.deleted:1",
        M + ',"hostname":"db-2"}',
    ),
    KeyRotationRequested: (
        {"network_id": NETWORK, "machine_id": MACHINE, "generation": 2},
        "network.key_rotation_requested:1",
        f'{N},{M},"generation":2}}',
    ),
    BootstrapTokenCreated: (
        {
            "token_id": TOKEN,
            "secret_hash": HASH,
            "expires_at": datetime(2026, 5, 3, 14, 12, tzinfo=UTC),
            "uses": None,
            "network_id": NETWORK,
        },
        "access.bootstrap_token_created:1",
        f'{T},"secret_hash":"{HASH}","expires_at":"2026-05-03T14:12:00.000000Z","uses":null,{N}}}',
    ),
    BootstrapTokenRevoked: ({"token_id": TOKEN}, "access.bootstrap_token_revoked:1", T + "}"),
    MachineEnrolled: (
        {"machine_id": MACHINE, "identity_key": IDENTITY_KEY, "token_id": TOKEN},
        "access.machine_enrolled:1",
        f'{M},"identity_key":"{IDENTITY_KEY}",{T}}}',
    ),
    MachineRevoked: (
        {"machine_id": MACHINE, "identity_key": IDENTITY_KEY},
        "access.machine_revoked:1",
        f'{M},"identity_key":"{IDENTITY_KEY}"}}',
    ),
    AccountCreated: (
        {"account_id": ACCOUNT, "name": "alice", "role": "admin"},
        "access.account_created:1",
        A + ',"name":"alice","role":"admin"}',
    ),
    AccountRoleSet: (
        {"account_id": ACCOUNT, "role": "viewer", "previous_role": "operator"},
        "access.account_role_set:1",
        A + ',"role":"viewer","previous_role":"operator"}',
    ),
    AccountDeleted: (
        {"account_id": ACCOUNT, "name": "alice"},
        "access.account_deleted:1",
        A + ',"name":"alice"}',
    ),
    ApiTokenIssued: (
        {
            "token_id": TOKEN,
            "account_id": ACCOUNT,
            "name": "ci",
            "role": "operator",
            "use": "session",
            "secret_hash": HASH,
            "expires_at": None,
            "begun_with": NETWORK,
        },
        "access.api_token_issued:1",
        f'{T},{A},"name":"ci","role":"operator","use":"session","secret_hash":"{HASH}","expires_at":null,'
        f'"begun_with":"{NETWORK}"}}',
    ),
    ApiTokenRevoked: (
        {"token_id": TOKEN, "account_id": ACCOUNT},
        "access.api_token_revoked:1",
        f"{T},{A}}}",
    ),
    RouteCreated: (ROUTE, "routing.route_created:1", ROUTE_BYTES),
    RouteUpdated: (ROUTE, "routing.route_updated:1", ROUTE_BYTES),
    RouteDeleted: (
        {"route_id": ITEM, "name": "lan"},
        "routing.route_deleted:1",
        f'"route_id":"{ITEM}","name":"lan"}}',
    ),
    VipCreated: (VIP, "routing.vip_created:1", VIP_BYTES),
    VipUpdated: (VIP, "routing.vip_updated:1", VIP_BYTES),
    VipDeleted: ({"vip_id": ITEM, "name": "web"}, "routing.vip_deleted:1", f'"vip_id":"{ITEM}","name":"web"}}'),
    PolicyCreated: (POLICY, "routing.policy_created:1", POLICY_BYTES),
    PolicyUpdated: (POLICY, "routing.policy_updated:1", POLICY_BYTES),
    PolicyDeleted: (
        {"policy_id": ITEM, "name": "edge"},
        "routing.policy_deleted:1",
        f'"policy_id":"{ITEM}","name":"edge"}}',
    ),
    GatewaySet: (
        {"machine_id": MACHINE, "network_ids": (NETWORK, ITEM)},
        "routing.gateway_set:1",
        f'{M},"network_ids":["{NETWORK}","{ITEM}"]}}',
    ),
    ReflectorsPinned: (
        {"network_id": NETWORK, "machine_ids": (MACHINE,)},
        "routing.reflectors_pinned:1",
        f'{N},"machine_ids":["{MACHINE}"]}}',
    ),
    MachineUnrouted: ({"machine_id": MACHINE}, "routing.machine_unrouted:1", M + "}"),
    NetworkUnrouted: ({"network_id": NETWORK}, "routing.network_unrouted:1", N + "}"),
}


def test_every_event_has_its_bytes_here() -> None:
    assert set(GOLDEN) == set(EVENT_TYPES)


@pytest.mark.parametrize("event_type", EVENT_TYPES, ids=lambda event_type: event_type.kind)
def test_the_bytes_in_the_log_never_change(event_type: type[DomainEvent]) -> None:
    fields, topic, tail = GOLDEN[event_type]
    event = event_type(originator_id=REGISTRY_ID, **COMMON, **fields)
    state = (HEAD + tail).encode()
    assert codec.topic_of(event_type) == topic
    assert codec.encode(event) == state
    assert codec.decode(REGISTRY_ID, 7, topic, state) == event


def test_a_token_that_no_other_began_has_the_bytes_that_it_always_had() -> None:
    fields, topic, tail = GOLDEN[ApiTokenIssued]
    event = ApiTokenIssued(originator_id=REGISTRY_ID, **COMMON, **(fields | {"begun_with": None}))
    state = (HEAD + tail.replace(f',"begun_with":"{NETWORK}"', "")).encode()
    assert b"begun_with" not in state
    assert codec.encode(event) == state
    assert codec.decode(REGISTRY_ID, 7, topic, state) == event


def test_the_digest_covers_place_name_and_content() -> None:
    digests = {
        codec.digest(REGISTRY_ID, 1, "network.created:1", b"{}"),
        codec.digest(NETWORK, 1, "network.created:1", b"{}"),
        codec.digest(REGISTRY_ID, 2, "network.created:1", b"{}"),
        codec.digest(REGISTRY_ID, 1, "network.created:2", b"{}"),
        codec.digest(REGISTRY_ID, 1, "network.created:1", b"{ }"),
    }
    assert len(digests) == 5
    # What `printf '<id> 1 network.created:1\n{}' | sha256sum` says: a log can be verified without our programs.
    assert codec.digest(REGISTRY_ID, 1, "network.created:1", b"{}") == (
        "063dc4ef7230dd1d87cdeea0b3ebf50581712595a87396d5698c7a89b7a60435"
    )


@pytest.mark.parametrize(
    ("topic", "state", "why"),
    [
        ("network.exploded:1", b"{}", "not known"),
        ("network.renamed", b"{}", "not known"),
        ("network.renamed:2", b"{}", "newer"),
        ("network.renamed:1", b"{", "damaged"),
        ("network.renamed:1", b"{}", "damaged"),
        ("network.renamed:1", b"[]", "damaged"),
    ],
)
def test_what_cannot_be_read_says_why(topic: str, state: bytes, why: str) -> None:
    with pytest.raises(UnreadableEventError, match=why):
        codec.decode(REGISTRY_ID, 1, topic, state)


def test_older_schemas_are_lifted_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class MachineRenamedLater(MachineRenamed):
        schema_version: ClassVar[int] = 3
        reason: str

    monkeypatch.setitem(codec._TYPES, MachineRenamed.kind, MachineRenamedLater)
    monkeypatch.setitem(codec.UPCASTS, (MachineRenamed.kind, 1), lambda fields: fields | {"why": "unknown"})
    monkeypatch.setitem(
        codec.UPCASTS,
        (MachineRenamed.kind, 2),
        lambda fields: {("reason" if name == "why" else name): value for name, value in fields.items()},
    )
    fields, topic, tail = GOLDEN[MachineRenamed]
    event = codec.decode(MACHINE, 7, topic, (HEAD + tail).encode())
    assert event == MachineRenamedLater(originator_id=MACHINE, reason="unknown", **COMMON, **fields)


def test_the_chain_is_of_what_stands_in_the_log_however_it_would_be_written_now() -> None:
    fields, topic, tail = GOLDEN[MachineRenamed]
    written = (HEAD + tail).encode()
    otherwise = written.replace(b'":', b'": ')
    assert otherwise != written
    event, same = (codec.decode(MACHINE, 7, topic, state) for state in (otherwise, written))
    assert event == same == MachineRenamed(originator_id=MACHINE, **COMMON, **fields)
    assert codec.encode(event) == written
    assert codec.digest_of(event) == codec.digest(MACHINE, 7, topic, otherwise)
    assert codec.digest_of(same) == codec.digest(MACHINE, 7, topic, written)
