"""What machines tell of their tunnels, from their agents over a secured bus to whoever looks: with machines that lie,
flood, or never answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
import structlog
from nats.aio.msg import Msg

from agent.device import Peer
from agent.recording import RecordingDevices
from events.client import BusClient
from events.interfaces import interface_name
from events.records import Heartbeat
from events.subjects import ask, beat, look
from events.tunnels import MAX_ITEMS, Tunnel, TunnelPart, TunnelPeer
from services.gateway import service, tunnel_reports, tunnels
from tests.integration.test_agent_secured import a_machine, a_network, assign, peers
from tests.support.gateway import answers, done, serving
from tests.support.secured_plane import API, Machine, SecuredPlane, secured_plane
from tests.support.waiting import wait_until


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[SecuredPlane]:
    with structlog.testing.capture_logs() as logs:
        async with secured_plane(tmp_path / "plane") as plane:
            yield plane
    services = [entry for entry in logs if str(entry.get("connection", "")).startswith("wireloom")]
    assert not [entry for entry in services if "ermissions" in str(entry.get("error"))]
    assert not [entry for entry in logs if entry.get("exc_info")]


@pytest.fixture
async def admin(plane: SecuredPlane) -> httpx2.AsyncClient:
    return await plane.admin()


@pytest.fixture
async def viewer(plane: SecuredPlane) -> httpx2.AsyncClient:
    return await plane.account("eve", "viewer")


async def told(http: httpx2.AsyncClient, machine_id: UUID, **params: str) -> Any:
    return await done(http.get(f"{API}/machines/{machine_id}/tunnels", params=params))


async def refusal(http: httpx2.AsyncClient, machine_id: UUID, status: int = 409) -> dict[str, Any]:
    answer = await http.get(f"{API}/machines/{machine_id}/tunnels")
    assert answer.status_code == status, answer.text
    problem: dict[str, Any] = answer.json()
    return problem


def shaken(devices: RecordingDevices, network_id: UUID, **fields: Any) -> None:
    """Have the only peer of an interface be so."""
    found = devices._interfaces[interface_name(network_id)].peers
    (key,) = found
    found[key] = Peer(found[key].allowed_ips, found[key].endpoint, **fields)


async def test_who_looks_sees_handshakes_and_traffic_as_they_are(
    plane: SecuredPlane, admin: httpx2.AsyncClient, viewer: httpx2.AsyncClient, tmp_path: Path
) -> None:
    first, second = [await a_machine(plane, tmp_path, f"m-{number}") for number in range(2)]
    office, lab = await a_network(admin, "office", "172.20.0.0/24"), await a_network(admin, "lab", "172.21.0.0/24")
    async with first.running() as agent, second.running():
        await assign(admin, office, first, second)
        await assign(admin, lab, first)
        await peers(first, office, 1)
        await wait_until(lambda: len(first.devices.interfaces()) == 2, what="both interfaces")
        now = datetime.now().timestamp()  # noqa: DTZ005
        shaken(first.devices, office, last_handshake=now - 12, rx_bytes=2_000_000, tx_bytes=5 << 40)

        said = await told(viewer, first.machine_id)
        assert (said["hostname"], said["left_out"]) == ("m-0", 0)
        in_lab, in_office = said["tunnels"]
        assert (in_lab["mesh_network_name"], in_lab["peers"]) == ("lab", [])
        device = first.devices.read(interface_name(office))
        assert device is not None
        assert {name: in_office[name] for name in ("interface", "backend", "state", "listen_port", "mtu")} == {
            "interface": interface_name(office), "backend": "recording", "state": "up",
            "listen_port": device.listen_port, "mtu": device.mtu,
        }  # fmt: skip
        (peer,) = in_office["peers"]
        assert (peer["machine_uuid"], peer["hostname"]) == (str(second.machine_id), "m-1")
        assert (peer["rx_bytes"], peer["tx_bytes"]) == (2_000_000, 5 << 40)
        assert peer["endpoint"] == next(iter(device.peers.values())).endpoint
        assert abs(datetime.fromisoformat(peer["last_handshake_at"]).timestamp() - (now - 12)) < 0.5
        assert "private" not in str(said)
        assert str(device.private_key) not in str(said)

        only = await told(viewer, first.machine_id, mesh_network_uuid=str(lab))
        assert [tunnel["mesh_network_name"] for tunnel in only["tunnels"]] == ["lab"]
        assert only["read_at"] == said["read_at"], "asked twice, though what is known is fresh"

        await done(admin.delete(f"{API}/mesh-networks/{office}/machines/{second.machine_id}"))
        assert [each["peers"] for each in (await told(viewer, first.machine_id))["tunnels"]] == [[], []]
        await done(admin.delete(f"{API}/mesh-networks/{office}/machines/{first.machine_id}"))
        said = await told(viewer, first.machine_id)
        assert [tunnel["mesh_network_name"] for tunnel in said["tunnels"]] == ["lab"]

        assert not agent._context.belief.refusals.counts, "a hint was taken for a record"
        await done(admin.delete(f"{API}/machines/{first.machine_id}", params={"force": "true"}))
        assert (await refusal(viewer, first.machine_id, 404))["code"] == "not-found"


async def test_an_agent_that_has_gone_does_not_answer_and_it_is_said_since_when(
    plane: SecuredPlane, admin: httpx2.AsyncClient, viewer: httpx2.AsyncClient, tmp_path: Path
) -> None:
    machine = await a_machine(plane, tmp_path, "m-0")
    async with machine.running():
        assert (await told(viewer, machine.machine_id))["tunnels"] == []

    async def is_offline() -> bool:
        return not (await done(viewer.get(f"{API}/machines/{machine.machine_id}")))["is_online"]

    await wait_until(is_offline, what="it is offline")
    seen = (await done(viewer.get(f"{API}/machines/{machine.machine_id}")))["last_seen_at"]
    await wait_until(lambda: is_silent(viewer, machine.machine_id), what="what it told is no longer fresh")
    problem = await refusal(viewer, machine.machine_id)
    assert (problem["code"], problem["title"]) == ("agent-silent", "The agent does not answer")
    assert f"m-0 does not answer: it was last seen at {seen[:19].replace('T', ' ')} UTC." in problem["detail"]

    never = await plane.enrolled("m-1")
    assert "not seen since this gateway started" in (await refusal(viewer, never.id))["detail"]
    await done(admin.post(f"{API}/machines/{never.id}/revoke"))
    assert "m-1 was revoked" in (await refusal(viewer, never.id))["detail"]
    await refusal(viewer, uuid4(), 404)


async def is_silent(http: httpx2.AsyncClient, machine_id: UUID) -> bool:
    return (await http.get(f"{API}/machines/{machine_id}/tunnels")).status_code == 409


class Liar:
    """Answers hints with what a test wants."""

    def __init__(self, machine: Machine, client: BusClient) -> None:
        self.machine = machine
        self.client = client
        self.hints = 0
        self.answers: list[bytes] = []
        self.heard = asyncio.Event()

    async def listen(self) -> None:
        await self.client.subscribe(f"live.machine.{self.machine.id}.>", cb=self._on_hint)
        alive = Heartbeat(boot_id=uuid4(), counter=1)
        await self.client.publish(beat(self.machine.id), alive.model_dump_json().encode())
        await self.client.flush()

    async def _on_hint(self, message: Msg) -> None:
        assert (message.subject, message.data, message.reply) == (look(self.machine.id), b"", "")
        self.hints += 1
        for answer in self.answers:
            await self.say(answer)

    async def say(self, answer: bytes) -> None:
        await self.client.publish(ask(self.machine.id, "tunnels"), answer)


async def lying(plane: SecuredPlane, machine: Machine, *networks: UUID) -> Liar:
    """A machine's connection without an agent."""
    liar = Liar(machine, await plane.joined(machine, *networks))
    await liar.listen()
    return liar


