"""Finding what a person named as it was once: by its uuid, or by a name that it had, also of what was deleted."""

from __future__ import annotations

from typing import NamedTuple

from events.errors import InvalidInputError, NotFoundError
from services.cli.lookup import machine_named, network_named
from services.cli.resolve import as_uuid
from services.cli.session import Session

EVENTS = "/api/v1/events"

_LOOKED_AT = 1000


class _Kind(NamedTuple):
    """In which events a name ends, and where each has the name and the uuid."""

    ends: dict[str, str]
    uuids: str


_MACHINE = _Kind({"machine.deleted": "hostname", "machine.renamed": "previous_hostname"}, "machine_uuids")
_NETWORK = _Kind({"network.deleted": "name", "network.renamed": "previous_name"}, "network_uuids")


def machine_ever(session: Session, text: str) -> str:
    """The uuid of a machine, also of one that was deleted or has another name now.

    Raises `NotFoundError`, `InvalidInputError`.
    """
    if uuid := as_uuid(text):
        return uuid
    try:
        return str(machine_named(session.api, text)["uuid"])
    except NotFoundError as error:
        return _former(session, text, _MACHINE, error)


def network_ever(session: Session, text: str) -> str:
    """The uuid of a network, also of one that was deleted or has another name now.

    Raises `NotFoundError`, `InvalidInputError`.
    """
    if uuid := as_uuid(text):
        return uuid
    try:
        return str(network_named(session.api, text)["uuid"])
    except NotFoundError as error:
        return _former(session, text, _NETWORK, error)


def _former(session: Session, text: str, kind: _Kind, error: NotFoundError) -> str:
    """The one that had the name before, among the last that were deleted or renamed."""
    if session.is_past:
        raise error
    events = session.api.get(EVENTS, kind=list(kind.ends), limit=_LOOKED_AT)["items"]
    named = (event for event in events if event["data"][kind.ends[event["kind"]]].lower() == text.lower())
    found = list(dict.fromkeys(event[kind.uuids][0] for event in named))
    if not found:
        raise error
    if len(found) > 1:
        raise InvalidInputError(
            f"There is no {text!r} now, and {len(found)} had that name before.",
            hint=f"Give the uuid of the one you mean: {', '.join(found[:10])}.",
        )
    return str(found[0])
