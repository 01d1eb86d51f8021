"""Ending what runs beside, and nothing left behind. A shell."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")

_CANCEL_AGAIN_SECONDS = 0.05


async def end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks until they have ended, and leave their failures be.

    Once is not enough: a request of nats-py that is answered at that moment swallows it (`wait_for` of Python 3.11).
    Who waits here may be cancelled meanwhile, again and again: that is raised when all have ended.
    """
    ours = set(tasks)
    cancelled: asyncio.CancelledError | None = None
    while running := {task for task in ours if not task.done()}:
        for task in running:
            task.cancel()
        try:
            await asyncio.wait(running, timeout=_CANCEL_AGAIN_SECONDS)
        except asyncio.CancelledError as error:
            cancelled = error
    await asyncio.gather(*ours, return_exceptions=True)
    if cancelled is not None:
        raise cancelled


async def finish(work: Coroutine[Any, Any, None]) -> None:
    """Do something whole, such as closing a connection. Who waits here may be cancelled meanwhile: that is raised
    afterwards."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


class StoppedError(Exception):
    """Raised when a program is told to stop before it has begun."""


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """The result of what is needed to begin. Raises `StoppedError` where `stop` is set first; the work has ended
    then."""
    task, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise StoppedError
        return task.result()
    finally:
        await end([task, stopping])