BOOT = UUID(int=99)


def part(*found: Tunnel, counter: int = 1, **fields: Any) -> bytes:
    return TunnelPart(boot_id=BOOT, counter=counter, tunnels=found, **fields).model_dump_json().encode()


async def a_place(plane: SecuredPlane, admin: httpx2.AsyncClient) -> tuple[UUID, UUID, Machine, Machine, Machine]:
    """Two networks; a machine in the first with a friend, and a stranger in the second."""
    office, lab = await a_network(admin, "office", "172.20.0.0/24"), await a_network(admin, "lab", "172.21.0.0/24")
    machine, friend, stranger = [await plane.enrolled(name) for name in ("liar", "friend", "stranger")]
    for network, member in ((office, machine), (office, friend), (lab, stranger)):
        body = {"machine_uuid": str(member.id)}
        await done(admin.post(f"{API}/mesh-networks/{network}/machines", json=body))
    return office, lab, machine, friend, stranger


async def test_a_machine_is_believed_about_itself_and_members_of_its_networks_only(
    plane: SecuredPlane, admin: httpx2.AsyncClient, viewer: httpx2.AsyncClient
) -> None:
    office, lab, machine, friend, stranger = await a_place(plane, admin)
    named = tuple(TunnelPeer(machine_id=each, rx_bytes=7) for each in (friend.id, machine.id, stranger.id, uuid4()))
    liar = await lying(plane, machine, office)
    liar.answers = [
        part(
            Tunnel(network_id=office, interface="wl-1", peers=(*named, named[0])),
            Tunnel(network_id=lab, interface="wl-2", peers=named),
            Tunnel(network_id=uuid4(), interface="wl-3"),
            Tunnel(network_id=office, interface="wl-4", peers=named),
        )
    ]
    said = await told(viewer, machine.id)
    assert [tunnel["interface"] for tunnel in said["tunnels"]] == ["wl-1"]
    assert [peer["hostname"] for peer in said["tunnels"][0]["peers"]] == ["friend"]
    # It cannot speak for another, nor hear what another is asked.
    other = await lying(plane, friend, office)
    await liar.client.publish(ask(friend.id, "tunnels"), liar.answers[0])
    await liar.client.flush()
    assert (await refusal(viewer, friend.id))["code"] == "agent-silent"
    assert other.hints > 2, "it is hinted at again while it does not answer"
    assert liar.hints == 1


