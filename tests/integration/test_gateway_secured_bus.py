"""The gateway's side of a secured bus, with a whole control plane: machines, programs, and whoever tries more."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
import structlog
from nats.aio.client import Client

from events import bus
from events.client import BusClient
from events.commands import INTERNAL_COMMANDS, Outcome
from events.enrolment import Access
from events.errors import (
    ForbiddenError,
    MachineDeletedError,
    UnauthenticatedError,
    UnavailableError,
    WireloomError,
)
from events.records import Heartbeat, RegisterRequest, SyncReply, SyncRequest
from events.subjects import ask, beat, command, live_scope, log_subject
from events.trust import jwt
from events.trust.keys import Key, generate
from events.trust.permissions import inbox
from events.trust.signing import Verifier, read_ring
from services.gateway.agents import AT_ONCE
from tests.support.gateway import create_network, done
from tests.support.secured import as_user, closed
from tests.support.secured_plane import API, Machine, SecuredPlane, secured_plane
from tests.support.waiting import wait_until


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[SecuredPlane]:
    """A control plane whose gateway is refused nothing by the bus: it may say and hear exactly what it tries to."""
    with structlog.testing.capture_logs() as logs:
        async with secured_plane(tmp_path) as running:
            yield running
    services = [entry for entry in logs if str(entry.get("connection", "")).startswith("wireloom")]
    assert not [entry for entry in services if "ermissions" in str(entry.get("error"))]
    assert not [entry for entry in logs if entry.get("exc_info")]


async def access_of(plane: SecuredPlane, machine: Machine) -> Access:
    stranger = await plane.client()
    body = await plane.renewal(stranger, machine)
    return Access.model_validate(await done(stranger.post(f"{API}/agents/renew", json=body)))


@asynccontextmanager
async def agent(plane: SecuredPlane, machine: Machine, access: Access | None = None) -> AsyncIterator[BusClient]:
    """A machine's connection, with access that it has just got."""
    token = (access or await access_of(plane, machine)).token
    async with as_user(plane.bus_url, plane.identity, machine.key, token, str(machine.id)) as client:
        yield client


async def request(client: Client, machine: Machine, verb: Any, body: bytes = b"") -> bytes:
    return await bus.ask(client, ask(machine.id, verb), body, 5)


async def sync(client: Client, machine: Machine, scope: str) -> SyncReply:
    body = SyncRequest(scope=scope).model_dump_json().encode()
    return SyncReply.model_validate_json(await request(client, machine, "sync", body))


async def assign(plane: SecuredPlane, network: UUID, machine: Machine) -> None:
    admin = await plane.admin()
    await done(admin.post(f"{API}/mesh-networks/{network}/machines", json={"machine_uuid": str(machine.id)}))


async def test_a_machine_hears_its_own_signed_records(plane: SecuredPlane) -> None:
    office = await create_network(await plane.admin(), "office", "172.16.0.0/24")
    machine = await plane.enrolled("db-1")
    await assign(plane, office, machine)
    access = await access_of(plane, machine)
    assert (access.networks, access.root) == ((office,), plane.identity.public.root)
    async with agent(plane, machine, access) as client:
        await request(client, machine, "register", RegisterRequest(hostname="db-1").model_dump_json().encode())
        ring = read_ring(await request(client, machine, "ring"))
        verifier = Verifier(access.root, access.ring)
        assert not verifier.adopt(ring)
        for scope in (f"machine:{machine.id}", f"network:{office}"):
            records = (await sync(client, machine, scope)).records
            assert records
            for entry in records:
                assert verifier.is_genuine(entry.subject, entry.payload.encode(), entry.signature), entry.subject
        assert (await sync(client, machine, f"machine:{uuid4()}")).gone


async def test_the_ring_is_read_anew(plane: SecuredPlane) -> None:
    machine = await plane.enrolled("db-1")
    root, before = plane.identity.key("root"), plane.identity.ring()
    newer = before.model_copy(update={"version": 2, "keys": (generate("operator").public, *before.keys)})
    async with agent(plane, machine) as client:
        assert read_ring(await request(client, machine, "ring")).version == 1
        (plane.identity.folder / "ring.json").write_text(newer.signed_by(root).model_dump_json())
        assert read_ring(await request(client, machine, "ring")).keys == newer.keys


