"""What agents ask of the gateway, and their heartbeats. Shell.

Who asks is known from the subject alone (`ask.<machine>.<verb>`), never from the request: the bus lets each machine say
only its own. A machine that never enrolled, was revoked or deleted is refused, also while the bus still lets it speak.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from pydantic import ValidationError

from events.bus import refuse
from events.commands import RegisterMachine, RegisterMembership
from events.errors import InternalError, InvalidInputError, NotFoundError, UnavailableError, WireloomError
from events.fields import shown
from events.identity import Identity
from events.records import (
    BgpReply,
    BgpRequest,
    Heartbeat,
    MembershipRequest,
    ReachReply,
    ReachRequest,
    RegisterRequest,
    SyncReply,
    SyncRequest,
)
from events.subjects import GATEWAY_QUEUE, scope
from services.gateway.acknowledging import Acknowledging
from services.gateway.bgp import tells_of_members
from services.gateway.commander import Commander
from services.gateway.follower import Follower
from services.gateway.invalid import invalid
from services.gateway.metrics import Metrics
from services.gateway.presence import Presence
from services.gateway.reach import is_about_members
from services.gateway.replies import without_foreign_reply
from services.gateway.tasks import Tasks
from services.gateway.tracks import Tracks

CATCH_UP = 5.0
"""For how many seconds an agent's answer may wait for the mirror."""

AT_ONCE = 1000
"""How many requests of one machine are worked on at the same time: one that asks without end holds up the others no
longer than that takes."""

_MOST_REFUSED = 10_000
"""As so many records at most one heartbeat counts for, whatever it says."""


