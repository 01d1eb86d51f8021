"""What is asked of one router, and when: for mappings, their renewal and their end. Pure.

One thing is asked at a time, of PCP first, then of NAT-PMP, then of UPnP: a few packets each. What the router speaks
is remembered. A mapping is renewed at half its lifetime (RFC 6887, section 11.2.1). Where no router grants anything,
there is silence for ten minutes, or until one announces itself.

An answer counts only if it answers what was asked last, of the same protocol, for the same port and, in PCP, with the
same nonce; the shell lets in only what the router's address sent. And it counts for little: what comes of it is one
more endpoint that peers may try. What is no address that anybody could send to is not even that. A private address is
(the router itself is behind another translator): for machines between the two it is the one that leads here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address
from random import Random

from agent.port_mapping import wire
from agent.probing.places import is_place
from events.fields import join_endpoint, split_endpoint

LIFETIME = 3600
"""Seconds for which a mapping is asked for."""
REST = 600.0
"""Seconds of silence after nobody granted anything."""

_SHORTEST, _LONGEST = 120, 86400
"""Seconds: a mapping for less is worth nothing, and more is not believed."""
_TRIES = 3
_FIRST_WAIT = 0.25
"""Seconds until a request is repeated; twice as long each time (RFC 6886, section 3.1)."""
_LEAST_PAUSE = 60.0
"""Seconds, at least, between attempts to renew one mapping, and between two times that a router has forgotten all."""
_CALM = 10.0
"""Seconds, at least, between asking and asking again because of an announcement."""
_SPREAD = 5.0
"""Seconds over which those who hear an announcement spread what they ask (RFC 6887, section 14.1.3)."""


class Protocol(StrEnum):
    """How a mapping was asked for."""

    PCP = "PCP"
    NAT_PMP = "NAT-PMP"
    UPNP = "UPnP"


@dataclass(frozen=True, slots=True)
class Mapping:
    """A port as others see it."""

    protocol: Protocol
    endpoint: str
    until: float
    """On the clock that `now` is told by."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send this to the router."""

    packet: bytes


@dataclass(frozen=True, slots=True)
class Call:
    """Ask by UPnP, and tell `called`. With lifetime 0, delete."""

    port: int
    external_port: int
    lifetime: int


@dataclass(frozen=True, slots=True)
class News:
    """A port is mapped so now, or not at all."""

    port: int
    mapping: Mapping | None


Output = Send | Call | News


@dataclass(slots=True)
class _Lease:
    port: int
    nonce: bytes
    suggested: str
    due: float
    mapping: Mapping | None = None


@dataclass(slots=True)
class _Exchange:
    lease: _Lease
    protocol: Protocol
    next_at: float
    is_release: bool = False
    sent: int = 0
    address: IPv4Address | None = None
    """The external one, which NAT-PMP tells in an answer of its own."""


