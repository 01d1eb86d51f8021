"""The dialogs that change a machine: its name, whether it is a transit, its networks and keys, and its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Form
from starlette.responses import Response

from events.commands import (
    AssignMachine,
    Command,
    DeleteMachine,
    RenameMachine,
    RevokeMachine,
    RotateKeys,
    SetTransit,
    UnassignMachine,
)
from events.errors import ConflictError
from services.gateway.http.guard import OPERATOR
from services.gateway.http.views import machine_view
from services.gateway.naming import count
from services.gateway.pages.machine import change_or_ask
from services.gateway.pages.page import Fault, PageRoute, Visit, Visiting
from services.gateway.queries import find_networks
from services.gateway.routed import find_items

router = APIRouter(prefix="/machines/{uuid}", route_class=PageRoute, include_in_schema=False)

_NETWORKS = 500
"""So many networks one can choose from; more are found on their own pages."""

CommandId = Annotated[UUID, Form()]


@dataclass(frozen=True)
class _Dialog:
    """A dialog about a machine: what it shows, and what is wrong with what was given in it."""

    visit: Visit
    uuid: UUID
    name: str

    def show(self, fault: Fault | None = None, given: dict[str, Any] | None = None, **shown: Any) -> Response:
        """The dialog. Raises `NotFoundError`."""
        gateway = self.visit.gateway
        machine = machine_view(gateway.mirror, gateway.presence, self.uuid, gateway.now())
        status = fault.status if fault is not None else 200
        template = f"machine_{self.name}.html"
        return self.visit.page(template, status=status, machine=machine, fault=fault, given=given or {}, **shown)

    async def give(self, command_type: Callable[..., Command], command_id: UUID, what: str, **fields: Any) -> Response:
        """Give a command, and say `what` was done; where it is refused, the dialog says why."""
        change = self.visit.change(command_id)
        return await change_or_ask(
            self.visit,
            lambda: command_type(command_id=change.command_id, actor=change.actor, machine_id=self.uuid, **fields),
            lambda: self.visit.stay(what),
            lambda fault: self.show(fault, fields),
        )

    @property
    def hostname(self) -> str:
        """The machine's. Raises `NotFoundError`."""
        return self.visit.gateway.mirror.machine(self.uuid)[1].hostname


@router.get("/rename", dependencies=[OPERATOR])
async def ask_rename(visit: Visiting, uuid: UUID) -> Response:
    """Ask for another hostname."""
    return _Dialog(visit, uuid, "rename").show()


@router.post("/rename", dependencies=[OPERATOR])
async def rename(visit: Visiting, uuid: UUID, command_id: CommandId, hostname: Annotated[str, Form()] = "") -> Response:
    """Give it another hostname."""
    dialog, hostname = _Dialog(visit, uuid, "rename"), hostname.strip()
    return await dialog.give(RenameMachine, command_id, f"It is {hostname} now.", hostname=hostname)


@router.get("/transit", dependencies=[OPERATOR])
async def ask_transit(visit: Visiting, uuid: UUID) -> Response:
    """Ask whether it may be a transit."""
    return _Dialog(visit, uuid, "transit").show()


@router.post("/transit", dependencies=[OPERATOR])
async def set_transit(
    visit: Visiting, uuid: UUID, command_id: CommandId, transit: Annotated[str, Form()] = ""
) -> Response:
    """Say whether it may be a transit."""
    dialog = _Dialog(visit, uuid, "transit")
    return await dialog.give(SetTransit, command_id, f"Transit for others: {transit}.", transit=transit)


@router.get("/assign", dependencies=[OPERATOR])
async def ask_assign(visit: Visiting, uuid: UUID) -> Response:
    """Ask for a network to assign it to."""
    return _ask_assign(visit, uuid)


@router.post("/assign", dependencies=[OPERATOR])
async def assign(
    visit: Visiting,
    uuid: UUID,
    command_id: CommandId,
    network: Annotated[str, Form()] = "",
    wg_ip_address: Annotated[str, Form()] = "",
) -> Response:
    """Assign it to a network."""
    hostname = visit.gateway.mirror.machine(uuid)[1].hostname
    change, given = visit.change(command_id), {"network": network, "wg_ip_address": wg_ip_address}
    return await change_or_ask(
        visit,
        lambda: AssignMachine.model_validate(
            {
                "command_id": change.command_id,
                "actor": change.actor,
                "machine_id": uuid,
                "network_id": network,
                "address": wg_ip_address.strip() or None,
            }
        ),
        lambda: visit.stay(f"Assigned {hostname} to {visit.gateway.mirror.name_of(UUID(network))}."),
        lambda fault: _ask_assign(visit, uuid, fault, given),
    )


