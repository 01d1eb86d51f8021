"""UPnP: finds the router's Internet Gateway Device and has it map a port. By the library miniupnpc, where that is
installed; everything here waits for the network, so it belongs into a thread."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from ipaddress import IPv4Address
from random import SystemRandom
from typing import Any
from urllib.parse import urlsplit

from agent.port_mapping.asking import Call
from agent.probing.places import is_place
from events.fields import join_endpoint

_PORT = 1900
_GROUP = "239.255.255.250"
_SEARCH = (
    f"M-SEARCH * HTTP/1.1\r\nHOST: {_GROUP}:{_PORT}\r\n"
    'MAN: "ssdp:discover"\r\nMX: 1\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n'
).encode()
"""UPnP Device Architecture 1.1, section 1.3.2. What implements a later version answers to this one too."""

_TRIES = 2
_ANSWERED_WITHIN = 1.2
"""Seconds: a device spreads its answers over MX."""
_PORT_TRIES = 3
_DESCRIPTION = "wireloom"
_UPPER_PORTS = range(49152, 65536)
_random = SystemRandom()


def is_installed() -> bool:
    """Whether there is the library."""
    return find_spec("miniupnpc") is not None


def ask(router: str, own: str, call: Call) -> str:
    """The endpoint that the router maps a port to; with lifetime 0, or where it does not, nothing. Never raises."""
    try:
        device = _find(router, own)
        if device is None:
            return ""
        if call.lifetime == 0:
            device.deleteportmapping(call.external_port, "UDP")
            return ""
        return _map(device, own, call)
    except Exception:  # the library raises nothing more special
        return ""


def _find(router: str, own: str) -> Any:
    import miniupnpc

    for location in _locations(router, own):
        device = miniupnpc.UPnP()
        with suppress(Exception):
            control = device.selectigd(location)
            if urlsplit(control).hostname == router:
                return device
    return None


def _locations(router: str, own: str) -> Iterator[str]:
    """Where the router says that its description is. What anybody else says is not heard."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.bind((own, 0))
        asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, IPv4Address(own).packed)
        for _ in range(_TRIES):
            # Many routers hear only what is sent to all, and firewalls here may let in only answers to what was not.
            for target in (router, _GROUP):
                with suppress(OSError):
                    asking.sendto(_SEARCH, (target, _PORT))
            deadline, found = time.monotonic() + _ANSWERED_WITHIN, set[str]()
            while (left := deadline - time.monotonic()) > 0:
                asking.settimeout(left)
                try:
                    packet, (sender, _) = asking.recvfrom(2048)
                except TimeoutError:
                    break
                except OSError:
                    continue  # an ICMP error about what was sent
                location = location_in(packet) if sender == router else ""
                if location and urlsplit(location).hostname == router and location not in found:
                    found.add(location)
                    yield location


def location_in(packet: bytes) -> str:
    """Where an answer to a search says that the description is; nothing where it says nothing of use. Pure."""
    status, *headers = packet.decode("latin-1").split("\r\n")
    if not status.startswith("HTTP/1.1 200"):
        return ""
    for header in headers:
        name, _, value = header.partition(":")
        if name.strip().lower() == "location":
            try:
                return value.strip() if urlsplit(value.strip()).scheme == "http" else ""
            except ValueError:
                return ""
    return ""


def _map(device: Any, own: str, call: Call) -> str:
    """Some other machine's mapping may have the external port: then another is tried."""
    address = IPv4Address(device.externalipaddress())
    if not is_place(address):
        return ""
    others = (_random.choice(_UPPER_PORTS) for _ in range(_PORT_TRIES - 1))
    for port in (call.external_port, *others):
        with suppress(Exception):
            if device.addportmapping(port, "UDP", own, call.port, _DESCRIPTION, "", call.lifetime):
                return join_endpoint(address, port)
    return ""
