"""Tells open pages what has changed, by topics: `networks`, `machines`, `events`, `access`, `routing`, and of one
network or machine `network:<uuid>`, `paths:<uuid>`, `bgp:<uuid>`, `status:<uuid>`, `machine:<uuid>`. Shell."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Iterable
from datetime import UTC, datetime
from uuid import UUID

from events.errors import RateLimitedError
from services.gateway.follower import Follower
from services.gateway.presence import Presence
from services.gateway.tracks import Tracks

_LOOK_SECONDS = 1.0
"""So often it is looked who is online."""

_APART = 0.5
"""Seconds between two things that one listener hears, at least."""

_REMEMBERED = 60.0
"""For so many seconds it is known what has changed."""

LISTENERS = 100
"""So many may listen at once who are the same."""


class Pulse:
    """What changes, as it does. `run` does the work; the rest may be called beside it."""

    def __init__(self, follower: Follower, tracks: Tracks, presence: Presence) -> None:
        self._follower = follower
        self._presence = presence
        self._listeners: set[_Listener] = set()
        self._watched: list[Callable[[], Iterable[str]]] = []
        self._by_who: Counter[str] = Counter()
        self._changed: dict[str, float] = {}
        self._began = time.time()
        self._position = 0
        follower.call_with_subjects(self._record)
        follower.call_on_change(self._advance)
        tracks.call_with_topics(self.tell)

    def watch(self, topics: Callable[[], Iterable[str]]) -> None:
        """Have `topics` asked every second what has changed."""
        self._watched.append(topics)

    async def run(self) -> None:
        """Watch who comes online and who goes, until cancelled."""
        online: frozenset[UUID] = frozenset()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self._forget(time.time() - _REMEMBERED)
            turned = self._presence.turned()
            if told := [topic for topics in self._watched for topic in topics()]:
                self.tell(*told)
            if not self._listeners:
                continue
            seen = self._presence.online(datetime.now(UTC))
            # A page may have been made between two turns that nobody sees here any more.
            if changed := (seen ^ online) | turned:
                self.tell("machines", *(f"machine:{each}" for each in changed), *self._networks_of(changed))
            online = seen

    def tell(self, *topics: str) -> None:
        """These have changed."""
        now = time.time()
        for topic in topics:
            self._changed.pop(topic, None)
            self._changed[topic] = now
        for listener in self._listeners:
            listener.hear(topics)

    def check_room(self, who: str) -> None:
        """Raises `RateLimitedError` where somebody listens in too many places."""
        if self._by_who[who] >= LISTENERS:
            raise RateLimitedError("Too many pages are open.", hint="Close some, and load this one anew.")

    def listen(
        self, topics: Collection[str], closing: asyncio.Event, silence: float, who: str = "", since: float | None = None
    ) -> AsyncGenerator[frozenset[str]]:
        """Which of these topics have changed, each time that some have, until `closing` is set; nothing after each
        `silence` seconds without. Those that have changed `since` then, in seconds since 1970, come at once; without
        it, those that change from now on."""
        since = time.time() if since is None else since
        return self._listen(_Listener(frozenset(topics)), closing, silence, who, since)

    async def _listen(
        self, listener: _Listener, closing: asyncio.Event, silence: float, who: str, since: float
    ) -> AsyncGenerator[frozenset[str]]:
        self._listeners.add(listener)
        self._by_who[who] += 1
        closed = asyncio.create_task(closing.wait())
        is_known = since >= max(self._began, time.time() - _REMEMBERED)
        listener.hear(self._changed_since(since) if is_known else listener.topics)
        try:
            while not closed.done():
                yield await listener.heard(closed, silence)
        finally:
            closed.cancel()
            self._listeners.discard(listener)
            self._by_who[who] -= 1
            self._by_who += Counter()  # keeps only those who listen

    def _changed_since(self, since: float) -> list[str]:
        """Those that have changed since then."""
        return [topic for topic, at in self._changed.items() if at >= since]

    def _forget(self, until: float) -> None:
        """Forget what has changed before then; the newest stand last."""
        for topic, at in list(self._changed.items()):
            if at >= until:
                break
            del self._changed[topic]

    def _record(self, subject: str) -> None:
        _, kind, item, *rest = subject.split(".")
        match kind, rest:
            case "access" | "routing", _:
                self.tell(kind)
            case "network", _:
                self.tell("networks", f"network:{item}", *([f"machine:{rest[1]}"] if len(rest) > 1 else []))
            case "machine", _:
                # That it was in a network that it has left, the mirror does not know any more.
                left = {f"network:{rest[1]}"} if rest[0] == "network" else set()
                self.tell("machines", "networks", f"machine:{item}", *(self._networks_of([UUID(item)]) | left))

    def _advance(self) -> None:
        if self._follower.position > self._position:
            self._position = self._follower.position
            self.tell("events")

    def _networks_of(self, machine_ids: Collection[UUID]) -> set[str]:
        mirror = self._follower.mirror
        return {f"network:{each}" for machine_id in machine_ids for each in mirror.networks_of(machine_id)}


class _Listener:
    """Somebody who wants to hear of some topics."""

    def __init__(self, topics: frozenset[str]) -> None:
        self.topics = topics
        self._pending: set[str] = set()
        self._woken = asyncio.Event()
        self._told = 0.0

    def hear(self, topics: Collection[str]) -> None:
        """These have changed."""
        if wanted := self.topics.intersection(topics):
            self._pending |= wanted
            self._woken.set()

    async def heard(self, closed: asyncio.Task[bool], silence: float) -> frozenset[str]:
        """What has changed since the last call, once something has; nothing after `silence` seconds without, or when
        that task is done."""
        now = asyncio.get_running_loop().time
        woken = asyncio.create_task(self._woken.wait())
        try:
            await asyncio.wait({closed}, timeout=max(0.0, self._told + _APART - now()))
            await asyncio.wait({woken, closed}, timeout=silence, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
        topics, self._pending, self._told = frozenset(self._pending), set(), now()
        self._woken.clear()
        return topics
