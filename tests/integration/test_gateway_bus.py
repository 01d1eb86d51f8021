"""The gateway's side of the bus, with a real control plane: programs' commands, agents' requests and heartbeats."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import httpx2
import orjson
import pytest
from nats.aio.client import Client
from pydantic import BaseModel

from events import bus
from events.commands import INTERNAL_COMMANDS, Outcome
from events.errors import (
    CommandIdReusedError,
    InvalidInputError,
    KeyTakenError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
    WireloomError,
)
from events.records import (
    Heartbeat,
    MembershipRecord,
    MembershipRequest,
    PeerRecord,
    Record,
    RegisterRequest,
    SignedRecord,
    SyncReply,
    SyncRequest,
)
from events.state import decode_record
from events.subjects import ask, beat, command
from events.trust.permissions import inbox
from services.gateway.authority import REQUIRED_ROLE
from tests.support.gateway import allocating, control_plane, create_network, done, gateway_alone, register_machine
from tests.support.waiting import wait_until

KEY = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY="


@pytest.fixture
async def http(bus_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with control_plane(bus_url) as client:
        yield client


@pytest.fixture
async def client(bus_url: str) -> AsyncIterator[Client]:
    connection = await bus.connect(bus_url, "test")
    yield connection
    await connection.close()


async def order(client: Client, kind: str, **fields: Any) -> Outcome:
    return Outcome.model_validate_json(await bus.ask(client, command(kind), orjson.dumps(fields), 30))


@asynccontextmanager
async def agent(client: Client, machine: UUID | str) -> AsyncIterator[Client]:
    """A connection as a machine's agent makes it: with an inbox of its own."""
    connection = await bus.connect(str(client.connected_url.geturl()), "agent", inbox=inbox(str(machine)))
    try:
        yield connection
    finally:
        await connection.close()


async def request(client: Client, machine: UUID, verb: Any, message: BaseModel) -> bytes:
    async with agent(client, machine) as asking:
        return await bus.ask(asking, ask(machine, verb), message.model_dump_json().encode(), 5)


def record(entry: SignedRecord) -> Record:
    return decode_record(entry.payload.encode())


async def sync(client: Client, machine: UUID, scope: str, since: int = 0) -> SyncReply:
    return SyncReply.model_validate_json(await request(client, machine, "sync", SyncRequest(scope=scope, since=since)))


async def test_programs_find_the_commands(http: httpx2.AsyncClient, client: Client) -> None:
    assert orjson.loads((await client.request("$SRV.PING.wireloom")).data)["version"]
    info = orjson.loads((await client.request("$SRV.INFO.wireloom")).data)
    endpoints = {endpoint["name"]: endpoint for endpoint in info["endpoints"]}
    kinds = {command_type.model_fields["kind"].default for command_type in REQUIRED_ROLE}
    assert set(endpoints) == kinds | {"describe"}
    create = endpoints["create-network"]
    assert create["subject"] == "wireloom.command.*.create-network"
    assert orjson.loads(await bus.ask(client, command("describe"), b"", 5))["endpoints"] == info["endpoints"]
    schema = orjson.loads(create["metadata"]["request_schema"])
    assert set(schema["required"]) == {"network_id", "name", "network_cidr"}


async def test_programs_give_commands(http: httpx2.AsyncClient, client: Client) -> None:
    fields = {
        "command_id": str(uuid4()),
        "actor": "robot:7",
        "network_id": str(uuid4()),
        "name": "office",
        "network_cidr": "172.16.0.0/24",
    }
    outcome = await order(client, "create-network", **fields)
    assert (outcome.changed, str(outcome.command_id)) == (True, fields["command_id"])
    assert await order(client, "create-network", **fields) == outcome
    with pytest.raises(CommandIdReusedError):
        await order(client, "create-network", **fields | {"name": "lab"})
    machines = [await register_machine(http, f"db-{number}") for number in range(20)]
    assigned = await asyncio.gather(
        *(order(client, "assign-machine", network_id=fields["network_id"], machine_id=str(m)) for m in machines)
    )
    addresses = {str(one.assignments[0].address) for one in assigned}
    assert addresses == {f"172.16.0.{number}" for number in range(1, 21)}
    log = await done(http.get("/api/v1/events", params={"limit": 1}))
    assert log["items"][0]["actor"] == "bus:anonymous"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"{}", "network_id: Field required"),
        (b'{"kind": "delete-network"}', "rename-network"),
        (b'{"network_id": "7", "name": "x"}', "network_id: Input should be a valid UUID"),
        (b'{"network_id": "6f1b8a52-3c0e-5d0e-9b51-4b1d3f6f0a01", "name": "x", "colour": 1}', "colour: Extra inputs"),
    ],
)
async def test_programs_are_told_what_is_wrong(
    http: httpx2.AsyncClient, client: Client, body: bytes, told: str
) -> None:
    reply = await client.request(command("rename-network"), body)
    assert reply.headers is not None
    assert reply.headers[bus.ERROR_CODE_HEADER] == "422"
    assert told in orjson.loads(reply.data)["detail"]