UNREADABLE = (
    b"",
    b"{",
    b"null",
    b"\xff" * 1000,
    b"[" * 60_000,
    part(Tunnel(network_id=BOOT, interface="wl-1")).replace(b"wl-1", b"wl-\\u001b"),
    part(Tunnel(network_id=BOOT, interface="wl-1", listen_port=7)).replace(b":7,", b":70000,"),
    part().replace(b'"age":0.0', b'"age":NaN'),
    part().replace(b'"counter":1', b'"counter":' + b"9" * 30),
    part(parts=2),  # the rest never comes
)


async def test_what_cannot_be_read_is_no_answer(
    plane: SecuredPlane, viewer: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnels, "PATIENCE", 0.2)
    for number, answer in enumerate(UNREADABLE):
        machine = await plane.enrolled(f"liar-{number}")
        liar = await lying(plane, machine)
        liar.answers = [answer]
        assert (await refusal(viewer, machine.id))["code"] == "agent-silent"
        liar.answers = [part(counter=2)]
        await wait_until(lambda of=machine.id: is_answered(viewer, of), what="a good answer counts")  # type: ignore[misc]


async def is_answered(http: httpx2.AsyncClient, machine_id: UUID) -> bool:
    return (await http.get(f"{API}/machines/{machine_id}/tunnels")).is_success


