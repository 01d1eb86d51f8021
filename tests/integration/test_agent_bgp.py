"""What agents hear of BGP, make of it, keep and report, on a real bus, with a speaker that only notes its intents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from nats.aio.client import Client

from agent.bgp.forwarding import NoPassageError, PassageGuard
from agent.bgp.intent import Announced, BgpIntent, NetworkIntent
from agent.bgp.observed import NetworkObservation, Observation
from agent.bgp.passage_rules import Passage
from agent.bgp.routing import Gear
from agent.bgp.table import LearntTable
from agent.context import Options
from agent.device import OUTER_MARK
from agent.status import read_status, render
from agent.store import DiskStore
from events.bus import connect
from events.errors import NotFoundError
from events.records import (
    AnnouncementRecord,
    BgpPlanRecord,
    BgpRequest,
    NetworkPolicyRecord,
    RoutingRecord,
    SessionState,
    SpeakerState,
    VipDuty,
)
from events.routing import HealthCheck, Policy
from events.subjects import bgp_plan, machine_routing, network_announcement, network_policy
from tests.support.fake_gateway import FakeGateway
from tests.support.machines import NAME, NETWORK, Machine, add_peers, assigned
from tests.support.waiting import wait_until

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PREFIX, VIP = IPv4Network("10.1.0.0/16"), IPv4Address("203.0.113.10")
RUNNING = SpeakerState(state="running", version="2.0.12", since=NOW)


@dataclass
class FakeSpeaker:
    tell: Callable[[Observation], None]
    intents: list[BgpIntent] = field(default_factory=list)
    gone: Mapping[UUID, Collection[UUID]] = field(default_factory=dict)
    stopped: int = 0

    def apply(self, intent: BgpIntent) -> None:
        if not self.intents or self.intents[-1] != intent:
            self.intents.append(intent)

    def lose(self, gone: Mapping[UUID, Collection[UUID]]) -> None:
        self.gone = gone

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def stop(self) -> None:
        self.stopped += 1


class FakeTable(LearntTable):
    def __init__(self) -> None:
        super().__init__()
        self.routes: dict[tuple[IPv4Network, int], tuple[int, IPv4Address]] = {}
        self.ruled: bool | None = None

    def read(self) -> dict[tuple[IPv4Network, int], tuple[int, IPv4Address]]:
        return dict(self.routes)

    def rule(self) -> None:
        self.ruled = True

    def clear(self) -> None:
        self.ruled = False

    def forget(self) -> None:
        self.routes = {}


class FakeGuard(PassageGuard):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.passage = Passage()
        self.refusal: NoPassageError | None = None

    def apply(self, passage: Passage) -> None:
        if self.refusal is not None and passage:
            raise self.refusal
        self.passage = passage

    def obstacles(self) -> list[str]:
        return []

    def remove(self) -> None:
        self.passage = Passage()


class World:
    """A machine whose speaker, table and guard are at hand."""

    def __init__(self, url: str, folder: Path) -> None:
        self.table, self.guard = FakeTable(), FakeGuard(folder)
        self.speakers: list[FakeSpeaker] = []
        self.failure = ""
        self.folder = folder
        self.machine = Machine(
            url,
            options=Options("db-1", "0.1.0", beat_interval=0.05, reconcile_interval=0.2),
            store=lambda: DiskStore(folder),
            gear=self.gear(),
        )

    def gear(self, refusal: str = "") -> Gear:
        def speaker(tell: Callable[[Observation], None]) -> FakeSpeaker:
            self.speakers.append(FakeSpeaker(tell))
            return self.speakers[-1]

        async def examine(*_: Any) -> str:
            return self.failure

        return Gear(speaker, self.table, self.guard, examine, refusal)

    @property
    def intent(self) -> NetworkIntent | None:
        """What the speaker is to do in the network."""
        intents = self.speakers[-1].intents if self.speakers else []
        return intents[-1].networks[0] if intents and intents[-1].networks else None

    async def await_intent(self, condition: Callable[[NetworkIntent], object], what: str) -> NetworkIntent:
        await wait_until(lambda: self.intent is not None and condition(self.intent), what=what)
        assert self.intent is not None
        return self.intent

    def duties(self, check: HealthCheck | None = None) -> RoutingRecord:
        vip = VipDuty(vip_id=UUID(int=50), address=VIP, local_pref=200, health_check=check or HealthCheck())
        machine_id = self.machine.machine_id
        return RoutingRecord(machine_id=machine_id, prefixes=(PREFIX,), vips=(vip,), gateway=(), policies=())

    def addresses(self) -> frozenset[str]:
        device = self.machine.devices.read(NAME)
        return device.addresses if device is not None else frozenset()


@pytest.fixture
async def client(bus_url: str) -> AsyncIterator[Client]:
    client = await connect(bus_url, "test")
    yield client
    await client.close()


@pytest.fixture
async def gateway(client: Client) -> FakeGateway:
    gateway = FakeGateway(client)
    await gateway.start()
    gateway.model.create_network(NETWORK, "office", "172.20.0.0/24")
    return gateway


@pytest.fixture
def world(bus_url: str, tmp_path: Path) -> World:
    return World(bus_url, tmp_path)


def announcement(machine_id: UUID, *prefixes: IPv4Network) -> AnnouncementRecord:
    return AnnouncementRecord(network_id=NETWORK, machine_id=machine_id, prefixes=prefixes, vips=())


def reports(gateway: FakeGateway) -> list[BgpRequest]:
    return [report for _, report in gateway.bgp_reports]


async def test_records_become_intents_and_are_kept(gateway: FakeGateway, world: World) -> None:
    peer, other = await add_peers(gateway, range(2, 4))
    said = gateway.model.put
    policy = Policy(direction="import", default_action="reject")
    async with world.machine.running():
        await assigned(gateway, world.machine)
        await world.await_intent(lambda intent: len(intent.members) == 2, "the members")
        await gateway.say(
            [
                said(network_announcement(NETWORK, peer), announcement(peer, IPv4Network("10.2.0.0/16"))),
                said(
                    network_policy(NETWORK, "import"),
                    NetworkPolicyRecord(network_id=NETWORK, policy_id=NETWORK, policy=policy),
                ),
                said(bgp_plan(NETWORK), BgpPlanRecord(network_id=NETWORK, stage="reflectors", reflectors=(other,))),
                said(machine_routing(world.machine.machine_id), world.duties()),
            ]
        )
        whole = await world.await_intent(
            lambda intent: intent.owners and intent.reflectors and len(intent.announced) == 2 and intent.import_policy,
            "all that was said",
        )
        assert whole.announced == (Announced(PREFIX), Announced(IPv4Network(f"{VIP}/32"), 200))
        assert world.table.ruled
        assert world.guard.passage == Passage((NAME,), (PREFIX,), addresses=(whole.address,), meshes=(whole.cidr,))
        await wait_until(lambda: f"{VIP}/32" in world.addresses(), what="the virtual IP's address")
    await gateway.stop()
    async with world.machine.running():
        assert await world.await_intent(lambda intent: len(intent.announced) == 2, "what was kept") == whole
        assert world.speakers[-1].intents == [BgpIntent((whole,))], "nothing less before"
        await gateway.start()
        for subject in (
            network_announcement(NETWORK, peer),
            network_policy(NETWORK, "import"),
            bgp_plan(NETWORK),
            machine_routing(world.machine.machine_id),
        ):
            gateway.model.put(subject, None)
        plain = await world.await_intent(
            lambda intent: not (intent.owners or intent.announced or intent.import_policy or intent.reflectors),
            "that all was taken back",
        )
        assert plain.stage == "mesh"
        assert len(plain.members) == 2, "the machine was not deleted"
        await wait_until(lambda: f"{VIP}/32" not in world.addresses(), what="the address to go")
        await wait_until(
            lambda: not world.guard.passage and world.guard.passage.interfaces == (NAME,), what="nothing to pass"
        )


async def test_learnt_prefixes_move_from_peer_to_peer_and_survive_the_agent(
    gateway: FakeGateway, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.bgp.table.socket.if_indextoname", {7: NAME}.__getitem__)
    one, two = await add_peers(gateway, range(2, 4))
    for peer in (one, two):
        gateway.model.put(network_announcement(NETWORK, peer), announcement(peer, PREFIX))

    def owner() -> str:
        peers = world.machine.devices.peers(NAME)
        owners = [key for key, peer in peers.items() if str(PREFIX) in peer.allowed_ips]
        by_key = {record.public_key: str(record.address) for record in gateway.model.members(NETWORK).values()}
        return by_key[owners[0]] if owners else ""

    def learn(address: str) -> None:
        world.table.routes = {(PREFIX, 32): (7, IPv4Address(address))}

    async with world.machine.running():
        await assigned(gateway, world.machine)
        for address in ("172.20.0.2", "172.20.0.3"):
            learn(address)
            await wait_until(lambda address=address: owner() == address, what=f"{address} to have the prefix")
        device = world.machine.devices.read(NAME)
        assert device is not None
        assert device.mark == OUTER_MARK
    applied = world.machine.devices.applied
    async with world.machine.running():
        assert owner() == "172.20.0.3"
        assert world.machine.devices.applied == applied, "nothing was taken away meanwhile"
        await gateway.say([gateway.model.put(network_announcement(NETWORK, two), None)])
        await wait_until(lambda: not owner(), what="the prefix to be nobody's: he may not announce it")


async def test_what_was_learnt_is_forgotten_if_there_is_no_speaker_for_long(
    gateway: FakeGateway, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.bgp.table.socket.if_indextoname", {7: NAME}.__getitem__)
    monkeypatch.setattr("agent.bgp.routing._FORGET_AFTER", 0.2)
    await add_peers(gateway, range(2, 3))
    world.table.routes = {(PREFIX, 32): (7, IPv4Address("172.20.0.2"))}
    async with world.machine.running():
        await assigned(gateway, world.machine)
        await world.await_intent(lambda intent: intent.members, "the member")
        world.speakers[-1].tell(Observation(RUNNING))
        world.speakers[-1].tell(Observation(SpeakerState(state="failed", reason="BIRD has ended.", since=NOW)))
        await wait_until(lambda: not world.table.routes, what="the routes to go")


async def test_what_is_seen_is_reported_and_shown(gateway: FakeGateway, world: World) -> None:
    (peer,) = await add_peers(gateway, range(2, 3))
    async with world.machine.running():
        await assigned(gateway, world.machine)
        world.failure = "Connection refused"
        check = HealthCheck(type="tcp", target="80", interval_seconds=1, timeout_seconds=1, unhealthy_threshold=1)
        await gateway.say([gateway.model.put(machine_routing(world.machine.machine_id), world.duties(check))])
        await world.await_intent(lambda intent: intent.announced, "what to announce")
        up = SessionState(peer_id=peer, purpose="mesh", state="established", since=NOW, imported=1)
        gateway.refusal = NotFoundError("not yet")
        world.speakers[-1].tell(Observation(RUNNING, {NETWORK: NetworkObservation((up,))}))
        await wait_until(lambda: ("bgp", world.machine.machine_id) in gateway.asked, what="a report")
        assert not gateway.bgp_reports
        gateway.refusal = None
        await wait_until(lambda: gateway.bgp_reports, what="the report again")
        (first,) = reports(gateway)
        assert (first.whole, first.network_id) == (True, NETWORK)
        assert up in first.states
        (speaker,) = [state for state in first.states if isinstance(state, SpeakerState)]
        assert (speaker.state, speaker.announced) == ("running", (PREFIX,))
        assert [(vip.healthy, vip.reason) for vip in speaker.vips] == [(False, "Connection refused")]
        world.speakers[-1].tell(Observation(RUNNING, {NETWORK: NetworkObservation()}))
        await wait_until(lambda: len(gateway.bgp_reports) > 1, what="the end of the session")
        second = reports(gateway)[1]
        assert (second.whole, second.states) == (False, (up.model_copy(update={"state": "gone"}),))
        assert second.counter > first.counter
    store = DiskStore(world.folder)
    store.machine_id(world.machine.machine_id)
    shown = render(read_status(store, [world.machine.devices], 0.0))
    store.close()
    assert "BGP running: 0 of 1 sessions established, announces 10.1.0.0/16" in shown
    assert f"virtual IP {VIP}: not healthy: Connection refused" in shown


async def test_a_machine_that_cannot_pass_packets_on_announces_no_routes(gateway: FakeGateway, world: World) -> None:
    await add_peers(gateway, range(2, 3))
    world.guard.refusal = NoPassageError("The program nft is not installed.", hint="Install nftables.")
    async with world.machine.running():
        await assigned(gateway, world.machine)
        await gateway.say([gateway.model.put(machine_routing(world.machine.machine_id), world.duties())])
        vip = (Announced(IPv4Network(f"{VIP}/32"), 200),)
        await world.await_intent(lambda intent: intent.announced == vip, "only the virtual IP")
        world.speakers[-1].tell(Observation(RUNNING))
        await wait_until(lambda: gateway.bgp_reports, what="a report")
        (speaker,) = [state for state in reports(gateway)[-1].states if isinstance(state, SpeakerState)]
        assert speaker.reason == "It announces no routes. The program nft is not installed. Install nftables."
        world.guard.refusal = None
        await world.await_intent(lambda intent: len(intent.announced) == 2, "the route too")


async def test_with_bgp_switched_off_what_was_done_is_undone_and_told(gateway: FakeGateway, world: World) -> None:
    await add_peers(gateway, range(2, 3))
    async with world.machine.running():
        await assigned(gateway, world.machine)
        await gateway.say([gateway.model.put(machine_routing(world.machine.machine_id), world.duties())])
        await world.await_intent(lambda intent: len(intent.announced) == 2, "what to announce")
    world.machine.gear = world.gear("It was started with --no-bgp.")
    async with world.machine.running():
        await wait_until(lambda: gateway.bgp_reports, what="a report")
        (state,) = reports(gateway)[-1].states
        assert isinstance(state, SpeakerState)
        assert (state.state, state.reason, state.announced) == ("off", "It was started with --no-bgp.", ())
        assert world.speakers[-1].stopped
        assert not world.speakers[-1].intents
        assert (world.table.ruled, world.guard.passage) == (False, Passage())
        await wait_until(lambda: f"{VIP}/32" not in world.addresses(), what="the address to go")


async def test_the_first_intent_of_a_life_waits_until_it_is_known_what_is_healthy(
    gateway: FakeGateway, world: World
) -> None:
    await add_peers(gateway, range(2, 3))
    check = HealthCheck(type="tcp", target="80", interval_seconds=1, timeout_seconds=1)
    async with world.machine.running():
        await assigned(gateway, world.machine)
        await gateway.say([gateway.model.put(machine_routing(world.machine.machine_id), world.duties(check))])
        await world.await_intent(lambda intent: len(intent.announced) == 2, "the virtual IP")
    async with world.machine.running():
        await world.await_intent(lambda intent: True, "the first intent")
        assert len(world.speakers[-1].intents[0].networks[0].announced) == 2, "nothing is withdrawn meanwhile"