async def test_an_agent_joins_and_leaves(http: httpx2.AsyncClient, client: Client) -> None:
    office, one, other = await create_network(http, "office", "172.16.0.0/24"), uuid4(), uuid4()
    for machine, hostname in ((one, "db-1"), (other, "web-1")):
        registered = RegisterRequest(hostname=hostname, agent_version="0.1.0")
        Outcome.model_validate_json(await request(client, machine, "register", registered))
    mine = await sync(client, one, f"machine:{one}")
    assert (mine.revision, len(mine.records), mine.gone) == (1, 1, False)
    members = f"/api/v1/mesh-networks/{office}/machines"
    for machine in (one, other):
        await done(http.post(members, json={"machine_uuid": str(machine)}))
    membership = record((await sync(client, one, f"machine:{one}", mine.revision)).records[0]).body
    assert isinstance(membership, MembershipRecord)
    assert str(membership.address) == "172.16.0.1"

    announced = MembershipRequest(network_id=office, public_key=KEY, listen_port=51820, endpoints=("192.0.2.1:51820",))
    await request(client, one, "membership", announced)
    with pytest.raises(KeyTakenError):
        await request(client, other, "membership", announced)
    heard = await wait_until(lambda: peers(client, other, office), what="the peer record")
    assert [(peer.machine_id, peer.hostname, peer.public_key) for peer in heard] == [(one, "db-1", KEY)]
    place = (await done(http.get(f"/api/v1/machines/{one}")))["memberships"][0]
    assert (place["public_key"], place["endpoints"]) == (KEY, ["192.0.2.1:51820"])

    await done(http.delete(f"{members}/{one}"))
    assert (await sync(client, one, f"network:{office}")).gone
    left = await sync(client, other, f"network:{office}", since=2)
    assert [record(entry).body for entry in left.records] == [None]
    assert (await sync(client, other, f"network:{office}", since=99)).reset
    assert (await sync(client, uuid4(), f"network:{office}")).gone


async def peers(client: Client, machine: UUID, network: UUID) -> list[PeerRecord]:
    reply = await sync(client, machine, f"network:{network}")
    bodies = [record(entry).body for entry in reply.records]
    return [body for body in bodies if isinstance(body, PeerRecord)]


async def test_agents_are_told_what_is_wrong(http: httpx2.AsyncClient, client: Client) -> None:
    machine = uuid4()
    for subject, body in (
        ("ask.someone.sync", b"{}"),
        (f"ask.{machine}.dance", b"{}"),
        (f"ask.{machine}.sync", b"nonsense"),
        (f"ask.{machine}.register", b'{"hostname": "db-1", "agent_version": "two words"}'),
        (f"ask.{machine}.register", b'{"hostname": "no_good"}'),
    ):
        async with agent(client, subject.split(".")[1]) as asking:
            with pytest.raises(InvalidInputError):
                await bus.ask(asking, subject, body, 5)


async def test_only_the_inbox_of_who_asks_is_answered(http: httpx2.AsyncClient, client: Client) -> None:
    one, other = await register_machine(http, "db-1"), uuid4()
    body = SyncRequest(scope=f"machine:{one}").model_dump_json().encode()
    async with agent(client, one) as asking, agent(client, other) as listening:
        heard = await listening.subscribe(f"{inbox(str(other))}.>")
        await listening.flush()
        for reply in (f"{inbox(str(other))}.x", f"{inbox(str(one))}x.y", inbox(str(one)), f"live.machine.{other}.info"):
            await asking.publish(ask(one, "sync"), body, reply=reply)
        assert SyncReply.model_validate_json(await bus.ask(asking, ask(one, "sync"), body, 5)).records
        with pytest.raises(UnavailableError):
            await bus.ask(client, ask(one, "sync"), body, 0.2)
        await listening.flush()
        assert heard.pending_msgs == 0


