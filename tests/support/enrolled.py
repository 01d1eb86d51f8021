"""Machines that are let in over HTTPS as an agent would be, without one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from uuid import UUID, uuid4

import httpx2

from events import bus
from events.ending import end
from events.enrolment import Access, EnrolRequest, RenewRequest
from events.errors import UnauthenticatedError, UnavailableError, WireloomError
from events.trust.certificates import trusting
from events.trust.keys import Key, generate
from events.trust.permissions import inbox
from events.trust.proof import ENROL, RENEW, prove

BOOTSTRAP_TOKENS = "/api/v1/bootstrap-tokens"
_AGENTS = "/api/v1/agents"
_LET_IN_SECONDS = 6.0
"""Who speaks no TLS is not refused, but tries for ever."""


@dataclass(frozen=True)
class Enrolled:
    """A machine that was let in: its identity key, and what it was given."""

    machine_id: UUID
    key: Key
    access: Access

    @property
    def credentials(self) -> bus.Credentials:
        """How it shows the bus who it is."""
        tls, name = trusting(self.access.bus_ca), str(self.machine_id)
        return bus.Credentials(lambda: self.access.token, self.key.sign, inbox(name), tls)


async def enrol(http: httpx2.AsyncClient, hostname: str, token: str, key: Key | None = None) -> Enrolled:
    """A machine that a bootstrap token let in. Raises any `WireloomError`."""
    key, machine_id = key or generate("user"), uuid4()
    challenge = await _challenge(http)
    request = EnrolRequest(
        token=token,
        machine_id=machine_id,
        identity_key=key.public,
        hostname=hostname,
        challenge=challenge,
        proof=prove(key, ENROL, machine_id, challenge),
    )
    return Enrolled(machine_id, key, await _access(http, "enrol", request))


async def renew(http: httpx2.AsyncClient, machine: Enrolled) -> Enrolled:
    """The machine with access as it may have it now. Raises any `WireloomError`."""
    challenge = await _challenge(http)
    proof = prove(machine.key, RENEW, machine.machine_id, challenge)
    request = RenewRequest(machine_id=machine.machine_id, challenge=challenge, proof=proof)
    return Enrolled(machine.machine_id, machine.key, await _access(http, "renew", request))


async def is_let_in(url: str, credentials: bus.Credentials | None) -> bool:
    """Whether a bus lets somebody in."""
    connecting = asyncio.create_task(bus.connect(url, "test", credentials, insist=False))
    await asyncio.wait({connecting}, timeout=_LET_IN_SECONDS)
    if not connecting.done():
        # Not `wait_for`, which cancels once: nats-py may swallow that, and go on for ever.
        await end([connecting])
        return False
    try:
        await connecting.result().close()
    except (UnauthenticatedError, UnavailableError):
        return False
    return True


async def _challenge(http: httpx2.AsyncClient) -> str:
    answer = await http.post(f"{_AGENTS}/challenge")
    return str(answer.raise_for_status().json()["challenge"])


async def _access(http: httpx2.AsyncClient, verb: str, request: EnrolRequest | RenewRequest) -> Access:
    answer = await http.post(f"{_AGENTS}/{verb}", json=request.model_dump(mode="json"))
    if not answer.is_success:
        raise WireloomError.from_problem(answer.json())
    return Access.model_validate(answer.json())
