"""What each kind of program may say and hear on the bus, enforced by nats-server. Pure.

Each role has a signing key of its own in the account's token, with these subjects; a token that it signs can name
somebody, and for a machine its networks, but never widen what stands here. `{{name()}}` is the name in the user's
token: a machine's or program's id. `{{tag(network)}}` stands for each network that a machine's token names.

Everybody has an inbox of his own: who hears `_INBOX.>` hears everybody's answers. No answering service may publish into
a stream but its own, so no reply subject that a caller chooses becomes an event or a record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

Role = Literal["machine", "program", "allocator", "topology", "gateway", "console", "keeper"]

_ANSWERS = "_INBOX.>"
_FLOW = "$JS.FC.>"


@dataclass(frozen=True, slots=True)
class Permissions:
    """The template of a role."""

    role: Role
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    subscriptions: int = -1
    """How many a connection may have; -1 for any number."""
    payload: int = -1
    """How many bytes a message may have; -1 for what the server allows."""


def _follows(*streams: str) -> tuple[str, ...]:
    """JetStream's own subjects for following streams as `events.feed` does, with consumers that nobody can name."""
    return tuple(f"$JS.API.{verb}.{stream}" for stream in streams for verb in ("STREAM.INFO", "CONSUMER.CREATE"))


def _looks_up(*streams: str) -> tuple[str, ...]:
    """JetStream's own subjects for reading what stands in streams, without following them."""
    return tuple(
        f"$JS.API.{verb}.{stream}" for stream in streams for verb in ("STREAM.INFO", "STREAM.MSG.GET", "DIRECT.GET")
    )


def _reads_newest(*streams: str) -> tuple[str, ...]:
    """For reading single messages of a stream, such as its newest (ADR-8 of NATS)."""
    return tuple(f"$JS.API.STREAM.MSG.GET.{stream}" for stream in streams)


def _defines(*streams: str) -> tuple[str, ...]:
    return tuple(f"$JS.API.STREAM.{verb}.{stream}" for stream in streams for verb in ("CREATE", "UPDATE"))


MACHINE = Permissions(
    "machine",
    publish=("ask.{{name()}}.*", "beat.{{name()}}"),
    subscribe=(
        "live.machine.{{name()}}.>",
        "live.network.{{tag(network)}}.>",
        "live.paths.{{name()}}.>",
        "live.bgp.{{tag(network)}}.>",
        "_INBOX.{{name()}}.>",
    ),
    subscriptions=4096,
    payload=64 * 1024,
)
PROGRAM = Permissions(
    "program",
    publish=("wireloom.command.{{name()}}.*",),
    subscribe=("_INBOX.{{name()}}.>",),
    subscriptions=64,
)
ALLOCATOR = Permissions(
    "allocator",
    publish=(
        "log.*",
        "snapshot.*",
        _ANSWERS,
        *_defines("LOG", "SNAPSHOTS"),
        *_looks_up("LOG", "SNAPSHOTS"),
        *_reads_newest("STATE"),
        "$JS.API.STREAM.PURGE.SNAPSHOTS",
    ),
    subscribe=("allocator.execute", "allocator.preview", "_INBOX.allocator.>"),
)
TOPOLOGY = Permissions(
    "topology",
    publish=(
        "state.>",
        "pathstate.>",
        "history.>",
        "plan.*",
        "checkpoint.*",
        "_INBOX.gateway.>",
        _FLOW,
        *_defines("LOG", "STATE", "REACH", "PATHS", "BGP", "HISTORY", "PLANS", "CHECKPOINTS"),
        *_follows("LOG", "STATE", "REACH", "PATHS", "BGP", "HISTORY", "PLANS", "CHECKPOINTS"),
        *_looks_up("LOG", "STATE", "REACH", "PATHS", "BGP", "HISTORY", "PLANS", "CHECKPOINTS"),
        "$JS.API.STREAM.PURGE.STATE",
        "$JS.API.STREAM.PURGE.PATHS",
        "$JS.API.STREAM.PURGE.HISTORY",
    ),
    subscribe=("past.*", "audit.*", "_INBOX.topology.>"),
)
GATEWAY = Permissions(
    "gateway",
    publish=(
        "allocator.execute",
        "allocator.preview",
        "past.*",
        "audit.*",
        "live.machine.*.look",
        "reach.>",
        "bgp.>",
        _ANSWERS,
        _FLOW,
        *_follows("LOG", "STATE", "REACH", "PATHS", "BGP", "PLANS", "CHECKPOINTS"),
        *_looks_up("LOG"),
        *_reads_newest("STATE", "REACH", "PATHS", "BGP", "PLANS", "CHECKPOINTS"),
    ),
    subscribe=("ask.*.*", "beat.*", "wireloom.command.*.*", "$SRV.>", "_INBOX.gateway.>"),
)
CONSOLE = Permissions("console", publish=("allocator.execute", "$JS.API.INFO"), subscribe=("_INBOX.console.>",))
"""The programs that an operator runs on the control plane's own machine."""

KEEPER = Permissions(
    "keeper",
    publish=("$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP"),
    subscribe=("_INBOX.keeper.>",),
)
"""Who changes the account's token, in the system account: revocations."""

ACCOUNT_ROLES = (MACHINE, PROGRAM, ALLOCATOR, TOPOLOGY, GATEWAY, CONSOLE)
SYSTEM_ROLES = (KEEPER,)


def inbox(name: str) -> str:
    """The prefix of the inboxes of who is named `name`: a service's role, or a machine's or program's id."""
    return f"_INBOX.{name}"


def network_tag(network_id: UUID) -> str:
    """How a machine's token names a network that it may hear."""
    return f"network:{network_id}"