async def test_who_asks_without_end_is_put_off(plane: SecuredPlane) -> None:
    one, other = await plane.enrolled("db-1"), await plane.enrolled("db-2")
    async with agent(plane, one) as flooding, agent(plane, other) as client:
        answers = await flooding.subscribe(f"{inbox(str(one.id))}.flood")
        body = SyncRequest(scope=f"machine:{one.id}").model_dump_json().encode()
        for _ in range(4 * AT_ONCE):
            await flooding.publish(ask(one.id, "sync"), body, reply=f"{inbox(str(one.id))}.flood")
        await flooding.flush()
        assert (await sync(client, other, f"machine:{other.id}")).records
        codes = [(await answers.next_msg(5)).headers for _ in range(4 * AT_ONCE)]
        assert {(headers or {}).get(bus.ERROR_CODE_HEADER) for headers in codes} == {None, "503"}
        assert sum(not headers for headers in codes) >= AT_ONCE
        assert (await sync(flooding, one, f"machine:{one.id}")).records


async def test_no_reply_subject_leads_elsewhere(plane: SecuredPlane) -> None:
    """Whatever a machine or program asks to be answered on: no event, no record, and nobody else hears it."""
    one, other = await plane.enrolled("db-1"), await plane.enrolled("db-2")
    principal, key, token = await program(plane, "operator")
    before, state = await plane.position(), await state_of(plane)
    async with (
        agent(plane, one) as client,
        agent(plane, other) as listening,
        as_user(plane.bus_url, plane.identity, key, token, str(principal)) as robot,
    ):
        heard = [
            await listening.subscribe(f"{inbox(str(other.id))}.>"),
            await listening.subscribe(live_scope("machine", other.id)),
        ]
        await listening.flush()
        foreign = (
            log_subject(uuid4()),
            f"state.machine.{other.id}.info",
            f"live.machine.{other.id}.info",
            f"{inbox(str(other.id))}.x",
            f"{inbox('gateway')}.x",
            f"{inbox('allocator')}.x",
            f"{inbox(str(one.id))}x.y",
            "allocator.execute",
            "$JS.API.STREAM.PURGE.STATE",
            "_INBOX.x",
        )
        for reply in foreign:
            for verb in ("sync", "ring", "register", "dance"):
                await client.publish(f"ask.{one.id}.{verb}", b"{}", reply=reply)
            for kind in ("describe", "register-machine"):
                await robot.publish(command(kind, principal), b"{}", reply=reply)
            await robot.publish("$SRV.PING.wireloom", b"", reply=reply)
        assert read_ring(await request(client, one, "ring")).version == 1
        assert await bus.ask(robot, command("describe", principal), b"", 5)
        await listening.flush()
        assert [subscription.pending_msgs for subscription in heard] == [0, 0]
    assert await plane.position() == before
    assert await state_of(plane) == state


async def state_of(plane: SecuredPlane) -> int:
    """STATE's last sequence."""
    client = await bus.connect(plane.bus_url, "test", plane.identity.credentials("topology"))
    try:
        sequence: int = (await client.jetstream().stream_info("STATE")).state.last_seq
        return sequence
    finally:
        await client.close()


async def test_who_left_a_network_comes_back_without_it(plane: SecuredPlane) -> None:
    admin = await plane.admin()
    office = await create_network(admin, "office", "172.16.0.0/24")
    lab = await create_network(admin, "lab", "10.0.0.0/24")
    one, other = await plane.enrolled("db-1"), await plane.enrolled("db-2")
    for machine in (one, other):
        for network in (office, lab):
            await assign(plane, network, machine)
    old = await access_of(plane, one)
    async with AsyncExitStack() as stack:
        staying = await stack.enter_async_context(agent(plane, other))
        access = old
        for _ in range(3):
            client = await stack.enter_async_context(agent(plane, one, access))
            await done(admin.delete(f"{API}/mesh-networks/{office}/machines/{one.id}"))
            await closed(client)
            without = await access_of(plane, one)
            assert without.networks == (lab,)
            again = await stack.enter_async_context(agent(plane, one, without))
            assert (await sync(again, one, f"network:{office}")).gone
            assert (await sync(again, one, f"network:{lab}")).records
            await assign(plane, office, one)
            access = await access_of(plane, one)
            assert access.networks == tuple(sorted((office, lab)))
            assert again.is_connected
        assert staying.is_connected
        with pytest.raises(UnauthenticatedError):
            async with agent(plane, one, old):
                pass


