"""Ending what runs beside: whoever swallows a cancellation, and whoever is cancelled meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from events.ending import StoppedError, end, finish, unless
from events.errors import UnavailableError
from tests.support.waiting import wait_until


async def stubborn(swallowed: list[str], times: int) -> None:
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed.append("once")
            if len(swallowed) > times:
                raise


async def failing() -> None:
    raise ValueError


async def test_tasks_are_cancelled_until_they_have_ended() -> None:
    swallowed: list[str] = []
    tasks = [asyncio.create_task(stubborn(swallowed, 2)), asyncio.create_task(failing())]
    await asyncio.sleep(0)
    await end(tasks)
    assert all(task.done() for task in tasks)


async def test_who_is_cancelled_meanwhile_leaves_none_behind() -> None:
    swallowed: list[str] = []
    tasks = [asyncio.create_task(stubborn(swallowed, 3)), asyncio.create_task(asyncio.Event().wait())]
    await asyncio.sleep(0)
    ending = asyncio.create_task(end(tasks))
    await wait_until(lambda: swallowed)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert all(task.done() for task in tasks)


async def test_what_is_to_be_done_whole_is() -> None:
    begun, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await go_on.wait()
        done.set()

    working = asyncio.create_task(finish(work()))
    await begun.wait()
    working.cancel()
    await asyncio.sleep(0)
    assert not working.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert done.is_set()


async def test_what_is_needed_to_begin_is_waited_for() -> None:
    async def begin() -> str:
        return "begun"

    assert await unless(asyncio.Event(), begin()) == "begun"


async def test_who_is_told_to_stop_does_not_begin() -> None:
    stop, ended = asyncio.Event(), False

    async def begin() -> None:
        nonlocal ended
        stop.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended = True

    with pytest.raises(StoppedError):
        await unless(stop, begin())
    assert ended


async def test_what_fails_at_the_beginning_is_told() -> None:
    async def begin() -> None:
        raise UnavailableError("There is no bus.")

    with pytest.raises(UnavailableError, match="no bus"):
        await unless(asyncio.Event(), begin())
