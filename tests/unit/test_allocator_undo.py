"""What undoing a command comes to, for each kind of event; and when it is refused, with who is in the way."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from events.commands import (
    AssignMachine,
    AssignMachines,
    Command,
    CreateAccount,
    CreateBootstrapToken,
    CreateFirstAccount,
    CreateNetwork,
    CreatePolicy,
    CreateRoute,
    CreateVip,
    DeleteAccount,
    DeleteMachine,
    DeleteNetwork,
    DeletePolicy,
    DeleteRoute,
    DeleteVip,
    EnrolMachine,
    IssueApiToken,
    PinReflectors,
    RegisterMachine,
    RegisterMembership,
    RenameMachine,
    RenameNetwork,
    RevokeApiToken,
    RevokeBootstrapToken,
    RevokeMachine,
    RotateKeys,
    SetAccountRole,
    SetDefaultNetwork,
    SetGateway,
    SetRouteReflectorMode,
    SetTransit,
    UnassignMachine,
    Undo,
    UpdatePolicy,
    UpdateRoute,
    UpdateVip,
)
from events.domain import EVENT_TYPES, ApiTokenRevoked, MachinesAssigned, MachinesUnassigned, NetworkCreated
from events.errors import CannotUndoError, CommandIdReusedError, NotFoundError, WireloomError
from events.routing import Policy
from events.trust.keys import encode_public
from services.allocator.aggregates import Network
from services.allocator.undo import COMPENSATING, NEVER, TAKES_BACK
from tests.support.allocators import MemoryAllocator
from tests.support.undoing import Given, World

NETWORK, OTHER, ROUTE, VIP, POLICY, ACCOUNT = (UUID(int=number) for number in range(1, 7))
MACHINES = tuple(UUID(int=number) for number in range(11, 16))
KEY = "6Ai78+AyPgERppzM8L4m0/UNk5vBdxevKr5MkQnCYsQ="
IMPORT = Policy(direction="import")


@pytest.fixture
def world() -> World:
    """Two networks of 13 and 14 machines at most, five machines, an admin; two machines are in the first network."""
    world = World(populated=False)
    world.give(CreateNetwork, network_id=NETWORK, name="office", network_cidr="172.16.0.0/28")
    world.give(CreateNetwork, network_id=OTHER, name="lab", network_cidr="10.1.0.0/28", is_default=True)
    for number, machine_id in enumerate(MACHINES, start=1):
        world.give(RegisterMachine, machine_id=machine_id, hostname=f"m{number}")
    world.give(AssignMachines, network_id=NETWORK, machine_ids=MACHINES[:2])
    world.give(CreateAccount, account_id=uuid4(), name="root", role="admin")
    return world


def refusal(world: World, given: Given) -> CannotUndoError:
    """The refusal to undo a command, which changed nothing."""
    before, log = world.state(), len(world.recorder.stored_events)
    with pytest.raises(CannotUndoError) as refused:
        world.undo(given)
    assert refused.value.hint
    assert (world.state(), len(world.recorder.stored_events)) == (before, log)
    return refused.value


def taken_back(world: World, given: Given) -> Given:
    """The undo of a command, which led back; and its own undo leads here again, where it can be undone."""
    undone = world.undo(given)
    assert undone.outcome.changed
    assert world.state() == given.before
    return undone


def test_every_kind_of_event_is_taken_back_or_never() -> None:
    assert set(TAKES_BACK) | set(NEVER) == set(EVENT_TYPES)
    assert not set(TAKES_BACK) & set(NEVER)
    assert set(COMPENSATING) <= set(EVENT_TYPES)


CHANGES: list[tuple[type[Command], dict[str, Any]]] = [
    (CreateNetwork, {"network_id": UUID(int=99), "name": "new", "network_cidr": "10.2.0.0/24"}),
    (CreateNetwork, {"network_id": UUID(int=99), "name": "new", "network_cidr": "10.2.0.0/24", "is_default": True}),
    (RenameNetwork, {"network_id": NETWORK, "name": "Office"}),
    (SetDefaultNetwork, {"network_id": NETWORK}),
    (SetDefaultNetwork, {"network_id": None}),
    (SetRouteReflectorMode, {"network_id": NETWORK, "enabled": True}),
    (DeleteNetwork, {"network_id": NETWORK, "force": True}),
    (DeleteNetwork, {"network_id": OTHER}),
    (RenameMachine, {"machine_id": MACHINES[0], "hostname": "renamed"}),
    (SetTransit, {"machine_id": MACHINES[0], "transit": "never"}),
    (AssignMachine, {"network_id": OTHER, "machine_id": MACHINES[3], "address": "10.1.0.9"}),
    (AssignMachines, {"network_id": NETWORK, "machine_ids": MACHINES}),
    (UnassignMachine, {"network_id": NETWORK, "machine_id": MACHINES[0]}),
    (CreateRoute, {"route_id": ROUTE, "name": "lan", "prefixes": ("10.9.0.0/16",), "machine_ids": MACHINES[:2]}),
    (CreateVip, {"vip_id": VIP, "name": "web", "address": "203.0.113.1", "machine_ids": MACHINES[:2]}),
    (CreatePolicy, {"policy_id": POLICY, "name": "edge", "policy": IMPORT, "network_ids": (NETWORK,)}),
    (PinReflectors, {"network_id": NETWORK, "machine_ids": MACHINES[:2]}),
    (CreateAccount, {"account_id": ACCOUNT, "name": "ann", "role": "viewer"}),
]


@pytest.mark.parametrize(("kind", "fields"), CHANGES)
def test_a_change_is_taken_back_and_made_again(world: World, kind: type[Command], fields: dict[str, Any]) -> None:
    given = world.give(kind, **fields)
    undone = taken_back(world, given)
    if kind is not CreateAccount:
        again = world.undo(undone)
        assert world.state() == given.after
        world.undo(again)
        assert world.state() == given.before


LATER: list[tuple[type[Command], dict[str, Any], type[Command], dict[str, Any]]] = [
    (
        CreateRoute,
        {"route_id": ROUTE, "name": "lan", "prefixes": ("10.9.0.0/16",), "machine_ids": MACHINES[:2]},
        UpdateRoute,
        {"route_id": ROUTE, "name": "wan", "prefixes": ("10.8.0.0/16", "10.7.0.0/16"), "machine_ids": ()},
    ),
    (
        CreateRoute,
        {"route_id": ROUTE, "name": "lan", "prefixes": ("10.9.0.0/16",), "machine_ids": MACHINES[:2]},
        DeleteRoute,
        {"route_id": ROUTE},
    ),
    (
        CreateVip,
        {"vip_id": VIP, "name": "web", "address": "203.0.113.1", "machine_ids": MACHINES[:2]},
        UpdateVip,
        {"vip_id": VIP, "address": "203.0.113.2", "enabled": False},
    ),
    (CreateVip, {"vip_id": VIP, "name": "web", "address": "203.0.113.1"}, DeleteVip, {"vip_id": VIP}),
    (
        CreatePolicy,
        {"policy_id": POLICY, "name": "edge", "policy": IMPORT, "network_ids": (NETWORK,)},
        UpdatePolicy,
        {"policy_id": POLICY, "network_ids": (OTHER,), "machine_ids": MACHINES[:1]},
    ),
    (
        CreatePolicy,
        {"policy_id": POLICY, "name": "edge", "policy": IMPORT, "network_ids": (NETWORK,)},
        DeletePolicy,
        {"policy_id": POLICY},
    ),
    (
        PinReflectors,
        {"network_id": NETWORK, "machine_ids": MACHINES[:2]},
        PinReflectors,
        {"network_id": NETWORK, "machine_ids": ()},
    ),
    (
        SetTransit,
        {"machine_id": MACHINES[0], "transit": "never"},
        SetTransit,
        {"machine_id": MACHINES[0], "transit": "auto"},
    ),
    (
        CreateAccount,
        {"account_id": ACCOUNT, "name": "ann", "role": "viewer"},
        SetAccountRole,
        {"account_id": ACCOUNT, "role": "admin"},
    ),
]


@pytest.mark.parametrize(("kind", "fields", "later_kind", "later_fields"), LATER)
def test_what_was_before_is_read_from_history(
    world: World, kind: type[Command], fields: dict[str, Any], later_kind: type[Command], later_fields: dict[str, Any]
) -> None:
    first, second = world.give(kind, **fields), world.give(later_kind, **later_fields)
    refused = refusal(world, first)
    position = len(world.recorder.stored_events)
    assert f"event {position}, by cli:ann at 2026-05-03 14:02 UTC" in refused.detail
    assert f"wireloom undo {second.command.command_id}" in refused.hint
    undone = taken_back(world, second)
    taken_back(world, first)
    with pytest.raises(CannotUndoError, match="since"):
        world.undo(undone)


def test_a_gateway_is_one_between_the_networks_of_before(world: World) -> None:
    world.give(AssignMachines, network_id=OTHER, machine_ids=MACHINES[:1])
    first = world.give(SetGateway, machine_id=MACHINES[0], network_ids=(NETWORK, OTHER))
    second = world.give(SetGateway, machine_id=MACHINES[0], network_ids=(OTHER, NETWORK))
    assert "changed again between which networks" in refusal(world, first).detail
    taken_back(world, second)
    taken_back(world, first)


def test_a_deleted_network_comes_back_with_all_that_was_in_it_and_named_it(world: World) -> None:
    world.give(AssignMachines, network_id=OTHER, machine_ids=MACHINES[:3])
    world.give(UnassignMachine, network_id=OTHER, machine_id=MACHINES[0])
    world.give(RegisterMembership, network_id=OTHER, machine_id=MACHINES[1], public_key=KEY, listen_port=51820)
    world.give(SetGateway, machine_id=MACHINES[1], network_ids=(NETWORK, OTHER))
    world.give(PinReflectors, network_id=OTHER, machine_ids=MACHINES[1:3])
    world.give(CreatePolicy, policy_id=POLICY, name="edge", policy=IMPORT, network_ids=(NETWORK, OTHER))
    world.give(SetRouteReflectorMode, network_id=OTHER, enabled=True)
    deleted = world.give(DeleteNetwork, network_id=OTHER, force=True)
    taken_back(world, deleted)
    world.give(RegisterMembership, network_id=OTHER, machine_id=MACHINES[2], public_key=KEY, listen_port=51820)
    reread = MemoryAllocator(world.recorder)
    assert reread.find(Network, OTHER) == world.allocator.find(Network, OTHER)
    world.give(AssignMachine, network_id=OTHER, machine_id=MACHINES[0], address="10.1.0.1")
    refused = refusal(world, deleted)
    assert "lab was created again" in refused.detail
    world.give(UnassignMachine, network_id=OTHER, machine_id=MACHINES[1])
    again = world.give(DeleteNetwork, network_id=OTHER, force=True)
    assert "came back and was deleted again" in refusal(world, deleted).detail
    taken_back(world, again)


def test_a_deleted_network_stays_away_where_something_took_its_place(world: World) -> None:
    deleted = world.give(DeleteNetwork, network_id=NETWORK, force=True)
    taken = world.give(CreateNetwork, network_id=uuid4(), name="OFFICE", network_cidr="192.168.0.0/24")
    assert "The name office was given to another network since: event" in refusal(world, deleted).detail
    world.undo(taken)
    over = world.give(CreateNetwork, network_id=uuid4(), name="big", network_cidr="172.16.0.0/16")
    assert "big (172.16.0.0/16) took addresses of 172.16.0.0/28" in refusal(world, deleted).detail
    world.undo(over)
    route = world.give(CreateRoute, route_id=ROUTE, name="lan", prefixes=("172.16.0.0/24",))
    assert "the route lan" in refusal(world, deleted).detail
    world.undo(route)
    gone = world.give(DeleteMachine, machine_id=MACHINES[1])
    refused = refusal(world, deleted)
    assert "The machine m2 was deleted since" in refused.detail
    assert str(gone.command.command_id) in refused.hint


def test_a_deleted_network_stays_away_where_something_else_has_its_id(world: World) -> None:
    deleted = world.give(DeleteNetwork, network_id=OTHER)
    world.give(CreateRoute, route_id=OTHER, name="lan", prefixes=("192.168.7.0/24",))
    assert f"The id {OTHER} belongs to a route" in refusal(world, deleted).detail


def test_another_default_stands_in_the_way(world: World) -> None:
    deleted = world.give(DeleteNetwork, network_id=OTHER)
    set_default = world.give(SetDefaultNetwork, network_id=NETWORK)
    assert "Another network was made the default one since" in refusal(world, deleted).detail
    world.undo(set_default)
    taken_back(world, deleted)
    changed = world.give(SetDefaultNetwork, network_id=NETWORK)
    world.give(DeleteNetwork, network_id=OTHER)
    assert "The default network before it was deleted since" in refusal(world, changed).detail


def test_an_address_that_somebody_else_has_now(world: World) -> None:
    left = world.give(UnassignMachine, network_id=NETWORK, machine_id=MACHINES[0])
    taken = world.give(AssignMachine, network_id=NETWORK, machine_id=MACHINES[4], actor="account:bob/phone")
    position = len(world.recorder.stored_events)
    refused = refusal(world, left)
    assert refused.detail == (
        "172.16.0.1 in the network office was given to m5 since: "
        f"event {position}, by account:bob/phone at 2026-05-03 14:02 UTC."
    )
    world.undo(taken)
    again = world.give(AssignMachine, network_id=NETWORK, machine_id=MACHINES[0], address="172.16.0.7")
    assert "m1 was assigned to office again since" in refusal(world, left).detail
    world.undo(again)
    taken_back(world, left)


def test_a_network_in_which_something_happened_stays(world: World) -> None:
    made = world.give(CreateNetwork, network_id=UUID(int=99), name="new", network_cidr="10.2.0.0/24")
    for kind, fields, said in (
        (RenameNetwork, {"network_id": UUID(int=99), "name": "newer"}, "was renamed since"),
        (SetRouteReflectorMode, {"network_id": UUID(int=99), "enabled": True}, "mode was changed since"),
        (SetDefaultNetwork, {"network_id": UUID(int=99)}, "default network was changed since"),
        (AssignMachine, {"network_id": UUID(int=99), "machine_id": MACHINES[0]}, "Machines were assigned"),
        (
            CreatePolicy,
            {"policy_id": uuid4(), "name": "p", "policy": IMPORT, "network_ids": (UUID(int=99),)},
            "was named by a route policy",
        ),
    ):
        since = world.give(kind, **fields)
        assert said in refusal(world, made).detail
        world.undo(since)
    secret = "a" * 64
    world.give(CreateBootstrapToken, token_id=uuid4(), secret_hash=secret, network_id=UUID(int=99))
    assert "A bootstrap token for the network new was made since" in refusal(world, made).detail
    world.allocator.moment += timedelta(days=1)
    taken_back(world, made)


def test_a_machine_that_came_to_nothing_is_deleted(world: World) -> None:
    given = world.give(RegisterMachine, machine_id=UUID(int=50), hostname="typo")
    for kind, fields, said in (
        (RenameMachine, {"machine_id": UUID(int=50), "hostname": "other"}, "was changed since"),
        (
            AssignMachine,
            {"machine_id": UUID(int=50), "network_id": NETWORK},
            "was assigned to the network office since",
        ),
        (
            CreateVip,
            {"vip_id": uuid4(), "name": "v", "address": "203.0.113.9", "machine_ids": (UUID(int=50),)},
            "was named by a route",
        ),
    ):
        since = world.give(kind, **fields)
        assert said in refusal(world, given).detail
        world.undo(since)
    undone = taken_back(world, given)
    assert "never used again" in refusal(world, undone).detail
    own = world.give(RegisterMachine, machine_id=UUID(int=51), hostname="agent", actor=f"machine:{UUID(int=51)}")
    assert "made itself known" in refusal(world, own).detail


def test_tokens_are_revoked_and_never_speak_again(world: World) -> None:
    account = world.give(CreateAccount, account_id=ACCOUNT, name="ann", role="operator")
    token = {"account_id": ACCOUNT, "role": "viewer", "secret_hash": "b" * 64}
    issued = world.give(IssueApiToken, token_id=uuid4(), name="phone", lifetime="1d", **token)
    assert "got an API token or signed in since" in refusal(world, account).detail
    world.allocator.moment += timedelta(days=2)
    swept = world.give(IssueApiToken, token_id=uuid4(), name="pad", **token | {"secret_hash": "c" * 64})
    kinds = [type(each.event) for each in world.events()][-2:]
    assert kinds[1] is ApiTokenRevoked, "an expired token went with it"
    assert "The API token phone was revoked since" in refusal(world, issued).detail
    undone = world.undo(swept)
    assert not world.access.tokens_of(world.access.accounts[ACCOUNT])
    assert "never speaks again" in refusal(world, undone).detail
    let_in = world.give(CreateBootstrapToken, token_id=uuid4(), secret_hash="d" * 64)
    revoked = world.undo(let_in)
    assert world.access.bootstrap_tokens[let_in.command.token_id].revoked  # type: ignore[attr-defined]
    assert "never lets anybody in again" in refusal(world, revoked).detail
    assert "bootstrap token was revoked since" in refusal(world, let_in).detail
    taken_back(world, account)


def test_there_is_always_an_admin() -> None:
    world = World(populated=False)
    first = world.give(CreateFirstAccount, account_id=ACCOUNT, name="root", token_id=uuid4(), secret_hash="a" * 64)
    assert "root is the only admin" in refusal(world, first).detail
    world.give(CreateAccount, account_id=uuid4(), name="ann", role="viewer")
    promoted = world.give(SetAccountRole, account_id=world.given[-1].command.account_id, role="admin")  # type: ignore[attr-defined]
    world.give(DeleteAccount, account_id=ACCOUNT)
    assert "ann is the only admin" in refusal(world, promoted).detail
    assert "whose tokens never count again" in refusal(world, world.given[-1]).detail


def test_what_is_never_undone(world: World) -> None:
    token, machine_id, key = uuid4(), UUID(int=60), encode_public("user", b"\x01" * 32)
    world.give(CreateBootstrapToken, token_id=token, secret_hash="a" * 64)
    enrolled = world.give(
        EnrolMachine, machine_id=machine_id, identity_key=key, hostname="db-1", agent_version="1", secret_hash="a" * 64
    )
    reported = world.give(
        RegisterMembership, network_id=OTHER, machine_id=machine_id, public_key=KEY, listen_port=51820
    )
    rotated = world.give(RotateKeys, machine_id=machine_id)
    updated = world.give(RegisterMachine, machine_id=MACHINES[0], hostname="m1", agent_version="2")
    revoked = world.give(RevokeMachine, machine_id=machine_id)
    deleted = world.give(DeleteMachine, machine_id=MACHINES[0], force=True)
    issued = world.give(
        IssueApiToken,
        token_id=uuid4(),
        account_id=min(world.access.accounts),
        name="t",
        role="viewer",
        secret_hash="b" * 64,
    )
    ended = world.give(RevokeApiToken, token_id=issued.command.token_id)  # type: ignore[attr-defined]
    dead = world.give(RevokeBootstrapToken, token_id=token)
    for given, said in (
        (enrolled, "let a machine in"),
        (reported, "its key and endpoints"),
        (rotated, "the one before is gone"),
        (updated, "reported of itself"),
        (revoked, "revoked a machine, for good"),
        (deleted, "whose id is never used again"),
        (ended, "never speaks again"),
        (dead, "never lets anybody in again"),
    ):
        assert said in refusal(world, given).detail


def test_a_large_network_comes_back_in_one_change() -> None:
    world = World(populated=False)
    world.give(CreateNetwork, network_id=NETWORK, name="big", network_cidr="10.0.0.0/16")
    machine_ids = tuple(UUID(int=number) for number in range(1000, 2201))
    for machine_id in machine_ids:
        world.give(RegisterMachine, is_watched=False, machine_id=machine_id, hostname="m")
    assigned = world.give(AssignMachines, network_id=NETWORK, machine_ids=machine_ids)
    deleted = world.give(DeleteNetwork, network_id=NETWORK, force=True)
    undone = taken_back(world, deleted)
    events = [each.event for each in world.events() if each.event.command_id == undone.command.command_id]
    assert [type(event) for event in events] == [NetworkCreated, *[MachinesAssigned] * 3]
    assert len(undone.outcome.assignments) == len(machine_ids)
    left = taken_back(world, assigned)
    events = [each.event for each in world.events() if each.event.command_id == left.command.command_id]
    assert [type(event) for event in events] == [MachinesUnassigned] * 3


def test_only_all_of_a_commands_events_can_be_undone(world: World) -> None:
    given = world.give(AssignMachines, network_id=OTHER, machine_ids=MACHINES)
    deleted = world.give(DeleteNetwork, network_id=OTHER, force=True)
    world.undo(deleted)
    fields = world.undoing(world.given[-1].command.command_id)
    first, last = fields["first_sequence"], fields["last_sequence"]
    assert last > first
    for wrong in (
        {"last_sequence": first},
        {"first_sequence": last},
        {"first_sequence": first - 1},
        {"last_sequence": last + 1},
        {"first_sequence": last, "last_sequence": first},
        {"first_sequence": last + 1, "last_sequence": last + 9},
        {"first_sequence": 1, "last_sequence": 10**12},
        {"undone": given.command.command_id},
        {"undone": uuid4()},
    ):
        error: WireloomError = world.allocator.refuses(NotFoundError, Undo, **fields | wrong)
        assert "are not those from" in error.detail
    world.give(Undo, **fields)


def test_an_undo_is_executed_once(world: World) -> None:
    given = world.give(RenameNetwork, network_id=NETWORK, name="main")
    fields = {**world.undoing(given.command.command_id), "command_id": uuid4()}
    outcome = world.allocator.do(Undo, **fields)
    assert outcome.changed
    assert world.allocator.do(Undo, **fields) == outcome
    assert MemoryAllocator(world.recorder).do(Undo, **fields) == outcome, "also after a restart"
    world.allocator.refuses(CommandIdReusedError, Undo, **fields | {"undone": uuid4()})
