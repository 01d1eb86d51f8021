"""A control plane with machines, without agents: what the tests have them say goes over the real bus. For tests without
an event loop."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import httpx2
from nats.aio.client import Client

from agent.keys import throwaway_public_key
from events import bus
from events.records import BgpRequest, BgpState, Heartbeat, LinkState, MembershipRequest, ReachRequest, RegisterRequest
from events.subjects import ask
from tests.support.enrolled import enrol
from tests.support.gateway import done
from tests.support.secured_plane import API, SecuredPlane, plane_in_thread
from tests.support.waiting import wait_until_sync

T = TypeVar("T")
Json = dict[str, Any]


@dataclass
class Machine:
    """A machine that was let in, and its connection to the bus."""

    id: UUID
    hostname: str
    client: Client
    boot: UUID = field(default_factory=uuid4)
    counter: int = 0

    def next(self) -> int:
        """The counter of what it says next."""
        self.counter += 1
        return self.counter


class Scene:
    """A control plane, and what happens on it."""

    def __init__(self, plane: SecuredPlane, loop: asyncio.AbstractEventLoop) -> None:
        self.plane = plane
        self._loop = loop
        self._machines: list[Machine] = []
        self._admin = self.do(plane.admin())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of what is done in the control plane's event loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    @property
    def url(self) -> str:
        """Where the dashboard is."""
        return self.plane.url

    def token(self, role: str, name: str | None = None) -> str:
        """The API token of a new account."""
        return self.do(self.plane.token_of(name or f"{role}-{uuid4().hex[:6]}", role))

    def get(self, path: str, **query: Any) -> Json:
        """What the API answers; `path` without `/api/v1`."""
        return self.do(self._json("GET", path, params=query))

    def change(self, method: str, path: str, body: Json | None = None) -> Json:
        """A change over the API, which shows afterwards."""
        return self.do(self._json(method, path, json=body))

    def network(self, name: str, cidr: str, **fields: Any) -> UUID:
        """A new network."""
        return UUID(self.change("POST", "/mesh-networks", {"name": name, "network_cidr": cidr, **fields})["uuid"])

    def machine(self, hostname: str, *networks: UUID, online: bool = True) -> Machine:
        """A machine that was let in and is assigned to these networks, with a key and an endpoint in each."""
        machine = self.do(self._enrol(hostname))
        self._machines.append(machine)
        for number, network_id in enumerate(networks, 1):
            self.change("POST", f"/mesh-networks/{network_id}/machines", {"machine_uuid": str(machine.id)})
            self.announce(machine, network_id, f"192.0.2.{len(self._machines) % 250 + 1}:{51820 + number}")
        if online:
            self.beat(machine)
        return machine

    def arrive(self, hostname: str, token: str) -> Machine:
        """A machine that a bootstrap token lets in. Its agent has not started yet."""
        machine = self.do(self._enrol(hostname, token))
        self._machines.append(machine)
        return machine

    def machines(self, count: int, network_id: UUID | None = None) -> list[UUID]:
        """Many machines that are only registered, `host-00001` and so on, assigned at once."""
        made = self.do(self._register_many(count))
        if network_id is not None:
            batch = {"machine_uuids": [str(each) for each in made]}
            self.change("POST", f"/mesh-networks/{network_id}/machines/batch", batch)
        return made

    def announce(self, machine: Machine, network_id: UUID, *endpoints: str) -> None:
        """A machine tells its key and where it may be reached."""
        request = MembershipRequest(
            network_id=network_id, public_key=throwaway_public_key(), listen_port=51820, endpoints=endpoints
        )
        self.do(bus.ask(machine.client, ask(machine.id, "membership"), request.model_dump_json().encode(), 5))

    def beat(self, machine: Machine, *, leaving: bool = False, applied: dict[UUID, int] | None = None) -> None:
        """A machine's agent is alive, or stops; the API shows it afterwards. `applied` are networks' revisions."""
        said = applied or {}
        heartbeat = Heartbeat(boot_id=machine.boot, counter=machine.next(), leaving=leaving, applied=said)
        self.do(_publish(machine.client, f"beat.{machine.id}", heartbeat.model_dump_json().encode()))
        wait_until_sync(lambda: self.get(f"/machines/{machine.id}")["is_online"] != leaving, what="the heartbeat shows")

    def report(self, machine: Machine, network_id: UUID, *links: LinkState) -> None:
        """A machine reports its direct paths."""
        request = ReachRequest(network_id=network_id, boot_id=machine.boot, counter=machine.next(), links=links)
        self.do(bus.ask(machine.client, ask(machine.id, "reach"), request.model_dump_json().encode(), 5))

    def report_bgp(self, machine: Machine, network_id: UUID, *states: BgpState) -> None:
        """A machine reports its BGP speaker."""
        request = BgpRequest(network_id=network_id, boot_id=machine.boot, counter=machine.next(), states=states)
        self.do(bus.ask(machine.client, ask(machine.id, "bgp"), request.model_dump_json().encode(), 5))

    def direct(self, network_id: UUID, one: Machine, other: Machine, rtt: int = 10) -> None:
        """Two machines report that they reach each other directly."""
        for here, there in ((one, other), (other, one)):
            link = LinkState(peer_id=there.id, state="direct", rtt=rtt, endpoint="192.0.2.77:51820")
            self.report(here, network_id, link)

    def apart(self, network_id: UUID, one: Machine, other: Machine) -> None:
        """Two machines report that they do not reach each other directly."""
        for here, there in ((one, other), (other, one)):
            tried = (("192.0.2.77:51820", "no answer"),)
            self.report(here, network_id, LinkState(peer_id=there.id, state="unreachable", tried=tried))

    def close(self) -> None:
        """End all machines' connections."""
        for machine in self._machines:
            self.do(machine.client.close())

    async def _json(self, method: str, path: str, **what: Any) -> Json:
        answer: Json = await done(self._admin.request(method, API + path, **what))
        return answer

    async def _enrol(self, hostname: str, token: str | None = None) -> Machine:
        stranger: httpx2.AsyncClient = await self.plane.client()
        enrolled = await enrol(stranger, hostname, token or await self.plane.bootstrap_token())
        client = await bus.connect(self.plane.bus_url, hostname, enrolled.credentials)
        machine = Machine(enrolled.machine_id, hostname, client)
        request = RegisterRequest(hostname=hostname, agent_version="0.1.0")
        await bus.ask(client, ask(machine.id, "register"), request.model_dump_json().encode(), 5)
        return machine

    async def _register_many(self, count: int) -> list[UUID]:
        made = []
        for first in range(0, count, 200):
            numbers = range(first + 1, min(first + 200, count) + 1)
            bodies = [{"hostname": f"host-{number:05d}"} for number in numbers]
            answers = await asyncio.gather(*(self._json("POST", "/machines", json=body) for body in bodies))
            made += [UUID(answer["uuid"]) for answer in answers]
        return made


@contextmanager
def scene_in(folder: Path) -> Iterator[Scene]:
    """A scene in a fresh folder."""
    with plane_in_thread(folder) as (plane, loop):
        scene = Scene(plane, loop)
        try:
            yield scene
        finally:
            scene.close()


async def _publish(client: Client, subject: str, data: bytes) -> None:
    await client.publish(subject, data)
    await client.flush()


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "chromium"
"""The system's own: Debian's, or Ubuntu's."""
