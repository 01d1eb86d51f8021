"""Has the system pass on what may pass between meshes and announced prefixes, and nothing else: a shell.

Linux forwards IPv4 by the interface that a packet comes in on (`net.ipv4.conf.<interface>.forwarding`). The agent turns
that on where it is needed and off, and notes which it turned on: those it turns off again when they are needed no more.
The note lies in a folder that a boot empties, as it does the settings.
"""

from __future__ import annotations

import os
from contextlib import suppress
from ipaddress import IPv4Network
from pathlib import Path
from socket import AF_INET, if_indextoname

from pyroute2 import IPRoute

from agent.bgp import fence_rules
from agent.bgp.passage_rules import REMOVAL, Passage, facing, replacement
from agent.links import refusals
from agent.nft import Nft
from events.errors import UnavailableError
from events.interfaces import INTERFACE_PREFIX

_SETTINGS = Path("/proc/sys/net/ipv4/conf")
_NOTE = "forwarding"
_MAIN_TABLE = 254
_UNICAST = 1


class NoPassageError(UnavailableError):
    """Raised when this machine cannot pass on what goes to its prefixes, and only that."""

    code = "no-passage"
    title = "This machine cannot pass packets on"


_NFT = Nft(NoPassageError, "routes", "which lets nothing pass but what is meant to")


class PassageGuard:
    """The system's forwarding of IPv4, and the agent's table of the packet filter for it. Calls wait for the system."""

    def __init__(self, run_folder: Path, settings: Path = _SETTINGS) -> None:
        """`run_folder` is for the note."""
        self._note = run_folder / _NOTE
        self._settings = settings

    def apply(self, passage: Passage) -> None:
        """Let this pass and nothing else. Doing it again is harmless, and repairs what others did.

        Raises `NoPassageError`, `DeviceError`. Error contract: nothing passes for the sake of the agent then.
        """
        if not passage.interfaces:
            self.remove()
            return
        if Nft.is_installed():  # without it nothing passes, and nobody is kept from speaking BGP
            _NFT.tell(fence_rules.fence(passage, os.geteuid()))
        if not passage:
            self._close_all()
            return
        try:
            beyond = facing(passage.prefixes, _own_routes()) - {"lo"}
            inside = set(passage.interfaces if passage.prefixes else passage.crossing)
            wanted = inside | {name for name in beyond if not name.startswith(INTERFACE_PREFIX)}
            self._close(self._opened() - wanted)
            closed = {name for name in wanted if self._get(name) == "0"}
            opened = (self._opened() & wanted) | closed
            self._keep(opened)
            _NFT.tell(replacement(passage, opened - set(passage.interfaces)))
            for name in closed:
                self._put(name, "1")
        except Exception:
            self._close(self._opened())
            raise

    def obstacles(self) -> list[str]:
        """The base chains of others that drop what is forwarded unless they name it, as Docker's do: family, table and
        name of each."""
        return _NFT.dropping({"ip", "inet"})

    def remove(self) -> None:
        """Leave the system as if there had been no BGP. Raises `NoPassageError`."""
        self._close_all()
        if Nft.is_installed():
            _NFT.tell(fence_rules.REMOVAL)

    def _close_all(self) -> None:
        self._close(self._opened())
        if Nft.is_installed():
            _NFT.tell(REMOVAL)

    def _close(self, names: set[str]) -> None:
        for name in names:
            self._put(name, "0")
        if names:
            self._keep(self._opened() - names)

    def _opened(self) -> set[str]:
        """What forwards for the sake of the agent only. Nothing does where all interfaces are to forward: somebody else
        wants it so, such as Docker, and may have since the agent turned on some."""
        if self._get("all") == "1":
            self._note.unlink(missing_ok=True)
            return set()
        with suppress(FileNotFoundError):
            return set(self._note.read_text().split())
        return set()

    def _keep(self, opened: set[str]) -> None:
        with _NFT.refusals():
            if opened:
                self._note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._note.write_text("".join(f"{name}\n" for name in sorted(opened)))
            else:
                self._note.unlink(missing_ok=True)

    def _get(self, name: str) -> str:
        """A setting; empty if the interface is gone."""
        with suppress(OSError):
            return (self._settings / name / "forwarding").read_text().strip()
        return ""

    def _put(self, name: str, value: str) -> None:
        if self._get(name) not in {value, ""}:
            with _NFT.refusals(), suppress(FileNotFoundError):
                (self._settings / name / "forwarding").write_text(value)


def _own_routes() -> list[tuple[IPv4Network, str]]:
    """The main table: destinations, and the interfaces that they lead through."""
    found = []
    with refusals("read this machine's routes"), IPRoute() as netlink:
        for route in netlink.get_routes(family=AF_INET, table=_MAIN_TABLE):
            if route["type"] != _UNICAST:
                continue
            destination = IPv4Network((route.get("dst") or 0, route["dst_len"]))
            hops = [route.get("oif"), *(hop.get("oif") for hop in route.get("multipath") or ())]
            for index in filter(None, hops):
                with suppress(OSError):
                    found.append((destination, if_indextoname(index)))
    return found
