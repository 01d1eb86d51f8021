"""What a machine tells of its tunnels while somebody looks at them: handshakes and traffic. Pure.

The gateway that is asked says `live.machine.<machine>.look`, without content and without a signature: all that this can
do is to have the agent tell its gateways what they may know. The agent says `ask.<machine>.tunnels`, which every
gateway hears and nobody answers, in parts that fit into what a machine may say at once (64 KiB). No stream keeps it.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from events.fields import Tolerant, join_endpoint, split_endpoint

MAX_ITEMS = 200
"""So many tunnels and peers, together, are in one part: each takes up to 250 bytes."""

MAX_PARTS = 50
"""A report has so many parts at most."""

LOOK_COUNTS_FOR = 5.0
"""Seconds after which a hint that was not answered yet is not answered any more."""

APART = 1.0
"""Seconds, at least, between two reports of a machine."""


def _check_endpoint(endpoint: str) -> str:
    if not endpoint:
        return endpoint
    address, port = split_endpoint(endpoint)
    if getattr(address, "scope_id", None):
        raise ValueError("the link of an address means something on its own machine only")
    return join_endpoint(address, port)


Bytes = Annotated[int, Field(ge=0, lt=1 << 63)]
Age = Annotated[float, Field(ge=0, le=4e9, allow_inf_nan=False)]
"""Seconds. Ages, not times: the machine's clock may be wrong."""

State = Literal["up", "down", "missing", "unreadable"]
"""Of an interface: up or not; not there; or the system refuses to tell."""


class TunnelPeer(Tolerant):
    """What WireGuard knows of one peer."""

    machine_id: UUID
    endpoint: Annotated[str, StringConstraints(max_length=60), AfterValidator(_check_endpoint)] = ""
    """Where its packets go; empty for nowhere yet."""
    handshake: Age | None = None
    """Since the last handshake; None for never."""
    rx_bytes: Bytes = 0
    tx_bytes: Bytes = 0


class Tunnel(Tolerant):
    """A machine's interface in one network. One that has many peers goes on in the report's next part."""

    network_id: UUID
    interface: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,15}$")]
    backend: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{0,32}$")] = ""
    """Who drives it, such as `kernel` or `wireguard-go`; empty for not known."""
    state: State = "up"
    listen_port: Annotated[int, Field(ge=0, lt=1 << 16)] = 0
    """The UDP port; 0 for not known."""
    mtu: Annotated[int, Field(ge=0, lt=1 << 17)] = 0
    """0 for not known."""
    peers: Annotated[tuple[TunnelPeer, ...], Field(max_length=MAX_ITEMS)] = ()


class TunnelPart(Tolerant):
    """A part of a report of all of a machine's tunnels."""

    boot_id: UUID
    counter: Annotated[int, Field(ge=0, lt=1 << 63)]
    """Of the report: rises with every report of one boot."""
    part: Annotated[int, Field(ge=0, lt=MAX_PARTS)] = 0
    parts: Annotated[int, Field(ge=1, le=MAX_PARTS)] = 1
    age: Age = 0.0
    """Since the interfaces were read."""
    left_out: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    """How many tunnels and peers are not told, since they are too many."""
    tunnels: Annotated[tuple[Tunnel, ...], Field(max_length=MAX_ITEMS)] = ()

    @model_validator(mode="after")
    def _fits(self) -> TunnelPart:
        if self.part >= self.parts:
            raise ValueError("a part's number is less than the number of parts")
        if sum(1 + len(tunnel.peers) for tunnel in self.tunnels) > MAX_ITEMS:
            raise ValueError(f"a part holds up to {MAX_ITEMS} tunnels and peers")
        return self
