"""A machine's part in BGP, for all its networks: a shell.

From what the records say and what the machine finds out follow what the speaker is to do, which addresses the
interfaces have, what may pass through the machine, and from what the speaker has taught the kernel, which allowed IPs
the peers have. All of it stays as it is while there is no control plane.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

import structlog
from nats.aio.client import Client

from agent.bgp.checks import Checks, Examine
from agent.bgp.duties import Place, intent_of, owners_of, sessions_planned, vip_addresses
from agent.bgp.forwarding import NoPassageError, PassageGuard
from agent.bgp.hearing import PlanHearer
from agent.bgp.intent import BgpIntent
from agent.bgp.observed import Observation
from agent.bgp.passage_rules import Passage
from agent.bgp.reporting import BgpReporter
from agent.bgp.table import LearntTable, RouteWatch
from agent.bgp.telling import established, states_of
from agent.context import Context
from agent.device import OUTER_MARK, DeviceError
from agent.network import Network
from agent.reporting import Reports
from agent.store import SpeakerNote
from events.interfaces import INTERFACE_PREFIX
from events.records import RoutingRecord, SpeakerState

_GATHER = 0.05
"""Seconds for which changes are gathered."""
_SHARE = 10
"""Of a processor's time, this takes one part in so many at most: in a large network much is said of its members."""
_RETRY_AFTER = 5.0
_GONE_AFTER = 2.0
"""Seconds for which a machine is not reached before it counts as gone: a way through a transit takes a moment."""
_FORGET_AFTER = 120.0
"""Seconds without a speaker after which what it has learnt counts no more: nobody hears what is withdrawn."""
_SETTLE_WITHIN = 5.0
"""Seconds that the first health checks of an agent's life have before anything is told to a speaker that outlived the
agent before: what was healthy shall not be withdrawn because nobody has looked yet."""


class Speaking(Protocol):
    """A speaker: see `agent.bgp.speaker.Speaker`."""

    def apply(self, intent: BgpIntent) -> None:
        """Intend this from now on."""

    def lose(self, gone: Mapping[UUID, Collection[UUID]]) -> None:
        """These machines, by network, are not reached in any way."""

    async def run(self) -> None:
        """Bring the speaker to what is intended, until cancelled."""

    async def stop(self) -> None:
        """Stop it, and take its routes out of the kernel."""


@dataclass(frozen=True, slots=True)
class Gear:
    """What a machine speaks BGP with."""

    speaker: Callable[[Callable[[Observation], None]], Speaking]
    """Makes the speaker, given whom to tell what is seen of it."""
    table: LearntTable
    guard: PassageGuard
    examine: Examine
    refusal: str = ""
    """Why this machine is to speak no BGP; empty where it is."""


@dataclass(slots=True)
class _Ear:
    plan: PlanHearer
    reporter: BgpReporter


