"""Open pages hear of what has changed: each of its own, soon, and nothing is lost between a page and its listening."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from events.ending import end
from events.errors import RateLimitedError
from events.records import Heartbeat
from services.gateway import pulse
from services.gateway.mirror import Mirror
from services.gateway.presence import Presence
from services.gateway.pulse import Pulse


class Follower:
    """Tells of records as the gateway's follower does."""

    def __init__(self) -> None:
        self.mirror = Mirror()
        self.position = 0
        self.record: Callable[[str], None] = lambda subject: None
        self.advance: Callable[[], None] = lambda: None

    def call_with_subjects(self, listener: Callable[[str], None]) -> None:
        self.record = listener

    def call_on_change(self, listener: Callable[[], None]) -> None:
        self.advance = listener


class Tracks:
    """Tells of paths and sessions."""

    tell: Callable[[str], None]

    def call_with_topics(self, listener: Callable[[str], None]) -> None:
        self.tell = listener


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "_APART", 0.01)


@pytest.fixture
def follower() -> Follower:
    return Follower()


@pytest.fixture
def tracks() -> Tracks:
    return Tracks()


@pytest.fixture
def heart(follower: Follower, tracks: Tracks) -> Pulse:
    presence: Any = object()
    told: Any = follower
    reports: Any = tracks
    return Pulse(told, reports, presence)


@pytest.fixture
def closing() -> asyncio.Event:
    return asyncio.Event()


async def next_of(news: AsyncGenerator[frozenset[str]]) -> frozenset[str]:
    async with asyncio.timeout(5):
        return await anext(news)


async def test_what_changes_is_heard_by_who_wants_it(
    heart: Pulse, follower: Follower, tracks: Tracks, closing: asyncio.Event
) -> None:
    network, machine = str(uuid4()), str(uuid4())
    wanted = {"networks", f"network:{network}", f"machine:{machine}", f"paths:{network}", "routing", "access", "events"}
    async with aclosing(heart.listen(wanted, closing, 5)) as news:
        follower.record(f"state.network.{network}.peer.{machine}")
        assert await next_of(news) == {"networks", f"network:{network}", f"machine:{machine}"}
        tracks.tell(f"paths:{network}")
        follower.record("state.routing.route.x")
        follower.record("state.access.account.x")
        assert await next_of(news) == {f"paths:{network}", "routing", "access"}
        follower.position = 7
        follower.advance()
        assert await next_of(news) == {"events"}


async def test_who_comes_and_goes_at_once_is_heard_of(
    follower: Follower, tracks: Tracks, closing: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "_LOOK_SECONDS", 0.01)
    presence, machine, boot = Presence(), uuid4(), uuid4()
    told: Any = follower
    reports: Any = tracks
    heart = Pulse(told, reports, presence)
    running = asyncio.create_task(heart.run())
    async with aclosing(heart.listen({"machines"}, closing, 5)) as news:
        coming = asyncio.ensure_future(anext(news))
        await asyncio.sleep(0)
        # Between two looks: a page that was made in the middle shows it as online.
        for counter, leaving in enumerate((False, True), 1):
            presence.beat(machine, Heartbeat(boot_id=boot, counter=counter, leaving=leaving), datetime.now(UTC))
        async with asyncio.timeout(5):
            assert await coming == {"machines"}
    await end([running])


async def test_others_topics_are_not_heard(heart: Pulse, closing: asyncio.Event) -> None:
    async with aclosing(heart.listen({"networks"}, closing, 0.05)) as news:
        heart.tell("machines")
        assert await next_of(news) == frozenset()


async def test_nothing_is_lost_between_a_page_and_its_listening(heart: Pulse, closing: asyncio.Event) -> None:
    heart.tell("machines")
    await asyncio.sleep(0.01)
    made = time.time()
    heart.tell("networks")
    async with aclosing(heart.listen({"networks", "machines"}, closing, 0.05, since=made)) as news:
        assert await next_of(news) == {"networks"}
        assert await next_of(news) == frozenset()
    news = heart.listen({"networks"}, closing, 5)
    heart.tell("networks")
    async with aclosing(news):
        assert await next_of(news) == {"networks"}


async def test_a_page_from_long_ago_is_told_that_all_has_changed(heart: Pulse, closing: asyncio.Event) -> None:
    async with aclosing(heart.listen({"networks", "machines"}, closing, 5, since=time.time() - 3600)) as news:
        assert await next_of(news) == {"networks", "machines"}


async def test_it_ends_when_the_gateway_does(heart: Pulse, closing: asyncio.Event) -> None:
    news = heart.listen({"networks"}, closing, 60)
    coming = asyncio.ensure_future(anext(news))
    await asyncio.sleep(0)
    closing.set()
    async with asyncio.timeout(5):
        assert await coming == frozenset()
        with pytest.raises(StopAsyncIteration):
            await anext(news)
    heart.check_room("")
    assert not heart._listeners


async def test_nobody_listens_in_too_many_places(
    heart: Pulse, closing: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "LISTENERS", 2)
    heart.tell("networks")
    opened = [heart.listen({"networks"}, closing, 5, "alice", since=time.time() - 1e6) for _ in range(2)]
    for news in opened:
        await next_of(news)
    with pytest.raises(RateLimitedError):
        heart.check_room("alice")
    heart.check_room("bob")
    for news in opened:
        await news.aclose()
    heart.check_room("alice")


async def test_what_changed_is_forgotten(heart: Pulse, closing: asyncio.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(pulse, "_REMEMBERED", 0.01)
    for _ in range(100):
        heart.tell(f"network:{uuid4()}")
    running = asyncio.create_task(heart.run())
    async with asyncio.timeout(5):
        while heart._changed:
            await asyncio.sleep(0.01)
    running.cancel()
