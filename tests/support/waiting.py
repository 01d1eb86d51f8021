"""Waiting in tests: for a condition, with a deadline, never for a time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 60.0
"""So many seconds a condition is waited for: far longer than it takes on a machine that is busy with other tests."""

_PAUSE = 0.005


async def wait_until(condition: Callable[[], T | Awaitable[T]], timeout: float = PATIENCE, what: str = "") -> T:
    """The first true answer of `condition`, a function or coroutine function. Raises TimeoutError saying `what`."""
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout:g} s: {what or condition}")
        await asyncio.sleep(_PAUSE)


def wait_until_sync(condition: Callable[[], T], timeout: float = PATIENCE, what: str = "") -> T:
    """Like `wait_until`, for tests that have no event loop."""
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout:g} s: {what or condition}")
        time.sleep(_PAUSE)
    return answer