class Routing:
    """Speaks BGP for an agent."""

    def __init__(
        self,
        gear: Gear,
        context: Context,
        *,
        networks: Mapping[UUID, Network],
        duties: Callable[[], RoutingRecord | None],
    ) -> None:
        """`networks` are the machine's, as they come and go; `duties` gives what the machine itself is to do."""
        self._gear = gear
        self._context = context
        self._networks = networks
        self._duties = duties
        self._stirred = asyncio.Event()
        self._checks = Checks(gear.examine, context.spawn, self.stir)
        self._speaker = gear.speaker(self._seen)
        self._watch = RouteWatch(gear.table, context.run, self.stir, self._unruled)
        self._reports = Reports(context.reports.boot_id)
        self._ears: dict[UUID, _Ear] = {}
        self._places: dict[UUID, Place] = {}
        self._intent = BgpIntent()
        self._seen_last: Observation | None = None
        self._silent_since: float | None = None
        """When the speaker was first seen not to run, by the event loop's clock."""
        self._told: dict[UUID, SpeakerNote] = {}
        self._lost: dict[tuple[UUID, UUID], float] = {}
        self._passing: Passage | None = None
        self._hindrance = ""
        self._obstacles: list[str] = []
        self._client: Client | None = None
        self._log = structlog.get_logger("agent")

    def stir(self) -> None:
        """What is to be done may be another."""
        self._stirred.set()

    def _unruled(self) -> None:
        """The rules are to be set anew at once; the agent takes them away itself only where it is in no network."""
        if self._places:
            self._passing = None
            self.stir()

    # -- the control plane

    def join(self, network: Network) -> None:
        """The machine is in a network: take up what is known of its plan."""
        # What a machine did before its agent began anew, it goes on doing meanwhile.
        plan = PlanHearer(network.network_id, network.words, self._context)
        reporter = BgpReporter(self._context.machine_id, network.network_id, self._reports, self._context.spawn)
        self._ears[network.network_id] = _Ear(plan, reporter)
        if not self._gear.refusal:
            network.answer(vip_addresses(self._duties()), OUTER_MARK)
            self._teach(network, network.place)
        self.stir()

    async def leave(self, network_id: UUID) -> None:
        """The machine is in a network no more."""
        self._places.pop(network_id, None)
        self._told.pop(network_id, None)
        ear = self._ears.pop(network_id, None)
        if ear is not None:
            ear.reporter.close()
            await ear.plan.detach()
        self.stir()

    async def attach(self, client: Client, network_id: UUID) -> None:
        """Hear and report one network on this connection."""
        ear = self._ears.get(network_id)
        if ear is not None:
            await ear.plan.attach(client)
            ear.reporter.attach(client)

    def resync(self) -> None:
        """Ask for what may have been missed."""
        for ear in self._ears.values():
            ear.plan.resync()

    # -- what is done

    async def begin(self) -> None:
        """See what an agent before has learnt; before the first network is joined."""
        if not self._gear.refusal:
            await self._watch.load()

    async def live(self) -> None:
        """Speak until cancelled. The interfaces should be there when it begins. What was done stays."""
        if self._gear.refusal:
            await self._decline()
            return
        self._context.spawn(self._speaker.run())
        self._context.spawn(self._watch.follow())
        await self._await_health()
        clock = asyncio.get_running_loop().time
        due, pause = clock(), _GATHER
        while True:
            self._stirred.clear()
            is_full = clock() >= due
            if is_full:
                due = clock() + self._context.options.reconcile_interval
                self._watch.look()
            begun = time.thread_time()
            works = await self._settle(is_full)
            pause = max(_GATHER, _SHARE * (time.thread_time() - begun))
            if not works:
                due = min(due, clock() + _RETRY_AFTER)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._stirred.wait()
            await asyncio.sleep(pause)

    async def _decline(self) -> None:
        """Take back what an agent before may have done, and say why nothing is done."""
        await self._speaker.stop()
        await self._lift()
        self._seen_last = Observation(SpeakerState(state="off", reason=self._gear.refusal, since=datetime.now(UTC)))
        while True:
            self._stirred.clear()
            self._intend()
            self._tell()
            await self._stirred.wait()

    async def _await_health(self) -> None:
        duties = self._duties()
        if duties is None or not duties.vips:
            return
        self._checks.have(duties.vips)
        self._answer(vip_addresses(duties))
        with suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_WITHIN):
                while not self._checks.are_known:
                    self._stirred.clear()
                    await self._stirred.wait()

    async def _settle(self, is_full: bool) -> bool:
        """Bring everything to what it should be. Returns whether it worked."""
        duties = self._duties()
        self._checks.have(duties.vips if duties is not None else ())
        self._answer(vip_addresses(duties))
        self._intend()
        for network_id, place in self._places.items():
            if network_id in self._networks:
                self._teach(self._networks[network_id], place)
        works = await self._guard(is_full) & await self._forget()
        self._speaker.apply(self._intent)
        self._lose()
        self._tell()
        return works

    def _answer(self, vips: frozenset[str]) -> None:
        for network in self._networks.values():
            network.answer(vips, OUTER_MARK)

    def _intend(self) -> None:
        # A network whose interface is in repair keeps its place.
        for network_id, network in self._networks.items():
            if network.is_up or network_id in self._places:
                self._places[network_id] = network.place
        duties = self._duties()
        if self._hindrance and duties is not None:
            duties = duties.model_copy(update={"prefixes": (), "gateway": ()})
        self._intent = intent_of(self._context.machine_id, self._places.values(), duties, self._checks.healthy)

    def _teach(self, network: Network, place: Place) -> None:
        """Give the learnt prefixes to the peers that they lie behind."""
        meshes = [each.membership.network_cidr for each in self._networks.values()]
        network.route(owners_of(place, self._watch.routes, meshes))

    async def _guard(self, is_full: bool) -> bool:
        """Have the rules, and let pass what may."""
        passage = self._passage()
        if not is_full and passage == self._passing:
            return True
        table = self._gear.table
        try:
            await self._context.run(table.rule if self._places else table.clear)
            await self._context.run(self._gear.guard.apply, passage)
        except (DeviceError, NoPassageError) as error:
            if not self._hindrance:
                self._log.error("announcing no routes", error=error.detail, hint=error.hint)
            self._hindrance = f"It announces no routes. {error.detail} {error.hint}".strip()
            self._passing = None
            self._intend()
            return False
        if self._hindrance:
            self._hindrance = ""
            self._intend()
        self._passing = passage
        await self._warn(passage)
        return True

    async def _warn(self, passage: Passage) -> None:
        """Say that another packet filter may drop what this one lets pass: what one drops, no other can save."""
        obstacles = await self._context.run(self._gear.guard.obstacles) if passage else []
        if obstacles and obstacles != self._obstacles:
            self._log.warning(
                "what lies behind this machine may not be reached, because of its own packet filter",
                chains=obstacles,
                hint=f"Let pass there what comes in or goes out by an interface {INTERFACE_PREFIX}*; with Docker, in "
                "the chain DOCKER-USER.",
            )
        self._obstacles = obstacles

    async def _forget(self) -> bool:
        """Have no learnt routes where there was no speaker for long. Returns whether it worked."""
        if self._silent_since is None or asyncio.get_running_loop().time() - self._silent_since < _FORGET_AFTER:
            return True
        try:
            if self._watch.routes:
                await self._context.run(self._gear.table.forget)
        except DeviceError as error:
            self._log.error("keeping learnt routes", error=error.detail, hint=error.hint)
            return False
        return True

    def _lose(self) -> None:
        """Tell the speaker who is gone."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        lost = {(network_id, each) for network_id, place in self._places.items() for each in place.lost}
        if new := lost - self._lost.keys():
            loop.call_later(_GONE_AFTER, self.stir)
            self._lost |= dict.fromkeys(new, now)
        self._lost = {each: since for each, since in self._lost.items() if each in lost}
        gone: dict[UUID, set[UUID]] = {}
        for (network_id, machine_id), since in self._lost.items():
            if now - since >= _GONE_AFTER:
                gone.setdefault(network_id, set()).add(machine_id)
        self._speaker.lose(gone)

    def _passage(self) -> Passage:
        duties = self._duties()
        by_id = {network_id: place.interface for network_id, place in self._places.items()}
        crossing = set(by_id).intersection(duties.gateway if duties is not None else ())
        return Passage(
            interfaces=tuple(sorted(by_id.values())),
            prefixes=tuple(sorted(duties.prefixes)) if duties is not None else (),
            crossing=tuple(sorted(by_id[each] for each in crossing)) if len(crossing) > 1 else (),
            addresses=tuple(sorted(place.address for place in self._places.values())),
            meshes=tuple(sorted(place.cidr for place in self._places.values())),
        )

    # -- what is seen

    def _seen(self, observation: Observation) -> None:
        if self._seen_last is None or observation.speaker != self._seen_last.speaker:
            self._log.info("BGP", state=observation.speaker.state, reason=observation.speaker.reason)
        self._seen_last = observation
        loop = asyncio.get_running_loop()
        if observation.speaker.state == "running":
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = loop.time()
            loop.call_later(_FORGET_AFTER, self.stir)
        self._tell()

    def _tell(self) -> None:
        seen, vips, duties = self._seen_last, self._checks.states, self._duties()
        if seen is None:
            return
        addresses = {vip.vip_id: str(vip.address) for vip in duties.vips} if duties is not None else {}
        for network in self._intent.networks:
            ear, place = self._ears.get(network.network_id), self._places.get(network.network_id)
            if ear is None or place is None:
                continue
            states = list(states_of(network, seen, vips, self._hindrance))
            ear.reporter.say(states)
            speaker = next(state for state in states if isinstance(state, SpeakerState))
            note = SpeakerNote(
                speaker=speaker,
                established=established(network.network_id, seen),
                planned=sessions_planned(self._context.machine_id, place),
                vips=tuple(addresses.get(vip.vip_id, "") for vip in speaker.vips),
            )
            if self._told.get(network.network_id) != note:
                self._told[network.network_id] = note
                self._context.store.note_speaker(network.network_id, note)
                self._context.wrote()

    # -- the end

    def hush(self) -> None:
        """Report nothing more."""
        for ear in self._ears.values():
            ear.reporter.close()

    async def lift(self) -> None:
        """Leave the system as if there had been no BGP, as far as it can be done. Call it once `live` has ended."""
        await self._speaker.stop()
        await self._lift()

    async def _lift(self) -> None:
        with suppress(NoPassageError):
            await self._context.run(self._gear.guard.remove)
        with suppress(DeviceError):
            await self._context.run(self._gear.table.clear)

    async def close(self) -> None:
        """Let go of the system's handles."""
        await self._context.run(self._gear.table.close)
