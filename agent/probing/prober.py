"""Finds each peer's best address in one network, and says when it is lost: a state machine without sockets and clocks."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from uuid import UUID

from agent.probing.budget import Budget
from agent.probing.outputs import Output, PeerStatus
from agent.probing.wire import Sealer


class Prober:
    """The prober of one network.

    Times are seconds of a clock that never goes back (`time.monotonic`). Call `tick` at the time that `due` says, and
    after each call of another method; only `tick` gives outputs. Not thread-safe.
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

    def peer(self, now: float, machine_id: UUID, public_key: str, candidates: tuple[str, ...]) -> None:
        """There is this peer, with these candidates as it announced them. Call it as often as you like: only what is
        new is tried. Another key makes it another peer."""

    def drop(self, machine_id: UUID) -> None:
        """The peer is gone. Nothing more is said of it."""

    def stir(self, now: float) -> None:
        """This machine's own endpoints or surroundings changed: try all again that is not reached, and check the rest."""

    def traffic(self, now: float, machine_id: UUID, is_busy: bool) -> None:
        """Whether the peer's tunnel carries traffic."""

    def received(self, now: float, source: str, packet: bytes) -> None:
        """A packet came from the endpoint `source`."""

    def due(self, now: float) -> float:
        """When to call `tick` next: now, if there is something to say; infinity, if never."""
        raise NotImplementedError

    def tick(self, now: float) -> list[Output]:
        """What there is to say and to do."""
        raise NotImplementedError

    def is_direct(self, machine_id: UUID) -> bool:
        """Whether the peer is reached directly now."""
        raise NotImplementedError

    def snapshot(self) -> tuple[PeerStatus, ...]:
        """All peers, for people."""
        raise NotImplementedError

    def close(self) -> None:
        """Gives back its part of the budget."""