async def test_a_revoked_machine_is_out(plane: SecuredPlane) -> None:
    machine = await plane.enrolled("db-1")
    access = await access_of(plane, machine)
    admin, stranger = await plane.admin(), await plane.client()
    async with agent(plane, machine, access) as client:
        await client.publish(beat(machine.id), Heartbeat(boot_id=uuid4(), counter=1).model_dump_json().encode())
        await wait_until(lambda: is_online(plane, machine, True), what="the machine is online")
        await done(admin.post(f"{API}/machines/{machine.id}/revoke"))
        await closed(client)
    before = await plane.position()
    refusal = await stranger.post(f"{API}/agents/renew", json=await plane.renewal(stranger, machine))
    assert (refusal.status_code, refusal.json()["code"]) == (403, "machine-revoked")
    token = await plane.bootstrap_token()
    made = await plane.position()
    refusal = await stranger.post(f"{API}/agents/enrol", json=await plane.enrolment(stranger, machine, token))
    assert (refusal.status_code, refusal.json()["code"]) == (403, "machine-revoked")
    with pytest.raises(UnauthenticatedError):
        async with agent(plane, machine, access):
            pass
    assert await plane.position() == made == before + 1


async def is_online(plane: SecuredPlane, machine: Machine, expected: bool) -> bool:
    view = await done((await plane.admin()).get(f"{API}/machines/{machine.id}"))
    return bool(view["is_online"]) is expected


async def test_asks_of_machines_that_may_not_be_here(plane: SecuredPlane) -> None:
    """Also where the bus still lets them speak."""
    before = await plane.position()
    stranger = Machine(uuid4(), generate("user"), "db-9")
    async with agent_with(plane, stranger) as client:
        for verb in ("register", "sync", "ring", "membership"):
            with pytest.raises(UnauthenticatedError):
                await request(client, stranger, verb, b'{"hostname": "db-9"}')
        await client.publish(beat(stranger.id), Heartbeat(boot_id=uuid4(), counter=1).model_dump_json().encode())
    assert await plane.position() == before

    gone = await plane.enrolled("db-2")
    await done((await plane.admin()).delete(f"{API}/machines/{gone.id}"))
    after = await plane.position()
    async with agent_with(plane, gone) as client:
        for verb in ("register", "sync", "ring"):
            with pytest.raises(MachineDeletedError):
                await request(client, gone, verb, b'{"hostname": "db-2"}')
    stranger_http = await plane.client()
    refusal = await stranger_http.post(f"{API}/agents/renew", json=await plane.renewal(stranger_http, gone))
    assert refusal.json()["code"] == "machine-deleted"
    assert await plane.position() == after


@asynccontextmanager
async def agent_with(plane: SecuredPlane, machine: Machine) -> AsyncIterator[BusClient]:
    """A connection with a token that the gateway did not make, though with its key, for some time from now."""
    now = int(time.time()) + 60
    token = jwt.user(
        plane.identity.key("machine"),
        plane.identity.public.account,
        machine.key.public,
        str(machine.id),
        issued_at=now,
        expires_at=now + 60,
    )
    async with as_user(plane.bus_url, plane.identity, machine.key, token, str(machine.id)) as client:
        yield client


async def test_who_does_not_prove_who_he_is_learns_nothing(plane: SecuredPlane) -> None:
    known = await plane.enrolled("db-1")
    stranger = await plane.client()
    before, answers = await plane.position(), []
    for machine_id in (known.id, uuid4()):
        posing = Machine(machine_id, generate("user"), "db-1")
        answers.append(await stranger.post(f"{API}/agents/renew", json=await plane.renewal(stranger, posing)))
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].json() == answers[1].json()
    body = await plane.renewal(stranger, known)
    assert (await stranger.post(f"{API}/agents/renew", json=body)).is_success
    assert (await stranger.post(f"{API}/agents/renew", json=body)).status_code == 401
    enrolling = await plane.enrolment(stranger, known, await plane.bootstrap_token())
    made = await plane.position()
    renewing = {"machine_id": str(known.id), "challenge": enrolling["challenge"], "proof": enrolling["proof"]}
    assert (await stranger.post(f"{API}/agents/renew", json=renewing)).status_code == 401
    assert await plane.position() == made == before + 1
    metrics = (await (await plane.admin()).get("/metrics")).text
    assert 'wireloom_refused_admissions_total{code="unauthenticated",purpose="renew"} 4.0' in metrics


async def program(plane: SecuredPlane, role: str) -> tuple[UUID, Key, str]:
    """The principal, key and bus token of a program that speaks for a new account."""
    http, key = await plane.account(f"{role}-{uuid4().hex[:6]}", role), generate("user")
    made = await done(http.post(f"{API}/bus-credentials", json={"public_key": key.public}))
    return UUID(made["principal"]), key, made["token"]


