"""Lets machines and programs onto the bus: enrolment, renewal, and the tokens that nats-server checks. Shell.

Who does not prove that he has a machine's identity key learns nothing about the machine: not even whether it exists.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

from nacl.utils import random
from pydantic import ValidationError

from events.commands import EnrolMachine
from events.enrolment import ACCESS_SECONDS, Access, EnrolRequest, RenewRequest
from events.errors import (
    InvalidInputError,
    TokenRefusedError,
    UnauthenticatedError,
    UnavailableError,
    WireloomError,
)
from events.identity import Identity
from events.trust import keys, proof, tokens
from services.gateway.access import Speaker
from services.gateway.commander import Commander
from services.gateway.follower import Follower
from services.gateway.invalid import invalid
from services.gateway.metrics import Metrics
from services.gateway.minting import PROGRAM_SECONDS, Challenges, Minter

_CATCH_UP = 5.0


class Admission:
    """The gateway's side of `events.enrolment`. Every method raises `IdentityError` where the identity is damaged."""

    def __init__(
        self,
        identity: Identity,
        commander: Commander,
        follower: Follower,
        *,
        metrics: Metrics,
        bus_urls: tuple[str, ...],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`bus_urls` are the bus's addresses as machines reach them."""
        self.mint = identity.mint()
        """What the tokens of people and programs are made from (`events.trust.tokens.make`)."""
        self._identity = identity
        self._commander = commander
        self._follower = follower
        self._metrics = metrics
        self._bus_urls = bus_urls
        self._clock = clock
        self._bus_ca = identity.ca()
        self._challenges = Challenges(self.mint)
        self._minter = Minter(identity.public.account, identity.key("machine"), identity.key("program"))
        self._nobody = keys.generate("user").public

    def challenge(self) -> str:
        """A text to make a proof for. It counts for a minute, once."""
        return self._challenges.make(self._now(), random(16))

    async def enrol(self, request: EnrolRequest) -> Access:
        """Let a machine in that holds a bootstrap token and its own identity key.

        Raises `TokenRefusedError`, `UnauthenticatedError` for a challenge or proof that does not count,
        `IdentityTakenError`, `MachineRevokedError`, `MachineDeletedError`, `InvalidInputError` and `UnavailableError`.
        """
        try:
            return await self._enrol(request)
        except WireloomError as error:
            self._metrics.refused_admissions.labels("enrol", error.code).inc()
            raise

    async def renew(self, request: RenewRequest) -> Access:
        """Access again for a machine that has enrolled.

        Raises `UnauthenticatedError` for a challenge or proof that does not count and for unknown machines,
        `MachineRevokedError`, `MachineDeletedError` and `UnavailableError`.
        """
        try:
            return await self._renew(request)
        except WireloomError as error:
            self._metrics.refused_admissions.labels("renew", error.code).inc()
            raise

    def program_access(self, speaker: Speaker, public_key: str) -> tuple[str, datetime]:
        """The bus's token for a program that has the private half of a user key, and when it expires.

        Raises `InvalidInputError` where `public_key` is none.
        """
        try:
            keys.check_public(public_key, "user")
        except ValueError as error:
            raise InvalidInputError(
                "The public key is not one of a user of the message bus.",
                hint="Make a user nkey (it begins with U) and send its public half.",
                field="public_key",
            ) from error
        now = self._now()
        expires_at = now + PROGRAM_SECONDS
        if speaker.token.expires_at is not None:
            expires_at = min(expires_at, int(speaker.token.expires_at.timestamp()))
        token = self._minter.program(speaker.token.token_id, public_key, issued_at=now, expires_at=expires_at)
        return token, datetime.fromtimestamp(expires_at, UTC)

    def _now(self) -> int:
        return int(self._clock())

    async def _enrol(self, request: EnrolRequest) -> Access:
        if not tokens.looks_like(request.token, "bootstrap"):
            raise TokenRefusedError(
                "This is not a bootstrap token.", hint="Copy the whole join line; a bootstrap token begins with wlb_."
            )
        self._spend(request.challenge)
        if not proof.is_proven(request.identity_key, proof.ENROL, request.machine_id, request.challenge, request.proof):
            raise _unproven()
        await self._commander.give(_enrolment(request))
        if not await self._follower.catch_up_with_log(_CATCH_UP):
            raise UnavailableError("The enrolment is not visible yet.", hint="Enrol again: it is the same machine.")
        return self._access(request.machine_id)

    async def _renew(self, request: RenewRequest) -> Access:
        self._spend(request.challenge)
        # Always, so that the time taken tells nothing. And with the log, not only with what was derived from it: what
        # was taken away does not concern a token that is made later (`services.gateway.cutoffs`).
        if not await self._follower.catch_up_with_log(_CATCH_UP):
            raise UnavailableError("The gateway is behind.", hint="Ask again.")
        identity = self._follower.mirror.access.identity(request.machine_id)
        key = identity.identity_key if identity is not None else self._nobody
        if not proof.is_proven(key, proof.RENEW, request.machine_id, request.challenge, request.proof):
            raise _unproven()
        return self._access(request.machine_id)

    def _spend(self, challenge: str) -> None:
        if not self._challenges.use(challenge, self._now()):
            raise UnauthenticatedError(
                "The challenge is too old, was used before, or is not from this control plane.",
                hint="Ask for another one.",
            )

    def _access(self, machine_id: UUID) -> Access:
        """What a machine that proved who it is may have."""
        mirror, now = self._follower.mirror, self._now()
        identity = mirror.standing(machine_id)
        networks, expires_at = mirror.networks_of(machine_id), now + ACCESS_SECONDS
        issued_at = max(now, mirror.cutoffs.of(identity) + 1)
        public = self._identity.public
        return Access(
            machine_id=machine_id,
            token=self._minter.machine(
                machine_id, identity.identity_key, networks, issued_at=issued_at, expires_at=expires_at
            ),
            expires_at=datetime.fromtimestamp(expires_at, UTC),
            networks=networks,
            bus=self._bus_urls,
            bus_ca=self._bus_ca,
            root=public.root,
            ring=self._identity.ring(),
        )


def _enrolment(request: EnrolRequest) -> EnrolMachine:
    try:
        return EnrolMachine(
            command_id=uuid4(),
            actor=f"machine:{request.machine_id}",
            machine_id=request.machine_id,
            identity_key=request.identity_key,
            hostname=request.hostname,
            agent_version=request.agent_version,
            secret_hash=tokens.hashed(request.token),
        )
    except ValidationError as error:
        raise invalid(error) from error


def _unproven() -> UnauthenticatedError:
    return UnauthenticatedError(
        "The proof is not by the identity key of a machine that this control plane knows.",
        hint="Join the machine with a bootstrap token.",
    )