class Agents:
    """Answers the agents."""

    def __init__(
        self,
        client: Client,
        commander: Commander,
        follower: Follower,
        presence: Presence,
        metrics: Metrics,
        *,
        tracks: Tracks,
        acknowledging: Acknowledging,
        identity: Identity | None,
    ) -> None:
        """Without an `identity` every machine is taken for what it says it is."""
        self._client = client
        self._commander = commander
        self._follower = follower
        self._presence = presence
        self._metrics = metrics
        self._tracks = tracks
        self._acknowledging = acknowledging
        self._identity = identity
        self._asked: Counter[str] = Counter()
        self._verbs: dict[str, Callable[[UUID, bytes], Awaitable[bytes]]] = {
            "register": self._register,
            "membership": self._membership,
            "sync": self._sync,
            "ring": self._ring,
            "reach": self._reach,
            "bgp": self._bgp,
        }

    async def serve(self, tasks: Tasks) -> list[Subscription]:
        """Answer until the returned subscriptions are drained."""

        async def ask(message: Msg) -> None:
            _, machine, verb = message.subject.split(".")
            if verb == "tunnels":
                return  # for whoever looks: every gateway hears it (`services.gateway.tunnels`)
            message = without_foreign_reply(message, machine)
            if self._asked[machine] < AT_ONCE:
                self._asked[machine] += 1
                tasks.start(self._answer_one(machine, message))
            else:
                await refuse(message, UnavailableError("There are too many requests of this machine.", hint="Wait."))

        subscriptions = [
            await self._client.subscribe("ask.*.*", queue=GATEWAY_QUEUE, cb=ask),
            await self._client.subscribe("beat.*", cb=self._beat),
        ]
        await self._client.flush()
        return subscriptions

    async def _answer_one(self, machine: str, message: Msg) -> None:
        try:
            await self._answer(message)
        finally:
            self._asked[machine] -= 1
            if not self._asked[machine]:
                del self._asked[machine]

    async def _answer(self, message: Msg) -> None:
        try:
            _, machine, verb = message.subject.split(".")
            if verb not in self._verbs:
                raise InvalidInputError(f"Agents cannot ask for {shown(verb)}.", hint=f"Ask {', '.join(self._verbs)}.")
            machine_id = _machine_id(machine)
            await self._admit(machine_id)
            answer = await self._verbs[verb](machine_id, message.data)
            if message.reply:
                await self._client.publish(message.reply, answer)
        except WireloomError as error:
            await refuse(message, error)
        except ValidationError as error:
            await refuse(message, invalid(error))
        except Exception:
            structlog.get_logger("gateway").exception("an agent's request failed", subject=message.subject)
            await refuse(message, InternalError("The request could not be handled.", hint="See the gateway's log."))

    async def _admit(self, machine_id: UUID) -> None:
        """Raises `UnauthenticatedError`, `MachineRevokedError` or `MachineDeletedError` for a machine that may not be
        here."""
        if self._identity is None:
            return
        try:
            self._follower.mirror.standing(machine_id)
        except WireloomError:
            if not await self._follower.catch_up(CATCH_UP):
                raise UnavailableError("The gateway is behind.", hint="Ask again.") from None
            self._follower.mirror.standing(machine_id)

    async def _ring(self, machine_id: UUID, data: bytes) -> bytes:
        if self._identity is None:
            raise NotFoundError("This control plane signs nothing.", hint="Run it with authorisation.")
        return self._identity.ring().model_dump_json().encode()

    async def _register(self, machine_id: UUID, data: bytes) -> bytes:
        request = RegisterRequest.model_validate_json(data)
        outcome = await self._commander.give(
            RegisterMachine(
                command_id=uuid4(),
                actor=f"machine:{machine_id}",
                machine_id=machine_id,
                hostname=request.hostname,
                agent_version=request.agent_version,
            )
        )
        if not await self._follower.wait_for(outcome.sequence, CATCH_UP):
            raise UnavailableError("The registration is not visible yet.", hint="Register again.")
        return outcome.model_dump_json().encode()

    async def _membership(self, machine_id: UUID, data: bytes) -> bytes:
        request = MembershipRequest.model_validate_json(data)
        outcome = await self._commander.give(
            RegisterMembership(
                command_id=uuid4(),
                actor=f"machine:{machine_id}",
                network_id=request.network_id,
                machine_id=machine_id,
                public_key=request.public_key,
                listen_port=request.listen_port,
                endpoints=request.endpoints,
            )
        )
        return outcome.model_dump_json().encode()

    async def _sync(self, machine_id: UUID, data: bytes) -> bytes:
        request = SyncRequest.model_validate_json(data)
        if request.scope == scope("paths", machine_id):
            return (await self._tracks.sync("paths", machine_id, request.since)).model_dump_json().encode()
        if request.scope.startswith("bgp:"):
            return (await self._sync_plan(machine_id, request)).model_dump_json().encode()
        reply = self._follower.mirror.sync(machine_id, request.scope, request.since)
        if reply.gone or reply.reset:
            # The agent may have heard a record live that has not reached this mirror: be sure before it drops anything.
            if not await self._follower.catch_up(CATCH_UP):
                raise UnavailableError("The gateway is behind.", hint="Ask again.")
            reply = self._follower.mirror.sync(machine_id, request.scope, request.since)
        answer = "gone" if reply.gone else "reset" if reply.reset else "records"
        self._metrics.sync_requests.labels(answer).inc()
        return reply.model_dump_json().encode()

    async def _reach(self, machine_id: UUID, data: bytes) -> bytes:
        request = ReachRequest.model_validate_json(data)
        mirror = self._follower.mirror
        if not is_about_members(machine_id, request, mirror) and not await self._follower.catch_up(CATCH_UP):
            raise UnavailableError("The gateway is behind.", hint="Report again.")
        sequence = await self._tracks.report(machine_id, request, mirror, datetime.now(UTC))
        return ReachReply(sequence=sequence).model_dump_json().encode()

    async def _sync_plan(self, machine_id: UUID, request: SyncRequest) -> SyncReply:
        network_id = _uuid(request.scope.partition(":")[2], "a network's uuid", "Ask for the scope bgp:<uuid>.")
        mirror = self._follower.mirror
        if network_id not in mirror.networks_of(machine_id):
            if not await self._follower.catch_up(CATCH_UP):
                raise UnavailableError("The gateway is behind.", hint="Ask again.")
            if network_id not in mirror.networks_of(machine_id):
                return SyncReply(scope=request.scope, revision=0, gone=True)
        return await self._tracks.sync("bgp", network_id, request.since)

    async def _bgp(self, machine_id: UUID, data: bytes) -> bytes:
        request = BgpRequest.model_validate_json(data)
        mirror = self._follower.mirror
        if not tells_of_members(machine_id, request, mirror) and not await self._follower.catch_up(CATCH_UP):
            raise UnavailableError("The gateway is behind.", hint="Report again.")
        sequence = await self._tracks.report_bgp(machine_id, request, mirror, datetime.now(UTC))
        return BgpReply(sequence=sequence).model_dump_json().encode()

    async def _beat(self, message: Msg) -> None:
        try:
            machine_id = _machine_id(message.subject.partition(".")[2])
            heartbeat = Heartbeat.model_validate_json(message.data)
        except (InvalidInputError, ValidationError) as error:
            why = invalid(error) if isinstance(error, ValidationError) else error
            structlog.get_logger("gateway").warning("a heartbeat cannot be read", subject=message.subject, why=str(why))
            self._metrics.refused_heartbeats.inc()
            return
        if not self._may_beat(machine_id):
            self._presence.forget(machine_id)
            self._metrics.refused_heartbeats.inc()
            return
        before = sum(self._presence.refused(machine_id).values())
        now = datetime.now(UTC)
        if not self._presence.beat(machine_id, heartbeat, now):
            self._metrics.refused_heartbeats.inc()
            return
        self._acknowledging.beat(machine_id, heartbeat, now)
        self._metrics.heartbeats.inc()
        more = sum(self._presence.refused(machine_id).values()) - before
        self._metrics.refused_records.inc(max(0, min(more, _MOST_REFUSED)))

    def _may_beat(self, machine_id: UUID) -> bool:
        mirror = self._follower.mirror
        if self._identity is None:
            return mirror.has_machine(machine_id)
        try:
            mirror.standing(machine_id)
        except WireloomError:
            return False
        return True


def _machine_id(text: str) -> UUID:
    return _uuid(text, "a machine's uuid", "Ask as ask.<uuid>.<verb>.")


def _uuid(text: str, what: str, hint: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise InvalidInputError(f"{shown(text)} is not {what}.", hint=hint) from error
