"""A control plane with a little history, and what its API tells of everything in it: now, or at a moment."""

from __future__ import annotations

import base64
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID, uuid4

import httpx2
from pydantic import BaseModel

from events import bus, log
from events.client import BusClient
from events.errors import UnavailableError
from events.records import BgpRequest, LinkState, MembershipRequest, ReachRequest
from events.subjects import ask
from events.trust.permissions import inbox
from tests.support.gateway import control_plane, done, register_machine
from tests.support.waiting import wait_until

API = "/api/v1"
NETWORKS = f"{API}/mesh-networks"
_NOT_RECORDED = {"is_online", "last_seen_at", "refused_records"}
_RUNNING = {"age_seconds"}


class Told(NamedTuple):
    """What the API told at one moment, by address: the status, and the object."""

    position: int
    time: datetime
    answers: dict[str, tuple[int, Any]]


class History:
    """A control plane, what is done with it, and what it told then."""

    def __init__(self, http: httpx2.AsyncClient, client: BusClient, bus_url: str) -> None:
        self.http = http
        self.told: list[Told] = []
        self.things: dict[str, list[UUID]] = {"mesh-networks": [], "machines": []}
        """All that there ever was, by what the API calls it."""
        self._client = client
        self._bus_url = bus_url
        self._boot, self._counter = uuid4(), 0

    async def make(self, kind: str, **fields: Any) -> UUID:
        """Something made over HTTP."""
        made = UUID((await done(self.http.post(f"{API}/{kind}", json=fields)))["uuid"])
        self.things.setdefault(kind, []).append(made)
        return made

    async def join(self, network: UUID, hostname: str) -> UUID:
        """A machine that is in a network and has announced its key."""
        machine = await register_machine(self.http, hostname)
        self.things["machines"].append(machine)
        await done(self.http.post(f"{NETWORKS}/{network}/machines", json={"machine_uuid": str(machine)}))
        key = base64.b64encode(machine.bytes * 2).decode()
        await self._say(machine, "membership", MembershipRequest(network_id=network, public_key=key, listen_port=51820))
        return machine

    async def report(self, network: UUID, machine: UUID, *links: LinkState) -> None:
        """Have a machine report its links."""
        self._counter += 1
        said = ReachRequest(network_id=network, boot_id=self._boot, counter=self._counter, links=links)
        await self._say(machine, "reach", said)

    async def speak(self, network: UUID, machine: UUID, *states: Any) -> None:
        """Have a machine report its BGP speaker."""
        self._counter += 1
        said = BgpRequest(network_id=network, boot_id=self._boot, counter=self._counter, states=states)
        await self._say(machine, "bgp", said)

    async def _say(self, machine: UUID, what: Literal["membership", "reach", "bgp"], said: BaseModel) -> None:
        client = await bus.connect(self._bus_url, "agent", inbox=inbox(str(machine)))
        subject, body = ask(machine, what), said.model_dump_json().encode()
        try:
            await wait_until(lambda: _takes(client, subject, body), what="the gateway takes the report")
        finally:
            await client.close()

    async def becomes(self, address: str, **fields: Any) -> None:
        """Wait until the API tells this of something."""
        await wait_until(lambda: self._tells(address, fields), what=f"{address} becomes {fields}")

    async def _tells(self, address: str, fields: dict[str, Any]) -> bool:
        found = (await self.http.get(f"{API}{address}")).json()
        return all(found.get(name) == value for name, value in fields.items())

    async def note(self) -> None:
        """Note what is told now."""
        position = await log.last_sequence(self._client)
        answers = {address: await self.ask(address) for address in self.addresses()}
        self.told.append(Told(position, datetime.now(UTC), answers))

    async def ask(self, address: str, at: str | None = None) -> tuple[int, Any]:
        """What is told of something, but for what nobody records."""
        response = await self.http.get(f"{API}{address}", params={} if at is None else {"at": at})
        if not response.is_success:
            return response.status_code, None
        assert ("X-Wireloom-At" in response.headers) == (at is not None)
        if at is not None:
            assert set(_values(response.json(), _NOT_RECORDED)) <= {None}
        return response.status_code, recorded(response.json())

    def addresses(self) -> list[str]:
        """Everything that can be asked, of all that there ever was."""
        networks, machines = self.things["mesh-networks"], self.things["machines"]
        found = [f"/{kind}" for kind in ("mesh-networks", "machines", "routes", "vips", "route-policies")]
        found += [f"/{kind}/{thing}" for kind, things in self.things.items() for thing in things]
        for network in networks:
            found += [f"/mesh-networks/{network}/{what}" for what in ("machines", "bgp", "bgp/sessions", "paths")]
            found += [f"/mesh-networks/{network}/reflectors"]
            found += [f"/mesh-networks/{network}/machines/{machine}" for machine in machines]
            pairs = itertools.combinations(machines, 2)
            found += [f"/mesh-networks/{network}/paths/{one}/{other}" for one, other in pairs]
            found += [f"/machines/{machine}/mesh-networks/{network}/rib" for machine in machines]
        for machine in machines:
            found += [f"/machines/{machine}/{what}" for what in ("peers", "bgp", "gateway")]
        return found


async def _takes(client: BusClient, subject: str, body: bytes) -> bool:
    try:
        await bus.ask(client, subject, body, 5)
    except UnavailableError:
        return False
    return True


def recorded(told: Any) -> Any:
    """What the API told, without what nobody records and what only the clock changes."""
    if isinstance(told, dict) and told.get("kind") == "transit":
        told = told | {"since": None}  # when a way was chosen is not recorded
    if isinstance(told, dict) and "reports" in told:
        newest = [report["sequence"] for report in told["reports"]]
        events = [_event(each) for each in told["events"] if _is_recorded(each, newest)]
        told = told | {"events": sorted(events, key=lambda event: event["kind"] == "choice")}
    if isinstance(told, dict):
        return {name: recorded(value) for name, value in told.items() if name not in _NOT_RECORDED | _RUNNING}
    return [recorded(each) for each in told] if isinstance(told, list) else told


def _is_recorded(event: dict[str, Any], newest: list[int]) -> bool:
    return event["kind"] == "choice" or event["sequence"] in newest


def _event(event: dict[str, Any]) -> dict[str, Any]:
    return event | ({"time": None, "sequence": None} if event["kind"] == "choice" else {})


def _values(told: Any, names: set[str]) -> list[Any]:
    if isinstance(told, dict):
        own = [value for name, value in told.items() if name in names]
        return own + [found for value in told.values() for found in _values(value, names)]
    return [found for each in told for found in _values(each, names)] if isinstance(told, list) else []


@asynccontextmanager
async def beginning(bus_url: str) -> AsyncIterator[History]:
    """A control plane without a history."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(control_plane(bus_url))
        client = await bus.connect(bus_url, "test")
        stack.push_async_callback(client.close)
        yield History(http, client, bus_url)
