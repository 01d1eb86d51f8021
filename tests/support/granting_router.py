"""A router without sockets that grants mappings, and a clock that is turned: for what is asked, and when."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from agent.port_mapping.asking import Asking, Call, News, Output, Send

OWN = IPv4Address("192.168.1.2")


@dataclass
class Router:
    """Speaks what it is told to, as RFC 6887 and RFC 6886 have it; written from those, not from the agent's codec."""

    speaks: frozenset[str] = frozenset({"pcp", "pmp"})
    address: str = "192.0.2.1"
    lifetime: int = 7200
    """The longest it grants."""
    result: int = 0
    """What it says instead of granting."""
    started: float = 0.0
    table: dict[int, bytes] = field(default_factory=dict)
    """The nonce of each internal port's mapping; nothing for those by NAT-PMP."""
    moved: int = 0
    """External ports are as much higher."""

    def reboot(self, now: float) -> None:
        """Forget everything."""
        self.started = now
        self.table.clear()

    def answer(self, now: float, packet: bytes) -> bytes | None:
        """What it answers, if anything."""
        epoch = int(now - self.started)
        if packet[0] == 2:
            if "pcp" in self.speaks:
                return self._pcp(packet, epoch)
            # A NAT-PMP router answers in its own version, with result 1 (RFC 6886, section 3.5).
            return struct.pack(">BBHI", 0, packet[1] | 128, 1, epoch) if "pmp" in self.speaks else None
        if "pmp" not in self.speaks:
            return None
        if self.result:
            return struct.pack(">BBHI", 0, packet[1] | 128, self.result, epoch)
        if packet[1] == 0:
            return self.announcement(now)
        port, _, asked = struct.unpack(">4xHHI", packet)
        self._keep(port, b"", asked)
        return struct.pack(">BBHIHHI", 0, 129, 0, epoch, port, port + self.moved, min(asked, self.lifetime))

    def announcement(self, now: float) -> bytes:
        """What it tells everybody when it has started (RFC 6886, section 3.2.1)."""
        return struct.pack(">BBHI4s", 0, 128, 0, int(now - self.started), IPv4Address(self.address).packed)

    def _pcp(self, packet: bytes, epoch: int) -> bytes:
        asked, own = struct.unpack(">4xI16s", packet[:24])
        nonce, protocol, port = struct.unpack(">12sB3xH", packet[24:42])
        assert len(packet) == 60
        assert protocol == 17
        assert IPv6Address(own).ipv4_mapped == OWN
        result = self.result or (2 if self.table.get(port, nonce) != nonce else 0)
        if not result:
            self._keep(port, nonce, asked)
        header = struct.pack(">BBxBII12x", 2, 129, result, min(asked, self.lifetime), epoch)
        outer = IPv6Address(f"::ffff:{self.address}").packed
        return header + struct.pack(">12sB3xHH16s", nonce, 17, port, port + self.moved, outer)

    def _keep(self, port: int, nonce: bytes, asked: int) -> None:
        if asked:
            self.table[port] = nonce
        else:
            self.table.pop(port, None)


class Play:
    """Turns the clock for one machine and its router."""

    def __init__(self, asking: Asking, router: Router, *, upnp: str = "") -> None:
        self.asking = asking
        self.router = router
        self.upnp = upnp
        """What comes of asking by UPnP."""
        self.now = 1000.0
        self.sent: list[tuple[float, bytes]] = []
        self.calls: list[Call] = []
        self.news: list[News] = []

    def run(self, seconds: float) -> None:
        """Let time pass, and everything happen that is due."""
        end = self.now + seconds
        while (at := self.asking.due()) <= end:
            self.now = max(self.now, at)
            for output in self.asking.tick(self.now):
                self._do(output)
        self.now = end

    def _do(self, output: Output) -> None:
        match output:
            case Send(packet):
                self.sent.append((self.now, packet))
                answer = self.router.answer(self.now, packet)
                if answer is not None:
                    self.asking.received(self.now, answer)
            case Call():
                self.calls.append(output)
                self.asking.called(self.now, output.port, self.upnp if output.lifetime else "")
            case News():
                self.news.append(output)
