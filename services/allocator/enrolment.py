"""The decisions about who is let in: bootstrap tokens, and the machines that enrol with them. Pure.

A use of a token is spent by the event that lets a machine in. Since events are written only if the log still ends
where they were decided, a token lets in as many machines as it may and never one more, however many ask at once.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from events.commands import LIFETIMES, CreateBootstrapToken, EnrolMachine, RevokeBootstrapToken
from events.domain import ACCESS_ID, BootstrapTokenCreated, BootstrapTokenRevoked, MachineEnrolled
from events.errors import ConflictError, IdentityTakenError, NotFoundError, TokenRefusedError
from events.fields import check_hostname
from services.allocator.access import BootstrapToken, Identity
from services.allocator.aggregates import Machine, NetworkEntry
from services.allocator.desk import Desk, id_taken
from services.allocator.lookups import (
    deleted,
    find_network,
    lowest_free,
    record_assignment,
    require_free_id,
    require_room,
    revoked,
)
from services.allocator.machines import record_presence

MOST_EVENTS = 3
"""A machine is let in, becomes known, and joins a network."""

_MAKE_ANOTHER = "Have an operator make a new one: wireloom token create."


def create_bootstrap_token(desk: Desk, command: CreateBootstrapToken) -> None:
    """A new token, for a network that exists or for whichever is the default when a machine comes."""
    if command.network_id is not None:
        find_network(desk, command.network_id)
    require_new_token(desk, command.token_id, command.secret_hash)
    desk.record(
        BootstrapTokenCreated,
        ACCESS_ID,
        token_id=command.token_id,
        secret_hash=command.secret_hash,
        expires_at=desk.now() + LIFETIMES[command.lifetime],
        uses=command.uses,
        network_id=command.network_id,
    )


def revoke_bootstrap_token(desk: Desk, command: RevokeBootstrapToken) -> None:
    """The token lets nobody in any more; nothing happens where it was revoked already."""
    token = desk.access.bootstrap_tokens.get(command.token_id)
    if token is None:
        raise NotFoundError(
            f"There is no bootstrap token with the id {command.token_id}.",
            hint="List the bootstrap tokens to find its id.",
            field="token_id",
        )
    if not token.revoked:
        desk.record(BootstrapTokenRevoked, ACCESS_ID, token_id=token.token_id)


def enrol_machine(desk: Desk, command: EnrolMachine) -> None:
    """The machine is let in against a use of the token, made known, and joins the token's network or the default one.

    A machine that enrolled with this key before is let in again, without a use where it is in that network. Where it is
    not, a use that is left brings it there; without one it stays where it is.
    """
    _require_not_revoked_key(desk, command.identity_key)
    token = _token_that_counts(desk, command.secret_hash)
    is_known = _is_enrolled(desk, command)
    if token.is_used_up and not is_known:
        raise _refused(f"was used up: it let in {token.used} of {token.used} machines.", _MAKE_ANOTHER)
    machine = desk.machine(command.machine_id)
    if not is_known:
        _require_may_enrol(desk, command, machine)
    hostname = check_hostname(command.hostname)
    entry = None if token.is_used_up else _network_to_join(desk, token, command.machine_id)
    if entry is not None:
        require_room(entry, desk.network(entry.network_id), 1)
    if entry is not None or not is_known:
        desk.record(
            MachineEnrolled,
            ACCESS_ID,
            machine_id=command.machine_id,
            identity_key=command.identity_key,
            token_id=token.token_id,
        )
    record_presence(desk, machine, command, hostname)
    if entry is not None:
        record_assignment(desk, entry, command.machine_id, lowest_free(entry, desk.network(entry.network_id)))


def require_new_token(desk: Desk, token_id: UUID, secret_hash: str) -> None:
    """That a token with this id and secret is not there yet. Raises `IdTakenError`, `ConflictError`."""
    require_free_id(desk, token_id)
    if desk.machine(token_id) is not None:
        raise id_taken(token_id, "a machine")
    if secret_hash in desk.access.secrets:
        raise ConflictError(
            "There is a token with this secret already.",
            hint="Make a new token: every one has a secret of its own.",
            field="secret_hash",
        )


def _require_not_revoked_key(desk: Desk, identity_key: str) -> None:
    """Whoever has proved to have the key of a machine that was revoked or deleted may hear so, whatever the token."""
    owner = desk.access.machine_of_key.get(identity_key)
    if owner is None or not desk.access.is_revoked(owner):
        return
    machine = desk.machine(owner)
    raise deleted(machine) if machine is not None and machine.deleted else revoked(owner)


def _token_that_counts(desk: Desk, secret_hash: str) -> BootstrapToken:
    token = desk.access.bootstrap_token(secret_hash)
    if token is None:
        raise _refused("is not known.", f"Check that it was copied whole. {_MAKE_ANOTHER}")
    if token.revoked:
        raise _refused("was revoked.", _MAKE_ANOTHER)
    if token.expires_at <= desk.now():
        raise _refused(f"expired at {_shown(token.expires_at)}.", _MAKE_ANOTHER)
    if token.network_id is not None and token.network_id not in desk.registry.networks:
        raise _refused("was for a network that was deleted since.", _MAKE_ANOTHER)
    return token


def _is_enrolled(desk: Desk, command: EnrolMachine) -> bool:
    """Whether this machine enrolled with this key before."""
    return desk.access.identities.get(command.machine_id) == Identity(command.machine_id, command.identity_key)


def _require_may_enrol(desk: Desk, command: EnrolMachine, machine: Machine | None) -> None:
    """That neither the machine's id nor its key belongs to something else."""
    require_free_id(desk, command.machine_id)
    if machine is not None and machine.deleted:
        raise deleted(machine)
    if desk.access.is_revoked(command.machine_id):
        raise revoked(command.machine_id)
    if command.machine_id in desk.access.identities:
        raise IdentityTakenError(
            f"The machine {command.machine_id} has enrolled with another identity key.",
            hint="If this is another machine, delete the id that its agent keeps: a copied disk copies it too.",
            field="machine_id",
        )
    if command.identity_key in desk.access.machine_of_key:
        raise IdentityTakenError(
            "Another machine has enrolled with this identity key.",
            hint="Delete the key that the agent keeps: it must never be copied from one machine to another.",
            field="identity_key",
        )


def _network_to_join(desk: Desk, token: BootstrapToken, machine_id: UUID) -> NetworkEntry | None:
    """The network that the token brings the machine into, unless it is there already."""
    network_id = token.network_id or desk.registry.default_network_id
    if network_id is None or machine_id in desk.network(network_id).members:
        return None
    return find_network(desk, network_id)


def _refused(why: str, hint: str) -> TokenRefusedError:
    return TokenRefusedError(f"The bootstrap token {why}", hint=hint, field="token")


def _shown(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")
