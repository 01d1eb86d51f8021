"""A gateway for tests of the agent: it answers the agents' requests from a `StateModel`, over a real bus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from nats.aio.client import Client
from nats.aio.msg import Msg

from events.bus import refuse
from events.errors import MachineDeletedError, WireloomError
from events.records import (
    BgpReply,
    BgpRequest,
    Heartbeat,
    MembershipRequest,
    ReachReply,
    ReachRequest,
    RegisterRequest,
    SignedRecord,
    SubjectRecord,
    SyncReply,
    SyncRequest,
)
from events.subjects import live_of, machine_info
from events.trust.signing import SIGNATURE_HEADER, Ring
from events.tunnels import TunnelPart
from tests.support.state_model import StateModel


class FakeGateway:
    """Answers `ask.>`, hears `beat.>`, and says live what changes."""

    def __init__(self, client: Client, model: StateModel | None = None, speaker: Client | None = None) -> None:
        """`speaker` writes STATE, which the server repeats live; without one, the gateway says that itself."""
        self.client = client
        self.speaker = speaker
        self.model = model or StateModel()
        self.beats: list[tuple[UUID, Heartbeat]] = []
        self.reports: list[tuple[UUID, ReachRequest]] = []
        self.bgp_reports: list[tuple[UUID, BgpRequest]] = []
        self.tunnels: list[tuple[UUID, TunnelPart]] = []
        self.asked: list[tuple[str, UUID]] = []
        self.refusal: WireloomError | None = None
        """What every request but sync is refused with."""
        self.ring: Ring | None = None
        """What it answers to who asks for the ring."""
        self.tamper: Callable[[SyncReply], SyncReply] = lambda reply: reply
        """What happens to its answers on the way."""
        self.is_deaf_live = False
        """Whether live records get lost."""
        self._subscriptions: list[Any] = []

    async def start(self) -> None:
        """Begin to answer."""
        self._subscriptions = [
            await self.client.subscribe("ask.*.*", cb=self._on_ask),
            await self.client.subscribe("beat.*", cb=self._on_beat),
        ]
        await self.client.flush()

    async def stop(self) -> None:
        """Answer no more."""
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        await self.client.flush()

    async def say(self, said: list[SubjectRecord]) -> None:
        """Repeat records live, as the server does."""
        for entry in said:
            if not self.is_deaf_live:
                await self.repeat(self.model.signed(entry))

    async def repeat(self, said: SignedRecord, subject: str | None = None) -> None:
        """Say a signed record live; under another subject than its own, if given."""
        headers = {SIGNATURE_HEADER: said.signature} if said.signature else None
        client, where = self.speaker or self.client, subject or said.subject
        await client.publish(where if self.speaker else live_of(where), said.payload.encode(), headers=headers)
        await client.flush()

    async def _on_beat(self, message: Msg) -> None:
        self.beats.append((UUID(message.subject.split(".")[1]), Heartbeat.model_validate_json(message.data)))

    async def _on_ask(self, message: Msg) -> None:
        _, machine_text, verb = message.subject.split(".")
        machine_id = UUID(machine_text)
        self.asked.append((verb, machine_id))
        if verb == "sync":
            reply = self.tamper(self.model.sync(SyncRequest.model_validate_json(message.data)))
            await message.respond(reply.model_dump_json().encode())
            return
        if verb == "ring":
            assert self.ring is not None
            await message.respond(self.ring.model_dump_json().encode())
            return
        if verb == "tunnels":
            self.tunnels.append((machine_id, TunnelPart.model_validate_json(message.data)))
            return
        if self.refusal is not None:
            await refuse(message, self.refusal)
            return
        if verb == "register":
            request = RegisterRequest.model_validate_json(message.data)
            if self.model.is_known(machine_id) and self.model.body(machine_info(machine_id)) is None:
                await refuse(message, MachineDeletedError(f"The machine {machine_id} was deleted."))
                return
            await self.say(self.model.register(machine_id, request.hostname))
        elif verb == "reach":
            self.reports.append((machine_id, ReachRequest.model_validate_json(message.data)))
            await message.respond(ReachReply(sequence=len(self.reports)).model_dump_json().encode())
            return
        elif verb == "bgp":
            self.bgp_reports.append((machine_id, BgpRequest.model_validate_json(message.data)))
            await message.respond(BgpReply(sequence=len(self.bgp_reports)).model_dump_json().encode())
            return
        else:
            announced = MembershipRequest.model_validate_json(message.data)
            await self.say(
                self.model.announce(announced.network_id, machine_id, announced.public_key, announced.endpoints)
            )
        await message.respond(b"{}")
