"""Writing the BGP plans of networks: each only in place of the one that it was made from, whoever else writes. A shell.

Each stays in PLANS when another takes its place, so that it is known later which there were. The newest of each network
stands in PATHS beside the ways, under subjects of their own, and every write names the message that it expects to
be the newest of its subject. After one that is refused, or whose outcome is not known, what stands there is read.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import structlog
from nats.aio.client import Client

from events.errors import UnavailableError
from events.feed import StreamMissingError, jetstream, last_sequence, standing
from events.peering import BgpPlan
from events.records import BgpPlanRecord, Record
from events.state import decode_record, encode_record, signature_of
from events.subjects import PATHS_PREFIX, PATHS_STREAM, PLANS_STREAM, bgp_plan, plan_history
from events.trust.signing import SIGNATURE_HEADER, Signer, signed_with
from services.topology.fenced import FAILURES, OvertakenError, publish_newest
from services.topology.paths_writer import PathsDivergedError

_ALL = f"{PATHS_PREFIX}.bgp.>"
_LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
_NO_MESSAGE_FOUND = 10037


@dataclass(slots=True)
class Standing:
    """A network's plan, as it stands in PATHS."""

    plan: BgpPlan = field(default_factory=BgpPlan)
    made_at: datetime = _LONG_AGO
    revision: int = 0
    sequence: int = 0
    """0 where there is none."""
    payload: bytes = b""
    is_stale: bool = False
    """Whether another key signed it."""


class BgpWriter:
    """Knows what stands, and writes what is to be."""

    def __init__(self, client: Client, signer: Signer | None, started: datetime) -> None:
        """`started` is now; with a `signer`, a signature is written beside every record."""
        self._client = client
        self._signer = signer
        self._least_revision = int(started.timestamp() * 1000)
        self._standing: dict[UUID, Standing] = {}
        self._last_sequence = 0

    async def load(self) -> int:
        """Read all plans; how many there are. Raises `UnavailableError`."""
        async with aclosing(standing(self._client, PATHS_STREAM, _ALL)) as batches:
            async for batch in batches:
                for sequence, message in batch:
                    network_id = UUID(message.subject.split(".")[2])
                    self._take(network_id, sequence, message.data, signature_of(message))
        self._last_sequence = max(self._last_sequence, await last_sequence(self._client, PATHS_STREAM))
        for network_id, there in self._standing.items():
            await self._remember(network_id, there.payload)
        return len(self._standing)

    def of(self, network_id: UUID) -> Standing:
        """The plan of a network."""
        return self._standing.get(network_id) or Standing()

    def networks(self) -> set[UUID]:
        """The networks that have a plan."""
        return set(self._standing)

    async def write(self, network_id: UUID, plan: BgpPlan, cause: int, now: datetime) -> bool:
        """Let a network have another plan, made now of what stands in BGP up to `cause`. False where that was not
        done, or nobody knows: then what stands there was read.

        Raises `PathsDivergedError`, `UnavailableError`.
        """
        before = self.of(network_id)
        record = Record(
            revision=max(before.revision + 1, self._least_revision),
            previous=before.revision,
            cause=cause,
            time=now,
            body=plan.record(network_id),
        )
        return await self._publish(network_id, encode_record(record), before.sequence)

    async def sign_again(self, network_id: UUID) -> bool:
        """Write a plan that another key signed once more, unchanged, with our signature. As `write`."""
        before = self.of(network_id)
        return not before.is_stale or await self._publish(network_id, before.payload, before.sequence)

    async def purge(self, network_id: UUID) -> None:
        """Remove the plan of a network that is no more, unheard. Raises `UnavailableError`."""
        if network_id in self._standing:
            await jetstream(self._client, f"STREAM.PURGE.{PATHS_STREAM}", {"filter": bgp_plan(network_id)})
            del self._standing[network_id]

    async def require_same_stream(self) -> None:
        """Raises `PathsDivergedError` where PATHS was deleted, and `UnavailableError`."""
        try:
            end = await last_sequence(self._client, PATHS_STREAM)
        except StreamMissingError as error:
            raise PathsDivergedError("PATHS was deleted while plans were written.") from error
        if end < self._last_sequence:
            raise PathsDivergedError(f"PATHS went back from {self._last_sequence} to {end}.")
        self._last_sequence = end

    async def _publish(self, network_id: UUID, payload: bytes, after: int) -> bool:
        subject = bgp_plan(network_id)
        beside = self._signed(subject, payload)
        try:
            sequence = await publish_newest(self._client, (subject, payload, beside), after)
        except (OvertakenError, *FAILURES) as error:
            structlog.get_logger("services.topology").info("a plan was not written", why=str(error) or repr(error))
            await self.require_same_stream()
            await self._read(network_id)
            return False
        self._take(network_id, sequence, payload, beside.get(SIGNATURE_HEADER, ""))
        await self._remember(network_id, payload)
        return True

    async def _remember(self, network_id: UUID, payload: bytes) -> None:
        """Have a plan stand among those that there were, if the newest there is another. Who dies before that leaves it
        to who reads the plan next. Nothing else depends on it: where it cannot be written, it is not."""
        subject = plan_history(network_id)
        try:
            request = {"last_by_subj": subject}
            answer = await jetstream(self._client, f"STREAM.MSG.GET.{PLANS_STREAM}", request, _NO_MESSAGE_FOUND)
            newest = {} if "error" in answer else answer["message"]
            if base64.b64decode(newest.get("data", "")) != payload:
                await publish_newest(self._client, (subject, payload, {}), int(newest.get("seq", 0)))
        except (OvertakenError, UnavailableError, *FAILURES) as error:
            structlog.get_logger("services.topology").info("a plan is not kept", why=str(error) or repr(error))

    async def _read(self, network_id: UUID) -> None:
        """Raises `UnavailableError`."""
        request = {"last_by_subj": bgp_plan(network_id)}
        answer = await jetstream(self._client, f"STREAM.MSG.GET.{PATHS_STREAM}", request, _NO_MESSAGE_FOUND)
        self._standing.pop(network_id, None)
        if "error" not in answer:
            found = answer["message"]
            self._take(network_id, int(found["seq"]), base64.b64decode(found.get("data", "")), None)
            await self._remember(network_id, self._standing[network_id].payload)

    def _take(self, network_id: UUID, sequence: int, payload: bytes, signature: str | None) -> None:
        """`signature` is None where it was not looked at."""
        record = decode_record(payload)
        body = record.body if isinstance(record.body, BgpPlanRecord) else None
        is_ours = self._signer is None or signature is None or signed_with(signature) == self._signer.fingerprint
        self._standing[network_id] = Standing(
            BgpPlan.of(body), record.time, record.revision, sequence, payload, is_stale=not is_ours
        )
        self._last_sequence = max(self._last_sequence, sequence)

    def _signed(self, subject: str, payload: bytes) -> Mapping[str, str]:
        return {} if self._signer is None else {SIGNATURE_HEADER: self._signer.sign(subject, payload)}