@asynccontextmanager
async def robot_of(plane: SecuredPlane, role: str) -> AsyncIterator[tuple[BusClient, UUID]]:
    principal, key, token = await program(plane, role)
    async with as_user(plane.bus_url, plane.identity, key, token, str(principal)) as client:
        yield client, principal


async def order(client: Client, principal: UUID, kind: str, **fields: Any) -> Outcome:
    answer = await bus.ask(client, command(kind, principal), orjson.dumps(fields), 10)
    return Outcome.model_validate_json(answer)


async def test_a_program_gives_commands_in_its_accounts_name(plane: SecuredPlane) -> None:
    office = str(uuid4())
    async with robot_of(plane, "operator") as (client, principal):
        made = await order(
            client, principal, "create-network", network_id=office, name="office", network_cidr="172.16.0.0/24"
        )
        assert made.changed
        await order(client, principal, "rename-network", network_id=office, name="home", actor="account:admin/test")
        log = await done((await plane.admin()).get(f"{API}/events", params={"limit": 2}))
        assert {item["actor"].rpartition("-")[0] for item in log["items"]} == {"account:operator"}
        info = orjson.loads(await bus.ask(client, command("describe", principal), b"", 5))
        assert "create-network" in {endpoint["name"] for endpoint in info["endpoints"]}


async def test_a_programs_role_and_token_count_at_once(plane: SecuredPlane) -> None:
    admin, account = await plane.admin(), {"account_id": str(uuid4()), "name": "mallory", "role": "admin"}
    fields = {"network_id": str(uuid4()), "name": "office", "network_cidr": "172.16.0.0/24"}
    async with robot_of(plane, "operator") as (client, principal):
        before = await plane.position()
        with pytest.raises(ForbiddenError, match="admin"):
            await order(client, principal, "create-account", **account)
        for internal in INTERNAL_COMMANDS:
            with pytest.raises(UnavailableError, match="Nobody answers"):
                await order(client, principal, internal.model_fields["kind"].default)
        assert await plane.position() == before

        (token,) = [
            each for each in (await done(admin.get(f"{API}/tokens")))["items"] if each["uuid"] == str(principal)
        ]
        await done(admin.patch(f"{API}/accounts/{token['account_uuid']}", json={"role": "viewer"}))
        with pytest.raises(ForbiddenError, match="operator"):
            await order(client, principal, "create-network", **fields)
        await done(admin.patch(f"{API}/accounts/{token['account_uuid']}", json={"role": "operator"}))
        await done(admin.delete(f"{API}/tokens/{principal}"))
        with pytest.raises(UnauthenticatedError):
            await order(client, principal, "create-network", **fields)
        with pytest.raises(UnauthenticatedError):
            await bus.ask(client, command("describe", principal), b"", 5)
        assert await plane.position() == before + 3


async def test_a_program_says_nothing_in_anothers_name(plane: SecuredPlane) -> None:
    fields = {"network_id": str(uuid4()), "name": "office", "network_cidr": "172.16.0.0/24"}
    async with robot_of(plane, "operator") as (client, _), robot_of(plane, "admin") as (_, other):
        before = await plane.position()
        for principal in (other, "anybody", uuid4()):
            with pytest.raises(WireloomError):
                await bus.ask(client, command("create-network", principal), orjson.dumps(fields), 0.5)
        assert await plane.position() == before


async def test_heartbeats_that_are_stale_or_replayed(plane: SecuredPlane) -> None:
    machine, admin, network = await plane.enrolled("db-1"), await plane.admin(), uuid4()
    first, second = (Heartbeat(boot_id=uuid4(), counter=5) for _ in range(2))
    forged = Heartbeat(boot_id=second.boot_id, counter=6, applied={network: 9}, refused={"forged": 3, "<b>": 1})
    async with agent(plane, machine) as client:
        for heartbeat in (first, second, forged, second, first, first.model_copy(update={"counter": 99}), forged):
            await client.publish(beat(machine.id), heartbeat.model_dump_json().encode())
        await client.publish(beat(machine.id), b"nonsense")

        async def counted() -> bool:
            return "wireloom_refused_heartbeats_total 5.0" in (await admin.get("/metrics")).text

        await wait_until(counted, what="all heartbeats are heard")
    metrics = (await admin.get("/metrics")).text
    assert "wireloom_heartbeats_total 3.0" in metrics
    assert "wireloom_refused_records_total 3.0" in metrics
    view = await done(admin.get(f"{API}/machines/{machine.id}"))
    assert view["refused_records"] == {"forged": 3}
