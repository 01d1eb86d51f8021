"""Network namespaces for tests: made empty, entered by a thread or a process, and gone afterwards."""

from __future__ import annotations

import ctypes
import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_CLONE_NEWNS = 0x00020000
_MS_REC_PRIVATE = 0x4000 | 0x40000
_libc = ctypes.CDLL(None, use_errno=True)


def command(*arguments: str, namespace: str | None = None, check: bool = True) -> str:
    """What a program prints, run in a namespace if one is named."""
    inside = ("ip", "netns", "exec", namespace) if namespace else ()
    done = subprocess.run([*inside, *arguments], capture_output=True, text=True, timeout=30, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(arguments)}: {done.stderr or done.stdout}")
    return done.stdout


@contextmanager
def namespace(hint: str = "wl") -> Iterator[str]:
    """A fresh namespace with loopback up; its links, and with them wireguard-go's processes, end with the block."""
    name = f"{hint}-{uuid.uuid4().hex[:8]}"
    command("ip", "netns", "add", name)
    try:
        command("ip", "link", "set", "lo", "up", namespace=name)
        yield name
    finally:
        for link in command("ls", "/sys/class/net", namespace=name, check=False).split():
            if link.startswith("wl-"):
                command("ip", "link", "del", link, namespace=name, check=False)
        command("ip", "netns", "del", name, check=False)


def enter(name: str) -> None:
    """Move the calling thread, and what it starts, into a namespace for good."""
    handle = os.open(Path("/var/run/netns") / name, os.O_RDONLY)
    try:
        if _libc.setns(handle, _CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(handle)


def hide(folder: Path) -> None:
    """Give the calling thread, and what it starts, an empty folder of its own in place of one that all share."""
    folder.mkdir(parents=True, exist_ok=True)
    steps = (
        _libc.unshare(_CLONE_NEWNS),
        _libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None),
        _libc.mount(b"tmpfs", str(folder.resolve()).encode(), b"tmpfs", 0, None),
    )
    if any(steps):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def join(first: str, first_address: str, second: str, second_address: str) -> None:
    """Join two namespaces by a cable: `veth0` in each, with an address such as `192.0.2.1/24`."""
    there = f"vp{uuid.uuid4().hex[:8]}"
    command("ip", "link", "add", "veth0", "netns", first, "type", "veth", "peer", "name", there)
    command("ip", "link", "set", there, "netns", second)
    command("ip", "link", "set", there, "name", "veth0", namespace=second)
    for name, address in ((first, first_address), (second, second_address)):
        command("ip", "address", "add", address, "dev", "veth0", namespace=name)
        command("ip", "link", "set", "veth0", "up", namespace=name)