@router.get("/networks/{network_uuid}/unassign", dependencies=[OPERATOR])
async def ask_unassign(visit: Visiting, uuid: UUID, network_uuid: UUID) -> Response:
    """Ask whether it is to leave a network."""
    return _Dialog(visit, uuid, "unassign").show(network=visit.gateway.mirror.network(network_uuid)[1])


@router.post("/networks/{network_uuid}/unassign", dependencies=[OPERATOR])
async def unassign(visit: Visiting, uuid: UUID, network_uuid: UUID, command_id: CommandId) -> Response:
    """Take it out of a network."""
    dialog, change, network = _Dialog(visit, uuid, "unassign"), visit.change(command_id), network_uuid
    record = visit.gateway.mirror.network(network)[1]
    return await change_or_ask(
        visit,
        lambda: UnassignMachine(command_id=change.command_id, actor=change.actor, machine_id=uuid, network_id=network),
        lambda: visit.stay(f"{dialog.hostname} has left {record.name}."),
        lambda fault: dialog.show(fault, network=record),
    )


@router.get("/rotate", dependencies=[OPERATOR])
async def ask_rotate(visit: Visiting, uuid: UUID) -> Response:
    """Ask where it is to make new keys."""
    return _Dialog(visit, uuid, "rotate").show()


@router.post("/rotate", dependencies=[OPERATOR])
async def rotate(visit: Visiting, uuid: UUID, command_id: CommandId, network: Annotated[str, Form()] = "") -> Response:
    """Have it make new keys."""
    dialog = _Dialog(visit, uuid, "rotate")
    told = f"{dialog.hostname} was told to make new keys."
    return await dialog.give(RotateKeys, command_id, told, network_id=network or None)


@router.get("/revoke", dependencies=[OPERATOR])
async def ask_revoke(visit: Visiting, uuid: UUID) -> Response:
    """Ask whether it is to be kept out for good."""
    return _Dialog(visit, uuid, "revoke").show()


@router.post("/revoke", dependencies=[OPERATOR])
async def revoke(visit: Visiting, uuid: UUID, command_id: CommandId) -> Response:
    """Keep it out for good."""
    dialog = _Dialog(visit, uuid, "revoke")
    return await dialog.give(RevokeMachine, command_id, f"Revoked {dialog.hostname}.")


@router.get("/delete", dependencies=[OPERATOR])
async def ask_delete(visit: Visiting, uuid: UUID) -> Response:
    """Ask whether it is to be deleted."""
    return _ask_delete(visit, uuid)


@router.post("/delete", dependencies=[OPERATOR])
async def delete(
    visit: Visiting,
    uuid: UUID,
    command_id: CommandId,
    force: Annotated[bool, Form()] = False,
    networks: Annotated[int | None, Form()] = None,
) -> Response:
    """Delete it; out of no more networks than the dialog said."""
    machine, record = visit.gateway.mirror.machine(uuid)
    hostname, change, count_now = record.hostname, visit.change(command_id), len(machine.networks)

    def make() -> DeleteMachine:
        if force and networks is not None and count_now > networks:
            raise ConflictError(
                f"{hostname} joined {count(count_now - networks, 'more network')} in the meantime.",
                hint="Look again at what deleting it would do.",
            )
        return DeleteMachine(command_id=change.command_id, actor=change.actor, machine_id=uuid, force=force)

    return await change_or_ask(
        visit,
        make,
        lambda: visit.go("/machines", f"Deleted {hostname}."),
        lambda fault: _ask_delete(visit, uuid, fault),
    )


def _ask_assign(visit: Visit, uuid: UUID, fault: Fault | None = None, given: dict[str, Any] | None = None) -> Response:
    mirror = visit.gateway.mirror
    mine = mirror.machine(uuid)[0].networks
    others = (item for _, item in find_networks(mirror, "name") if item not in mine)
    networks = [(item, *mirror.network(item)) for item, _ in zip(others, range(_NETWORKS), strict=False)]
    return _Dialog(visit, uuid, "assign").show(fault, given, networks=networks)


def _ask_delete(visit: Visit, uuid: UUID, fault: Fault | None = None) -> Response:
    routing = visit.gateway.mirror.routing
    routes = [routing.routes[item].name for _, item in find_items(routing.routes, "name", machine_id=uuid)]
    vips = [routing.vips[item].name for _, item in find_items(routing.vips, "name", machine_id=uuid)]
    return _Dialog(visit, uuid, "delete").show(fault, routes=routes, vips=vips)
