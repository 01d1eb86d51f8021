"""The decisions: each command, with the state it meets, into events or a refusal. Pure.

A decider looks first and records last: once it has recorded an event it refuses no more. Only an undo goes event by
event, and the desk takes back what it recorded before it refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
from services.allocator import accounts, enrolment, machines, members, networks, policies, routes, undo
from services.allocator.desk import Desk
from services.allocator.lookups import MAX_BATCH_EVENTS

DECIDERS: dict[type[Command], Callable[[Desk, Any], None]] = {
    CreateNetwork: networks.create_network,
    RenameNetwork: networks.rename_network,
    SetDefaultNetwork: networks.set_default_network,
    SetRouteReflectorMode: networks.set_route_reflector_mode,
    DeleteNetwork: networks.delete_network,
    RegisterMachine: machines.register_machine,
    RenameMachine: machines.rename_machine,
    SetTransit: machines.set_transit,
    DeleteMachine: machines.delete_machine,
    RevokeMachine: machines.revoke_machine,
    AssignMachine: members.assign_machine,
    AssignMachines: members.assign_machines,
    UnassignMachine: members.unassign_machine,
    RegisterMembership: members.register_membership,
    RotateKeys: members.rotate_keys,
    CreateBootstrapToken: enrolment.create_bootstrap_token,
    RevokeBootstrapToken: enrolment.revoke_bootstrap_token,
    EnrolMachine: enrolment.enrol_machine,
    CreateAccount: accounts.create_account,
    CreateFirstAccount: accounts.create_first_account,
    SetAccountRole: accounts.set_account_role,
    DeleteAccount: accounts.delete_account,
    IssueApiToken: accounts.issue_api_token,
    RevokeApiToken: accounts.revoke_api_token,
    CreateRoute: routes.create_route,
    UpdateRoute: routes.update_route,
    DeleteRoute: routes.delete_route,
    CreateVip: routes.create_vip,
    UpdateVip: routes.update_vip,
    DeleteVip: routes.delete_vip,
    CreatePolicy: policies.create_policy,
    UpdatePolicy: policies.update_policy,
    DeletePolicy: policies.delete_policy,
    SetGateway: policies.set_gateway,
    PinReflectors: policies.pin_reflectors,
    Undo: undo.undo,
}
"""Which function decides which command."""


_MOST_EVENTS: dict[type[Command], int] = {
    DeleteNetwork: 2,
    EnrolMachine: enrolment.MOST_EVENTS,
    CreateFirstAccount: 2,
    IssueApiToken: 1 + accounts.SWEPT_AT_ONCE,
    Undo: MAX_BATCH_EVENTS,
}


def most_events(desk: Desk, command: Command) -> int:
    """So many events at most come of a command."""
    if isinstance(command, AssignMachines):
        return -(-len(command.machine_ids) // members.ASSIGNMENTS_PER_EVENT)
    if isinstance(command, DeleteMachine | RevokeMachine | RotateKeys):
        return len(desk.registry.networks) + machines.OTHER_EVENTS
    return _MOST_EVENTS.get(type(command), 1)