async def test_nothing_is_read_that_nobody_asked_for_and_of_a_flood_only_its_beginning(
    plane: SecuredPlane, admin: httpx2.AsyncClient, viewer: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = 0
    validate = TunnelPart.model_validate_json

    def counting(data: bytes) -> TunnelPart:
        nonlocal read
        read += 1
        return validate(data)

    monkeypatch.setattr(tunnels.TunnelPart, "model_validate_json", counting)
    machine, other = await plane.enrolled("flood"), await plane.enrolled("calm")
    liar = await lying(plane, machine)
    calm = await lying(plane, other)
    half = part(parts=2)
    for _ in range(500):
        await liar.say(half)
    await liar.client.flush()
    calm.answers = [part()]
    await told(viewer, other.id)
    assert read == 1

    liar.answers = [half] * 500
    asking = asyncio.create_task(refusal(viewer, machine.id))
    assert (await asking)["code"] == "agent-silent"
    assert 1 < read <= 1 + liar.hints * tunnel_reports.MOST_READ
    assert (await told(viewer, other.id))["hostname"] == "calm"


async def test_many_peers_are_told_in_parts(plane: SecuredPlane, admin: httpx2.AsyncClient) -> None:
    machine = await plane.enrolled("big")
    office = await a_network(admin, "office", "172.16.0.0/16")
    made = await asyncio.gather(
        *(done(admin.post(f"{API}/machines", json={"hostname": f"p-{number}"})) for number in range(250))
    )
    uuids = [str(machine.id), *(each["uuid"] for each in made)]
    await done(admin.post(f"{API}/mesh-networks/{office}/machines/batch", json={"machine_uuids": uuids}))
    found = [TunnelPeer(machine_id=UUID(uuid), rx_bytes=1) for uuid in uuids[1:]]
    size = MAX_ITEMS - 1
    slices = [tuple(found[start : start + size]) for start in range(0, len(found), size)]
    liar = await lying(plane, machine, office)
    liar.answers = [
        part(Tunnel(network_id=office, interface="wl-1", peers=peers), part=number, parts=len(slices))
        for number, peers in reversed(list(enumerate(slices)))
    ]
    said = await told(admin, machine.id)
    assert [len(tunnel["peers"]) for tunnel in said["tunnels"]] == [250]


@asynccontextmanager
async def another_gateway(plane: SecuredPlane, token: str) -> AsyncIterator[httpx2.AsyncClient]:
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    settings = service.Settings(nats_url=plane.bus_url, identity=plane.identity.folder, port=0)
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(serving(lambda stop: service.serve(settings, stop, port.set_result)))
        await asyncio.wait({running, port}, return_when=asyncio.FIRST_COMPLETED)
        client = httpx2.AsyncClient(
            base_url=f"https://127.0.0.1:{port.result()}",
            verify=plane.identity.tls(),
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
            timeout=30,
        )
        await stack.enter_async_context(client)
        await wait_until(lambda: answers(client), what="the gateway answers")
        await wait_until(lambda: is_loaded(client), what="it has read STATE")
        yield client


async def is_loaded(http: httpx2.AsyncClient) -> bool:
    return (await http.get(f"{API}/mesh-networks")).is_success


async def test_each_of_two_gateways_hears_the_answer_to_what_it_asked(
    plane: SecuredPlane, admin: httpx2.AsyncClient, tmp_path: Path
) -> None:
    machine, silent = await a_machine(plane, tmp_path, "m-0"), await plane.enrolled("m-1")
    async with another_gateway(plane, plane.admin_token) as other, machine.running():
        liar = await lying(plane, silent)
        one, two = await asyncio.gather(told(admin, machine.machine_id), told(other, machine.machine_id))
        assert one["tunnels"] == two["tunnels"] == []
        # What one asked for is nothing to the other.
        liar.answers = [part()]
        assert (await told(other, silent.id))["hostname"] == "m-1"
        liar.answers = []
        assert (await refusal(admin, silent.id))["code"] == "agent-silent"
        assert (await told(other, silent.id))["hostname"] == "m-1"
