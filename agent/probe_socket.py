"""Sends and receives path probes on WireGuard's own UDP port, beside WireGuard.

Raw sockets can do so: what they send bears WireGuard's port as its source, so that a probe travels the very mapping of
a NAT that the tunnel uses; and they see a copy of what arrives for that port. A classic BPF filter in the kernel
(packet(7), `SO_ATTACH_FILTER`) lets nothing but probes through, so a tunnel's own traffic costs nothing here. WireGuard
gets the probes too and drops them; and because its port is open, nobody is told that it is not.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address

from agent.device import DeviceError
from agent.outer import mark
from agent.probing.wire import MAGIC
from events.fields import join_endpoint, split_endpoint

_SO_ATTACH_FILTER = 26
_IP_PKTINFO = 8
_UDP_HEADER = struct.Struct("!HHHH")
_CHECKSUM_OFFSET = 6
_LARGEST = 2048
"""No probe is larger."""
_AT_ONCE = 64
"""Packets that are read before the event loop has its turn again: whoever floods the port stalls nothing else."""
_SPAN, _SHARE = 0.1, 0.025
"""In a span of so many seconds, so many at most of a processor's go to what comes: what comes beyond that waits, or is
lost, and a flood takes no more than a quarter of a processor."""

_LOAD_WORD, _LOAD_HALF, _LOAD_IP_HEADER_LENGTH, _IF_EQUAL, _RETURN = 0x40, 0x48, 0xB1, 0x15, 0x06
"""Instructions of classic BPF; loads count from the IPv4 header's length (bpf_common.h)."""


