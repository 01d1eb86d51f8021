"""The kernel's table of learnt routes: followed, and led to by rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from agent.bgp.duties import Hop
from agent.bgp.table import LearntTable, RouteWatch
from agent.device import OUTER_MARK
from tests.support.namespaces import command, enter, namespace
from tests.support.waiting import wait_until

pytestmark = pytest.mark.lab

HOP = Hop("mesh0", IPv4Address("172.16.0.2"))
OTHER = Hop("mesh0", IPv4Address("172.16.0.3"))
PREFIX = IPv4Network("10.1.0.0/16")

Story = Callable[[], Awaitable[None]]


@pytest.fixture
def inside() -> Iterator[Callable[[Story], None]]:
    """Runs a coroutine function in a fresh namespace with an interface into a mesh and one into the world."""
    with namespace() as name, ThreadPoolExecutor(1, initializer=enter, initargs=(name,)) as thread:
        for link, address in (("mesh0", "172.16.0.1/24"), ("world0", "192.0.2.1/24")):
            command("ip", "link", "add", link, "type", "veth", "peer", "name", f"{link}-end", namespace=name)
            command("ip", "link", "set", f"{link}-end", "up", namespace=name)
            command("ip", "address", "add", address, "dev", link, namespace=name)
            command("ip", "link", "set", link, "up", namespace=name)
        command("ip", "route", "add", "default", "via", "192.0.2.254", namespace=name)
        yield lambda story: thread.submit(lambda: asyncio.run(story())).result()


def route(action: str, prefix: str, *more: str) -> None:
    command("ip", "route", action, prefix, *more, "table", "20179")


class Follow:
    """A watch that follows, and counts what it tells."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self.changes: list[dict[IPv4Network, Hop]] = []
        self.reads = 0
        self.table = LearntTable()
        self.unruled = 0
        self.watch = RouteWatch(
            self.table, self.run, lambda: self.changes.append(dict(self.watch.routes)), self._count_unruled
        )

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self.reads += 1
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    def _count_unruled(self) -> None:
        self.unruled += 1

    async def await_routes(self, routes: dict[IPv4Network, Hop]) -> None:
        await wait_until(lambda: dict(self.watch.routes) == routes, what=str(routes))

    async def close(self) -> None:
        await self.run(self.table.close)
        self._pool.shutdown()


@asynccontextmanager
async def following() -> AsyncIterator[Follow]:
    follow = Follow()
    task = asyncio.ensure_future(follow.watch.follow())
    try:
        await wait_until(lambda: follow.reads, what="the first look")
        yield follow
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await follow.close()


def test_routes_are_followed_from_the_first_to_the_last(inside: Callable[[Story], None]) -> None:
    async def story() -> None:
        route("add", "10.1.0.0/16", "via", "172.16.0.2", "metric", "32")
        async with following() as follow:
            await follow.await_routes({PREFIX: HOP})
            route("add", "10.2.0.0/16", "via", "172.16.0.3")
            await follow.await_routes({PREFIX: HOP, IPv4Network("10.2.0.0/16"): OTHER})
            route("del", "10.2.0.0/16")
            command("ip", "route", "add", "10.3.0.0/16", "via", "172.16.0.2")
            command("ip", "route", "add", "unreachable", "10.4.0.0/16", "table", "20179")
            await follow.await_routes({PREFIX: HOP})
            command("ip", "link", "set", "mesh0", "down")
            await follow.await_routes({})

    inside(story)


def test_a_route_that_is_taken_away_and_put_back_elsewhere_is_one_change(inside: Callable[[Story], None]) -> None:
    async def story() -> None:
        async with following() as follow:
            route("add", "10.1.0.0/16", "via", "172.16.0.2")
            await follow.await_routes({PREFIX: HOP})
            follow.changes.clear()
            command(
                "sh",
                "-c",
                "printf 'route del 10.1.0.0/16 table 20179\nroute add 10.1.0.0/16 via 172.16.0.3 table 20179\n'"
                " | ip -batch -",
            )
            await follow.await_routes({PREFIX: OTHER})
            assert follow.changes == [{PREFIX: OTHER}]

    inside(story)


def test_nothing_is_missed_when_the_kernel_says_more_than_is_heard(
    inside: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.bgp.table._BUFFER", 2048)

    async def story() -> None:
        async with following() as follow:
            wanted = {IPv4Network((0x0A000000 + number * 256, 24)): HOP for number in range(500)}
            lines = "".join(f"route add {prefix} via 172.16.0.2 table 20179\n" for prefix in wanted)
            # The event loop stands still meanwhile, and the socket overflows.
            command("sh", "-c", f"printf '{lines}' | ip -batch -".replace("\n", "\\n"))
            before = follow.reads
            await follow.await_routes(wanted)
            assert follow.reads > before

    inside(story)


def test_what_an_agent_before_has_learnt_is_known_at_once(inside: Callable[[Story], None]) -> None:
    async def story() -> None:
        route("add", "10.1.0.0/16", "via", "172.16.0.2")
        follow = Follow()
        await follow.watch.load()
        assert dict(follow.watch.routes) == {PREFIX: HOP}
        await follow.close()

    inside(story)


def leads(address: str, *more: str) -> str:
    """Through which interface packets to an address leave."""
    return command("ip", "route", "get", address, *more).partition(" dev ")[2].split()[0]


def test_learnt_routes_come_after_the_machines_own_and_before_its_way_out(inside: Callable[[Story], None]) -> None:
    async def story() -> None:
        follow = Follow()
        route("add", "10.1.0.0/16", "via", "172.16.0.2")
        route("add", "10.9.0.0/16", "via", "172.16.0.2")
        command("ip", "route", "add", "10.9.9.0/24", "via", "192.0.2.9")
        untouched = command("ip", "rule", "list")
        assert leads("10.1.2.3") == "world0"
        for _ in range(2):  # harmless to repeat
            await follow.run(follow.table.rule)
            assert leads("10.1.2.3") == "mesh0"
        assert leads("10.9.9.1") == "world0", "the machine's own route is more to the point"
        assert leads("10.9.8.1") == "mesh0"
        assert leads("8.8.8.8") == "world0"
        assert leads("10.1.2.3", "mark", str(OUTER_MARK)) == "world0", "not into the tunnel that it carries"
        assert command("ip", "rule", "list").count("20179") == 2
        for _ in range(2):
            await follow.run(follow.table.clear)
        assert command("ip", "rule", "list") == untouched
        assert command("ip", "route", "show", "table", "20179") == ""
        assert leads("10.9.9.1") == "world0"
        await follow.close()

    inside(story)


def test_it_is_told_when_one_of_the_rules_is_taken_away(inside: Callable[[Story], None]) -> None:
    async def story() -> None:
        async with following() as follow:
            await follow.run(follow.table.rule)
            command("ip", "rule", "add", "priority", "77", "table", "20179")
            command("ip", "rule", "del", "priority", "77")
            route("add", "10.1.0.0/16", "via", "172.16.0.2")
            await follow.await_routes({PREFIX: HOP})
            assert follow.unruled == 0
            for priority in ("20178", "20179"):  # as systemd-networkd does when it starts anew
                command("ip", "rule", "del", "priority", priority)
            await wait_until(lambda: follow.unruled == 2, what="both are missed")
            await follow.run(follow.table.rule)
            assert command("ip", "rule").count("2017") >= 3

    inside(story)
