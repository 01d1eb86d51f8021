"""Between the library's threads and the bus: one thread with an event loop and a connection. A shell."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from eventsourcing.persistence import InterfaceError, OperationalError, ProgrammingError

from events import bus
from events.client import BusClient
from events.errors import UnavailableError

T = TypeVar("T")


class Bridge:
    """Runs coroutines for other threads, which wait for them. Closes by itself when nobody holds it any more."""

    def __init__(self, url: str, name: str, credentials: bus.Credentials | None = None) -> None:
        """Connect. Raises `UnavailableError` if no server answers."""
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, BusClient]] = Future()
        arguments = (url, name, credentials, started)
        self._thread = threading.Thread(target=_run, args=arguments, name=f"bus of {name}", daemon=True)
        self._thread.start()
        try:
            self._loop, stop, self.client = started.result()
        except BaseException:
            self._thread.join()
            raise
        self._lock = threading.Lock()
        self._is_closed = False
        self._end = weakref.finalize(self, _end, self._loop, stop, self._thread)

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine in the bus's thread. Raises `InterfaceError` once closed."""
        with self._lock:
            if not self._is_closed:
                return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        coroutine.close()
        raise InterfaceError("the connection to the bus was closed")

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the bus's thread and wait for its result.

        Raises `ProgrammingError` in that thread itself, which would wait for ever, `InterfaceError` once closed, and
        `OperationalError` where the bus does not answer.
        """
        if threading.get_ident() == self._thread.ident:
            coroutine.close()
            raise ProgrammingError("a recorder was called in the event loop's own thread, which would wait for itself")
        try:
            return self.submit(coroutine).result()
        except UnavailableError as error:
            raise OperationalError(str(error)) from error
        except CancelledError as error:
            raise InterfaceError("the connection to the bus was closed meanwhile") from error

    def soon(self, callback: Callable[[], object]) -> None:
        """Have a plain function called in the bus's thread, unless that has ended."""
        with self._lock:
            if not self._is_closed:
                self._loop.call_soon_threadsafe(callback)

    def close(self) -> None:
        """Close the connection, cancel what is under way and end the thread. Idempotent."""
        with self._lock:
            self._is_closed = True
        self._end()


def _run(
    url: str,
    name: str,
    credentials: bus.Credentials | None,
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, BusClient]],
) -> None:
    """The thread. It holds no bridge, so that one that is dropped can end it."""

    async def serve() -> None:
        client = await bus.connect(
            url,
            name,
            credentials,
            on_disconnect=lambda: client.give_up_requests(),  # noqa: PLW0108 - there is no client yet
        )
        stop = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), stop, client))
        await stop.wait()
        await client.close()

    # The runner cancels what is left at its end, and so wakes the threads that wait for it.
    with asyncio.Runner() as runner:
        try:
            runner.run(serve())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)


def _end(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(stop.set)
    if threading.get_ident() != thread.ident:
        thread.join()
