"""Finding what a person named that may be gone: by its uuid, or by the name that it had when it was deleted."""

from __future__ import annotations

from typing import NamedTuple

from events.errors import InvalidInputError, NotFoundError
from services.cli.lookup import machine_named, network_named
from services.cli.resolve import as_uuid
from services.cli.session import Session

EVENTS = "/api/v1/events"

_LOOKED_AT = 1000


class _Kind(NamedTuple):
    """What the event of a deletion is called, and where it has the name and the uuid."""

    kind: str
    name: str
    uuids: str


_MACHINE = _Kind("machine.deleted", "hostname", "machine_uuids")
_NETWORK = _Kind("network.deleted", "name", "network_uuids")


def machine_ever(session: Session, text: str) -> str:
    """The uuid of a machine, also of one that was deleted. Raises `NotFoundError`, `InvalidInputError`."""
    if uuid := as_uuid(text):
        return uuid
    try:
        return str(machine_named(session.api, text)["uuid"])
    except NotFoundError as error:
        return _deleted(session, text, _MACHINE, error)


def network_ever(session: Session, text: str) -> str:
    """The uuid of a network, also of one that was deleted. Raises `NotFoundError`, `InvalidInputError`."""
    if uuid := as_uuid(text):
        return uuid
    try:
        return str(network_named(session.api, text)["uuid"])
    except NotFoundError as error:
        return _deleted(session, text, _NETWORK, error)


def _deleted(session: Session, text: str, kind: _Kind, error: NotFoundError) -> str:
    """The one that had the name when it was deleted, among the last that were."""
    if session.is_past:
        raise error
    events = session.api.get(EVENTS, kind=kind.kind, limit=_LOOKED_AT)["items"]
    found = {event[kind.uuids][0]: event for event in events if event["data"][kind.name].lower() == text.lower()}
    if not found:
        raise error
    if len(found) > 1:
        raise InvalidInputError(
            f"There is no {text!r}, and {len(found)} of that name were deleted.",
            hint=f"Give the uuid of the one you mean: {', '.join(list(found)[:10])}.",
        )
    return str(next(iter(found)))