async def test_where_nobody_has_to_say_who_he_is(http: httpx2.AsyncClient, client: Client) -> None:
    fields = {"network_id": str(uuid4()), "name": "office", "network_cidr": "172.16.0.0/24"}
    with pytest.raises(UnauthenticatedError):
        await bus.ask(client, command("create-network", uuid4()), orjson.dumps(fields), 5)
    for internal in INTERNAL_COMMANDS:
        with pytest.raises(UnavailableError, match="Nobody answers"):
            await order(client, internal.model_fields["kind"].default)
    machine = await register_machine(http, "db-1")
    async with agent(client, machine) as asking:
        with pytest.raises(NotFoundError, match="signs nothing"):
            await bus.ask(asking, ask(machine, "ring"), b"", 5)
    assert (await done(http.get("/api/v1/mesh-networks")))["total"] == 0


async def test_nobody_has_an_answer_written_to_the_log(http: httpx2.AsyncClient, client: Client) -> None:
    machine = uuid4()
    before = (await done(http.get("/api/v1/events")))["last_sequence"]
    for verb in ("register", "sync", "dance"):
        await client.publish(f"ask.{machine}.{verb}", b"{}", reply=f"log.{uuid4()}")
    for body in (b"{}", orjson.dumps({"machine_id": str(machine), "hostname": "db-1"})):
        await client.publish(command("register-machine"), body, reply=f"log.{uuid4()}")

    async def registered() -> bool:
        return (await http.get(f"/api/v1/machines/{machine}")).is_success

    await wait_until(registered, what="the last command is executed")
    await register_machine(http, "db-2")
    assert (await done(http.get("/api/v1/events")))["last_sequence"] == before + 2


async def test_heartbeats_show_who_is_online(http: httpx2.AsyncClient, client: Client) -> None:
    machine, boot = await register_machine(http, "db-1"), uuid4()

    async def online(expected: bool) -> bool:
        view = await done(http.get(f"/api/v1/machines/{machine}"))
        return bool(view["is_online"] is expected and (view["last_seen_at"] is not None))

    async def say(heartbeat: Heartbeat) -> None:
        await client.publish(beat(machine), heartbeat.model_dump_json().encode())

    assert not (await done(http.get(f"/api/v1/machines/{machine}")))["is_online"]
    await client.publish(f"beat.{machine}", b"nonsense")
    await say(Heartbeat(boot_id=boot, counter=1))
    await wait_until(lambda: online(True), what="the machine is online")
    assert (await done(http.get("/api/v1/machines", params={"is_online": "true"})))["total"] == 1
    assert "wireloom_agents_online 1.0" in (await http.get("/metrics")).text
    await say(Heartbeat(boot_id=boot, counter=2, leaving=True))
    await wait_until(lambda: online(False), what="the machine is offline")


async def test_before_there_is_any_state(bus_url: str, client: Client) -> None:
    """Nothing is answered from a mirror that was not loaded: no agent is told that its networks are gone."""
    async with allocating(bus_url), gateway_alone(bus_url) as http:
        parts = {"ready": False, "bus": True, "mirror": False, "allocator": True}

        async def only_the_mirror_is_missing() -> bool:
            return bool((await http.get("/readyz")).json() == parts)

        await wait_until(only_the_mirror_is_missing, what="the allocator answers")
        response = await http.get("/api/v1/machines")
        assert (response.status_code, response.json()["code"]) == (503, "unavailable")
        with pytest.raises(WireloomError, match="Nobody answers"):
            await sync(client, uuid4(), f"machine:{uuid4()}")
        body = {"network_id": str(uuid4()), "name": "office", "network_cidr": "172.16.0.0/24"}
        assert (await order(client, "create-network", **body)).changed


async def test_a_large_batch_shows_completely_when_it_is_answered(http: httpx2.AsyncClient, client: Client) -> None:
    office, machines = await create_network(http, "office", "172.16.0.0/22"), [uuid4() for _ in range(300)]
    await asyncio.gather(*(order(client, "register-machine", machine_id=str(m), hostname="m") for m in machines))
    place = f"/api/v1/mesh-networks/{office}"
    for first in range(0, 300, 100):
        body = {"machine_uuids": [str(machine) for machine in machines[first : first + 100]]}
        assert (await done(http.post(f"{place}/machines/batch", json=body)))["total"] == 100
        assert (await done(http.get(place)))["machine_count"] == first + 100
    page = await done(http.get(f"{place}/machines", params={"limit": 1000}))
    assert [item["uuid"] for item in page["items"]] == [str(machine) for machine in machines]
    text = (await done(http.get("/api/v1/events", params={"limit": 1})))["items"][0]["text"]
    assert text.startswith("assigned 100 machines to office: m (172.16.0.201), ")
    last = await sync(client, machines[0], f"machine:{machines[0]}")
    assert last.revision == 2
