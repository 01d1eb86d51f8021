"""Has the router map the ports of this machine's networks: the shell around `agent.port_mapping.asking`."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from random import SystemRandom
from uuid import UUID

import structlog

from agent.desired import Locality
from agent.listening import Spawn
from agent.port_mapping import upnp, wire
from agent.port_mapping.asking import Asking, Call, Mapping, News, Send
from agent.port_mapping.notes import Note, Notes
from agent.port_mapping.place import router_to_ask

_LARGEST = 2048
_AT_ONCE = 32
_RELEASED_WITHIN = 1.5
"""Seconds that the agent's end waits for a router."""


@dataclass(slots=True)
class _Wish:
    port: int
    news: Callable[[], None]
    nonce: bytes
    former: Note | None = None
    """What the agent's last life noted of the same port."""
    note: Note | None = None


class PortMapper:
    """Asks whichever router stands between this machine and the others, if any, from `moved` to `close`."""

    def __init__(self, notes: Notes, spawn: Spawn) -> None:
        """`spawn` starts a task whose failure ends the agent."""
        self._notes = notes
        self._spawn = spawn
        self._kept = {network_id: note for network_id, note in notes.read().items() if note.until > time.time()}
        self._wishes: dict[UUID, _Wish] = {}
        self._asking: Asking | None = None
        self._router = ""
        self._sockets: list[socket.socket] = []
        self._timer: asyncio.TimerHandle | None = None
        self._released = asyncio.Event()
        self._log = structlog.get_logger("agent")

    # -- what is wanted

    def want(self, network_id: UUID, port: int, news: Callable[[], None]) -> None:
        """Have a network's port mapped; harmless to repeat. `news` is called whenever `endpoints` is another."""
        wish = self._wishes.get(network_id)
        if wish is not None and wish.port == port:
            wish.news = news
            return
        self.drop(network_id)
        kept = self._kept.pop(network_id, None)
        is_same = kept is not None and kept.port == port
        nonce = bytes.fromhex(kept.nonce) if kept and is_same else SystemRandom().randbytes(wire.NONCE_LENGTH)
        self._wishes[network_id] = wish = _Wish(port, news, nonce, kept if is_same else None)
        if self._asking is not None:
            self._ask_for(self._asking, wish)
            self._plan()

    def drop(self, network_id: UUID) -> None:
        """A network's port is not to be mapped any more."""
        wish = self._wishes.pop(network_id, None)
        if wish is not None and self._asking is not None:
            self._asking.drop(wish.port)
            self._write()
            self._plan()

    def endpoints(self, network_id: UUID) -> tuple[str, ...]:
        """Where the router lets others reach a network's port."""
        wish = self._wishes.get(network_id)
        mapping = self._asking.mapping(wish.port) if wish is not None and self._asking is not None else None
        return () if mapping is None else (mapping.endpoint,)

    def moved(self, locality: Locality) -> None:
        """This machine stands so in the networks underneath now: another router is asked anew."""
        router = router_to_ask(locality)
        opened = _connected(router) if router else None
        own = opened.getsockname()[0] if opened is not None else ""
        if self._asking is not None and opened is not None and (router, own) == (self._router, str(self._asking.own)):
            opened.close()
            return
        had = [wish for wish in self._wishes.values() if wish.note is not None]
        self._shut()
        for wish in had:
            wish.note = None
        if opened is not None:
            self._open(opened, router, IPv4Address(own))
        if had:
            self._write()
        for wish in had:
            wish.news()

    async def close(self, *, release: bool) -> None:
        """Ask no more; with `release` end the mappings, which may take a moment. Else they end by themselves."""
        if release and self._asking is not None:
            for network_id in list(self._wishes):
                self.drop(network_id)
            with suppress(TimeoutError):
                async with asyncio.timeout(_RELEASED_WITHIN):
                    while self._asking.is_releasing:
                        self._released.clear()
                        await self._released.wait()
        self._shut()

    # -- how

    def _open(self, opened: socket.socket, router: str, own: IPv4Address) -> None:
        self._router, self._asking = router, Asking(own, SystemRandom(), has_upnp=upnp.is_installed())
        loop = asyncio.get_running_loop()
        loop.add_reader(opened, self._receive, opened)
        self._sockets.append(opened)
        if (hearing := _hearing()) is not None:
            loop.add_reader(hearing, self._hear, hearing)
            self._sockets.append(hearing)
        for wish in self._wishes.values():
            self._ask_for(self._asking, wish)
        self._plan()

    def _shut(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for opened in self._sockets:
            asyncio.get_running_loop().remove_reader(opened)
            opened.close()
        self._sockets.clear()
        self._timer = self._asking = None

    def _ask_for(self, asking: Asking, wish: _Wish) -> None:
        former = wish.former
        is_known = former is not None and (former.router, former.own) == (self._router, str(asking.own))
        asking.want(self._now(), wish.port, wish.nonce, former.endpoint if former and is_known else "")

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _receive(self, opened: socket.socket) -> None:
        """The socket is connected: the kernel lets in only what the router's port sent."""
        for _ in range(_AT_ONCE):
            try:
                packet = opened.recv(_LARGEST)
            except ConnectionRefusedError:
                self._safely(lambda asking: asking.unreachable(self._now()))
            except OSError:
                return
            else:
                self._safely(lambda asking, packet=packet: asking.received(self._now(), packet))  # type: ignore[misc]

    def _hear(self, opened: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                packet, (sender, _) = opened.recvfrom(_LARGEST)
            except OSError:
                return
            if sender == self._router:
                self._safely(lambda asking, packet=packet: asking.announced(self._now(), packet))  # type: ignore[misc]

    def _tick(self) -> None:
        self._timer = None
        self._safely(lambda _: None)

    def _safely(self, do: Callable[[Asking], None]) -> None:
        try:
            if self._asking is not None:
                do(self._asking)
                self._plan()
        except Exception as error:
            self._spawn(_fail(error))

    def _plan(self) -> None:
        """Do what is due, and come back when something else is."""
        asking = self._asking
        while asking is not None and asking.due() <= self._now():
            for output in asking.tick(self._now()):
                match output:
                    case Send(packet):
                        with suppress(OSError):  # no route, or nobody there: as if no answer came
                            self._sockets[0].send(packet)
                    case Call():
                        self._call(asking, output)
                    case News(port, mapping):
                        self._tell(asking, port, mapping)
            asking = self._asking
        if asking is None:
            return
        if not asking.is_releasing:
            self._released.set()
        if self._timer is not None:
            self._timer.cancel()
        at = asking.due()
        self._timer = None if at == math.inf else asyncio.get_running_loop().call_at(at, self._tick)

    def _call(self, asking: Asking, call: Call) -> None:
        """Ask by UPnP in a thread of its own, which nothing waits for: the library has no deadline for it all."""
        loop, router, own = asyncio.get_running_loop(), self._router, str(asking.own)

        def called(endpoint: str) -> None:
            if self._asking is asking:
                self._safely(lambda asking: asking.called(self._now(), call.port, endpoint))

        def work() -> None:
            endpoint = upnp.ask(router, own, call)
            with suppress(RuntimeError):  # the agent has ended meanwhile
                loop.call_soon_threadsafe(called, endpoint)

        threading.Thread(target=work, name="upnp", daemon=True).start()

    def _tell(self, asking: Asking, port: int, mapping: Mapping | None) -> None:
        for network_id, wish in self._wishes.items():
            if wish.port != port:
                continue
            before, wish.note = wish.note, None if mapping is None else self._note(asking, wish, mapping)
            wish.former = None
            if mapping is not None and (before is None or before.endpoint != mapping.endpoint):
                found = {"protocol": str(mapping.protocol), "endpoint": mapping.endpoint}
                self._log.info("the router maps the port", network=str(network_id), port=port, **found)
            elif mapping is None and before is not None:
                self._log.info("the router maps the port no more", network=str(network_id), port=port)
            wish.news()
        self._write()

    def _note(self, asking: Asking, wish: _Wish, mapping: Mapping) -> Note:
        now, before = time.time(), wish.note or wish.former
        goes_on = before is not None and before.endpoint == mapping.endpoint and before.until > now
        return Note(
            router=self._router,
            own=str(asking.own),
            port=wish.port,
            nonce=wish.nonce.hex(),
            protocol=mapping.protocol,
            endpoint=mapping.endpoint,
            since=before.since if before is not None and goes_on else now,
            until=now + mapping.until - self._now(),
        )

    def _write(self) -> None:
        noted = {network_id: wish.note for network_id, wish in self._wishes.items() if wish.note is not None}
        try:
            self._notes.write(self._kept | noted)
        except OSError as error:
            self._log.warning("cannot keep what the router maps", error=str(error))


def _connected(router: str) -> socket.socket | None:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        opened.connect((router, wire.ROUTER_PORT))
    except OSError:
        opened.close()
        return None
    return opened


def _hearing() -> socket.socket | None:
    """Hears what routers announce to all hosts; None where another program keeps that to itself."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((wire.ANNOUNCE_GROUP, wire.ANNOUNCE_PORT))
    except OSError:
        opened.close()
        return None
    return opened


async def _fail(error: Exception) -> None:
    raise error
