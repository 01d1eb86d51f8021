"""PCP (RFC 6887) and NAT-PMP (RFC 6886) as bytes: what is asked of a router, and what it answers. Pure.

Only what a UDP port's mapping over IPv4 needs of them: MAP and ANNOUNCE of PCP; the external address and UDP mappings
of NAT-PMP. Both speak on one port, and tell each other apart by the version in the first byte.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

ROUTER_PORT = 5351
"""Where routers listen."""
ANNOUNCE_PORT = 5350
"""Where hosts hear that a router has started anew, or has another address (RFC 6886, section 3.2.1)."""
ANNOUNCE_GROUP = "224.0.0.1"
NONCE_LENGTH = 12

_PCP, _NAT_PMP = 2, 0
_ANNOUNCE, _MAP = 0, 1
_EXTERNAL, _MAP_UDP = 0, 1
_ANSWER = 0x80
_UDP = 17

_PCP_REQUEST = struct.Struct(">BBHI16s")
_PCP_ANSWER = struct.Struct(">BBxBII12x")
_PCP_MAP = struct.Struct(">12sB3xHH16s")
_PMP_REQUEST = struct.Struct(">BBHHHI")
_PMP_ANSWER = struct.Struct(">BBHI")
_PMP_MAP = struct.Struct(">HHI")
_PCP_LONGEST = 1100


@dataclass(frozen=True, slots=True)
class PcpGrant:
    """PCP: a port is mapped, or with lifetime 0 no longer."""

    nonce: bytes
    internal_port: int
    address: IPv4Address
    external_port: int
    lifetime: int
    """Seconds."""
    epoch: int
    """Seconds since the router forgot everything."""


@dataclass(frozen=True, slots=True)
class PcpAnnouncement:
    """PCP: the router is there, and has been since its epoch began."""

    epoch: int


@dataclass(frozen=True, slots=True)
class PmpGrant:
    """NAT-PMP: a port is mapped, or with lifetime 0 no longer."""

    internal_port: int
    external_port: int
    lifetime: int
    epoch: int


@dataclass(frozen=True, slots=True)
class PmpAddress:
    """NAT-PMP: the router's external address. Also what it announces."""

    address: IPv4Address
    epoch: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """The router says no."""

    is_pcp: bool
    result: int
    """Why (RFC 6887, section 7.4; RFC 6886, section 3.5)."""
    nonce: bytes = b""
    """The request's, where the answer repeats it."""


Answer = PcpGrant | PcpAnnouncement | PmpGrant | PmpAddress | Refusal


def pcp_request(
    own: IPv4Address, nonce: bytes, port: int, lifetime: int, suggested: tuple[IPv4Address, int] | None = None
) -> bytes:
    """Asks for a mapping of this machine's UDP port (RFC 6887, sections 7.1 and 11.1), or with lifetime 0 to delete
    it (section 15). `suggested` is what it was mapped to before."""
    address, external_port = suggested or (IPv4Address(0), port)
    if lifetime == 0:
        address, external_port = IPv4Address(0), 0
    header = _PCP_REQUEST.pack(_PCP, _MAP, 0, lifetime, _mapped(own))
    return header + _PCP_MAP.pack(nonce, _UDP, port, external_port, _mapped(address))


def pmp_address_request() -> bytes:
    """Asks for the external address (RFC 6886, section 3.2)."""
    return bytes((_NAT_PMP, _EXTERNAL))


def pmp_request(port: int, lifetime: int, suggested_port: int) -> bytes:
    """Asks for a mapping of this machine's UDP port (RFC 6886, section 3.3), or with lifetime 0 to delete it
    (section 3.4)."""
    return _PMP_REQUEST.pack(_NAT_PMP, _MAP_UDP, 0, port, suggested_port if lifetime else 0, lifetime)


def read(packet: bytes) -> Answer | None:
    """What a router answered or announced; None for what is no such thing, or of no use here. Never raises."""
    if len(packet) < _PMP_ANSWER.size or len(packet) > _PCP_LONGEST or not packet[1] & _ANSWER:
        return None
    opcode = packet[1] & ~_ANSWER
    return _read_pmp(packet, opcode) if packet[0] == _NAT_PMP else _read_pcp(packet, opcode)


def _read_pcp(packet: bytes, opcode: int) -> Answer | None:
    if len(packet) < _PCP_ANSWER.size or len(packet) % 4:
        return None
    version, _, result, lifetime, epoch = _PCP_ANSWER.unpack_from(packet)
    if version != _PCP:
        # An older draft's router answers in its own version, which says so; what follows is not for us to read.
        return Refusal(True, result) if result == 1 else None
    if opcode == _ANNOUNCE:
        return None if result else PcpAnnouncement(epoch)
    return _read_map(packet, result, lifetime, epoch) if opcode == _MAP else None


def _read_map(packet: bytes, result: int, lifetime: int, epoch: int) -> Answer | None:
    if len(packet) < _PCP_ANSWER.size + _PCP_MAP.size:
        return Refusal(True, result) if result else None
    nonce, protocol, port, external_port, raw = _PCP_MAP.unpack_from(packet, _PCP_ANSWER.size)
    if result:
        return Refusal(True, result, nonce)
    address = IPv6Address(raw).ipv4_mapped
    if protocol != _UDP or address is None:
        return None
    return PcpGrant(nonce, port, address, external_port, lifetime, epoch)


def _read_pmp(packet: bytes, opcode: int) -> Answer | None:
    _, _, result, epoch = _PMP_ANSWER.unpack_from(packet)
    if result:
        return Refusal(False, result)
    body = packet[_PMP_ANSWER.size :]
    if opcode == _EXTERNAL and len(body) >= 4:
        return PmpAddress(IPv4Address(body[:4]), epoch)
    if opcode == _MAP_UDP and len(body) >= _PMP_MAP.size:
        port, external_port, lifetime = _PMP_MAP.unpack_from(body)
        return PmpGrant(port, external_port, lifetime, epoch)
    return None


def _mapped(address: IPv4Address) -> bytes:
    """An IPv4 address as PCP writes it (RFC 6887, section 5)."""
    return b"\0" * 10 + b"\xff\xff" + address.packed
