"""Network namespaces without names, joined by a router. This program holds them by open files: they end with it.

It is no bridge: in a full mesh on a bridge every machine would have every other's link-layer address, and the kernel
has room for 1,024 of these in all namespaces together. A mesh of tunnels has none, either.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv4Network

_CLONE_NEWNET = 0x40000000
_ROUTER = "192.0.2.1"
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def namespaces(addresses: Sequence[IPv4Address], cidr: IPv4Network, interface: str) -> Iterator[list[int]]:
    """A namespace for each address, which is that of its `interface`; the others in `cidr` are reached through it.
    Each is an open file, see `path` and `inside`."""
    with ExitStack() as stack:
        files = []
        for _ in range(len(addresses) + 1):
            files.append(_new())
            stack.callback(os.close, files[-1])
        router, *machines = files
        for line in ("net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0"):
            _run(router, ["sysctl", "-qw", line])
        _batch(router, [line for place in enumerate(addresses) for line in _there(*place, interface, machines)])
        for number, (machine, address) in enumerate(zip(machines, addresses, strict=True)):
            _batch(machine, _here(number, address, cidr, interface))
        yield machines


def path(namespace: int) -> str:
    """The file's name, which also other programs may use while this one runs."""
    return f"/proc/{os.getpid()}/fd/{namespace}"


@contextmanager
def inside(namespace: int) -> Iterator[None]:
    """In this block, the calling thread is in the namespace."""
    home = _current()
    try:
        _check(_libc.setns(namespace, _CLONE_NEWNET))
        try:
            yield
        finally:
            _check(_libc.setns(home, _CLONE_NEWNET))
    finally:
        os.close(home)


def flush(namespace: int, table: int) -> None:
    """Take all routes out of a table of the kernel's."""
    _run(namespace, ["ip", "route", "flush", "table", str(table)])


def _new() -> int:
    home = _current()
    try:
        _check(_libc.unshare(_CLONE_NEWNET))
        try:
            return _current()
        finally:
            _check(_libc.setns(home, _CLONE_NEWNET))
    finally:
        os.close(home)


def _current() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def _check(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _there(number: int, address: IPv4Address, interface: str, machines: Sequence[int]) -> list[str]:
    """The router's end of a cable, with all that `ip` needs to make it."""
    return [
        f"link add m{number} address {_mac(1, number)} type veth"
        f" peer name {interface} address {_mac(0, number)} netns {path(machines[number])}",
        f"link set m{number} up",
        f"neighbour add {address} lladdr {_mac(0, number)} dev m{number} nud permanent",
        f"route add {address}/32 dev m{number}",
    ]


def _here(number: int, address: IPv4Address, cidr: IPv4Network, interface: str) -> list[str]:
    return [
        "link set lo up",
        f"address add {address}/32 dev {interface}",
        f"link set {interface} up",
        f"neighbour add {_ROUTER} lladdr {_mac(1, number)} dev {interface} nud permanent",
        f"route add {cidr} via {_ROUTER} dev {interface} onlink",
    ]


def _mac(end: int, number: int) -> str:
    return f"02:{end:02x}:00:00:{number >> 8:02x}:{number & 255:02x}"


def _batch(namespace: int, lines: Sequence[str]) -> None:
    _run(namespace, ["ip", "-batch", "-"], "\n".join(lines) + "\n")


def _run(namespace: int, program: Sequence[str], text: str = "") -> None:
    done = subprocess.run(
        ["nsenter", f"--net={path(namespace)}", *program], input=text, text=True, capture_output=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(program)}: {done.stderr or done.stdout}")
