"""What a machine's agent and the gateway say to each other over HTTPS: enrolling, and renewing access to the bus.

`POST /api/v1/agents/challenge`, then within a minute `…/enrol` or `…/renew` with a proof (`events.trust.proof`) that is
made for the challenge. Renewing needs no token, and works also when access has long expired.
"""

from __future__ import annotations

from uuid import UUID

from events.fields import IdentityKey, Moment, Tolerant
from events.trust.signing import Ring

ACCESS_SECONDS = 3600
"""How long a machine's access to the bus lasts; agents renew it when half of that is over."""


class Challenge(Tolerant):
    """A text that counts once, for a minute."""

    challenge: str


class EnrolRequest(Tolerant):
    """A machine asks to be let in."""

    token: str
    machine_id: UUID
    identity_key: IdentityKey
    hostname: str
    agent_version: str = ""
    challenge: str
    proof: str


class RenewRequest(Tolerant):
    """A machine asks for access to the bus again."""

    machine_id: UUID
    challenge: str
    proof: str
    networks: tuple[UUID, ...] = ()
    """Networks that it knows it is in, so that a gateway that does not know yet looks again."""


class Access(Tolerant):
    """What a machine needs in order to be on the bus, and to know whom to believe there."""

    machine_id: UUID
    token: str
    """The bus's token (JWT) for the machine's identity key: of no use without its private half."""
    expires_at: Moment
    networks: tuple[UUID, ...]
    """The networks whose records it may hear."""
    bus: tuple[str, ...]
    """The bus's addresses."""
    bus_ca: str
    """The certificate (PEM) that signed the bus's own; empty for a bus without TLS."""
    root: str
    """The control plane's root key, to be pinned at enrolment and compared ever after."""
    ring: Ring
