"""Machines' tunnels, when somebody looks at them: the shell around `tunnel_reports`.

    report = await gateway.tunnels.of(machine_id)

gives a `Report` that is at most five seconds old: its `read_at`, and its `tunnels` by network, each an
`events.tunnels.Tunnel` with `peers`. It takes some 10 ms if the machine has to be asked, and nothing more within five
seconds; two seconds if the agent does not answer, half a second if it is offline. It raises `NotFoundError`,
`AgentSilentError` (whose text says since when) and `RateLimitedError`: a page shows what else it knows of the machine
first, and fetches this part by itself.
`http.tunnel_views.TunnelViews(mirror, presence, now).tunnels(machine_id, report)` makes the API's object of it: with
hostnames, addresses and times.

Whoever is asked hints, and every gateway hears what the agent tells: the one that did not ask does not read it.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from pydantic import ValidationError

from events.errors import AgentSilentError, UnavailableError, WireloomError
from events.subjects import look
from events.tunnels import TunnelPart
from services.gateway.follower import Follower
from services.gateway.presence import ONLINE_FOR, Presence
from services.gateway.tunnel_reports import FRESH_FOR, HINT_APART, Report, TunnelReports

PATIENCE = 2.0
"""Seconds that an agent has to answer."""

BRIEFLY = 0.5
"""The same, of a machine that counts as offline. A gateway that has just started has not heard of all that are not."""

_HINT_AGAIN = 1.1 * HINT_APART


class Tunnels:
    """Asks machines for their tunnels."""

    def __init__(self, client: Client, follower: Follower, presence: Presence, *, secured: bool) -> None:
        """Unless `secured`, every machine that there is may be on the bus."""
        self._client = client
        self._follower = follower
        self._presence = presence
        self._secured = secured
        self._reports = TunnelReports()
        self._started = datetime.now(UTC)
        self._waiting: dict[UUID, set[asyncio.Future[Report]]] = {}
        self._sweep: asyncio.TimerHandle | None = None

    async def listen(self) -> Subscription:
        """Hear what agents tell, until the returned subscription ends. As every gateway does: it is no queue group."""
        return await self._client.subscribe("ask.*.tunnels", cb=self._on_told)

    async def of(self, machine_id: UUID) -> Report:
        """What a machine tells of its tunnels. Raises `NotFoundError`, `AgentSilentError`, `RateLimitedError`,
        `UnavailableError`."""
        self._require(machine_id)
        report = self._reports.newest(machine_id, _clock())
        if report is None:
            report = await self._asked(machine_id)
            self._require(machine_id)
        return report.among_members(machine_id, self._follower.mirror)

    async def _asked(self, machine_id: UUID) -> Report:
        patience = self._patience(machine_id)
        heard: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(machine_id, set()).add(heard)
        try:
            async with asyncio.timeout(patience):
                while not heard.done():
                    await self._hint(machine_id)
                    await asyncio.wait({heard}, timeout=_HINT_AGAIN)
            return heard.result()
        except TimeoutError:
            raise self._silent(machine_id, patience) from None
        finally:
            waiting = self._waiting[machine_id]
            waiting.discard(heard)
            if not waiting:
                del self._waiting[machine_id]

    async def _hint(self, machine_id: UUID) -> None:
        if not self._reports.ask(machine_id, _clock()):
            return
        self._sweep_later()
        try:
            await self._client.publish(look(machine_id))
        except nats.errors.Error as error:
            raise UnavailableError("The message bus cannot be reached.", hint="Try again in a moment.") from error

    async def _on_told(self, message: Msg) -> None:
        try:
            machine_id = UUID(message.subject.split(".")[1])
        except ValueError:
            return
        if not self._reports.wants(machine_id, _clock()) or not self._may_tell(machine_id):
            return
        try:
            part = TunnelPart.model_validate_json(message.data)
        except ValidationError as error:
            log = structlog.get_logger("gateway")
            log.warning("a report of tunnels cannot be read", machine=str(machine_id), faults=error.error_count())
            self._reports.refuse(machine_id)
            return
        report = self._reports.take(machine_id, part, self._follower.mirror, _clock(), datetime.now(UTC))
        for heard in self._waiting.get(machine_id, ()) if report is not None else ():
            if not heard.done() and report is not None:
                heard.set_result(report)

    def _may_tell(self, machine_id: UUID) -> bool:
        mirror = self._follower.mirror
        if not self._secured:
            return mirror.has_machine(machine_id)
        try:
            mirror.standing(machine_id)
        except WireloomError:
            return False
        return True

    def _require(self, machine_id: UUID) -> None:
        """Raises `NotFoundError` for a machine that is not there, `AgentSilentError` for one that was revoked. What it
        told before counts no more."""
        mirror = self._follower.mirror
        if not mirror.has_machine(machine_id) or self._is_revoked(machine_id):
            self._reports.forget(machine_id)
        _, record = mirror.machine(machine_id)
        if self._is_revoked(machine_id):
            raise AgentSilentError(
                f"{record.hostname} was revoked: its agent is not asked any more.", hint="Look at its revocation."
            )

    def _is_revoked(self, machine_id: UUID) -> bool:
        identity = self._follower.mirror.access.identity(machine_id)
        return identity is not None and identity.revoked_at is not None

    def _patience(self, machine_id: UUID) -> float:
        now, seen = datetime.now(UTC), self._presence.last_seen_at(machine_id)
        is_offline = seen is not None or now - self._started > ONLINE_FOR
        return BRIEFLY if is_offline and not self._presence.is_online(machine_id, now) else PATIENCE

    def _silent(self, machine_id: UUID, patience: float) -> AgentSilentError:
        _, record = self._follower.mirror.machine(machine_id)
        seen, now = self._presence.last_seen_at(machine_id), datetime.now(UTC)
        if self._presence.is_online(machine_id, now):
            return AgentSilentError(
                f"{record.hostname} is online, but its agent did not answer within {patience:g} s: it was last seen "
                f"{_in_utc(seen)}.",
                hint="Try again. If it never answers, its agent may be older than this control plane: update it.",
            )
        since = f"it was last seen {_in_utc(seen)}" if seen else "it was not seen since this gateway started"
        return AgentSilentError(
            f"{record.hostname} does not answer: {since}.",
            hint="Look whether wireloom-agent runs there, and whether it reaches the control plane.",
        )

    def _sweep_later(self) -> None:
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(FRESH_FOR, self._sweep_now)

    def _sweep_now(self) -> None:
        self._sweep = None
        self._reports.sweep(_clock())
        if self._reports:
            self._sweep_later()


def _clock() -> float:
    return asyncio.get_running_loop().time()


def _in_utc(moment: datetime | None) -> str:
    return f"at {moment:%Y-%m-%d %H:%M:%S} UTC" if moment is not None else "never"