@dataclass(slots=True)
class Asking:
    """What one machine asks of one router."""

    own: IPv4Address
    """The address that the router sees this machine at."""
    random: Random
    has_upnp: bool = False
    _leases: dict[int, _Lease] = field(default_factory=dict)
    _releases: list[tuple[_Lease, Protocol]] = field(default_factory=list)
    _exchange: _Exchange | None = None
    _speaks: Protocol | None = None
    _epochs: dict[Protocol, tuple[float, int]] = field(default_factory=dict)
    _asked_at: float = -math.inf
    _anew_at: float = -math.inf
    _outputs: list[Output] = field(default_factory=list)

    # -- what is wanted

    def want(self, now: float, port: int, nonce: bytes, suggested: str = "") -> None:
        """Have a port mapped from now on. `nonce` and the `suggested` endpoint are those of the mapping that there may
        be already: to the router, who shows the nonce is who made the mapping."""
        if port not in self._leases:
            self._leases[port] = _Lease(port, nonce, suggested, now)

    def drop(self, port: int) -> None:
        """A port is not to be mapped any more: nor by what was asked for and not answered yet."""
        lease = self._leases.pop(port, None)
        if lease is None:
            return
        protocol = lease.mapping.protocol if lease.mapping is not None else None
        if self._exchange is not None and self._exchange.lease is lease:
            protocol = self._exchange.protocol if self._exchange.sent else protocol
            self._exchange = None
        if protocol is not None:
            self._releases.append((lease, protocol))

    def mapping(self, port: int) -> Mapping | None:
        """How a port is mapped now."""
        lease = self._leases.get(port)
        return lease.mapping if lease is not None else None

    @property
    def is_releasing(self) -> bool:
        """Whether the end of a mapping is still to be asked for or answered."""
        return bool(self._releases) or (self._exchange is not None and self._exchange.is_release)

    # -- what happens

    def received(self, now: float, packet: bytes) -> None:
        """The router sent this to where it was asked from."""
        answer, exchange = wire.read(packet), self._exchange
        if answer is None or exchange is None:
            return
        if exchange.protocol is Protocol.PCP:
            self._received_pcp(now, exchange, answer)
        elif exchange.protocol is Protocol.NAT_PMP:
            self._received_pmp(now, exchange, answer)

    def announced(self, now: float, packet: bytes) -> None:
        """The router sent this to everybody. Whether it is new, or was started anew, its epoch tells."""
        match wire.read(packet):
            case wire.PcpAnnouncement(epoch):
                is_other = self._is_anew(now, Protocol.PCP, epoch)
            case wire.PmpAddress(address, epoch):
                is_other = self._is_anew(now, Protocol.NAT_PMP, epoch) or any(
                    lease.mapping is not None and split_endpoint(lease.mapping.endpoint)[0] != address
                    for lease in self._leases.values()
                )
            case _:
                return
        if is_other:
            self._hasten(max(now + self.random.uniform(0, _SPREAD), self._asked_at + _CALM))

    def unreachable(self, now: float) -> None:
        """Nobody at the router listens for PCP and NAT-PMP. A mapping that there is may outlive a daemon's restart."""
        exchange = self._exchange
        if exchange is not None and exchange.protocol is not Protocol.UPNP and exchange.lease.mapping is None:
            exchange.protocol = Protocol.NAT_PMP
            self._failed(now)

    def called(self, now: float, port: int, endpoint: str) -> None:
        """What came of a `Call`: the endpoint, or nothing."""
        exchange = self._exchange
        if exchange is None or exchange.protocol is not Protocol.UPNP or exchange.lease.port != port:
            return
        if exchange.is_release:
            self._exchange = None
        elif not endpoint:
            self._failed(now, is_refused=True)
        else:
            try:
                address, external_port = split_endpoint(endpoint)
                self._granted(now, exchange, IPv4Address(str(address)), external_port, LIFETIME)
            except ValueError:
                self._failed(now, is_refused=True)

    def due(self) -> float:
        """When `tick` is next to be called."""
        if self._outputs:
            return -math.inf
        if self._exchange is not None:
            return min(self._exchange.next_at, self._first_end())
        if self._releases:
            return -math.inf
        return min(self._first_end(), min((lease.due for lease in self._leases.values()), default=math.inf))

    def tick(self, now: float) -> list[Output]:
        """What is to be done now."""
        for lease in self._leases.values():
            if lease.mapping is not None and lease.mapping.until <= now:
                self._lose(lease)
                lease.due = now
        if self._exchange is None:
            self._exchange = self._next(now)
        if self._exchange is not None and self._exchange.next_at <= now:
            self._step(now, self._exchange)
        outputs, self._outputs = self._outputs, []
        return outputs

    # -- how

    def _first_end(self) -> float:
        ends = (lease.mapping.until for lease in self._leases.values() if lease.mapping is not None)
        return min(ends, default=math.inf)

    def _next(self, now: float) -> _Exchange | None:
        if self._releases:
            lease, protocol = self._releases.pop(0)
            return _Exchange(lease, protocol, now, is_release=True)
        ready = [lease for lease in self._leases.values() if lease.due <= now]
        if not ready:
            return None
        lease = min(ready, key=lambda lease: lease.due)
        known = lease.mapping.protocol if lease.mapping is not None else self._speaks
        return _Exchange(lease, known or Protocol.PCP, now)

    def _step(self, now: float, exchange: _Exchange) -> None:
        if exchange.sent == _TRIES:
            self._failed(now)
            return
        self._asked_at = now
        exchange.sent += 1
        exchange.next_at = now + _FIRST_WAIT * 2 ** (exchange.sent - 1)
        if exchange.protocol is Protocol.UPNP:
            exchange.next_at = math.inf
        self._outputs.append(self._request(exchange))

    def _request(self, exchange: _Exchange) -> Output:
        lease, lifetime = exchange.lease, 0 if exchange.is_release else LIFETIME
        suggested = self._suggested(lease)
        external_port = suggested[1] if suggested else lease.port
        match exchange.protocol:
            case Protocol.PCP:
                return Send(wire.pcp_request(self.own, lease.nonce, lease.port, lifetime, suggested))
            case Protocol.NAT_PMP if exchange.address is None and not exchange.is_release:
                return Send(wire.pmp_address_request())
            case Protocol.NAT_PMP:
                return Send(wire.pmp_request(lease.port, lifetime, external_port))
            case Protocol.UPNP:
                return Call(lease.port, external_port, lifetime)

    @staticmethod
    def _suggested(lease: _Lease) -> tuple[IPv4Address, int] | None:
        endpoint = lease.mapping.endpoint if lease.mapping is not None else lease.suggested
        try:
            address, port = split_endpoint(endpoint)
            return IPv4Address(str(address)), port
        except ValueError:
            return None

    def _received_pcp(self, now: float, exchange: _Exchange, answer: wire.Answer) -> None:
        lease = exchange.lease
        match answer:
            case wire.PcpGrant() if (answer.nonce, answer.internal_port) == (lease.nonce, lease.port):
                self._see(now, Protocol.PCP, answer.epoch)
                self._granted(now, exchange, answer.address, answer.external_port, answer.lifetime)
            case wire.Refusal(is_pcp=True, nonce=nonce) if nonce in {b"", lease.nonce}:
                self._failed(now, is_refused=True)
            case wire.Refusal(is_pcp=False):  # it speaks NAT-PMP only (RFC 6887, appendix A)
                self._failed(now, is_refused=True)

    def _received_pmp(self, now: float, exchange: _Exchange, answer: wire.Answer) -> None:
        match answer:
            case wire.PmpAddress(address, epoch) if exchange.address is None and not exchange.is_release:
                self._see(now, Protocol.NAT_PMP, epoch)
                exchange.address, exchange.sent, exchange.next_at = address, 0, now
            case wire.PmpGrant(internal_port=port) if port == exchange.lease.port:
                if exchange.address is not None or exchange.is_release:
                    self._see(now, Protocol.NAT_PMP, answer.epoch)
                    address = exchange.address or IPv4Address(0)
                    self._granted(now, exchange, address, answer.external_port, answer.lifetime)
            case wire.Refusal(is_pcp=False):
                self._failed(now, is_refused=True)

    def _granted(self, now: float, exchange: _Exchange, address: IPv4Address, port: int, lifetime: int) -> None:
        if exchange.is_release:
            self._exchange = None
        elif lifetime < _SHORTEST or not port or address == self.own or not is_place(address):
            self._failed(now, is_refused=True)
        else:
            self._exchange = None
            lease, seconds = exchange.lease, min(lifetime, _LONGEST)
            lease.mapping = Mapping(exchange.protocol, join_endpoint(address, port), now + seconds)
            lease.due = now + seconds / 2
            self._speaks = exchange.protocol
            self._outputs.append(News(lease.port, lease.mapping))

    def _failed(self, now: float, *, is_refused: bool = False) -> None:
        """The exchange came to nothing. A mapping that there is outlives a router's silence, but not its refusal."""
        exchange, self._exchange = self._exchange, None
        if exchange is None or exchange.is_release:
            return
        lease = exchange.lease
        if lease.mapping is not None and not is_refused:
            lease.due = now + max((lease.mapping.until - now) / 2, _LEAST_PAUSE)
            return
        self._lose(lease)
        following = next(self._after(exchange.protocol), None)
        if following is not None:
            self._exchange = _Exchange(lease, following, now)
            return
        self._speaks = None
        self._outputs.append(News(lease.port, None))
        for each in self._leases.values():
            if each.mapping is None:
                each.due = now + REST * self.random.uniform(1.0, 1.1)

    def _after(self, protocol: Protocol) -> Iterator[Protocol]:
        if protocol is Protocol.PCP:
            yield Protocol.NAT_PMP
        if protocol is not Protocol.UPNP and self.has_upnp:
            yield Protocol.UPNP

    def _lose(self, lease: _Lease) -> None:
        if lease.mapping is not None:
            lease.suggested, lease.mapping = lease.mapping.endpoint, None
            self._outputs.append(News(lease.port, None))

    def _see(self, now: float, protocol: Protocol, epoch: int) -> None:
        """If the router has forgotten what it granted, ask for all of it again; but not all the time."""
        is_first = protocol not in self._epochs
        if self._is_anew(now, protocol, epoch) and not is_first:
            when = max(now, self._anew_at + _LEAST_PAUSE)
            if when == now:
                self._anew_at = now
            self._hasten(when)

    def _is_anew(self, now: float, protocol: Protocol, epoch: int) -> bool:
        """Whether the router's clock does not go on from what it last said (RFC 6887, section 8.5), or is new to us."""
        before = self._epochs.get(protocol)
        self._epochs[protocol] = now, epoch
        if before is None:
            return True
        ours, theirs = now - before[0], epoch - before[1]
        return theirs < -1 or ours + 2 < theirs - theirs / 16 or theirs + 2 < ours - ours / 16

    def _hasten(self, when: float) -> None:
        for lease in self._leases.values():
            lease.due = min(lease.due, when)
