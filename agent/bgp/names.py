"""What things are called in BIRD: so that names tell what they are for, and stay while they are for the same. Pure.

BIRD takes names of up to 64 characters. A network is named by the eight digits that its interface is named by.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from uuid import UUID

from events.routing import BGP_PORT, REFLECTOR_PORT, SessionKind

_SESSION = re.compile(r"(mesh|client)_([0-9a-f]{8})_([0-9a-f]{32})")
_REFLECTOR = re.compile(r"reflector_([0-9a-f]{8})_[0-9]+")
_ANY = re.compile(r"(mesh|client|reflector)_([0-9a-f]{8})(?:_[0-9a-f]+)?")
_KINDS: dict[str, SessionKind] = {"mesh": "mesh", "client": "client"}


def network_label(network_id: UUID) -> str:
    """A network, inside the names of all that belongs to it."""
    return network_id.hex[:8]


def session_name(kind: SessionKind, network_id: UUID, machine_id: UUID) -> str:
    """The protocol for a session with a machine: of the full mesh, or as its client."""
    return f"{kind}_{network_label(network_id)}_{machine_id.hex}"


def reflector_name(network_id: UUID) -> str:
    """The protocol that takes clients' sessions. BIRD names those by it, with a number after `_`."""
    return f"reflector_{network_label(network_id)}"


def rib_table(network_id: UUID) -> str:
    """The table of what the machine makes of what it is told in a network."""
    return f"rib_{network_label(network_id)}"


def intake_name(network_id: UUID) -> str:
    """The protocol through which routes come into `rib_table`: its counters tell whether anything was changed there."""
    return f"intake_{network_label(network_id)}"


INTAKES = "intake_*"
"""The pattern of those names, as BIRD's commands take it."""


@dataclass(frozen=True, slots=True)
class SessionName:
    """What a session's name tells."""

    kind: SessionKind
    label: str
    machine_id: UUID | None
    """None for one of a reflector's clients: the address tells which."""


def read_session_name(name: str) -> SessionName | None:
    """The other way round; None if it is not the name of a session."""
    if found := _SESSION.fullmatch(name):
        return SessionName(_KINDS[found[1]], found[2], UUID(found[3]))
    if found := _REFLECTOR.fullmatch(name):
        return SessionName("reflector", found[1], None)
    return None


def port_of(name: str) -> tuple[str, int] | None:
    """The label of the network, and the port that BIRD listens on for a session, or for those of a reflector's clients;
    None for any other protocol."""
    found = _ANY.fullmatch(name)
    return (found[2], REFLECTOR_PORT if found[1] == "reflector" else BGP_PORT) if found else None
