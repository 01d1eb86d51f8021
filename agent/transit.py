"""Keeps transit addresses to WireGuard, and lets packets of others pass where this machine is a transit: a shell."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from ipaddress import IPv6Network
from typing import Any, Protocol

import structlog

from agent.forwarding import NoTransitError, TransitNetwork
from agent.network import Network
from events.fields import TransitMode
from events.interfaces import INTERFACE_PREFIX


class Rules(Protocol):
    """The system's packet filter and forwarding. Calls wait for the system."""

    def apply(self, networks: list[TransitNetwork]) -> None:
        """Have the rules of these networks and no others. Raises `NoTransitError`."""

    def obstacles(self) -> list[str]:
        """The parts of others' packet filters that forward nothing but what they name."""

    def remove(self) -> None:
        """Leave the system as if there had been no transit. Raises `NoTransitError`."""


class Transit:
    """What a machine lets pass, for all its networks."""

    def __init__(self, rules: Rules | None, run: Callable[..., Awaitable[Any]]) -> None:
        """Without rules there is nothing to guard, and nothing passes: interfaces in memory. `run` calls a function
        that may wait for the system."""
        self.mode: TransitMode = "auto"
        """Whether others' traffic may go through this machine."""
        self._rules = rules
        self._run = run
        self._guarded: list[TransitNetwork] = []
        self._works = rules is None
        self._obstacles: list[str] = []
        self._log = structlog.get_logger("agent")

    def differs(self, networks: Collection[Network]) -> bool:
        """Whether the rules are for other networks than these."""
        return self._rules is not None and self._wanted(networks) != self._guarded

    async def guard(self, networks: Collection[Network]) -> None:
        """Have the rules of these networks. Harmless to repeat; repairs what others did."""
        wanted = self._wanted(networks)
        if self._rules is None or not (wanted or self._guarded):
            return
        try:
            if wanted:
                await self._run(self._rules.apply, wanted)
            else:
                await self._run(self._rules.remove)
        except NoTransitError as error:
            if self._works or wanted != self._guarded:
                self._log.warning("no part in transit", error=error.detail, hint=error.hint)
            self._works = False
        else:
            self._works = True
            await self._warn(any(network.forwards for network in wanted))
        self._guarded = wanted

    async def _warn(self, forwards: bool) -> None:
        """Say that another packet filter may drop what this machine lets pass: what one drops, no other can save."""
        obstacles = await self._run(self._rules.obstacles) if self._rules is not None and forwards else []
        if obstacles and obstacles != self._obstacles:
            self._log.warning(
                "this machine may carry nothing as a transit, because of its own packet filter",
                chains=obstacles,
                hint=f"Let pass there what comes in by an interface {INTERFACE_PREFIX}* and goes out by the same one, "
                "or have it be no transit: `wireloom machine transit <machine> never`.",
            )
        self._obstacles = obstacles

    async def lift(self) -> None:
        """Leave the system as if there had been no transit, as far as it can be done."""
        if self._rules is not None:
            with suppress(NoTransitError):
                await self._run(self._rules.remove)

    @property
    def may_nest(self) -> bool:
        """Whether this machine may have transit addresses."""
        return self._works

    @property
    def is_transit(self) -> bool:
        """Whether this machine lets others' packets pass."""
        return self._works and self._rules is not None and self.mode != "never"

    def _wanted(self, networks: Collection[Network]) -> list[TransitNetwork]:
        return [
            TransitNetwork(
                network.interface, IPv6Network(network.view.paths.prefix), network.listen_port, self.mode != "never"
            )
            for network in networks
        ]