class ProbeSocket:
    """Probes of one WireGuard interface, over IPv4 and IPv6. Belongs to the running event loop."""

    def __init__(self, listen_port: int, on_packet: Callable[[str, bytes], None]) -> None:
        """`on_packet` is called with the endpoint that a probe came from, and the probe. `listen_port` is WireGuard's.

        Raises `DeviceError`.
        """
        self._on_packet = on_packet
        self._loop = asyncio.get_running_loop()
        self._sockets: dict[int, socket.socket] = {}
        self._port = listen_port
        self._span_begun = 0.0
        self._spent = 0.0
        try:
            for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
                self._open(version, family)
        except OSError as error:
            self.close()
            raise DeviceError(
                f"Cannot open a raw socket for path probes: {error}.",
                hint="Run the agent as root, with the capability CAP_NET_RAW.",
            ) from error

    @property
    def listen_port(self) -> int:
        """WireGuard's port. Set it when that changes."""
        return self._port

    @listen_port.setter
    def listen_port(self, port: int) -> None:
        if port != self._port:
            self._port = port
            for version, opened in self._sockets.items():
                _attach_filter(opened, version, port)

    def send(self, endpoint: str, payload: bytes) -> bool:
        """Send a probe from WireGuard's port, at once or not at all. False where it is known not to have left: no
        route, a full queue, a firewall here, no endpoint. That it was sent means nothing yet."""
        try:
            address, port = split_endpoint(endpoint)
            opened = self._sockets[address.version]
            if isinstance(address, IPv4Address):
                self._send4(opened, address, port, payload)
            else:
                # The kernel fills in the checksum.
                header = _UDP_HEADER.pack(self._port, port, 8 + len(payload), 0)
                opened.sendto(header + payload, (str(address), 0))
        except (OSError, ValueError, KeyError):
            return False
        return True

    def close(self) -> None:
        """Send and receive nothing more."""
        for opened in self._sockets.values():
            self._loop.remove_reader(opened)
            opened.close()
        self._sockets.clear()

    def _open(self, version: int, family: int) -> None:
        try:
            opened = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_UDP)
        except OSError as error:
            if version == 6 and error.errno in {errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT}:
                return
            raise
        self._sockets[version] = opened
        mark(opened)
        _attach_filter(opened, version, self._port)
        if version == 6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_CHECKSUM, _CHECKSUM_OFFSET)
        self._drain(opened)
        self._loop.add_reader(opened, self._receive, opened, version)

    def _drain(self, opened: socket.socket) -> None:
        """Drop what came between the socket's opening and its filter."""
        with suppress(OSError):
            while True:
                opened.recv(1)

    def _send4(self, opened: socket.socket, address: IPv4Address, port: int, payload: bytes) -> None:
        source = _source_for(address)
        length = 8 + len(payload)
        pseudo_header = source.packed + address.packed + struct.pack("!HH", socket.IPPROTO_UDP, length)
        header = _UDP_HEADER.pack(self._port, port, length, 0)
        checksum = _checksum(pseudo_header + header + payload)
        header = _UDP_HEADER.pack(self._port, port, length, checksum)
        # The source that the checksum was made with, whatever happens to the routes meanwhile.
        leave_with = (socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("=i4s4s", 0, source.packed, bytes(4)))
        opened.sendmsg([header, payload], [leave_with], 0, (str(address), 0))

    def _receive(self, opened: socket.socket, version: int) -> None:
        now, begun = self._loop.time(), time.thread_time()
        if now - self._span_begun >= _SPAN:
            self._span_begun, self._spent = now, 0.0
        for _ in range(_AT_ONCE):
            try:
                data, sender = opened.recvfrom(_LARGEST)
            except BlockingIOError:
                break
            except OSError:
                continue  # an ICMP error about an earlier packet: it says nothing that missing pongs do not say
            self._take(data, sender, version)
        self._spent += time.thread_time() - begun
        if self._spent > _SHARE and version in self._sockets:
            self._loop.remove_reader(opened)
            # More than its share waits longer.
            self._loop.call_at(now + _SPAN * self._spent / _SHARE, self._go_on, opened, version)

    def _go_on(self, opened: socket.socket, version: int) -> None:
        if version in self._sockets:
            self._loop.add_reader(opened, self._receive, opened, version)

    def _take(self, data: bytes, sender: tuple[str, int], version: int) -> None:
        address = ip_address(sender[0])
        if isinstance(address, IPv6Address) and address.scope_id:
            return  # link-local: no endpoint, because it means nothing to other machines
        start = (data[0] & 0x0F) * 4 if version == 4 else 0
        source_port, _, length, _ = _UDP_HEADER.unpack_from(data, start)
        if source_port:
            self._on_packet(join_endpoint(address, source_port), data[start + 8 : start + length])


def _source_for(destination: IPv4Address) -> IPv4Address:
    """The address that the system would send from. Raises OSError where there is no route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        mark(asking)
        asking.connect((str(destination), 9))
        return IPv4Address(asking.getsockname()[0])


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071); zero, which means none in UDP, is written as its complement (RFC 768)."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF) or 0xFFFF


def _attach_filter(opened: socket.socket, version: int, port: int) -> None:
    """Have the kernel keep only probes to `port`. Takes the place of an earlier filter at once."""
    program = _filter(version, port)
    instructions = ctypes.create_string_buffer(program)
    argument = struct.pack("HP", len(program) // 8, ctypes.addressof(instructions))
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, argument)


def _filter(version: int, port: int) -> bytes:
    """The filter's program. Raw IPv4 sockets show the IP header, whose length varies; IPv6 ones begin with UDP's. A
    load from beyond the packet's end drops it."""
    index_loader = [(_LOAD_IP_HEADER_LENGTH, 0, 0, 0)] if version == 4 else []
    program = [
        *index_loader,
        (_LOAD_HALF, 0, 0, 2),
        (_IF_EQUAL, 0, 3, port),
        (_LOAD_WORD, 0, 0, 8),
        (_IF_EQUAL, 0, 1, int.from_bytes(MAGIC, "big")),
        (_RETURN, 0, 0, 0xFFFFFFFF),
        (_RETURN, 0, 0, 0),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
