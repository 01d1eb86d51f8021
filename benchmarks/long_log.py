"""A long log such as years leave behind, written straight into LOG: a few thousand machines in some networks that come,
go, move about and are renamed. Each event is valid after those before it, and chained."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from uuid import UUID

import orjson
from nats.aio.client import Client

from events import codec
from events.bus import ensure_streams
from events.domain import (
    GENESIS_HASH,
    REGISTRY_ID,
    DomainEvent,
    MachineAgentUpdated,
    MachineDeleted,
    MachineRegistered,
    MachineRenamed,
    MachinesAssigned,
    MachinesUnassigned,
    MembershipRegistered,
    NetworkCreated,
)
from events.feed import last_sequence
from events.subjects import EVENT_HEADER, LOG, log_subject
from services.topology.fenced import MAX_BATCH, Message, publish

BEGINNING = datetime(2025, 1, 1, tzinfo=UTC)
APART = timedelta(seconds=30)
"""So long after each event comes the next one."""

_NETWORK_BITS = 16
_MIX = {"announce": 160, "rename": 15, "update": 15, "leave": 9, "delete": 1}
"""How often each happens, of 200. Who was deleted is followed by another."""
_ELSEWHERE = 0.1
"""How often somebody who leaves a network joins another, and not the same one again."""


class LongLog:
    """Makes events, as the messages that the log has of them."""

    def __init__(self, networks: int, machines: int, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._most = machines
        self._count = 0
        self._versions: dict[UUID, int] = {}
        self._hashes: dict[UUID, str] = {}
        self._networks = [self._uuid() for _ in range(networks)]
        self._free: dict[UUID, int] = {}
        """Of each network the next address that nobody had."""
        self._homes: dict[UUID, tuple[UUID, str]] = {}
        """Each machine's network and address."""
        self._machines: list[UUID] = []

    def messages(self, count: int) -> Iterator[Message]:
        """So many events."""
        left = count
        for message in self._some():
            if not left:
                return
            left -= 1
            yield message

    def _some(self) -> Iterator[Message]:
        for number, network_id in enumerate(self._networks):
            self._free[network_id] = (10 << 24) + (number << _NETWORK_BITS)
            yield self._event(
                NetworkCreated,
                REGISTRY_ID,
                network_id=str(network_id),
                name=f"net-{number}",
                network_cidr=f"10.{number}.0.0/16",
                route_reflector_mode=False,
                is_default=False,
            )
        steps: dict[str, Callable[[UUID], Iterator[Message]]] = {
            "announce": self._announce,
            "rename": self._rename,
            "update": self._update,
            "leave": self._leave,
            "delete": self._delete,
        }
        kinds, weights = list(_MIX), list(_MIX.values())
        while True:
            if len(self._machines) < self._most:
                yield from self._join()
            for kind in self._random.choices(kinds, weights, k=20):
                yield from steps[kind](self._machines[self._random.randrange(len(self._machines))])

    def _join(self) -> Iterator[Message]:
        machine_id = self._uuid()
        yield self._event(
            MachineRegistered,
            machine_id,
            machine_id=str(machine_id),
            hostname=f"host-{self._count}",
            agent_version="0.1.0",
        )
        self._machines.append(machine_id)
        yield from self._enter(machine_id)

    def _enter(self, machine_id: UUID) -> Iterator[Message]:
        network_id = self._homes[machine_id][0] if machine_id in self._homes else self._networks[0]
        if machine_id not in self._homes or self._random.random() < _ELSEWHERE:
            network_id = self._random.choice(self._networks)
        first = (10 << 24) + (self._networks.index(network_id) << _NETWORK_BITS)
        self._free[network_id] = first + (self._free[network_id] - first) % 65_000 + 1
        self._homes[machine_id] = network_id, str(IPv4Address(self._free[network_id]))
        yield self._assignment(MachinesAssigned, machine_id)
        yield from self._announce(machine_id)

    def _leave(self, machine_id: UUID) -> Iterator[Message]:
        yield self._assignment(MachinesUnassigned, machine_id)
        yield from self._enter(machine_id)

    def _delete(self, machine_id: UUID) -> Iterator[Message]:
        yield self._assignment(MachinesUnassigned, machine_id)
        yield self._event(MachineDeleted, machine_id, machine_id=str(machine_id), hostname="host")
        self._machines.remove(machine_id)
        yield from self._join()

    def _assignment(self, kind: type[DomainEvent], machine_id: UUID) -> Message:
        network_id, address = self._homes[machine_id]
        assigned = [{"machine_id": str(machine_id), "address": address}]
        return self._event(kind, network_id, network_id=str(network_id), assignments=assigned)

    def _announce(self, machine_id: UUID) -> Iterator[Message]:
        network_id = self._homes[machine_id][0]
        yield self._event(
            MembershipRegistered,
            network_id,
            network_id=str(network_id),
            machine_id=str(machine_id),
            public_key=base64.b64encode(machine_id.bytes * 2).decode(),
            listen_port=51820,
            endpoints=[f"192.0.2.{self._random.randrange(1, 255)}:{self._random.randrange(1024, 65536)}"],
        )

    def _rename(self, machine_id: UUID) -> Iterator[Message]:
        yield self._event(
            MachineRenamed,
            machine_id,
            machine_id=str(machine_id),
            hostname=f"host-{self._count}",
            previous_hostname="host",
        )

    def _update(self, machine_id: UUID) -> Iterator[Message]:
        yield self._event(
            MachineAgentUpdated, machine_id, machine_id=str(machine_id), agent_version=f"0.{self._count % 9}.0"
        )

    def _event(self, kind: type[DomainEvent], originator_id: UUID, **fields: object) -> Message:
        version = self._versions[originator_id] = self._versions.get(originator_id, 0) + 1
        time = BEGINNING + self._count * APART
        self._count += 1
        common: Mapping[str, object] = {
            "previous_hash": self._hashes.get(originator_id, GENESIS_HASH),
            "time": time.isoformat().replace("+00:00", "Z"),
            "actor": "bench:driver",
            "command_id": str(self._uuid()),
        }
        topic, state = codec.topic_of(kind), orjson.dumps({**common, **fields})
        self._hashes[originator_id] = codec.digest(originator_id, version, topic, state)
        return log_subject(originator_id), state, {EVENT_HEADER: f"{version} {topic}"}

    def _uuid(self) -> UUID:
        return UUID(bytes=self._random.randbytes(16), version=4)


async def write_long_log(client: Client, count: int, *, networks: int = 10, machines: int = 3000) -> int:
    """Write so many events into a log that may be missing; returns its last sequence."""
    await ensure_streams(client, (LOG,), 1)
    end, batch = await last_sequence(client, LOG.name), list[Message]()
    for message in LongLog(networks, machines).messages(count):
        batch.append(message)
        if len(batch) == MAX_BATCH:
            end, batch = await publish(client, batch, end), []
    return await publish(client, batch, end) if batch else end
