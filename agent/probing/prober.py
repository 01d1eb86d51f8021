"""Finds each peer's best address in one network, and says when it is lost: a state machine without sockets and clocks.

What a tick costs follows what is due, not the number of peers: those wait in a heap. Pings that are due while the
budget is spent wait in queues, the more important first.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from random import Random
from uuid import UUID

from agent.probing.budget import Bucket, Budget, Kind, Weight
from agent.probing.choice import Candidate
from agent.probing.mappings import Mappings
from agent.probing.outputs import Observed, Output, PeerStatus, Send
from agent.probing.peer import Peer
from agent.probing.wire import Ping, Pong, Sealer

_PONGS = 30
"""So many pings of one peer are answered in a second."""

_QUOTES, _QUOTES_RATE = 8, 1 / 120
"""So many times at once, and so often a second, what peers say of this machine's addresses is believed anew: others
hear it each time, and the log keeps it."""


class Prober:
    """The prober of one network.

    Times are seconds of a clock that never goes back (`time.monotonic`). Call `tick` at the time that `due` says, and
    after calls of other methods; only `tick` gives outputs. Not thread-safe.
    """

    def __init__(
        self,
        sealer: Sealer,
        budget: Budget,
        chance: Random,
        permits: Callable[[str], bool] = lambda endpoint: True,
        is_near: Callable[[str], bool] = lambda endpoint: False,
    ) -> None:
        """`budget` is shared by all probers of the machine. `permits`: whether an endpoint can be a candidate at all
        (not one inside the mesh, nor of a family that this machine does not have). `is_near`: whether it is in one of
        the machine's own subnets; such are preferred to others that are not clearly faster."""
        self.wall_offset = 0.0
        """What to add to the prober's clock for seconds since the epoch: `time.time() - time.monotonic()`. Both ends
        of a pair try again in windows that follow from it."""
        self._sealer = sealer
        self._budget = budget
        self._chance = chance
        self._permits = permits
        self._is_near = is_near
        self._peers: dict[UUID, Peer] = {}
        self._by_key: dict[str, Peer] = {}
        self._kinds: dict[UUID, Kind] = {}
        self._planned: dict[UUID, float] = {}
        self._timers: list[tuple[float, int, UUID]] = []
        self._turns = 0
        self._waiting: dict[Weight, OrderedDict[Candidate, tuple[Peer, int]]] = {w: OrderedDict() for w in Weight}
        self._answers: dict[UUID, tuple[float, int]] = {}
        self._mappings = Mappings()
        self._known: tuple[str, ...] = ()
        """What peers say of this machine's addresses."""
        self._observed: tuple[str, ...] = ()
        """What of that was told."""
        self._quotes = Bucket(_QUOTES, _QUOTES_RATE)
        self._outputs: list[Output] = []

    def peer(self, now: float, machine_id: UUID, public_key: str, candidates: tuple[str, ...]) -> None:
        """There is this peer, with these candidates as it announced them. Call it as often as you like: only what is
        new is tried. Another key makes it another peer."""
        peer = self._peers.get(machine_id)
        if peer is not None and peer.key != public_key:
            self.drop(machine_id)
            peer = None
        if peer is None:
            pair = (self._sealer.public_key, public_key)
            peer = Peer(now, machine_id, pair, self._budget, self._chance)
            self._peers[machine_id] = self._by_key[public_key] = peer
            self._sealer.add(public_key)
        peer.offer(now, tuple(filter(self._permits, candidates)), self._is_near)
        self._settle(peer)

    def drop(self, machine_id: UUID) -> None:
        """The peer is gone. Nothing more is said of it."""
        peer = self._peers.pop(machine_id, None)
        if peer is None:
            return
        if self._by_key.get(peer.key) is peer:
            del self._by_key[peer.key]
            self._sealer.remove(peer.key)
        self._count(machine_id, None)
        self._planned.pop(machine_id, None)
        self._answers.pop(machine_id, None)
        self._forget(machine_id, [*peer.candidates, *peer.dropped])
        for candidate in peer.candidates.values():
            candidate.wake(math.inf)

    def stir(self, now: float, own: Iterable[str] = ()) -> None:
        """This machine's endpoints or surroundings changed: try all again that is not reached, and check the rest.

        `own` are the endpoints that the machine knows to be its own: to see them observed is no news."""
        self._mappings.own = frozenset(own)
        self._known = self._mappings.known()
        self._quotes = Bucket(_QUOTES, _QUOTES_RATE)
        for peer in self._peers.values():
            peer.forbid(now, self._permits)
            peer.stir(now)
            self._settle(peer)

    def announced(self, now: float) -> None:
        """Peers hear now of new endpoints of this machine's, and send there: open the way for those not yet reached."""
        for peer in self._peers.values():
            if peer.in_use is None:
                peer.stir(now)
                self._settle(peer)

    def traffic(self, now: float, machine_id: UUID, is_busy: bool) -> None:
        """Whether the peer's tunnel carries traffic."""
        peer = self._peers.get(machine_id)
        if peer is not None and peer.is_busy != is_busy:
            peer.carry(now, is_busy)
            self._settle(peer)

    def received(self, now: float, source: str, packet: bytes) -> None:
        """A packet came from the endpoint `source`. What no peer sealed is not answered, and changes nothing."""
        opened = self._sealer.open(packet)
        if opened is None:
            return
        key, message = opened
        peer = self._by_key[key]
        if isinstance(message, Ping):
            self._answer(now, peer, source, message)
            if self._permits(source):
                peer.heard(now, source, message, self._is_near)
        else:
            candidate = peer.answered(now, message.tx)
            if candidate is not None and self._mappings.saw(peer.machine_id, candidate.endpoint, message.seen):
                self._known = self._mappings.known()
        self._settle(peer)

    def due(self, now: float) -> float:
        """When to call `tick` next: now, if there is something to say; infinity, if never."""
        if self._outputs:
            return now
        while self._timers and self._planned.get(self._timers[0][2]) != self._timers[0][0]:
            heapq.heappop(self._timers)
        due = self._timers[0][0] if self._timers else math.inf
        if self._known != self._observed:
            due = min(due, self._quotes.next_at(now))
        for weight, waiting in self._waiting.items():
            if waiting:
                return min(due, self._budget.next_at(now, weight))
        return due

    def tick(self, now: float) -> list[Output]:
        """What there is to say and to do."""
        while self._timers and self._timers[0][0] <= now:
            at, _, machine_id = heapq.heappop(self._timers)
            if self._planned.get(machine_id) == at:
                del self._planned[machine_id]
                self._serve(now, self._peers[machine_id])
        self._serve_waiting(now)
        self._observe(now)
        outputs, self._outputs = self._outputs, []
        return outputs

    def is_direct(self, machine_id: UUID) -> bool:
        """Whether the peer is reached directly now."""
        peer = self._peers.get(machine_id)
        return peer is not None and peer.in_use is not None

    def snapshot(self) -> tuple[PeerStatus, ...]:
        """All peers, for people."""
        return tuple(peer.status() for peer in self._peers.values())

    def close(self) -> None:
        """Lets go of all peers, so that others have their part of the budget."""
        for machine_id in list(self._peers):
            self.drop(machine_id)

    def _serve(self, now: float, peer: Peer) -> None:
        """Do what is due for a peer."""
        peer.step(now, self.wall_offset)
        for candidate in list(peer.candidates.values()):
            if candidate.at > now or candidate.waits:
                continue
            if not peer.may_ping(now, candidate):
                continue
            weight = peer.weight(candidate)
            if not self._waiting[weight] and self._budget.take(now, weight):
                self._ping(now, peer, candidate)
            else:
                candidate.waits = True
                # One that waits already keeps its place, however often it is to be tried anew.
                self._waiting[weight][candidate] = peer, candidate.ticket
        self._settle(peer)

    def _serve_waiting(self, now: float) -> None:
        for weight, waiting in self._waiting.items():
            while waiting:
                candidate, (peer, ticket) = next(iter(waiting.items()))
                if candidate.ticket == ticket and not self._budget.take(now, weight):
                    return
                del waiting[candidate]
                if candidate.ticket == ticket:
                    self._ping(now, peer, candidate)
                    self._settle(peer)

    def _ping(self, now: float, peer: Peer, candidate: Candidate) -> None:
        tx = self._chance.getrandbits(64)
        self._send(peer, candidate.endpoint, Ping(tx, now + self.wall_offset))
        peer.pinged(now, candidate, tx)

    def _answer(self, now: float, peer: Peer, source: str, ping: Ping) -> None:
        begun, count = self._answers.get(peer.machine_id, (now, 0))
        if now - begun >= 1:
            begun, count = now, 0
        self._answers[peer.machine_id] = begun, count + 1
        weight = Weight.BUSY if peer.is_busy else Weight.ANSWER
        if count < _PONGS and self._budget.take_answer(now, weight, count):
            self._send(peer, source, Pong(ping.tx, source))

    def _send(self, peer: Peer, endpoint: str, message: Ping | Pong) -> None:
        try:
            self._outputs.append(Send(endpoint, self._sealer.seal(peer.key, message)))
        except ValueError:
            return  # with a key that no machine can have, the peer is never reached

    def _settle(self, peer: Peer) -> None:
        """Hand on what the peer says, and plan when it is served next."""
        self._outputs += peer.telling.said
        peer.telling.said.clear()
        if peer.dropped:
            self._forget(peer.machine_id, peer.dropped)
            peer.dropped.clear()
        self._count(peer.machine_id, peer.kind)
        at = peer.next_at()
        if at == math.inf:
            self._planned.pop(peer.machine_id, None)
        elif at != self._planned.get(peer.machine_id):
            self._planned[peer.machine_id] = at
            self._turns += 1
            heapq.heappush(self._timers, (at, self._turns, peer.machine_id))

    def _count(self, machine_id: UUID, kind: Kind | None) -> None:
        before = self._kinds.pop(machine_id, None)
        if kind is not None:
            self._kinds[machine_id] = kind
        if kind != before:
            self._budget.change(before, -1)
            self._budget.change(kind, 1)

    def _observe(self, now: float) -> None:
        """Quote the peers, if they say something else than before and that was not so all the time."""
        if self._known != self._observed and self._quotes.has(now):
            self._quotes.take()
            self._observed = self._known
            self._outputs.append(Observed(self._known))

    def _forget(self, machine_id: UUID, candidates: Iterable[str]) -> None:
        self._mappings.forget(machine_id, candidates)
        self._known = self._mappings.known()
