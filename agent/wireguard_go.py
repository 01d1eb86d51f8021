"""WireGuard interfaces of wireguard-go, a process for each, through its control socket."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from agent import uapi
from agent.device import Changes, Device, DeviceError, PortTakenError
from agent.keys import throwaway_public_key
from agent.links import Links

SOCKET_FOLDER = Path("/var/run/wireguard")
PROGRAM = "wireguard-go"
_KIND = "tun"
_PATIENCE = 5.0
"""Seconds that wireguard-go may take for a step."""


class WireguardGoDevices:
    """wireguard-go, where the kernel has no WireGuard. Its processes live in sessions of their own: they outlive the
    agent, and the next agent finds them by their control sockets."""

    name = "wireguard-go"
    blocking = True

    def __init__(self, links: Links | None = None, folder: Path = SOCKET_FOLDER) -> None:
        self._links = links or Links()
        self._folder = folder

    def read(self, interface: str) -> Device | None:
        """See `Devices.read`."""
        link = self._links.read(interface)
        if link is None or link.kind != _KIND:
            return None
        try:
            tunnel = uapi.parse_get(self._talk(interface, uapi.GET))
        except (ConnectionError, FileNotFoundError):
            return None
        return Device(
            private_key=tunnel.private_key,
            listen_port=tunnel.listen_port,
            mark=tunnel.mark,
            mtu=link.mtu,
            up=link.up,
            addresses=link.addresses,
            routes=link.routes,
            peers=tunnel.peers,
        )

    def apply(self, interface: str, changes: Changes) -> None:
        """See `Devices.apply`."""
        if changes.create:
            self.remove(interface)
            self._start(interface)
        self._links.prepare(interface, changes)
        if changes.up:
            self._await_socket_bound(interface)
        request = uapi.encode_set(changes, throwaway_public_key())
        with self._links.around(interface, changes):
            if request:
                self._check(interface, changes, self._speak(interface, request))

    def remove(self, interface: str) -> None:
        """See `Devices.remove`. The process ends when its link goes."""
        self._links.delete(interface)
        path = self._socket_path(interface)
        deadline = time.monotonic() + _PATIENCE
        while path.exists() and self._answers(interface) and time.monotonic() < deadline:
            time.sleep(0.01)
        path.unlink(missing_ok=True)

    def interfaces(self) -> list[str]:
        """See `Devices.interfaces`."""
        return self._links.names()

    def close(self) -> None:
        """See `Devices.close`."""
        self._links.close()

    def _start(self, interface: str) -> None:
        try:
            done = subprocess.run(
                [PROGRAM, interface],
                env={"PATH": os.environ.get("PATH", os.defpath)},
                cwd="/",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                start_new_session=True,
                timeout=_PATIENCE,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DeviceError(f"Cannot start {PROGRAM} for {interface}: {error}.") from error
        if done.returncode != 0:
            said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
            raise DeviceError(
                f"{PROGRAM} ended with status {done.returncode} for {interface}: {said[-1] if said else 'no word'}.",
                hint="Run the agent as root, on a machine that has /dev/net/tun.",
            )

    def _await_socket_bound(self, interface: str) -> None:
        """wireguard-go learns later that its link is up, and only then binds its UDP socket: to any free port while
        it has been given none. A port that is set after that is refused at once if it is taken."""
        deadline = time.monotonic() + _PATIENCE
        while uapi.parse_get(self._speak(interface, uapi.GET)).listen_port == 0:
            if time.monotonic() > deadline:
                raise DeviceError(f"{PROGRAM} has not brought {interface} up within {_PATIENCE:g} s.")
            time.sleep(0.005)

    def _check(self, interface: str, changes: Changes, answer: bytes) -> None:
        code = uapi.parse_error(answer)
        if code == errno.EADDRINUSE:
            raise PortTakenError(f"UDP port {changes.listen_port} is taken.", hint="The agent chooses another.")
        if code:
            raise DeviceError(f"{PROGRAM} refuses a change to {interface}: {os.strerror(code)}.")

    def _answers(self, interface: str) -> bool:
        with suppress(OSError):
            self._talk(interface, uapi.GET)
            return True
        return False

    def _speak(self, interface: str, request: bytes) -> bytes:
        try:
            return self._talk(interface, request)
        except OSError as error:
            raise DeviceError(f"{PROGRAM} does not answer for {interface}: {error}.") from error

    def _talk(self, interface: str, request: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(_PATIENCE)
            client.connect(str(self._socket_path(interface)))
            client.sendall(request)
            answer = bytearray()
            while not answer.endswith(b"\n\n"):
                chunk = client.recv(65536)
                if not chunk:
                    raise ConnectionResetError("the control socket was closed")
                answer += chunk
            return bytes(answer)

    def _socket_path(self, interface: str) -> Path:
        return self._folder / f"{interface}.sock"
