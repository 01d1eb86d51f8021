"""Finds the addresses at which one network's peers are reached directly: the shell around `agent.probing`."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from random import SystemRandom
from typing import Protocol
from uuid import UUID

import structlog

from agent.device import DeviceError, Peer
from agent.listening import Spawn
from agent.probe_socket import ProbeSocket
from agent.probing.budget import Budget
from agent.probing.outputs import Link, Observed, Output, Send, Use
from agent.probing.prober import Prober
from agent.probing.wire import Sealer
from agent.traffic import Traffic
from events.records import LinkState


class Traveller(Protocol):
    """Who wants to know the addresses."""

    def reached(self, machine_id: UUID, endpoint: str) -> None:
        """A peer is best reached directly at this endpoint."""

    def linked(self, link: LinkState) -> None:
        """The direct path to a peer is so."""

    def observed(self, endpoints: tuple[str, ...]) -> None:
        """Others see this machine's packets come from these endpoints, and no others."""

    def permits(self, endpoint: str) -> bool:
        """Whether an endpoint can be another machine's at all."""

    def is_near(self, endpoint: str) -> bool:
        """Whether an endpoint is in one of this machine's own subnets."""


OpenSocket = Callable[[int, Callable[[str, bytes], None]], ProbeSocket]
"""Opens a socket beside WireGuard's on this port, and calls for each probe that comes. Raises `DeviceError`."""


@dataclass(frozen=True, slots=True)
class Probing:
    """With what a machine probes, in all its networks."""

    open_socket: OpenSocket
    budget: Budget = field(default_factory=Budget)


class Pathfinder:
    """Has a prober and a socket from `open` to `close`."""

    def __init__(self, traveller: Traveller, probing: Probing, spawn: Spawn) -> None:
        """`spawn` starts a task whose failure ends the agent."""
        self._spawn = spawn
        self._traveller = traveller
        self._probing = probing
        self._prober: Prober | None = None
        self._socket: ProbeSocket | None = None
        self._keys: tuple[str, str] = ("", "")
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._traffic = Traffic()
        self._log = structlog.get_logger("agent")

    @property
    def is_open(self) -> bool:
        """Whether it probes."""
        return self._socket is not None

    def open(self, listen_port: int) -> bool:
        """Send from WireGuard's port, and hear what comes there. Returns whether it can."""
        if self._socket is not None:
            self._socket.listen_port = listen_port
            return True
        try:
            self._socket = self._probing.open_socket(listen_port, self._on_packet)
        except DeviceError as error:
            self._log.warning("cannot probe paths", error=error.detail, hint=error.hint)
            return False
        return True

    def use_key(self, private_key: str, public_key: str) -> bool:
        """Probe with this key. Returns whether it is another: then all peers have to be named again."""
        if self._keys == (private_key, public_key):
            return False
        if self._prober is not None:
            self._prober.close()
        self._keys = private_key, public_key
        sealer, traveller = Sealer(private_key, public_key), self._traveller
        self._prober = Prober(sealer, self._probing.budget, SystemRandom(), traveller.permits, traveller.is_near)
        return True

    def peer(self, machine_id: UUID, public_key: str, candidates: tuple[str, ...]) -> None:
        """There is this peer, with these candidates."""
        self._with(lambda prober, now: prober.peer(now, machine_id, public_key, candidates))

    def drop(self, machine_id: UUID) -> None:
        """The peer is gone."""
        self._with(lambda prober, now: prober.drop(machine_id))

    def stir(self, own: Iterable[str]) -> None:
        """This machine's surroundings changed; `own` are its own endpoints."""
        self._with(lambda prober, now: prober.stir(now, own))

    def announced(self) -> None:
        """Peers hear now what this machine announces."""
        self._with(lambda prober, now: prober.announced(now))

    def look(self, keys: Mapping[str, UUID], peers: Mapping[str, Peer]) -> None:
        """See which tunnels carry traffic. `keys` tells whose each public key is."""
        now = asyncio.get_running_loop().time()

        def hint(prober: Prober, now: float) -> None:
            for public_key, is_busy in changes.items():
                if public_key in keys:
                    prober.traffic(now, keys[public_key], is_busy)

        if changes := self._traffic.look(now, peers):
            self._with(hint)

    def close(self) -> None:
        """Send and hear nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._prober is not None:
            self._prober.close()
        if self._socket is not None:
            self._socket.close()
        self._prober = self._socket = self._timer = None

    def _on_packet(self, source: str, packet: bytes) -> None:
        try:
            self._with(lambda prober, now: prober.received(now, source, packet))
        except Exception as error:
            self._spawn(_fail(error))

    def _with(self, do: Callable[[Prober, float], None]) -> None:
        if self._prober is not None:
            now = asyncio.get_running_loop().time()
            do(self._prober, now)
            self._plan(now)

    def _plan(self, now: float) -> None:
        if self._prober is None or self._socket is None:
            return
        at = self._prober.due(now)
        if self._timer is not None and self._timer_at == at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = None if at == math.inf else asyncio.get_running_loop().call_at(at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._prober is None:
            return
        now = asyncio.get_running_loop().time()
        self._prober.wall_offset = time.time() - now
        try:
            for output in self._prober.tick(now):
                self._obey(output)
            self._plan(now)
        except Exception as error:
            self._spawn(_fail(error))

    def _obey(self, output: Output) -> None:
        match output:
            case Send(endpoint, packet):
                if self._socket is not None:
                    self._socket.send(endpoint, packet)
            case Use(machine_id, endpoint):
                self._traveller.reached(machine_id, endpoint)
            case Link(_, state):
                self._traveller.linked(state)
            case Observed(endpoints):
                self._traveller.observed(endpoints)


async def _fail(error: Exception) -> None:
    raise error
