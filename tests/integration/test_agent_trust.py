"""An agent on a secured bus believes what the control plane signed, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path
from uuid import UUID

import pytest

from agent.context import Options
from agent.device import Device, DeviceError
from agent.follow import MAX_STALE
from agent.keys import public_key
from agent.store import DiskStore
from events.client import BusClient
from events.records import Heartbeat, PeerRecord, Record, SignedRecord, SubjectRecord, SyncReply
from events.subjects import machine_membership, network_peer
from events.trust.keys import generate
from events.trust.signing import SIGNATURE_HEADER, Ring, Signer
from tests.support.device_contract import a_key
from tests.support.fake_door import FakeControlPlane, FakeDoor
from tests.support.fake_gateway import FakeGateway
from tests.support.machines import NAME, NETWORK, Machine, add_peers, assigned, has_right_peers
from tests.support.secured import secured_bus
from tests.support.state_model import StateModel
from tests.support.waiting import wait_until

OTHER = UUID("22222222-0000-4000-8000-000000000000")


@dataclass
class World:
    """A secured bus with a gateway, and a machine that is in a network."""

    plane: FakeControlPlane
    gateway: FakeGateway
    door: FakeDoor
    machine: Machine

    @property
    def model(self) -> StateModel:
        return self.gateway.model

    def device(self) -> Device | None:
        return self.machine.devices.read(NAME)

    def beat(self) -> Heartbeat:
        return self.gateway.beats[-1][1] if self.gateway.beats else Heartbeat(boot_id=UUID(int=0), counter=0)

    async def refused(self, reason: str, times: int = 1) -> None:
        """Wait until so many refusals for a reason are reported."""
        await wait_until(lambda: self.beat().refused.get(reason, 0) >= times, what=f"{reason} is reported")

    async def settled(self) -> None:
        """Wait until all that was said is heard: a record said after it is."""
        number = next(number for number in range(100, 200) if UUID(int=number) not in self.model.members(NETWORK))
        await add_peers(self.gateway, range(number, number + 1))
        await wait_until(lambda: has_right_peers(self.gateway, self.machine), what="the peers")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(secured_bus(tmp_path))
        client: BusClient = await stack.enter_async_context(bus.connected("gateway"))
        speaker: BusClient = await stack.enter_async_context(bus.connected("topology"))
        plane = FakeControlPlane(bus)
        gateway = FakeGateway(client, StateModel(page=3, signer=plane.signer), speaker)
        gateway.ring = plane.ring
        await gateway.start()
        gateway.model.create_network(NETWORK, "office", "172.20.0.0/24")
        door = FakeDoor(plane)
        door.networks = (NETWORK,)
        door.access = door.issue()
        machine = Machine(bus.url, door.machine_id, door=door, store=lambda: DiskStore(tmp_path / "state"))
        yield World(plane, gateway, door, machine)


def said_to_all(world: World, number: int, key: str | None = None) -> SubjectRecord:
    """A record of a peer that follows what the machine holds, but is not in the model."""
    peer = PeerRecord(
        network_id=NETWORK,
        machine_id=UUID(int=number),
        hostname="evil",
        address=IPv4Address(f"172.20.0.{number}"),
        public_key=key or a_key(),
        endpoints=("192.0.2.66:51820",),
    )
    held = world.model.revisions[f"network:{NETWORK}"]
    template = next(iter(world.model.records.values()))
    record = template.model_copy(update={"revision": held + 1, "previous": held, "body": peer})
    return SubjectRecord(subject=network_peer(NETWORK, UUID(int=number)), record=record)


def unsigned(world: World) -> SignedRecord:
    return world.model.signed(said_to_all(world, 66)).model_copy(update={"signature": ""})


def altered(world: World) -> SignedRecord:
    genuine = world.model.signed(said_to_all(world, 66))
    return genuine.model_copy(update={"payload": genuine.payload.replace("172.20.0.66", "172.20.0.67")})


def signed_by_a_stranger(world: World) -> SignedRecord:
    entry, payload = said_to_all(world, 66), said_to_all(world, 66).record.model_dump_json()
    signature = Signer(generate("operator")).sign(entry.subject, payload.encode())
    return SignedRecord(subject=entry.subject, payload=payload, signature=signature)


def in_the_name_of_the_key(world: World) -> SignedRecord:
    """The stranger's signature under the name of the key that counts."""
    stranger, name = signed_by_a_stranger(world), world.plane.signer.fingerprint
    return stranger.model_copy(update={"signature": f"{name} {stranger.signature.split()[1]}"})


def garbage(world: World) -> SignedRecord:
    return unsigned(world).model_copy(update={"signature": f"{world.plane.signer.fingerprint} %%%"})


def of_another_machine(world: World) -> SignedRecord:
    """A genuine record, shown in another's place."""
    genuine = world.model.signed(said_to_all(world, 66))
    return genuine.model_copy(update={"subject": network_peer(NETWORK, UUID(int=67))})


def body_of_another_network(world: World) -> SignedRecord:
    """Signed by the control plane, but about something else than its subject says."""
    entry = said_to_all(world, 66)
    assert isinstance(entry.record.body, PeerRecord)
    body = entry.record.body.model_copy(update={"network_id": OTHER})
    record = entry.record.model_copy(update={"body": body})
    return world.model.signed(entry.model_copy(update={"record": record}))


WRONG = [
    (unsigned, "forged"),
    (altered, "forged"),
    (signed_by_a_stranger, "forged"),
    (in_the_name_of_the_key, "forged"),
    (garbage, "forged"),
    (of_another_machine, "misdirected"),
    (body_of_another_network, "misdirected"),
]


@pytest.mark.parametrize(("make", "reason"), WRONG)
async def test_a_wrong_live_record_changes_nothing(
    world: World, make: Callable[[World], SignedRecord], reason: str
) -> None:
    await add_peers(world.gateway, range(2, 6))
    async with world.machine.running():
        await assigned(world.gateway, world.machine)
        before, applied = world.device(), world.machine.devices.applied
        await world.gateway.repeat(make(world))
        await world.refused(reason)
        assert world.device() == before
        assert world.machine.devices.applied == applied
        assert set(world.beat().refused) == {reason}
        await world.settled()
        assert world.beat().refused == {reason: 1}


@pytest.mark.parametrize(("make", "reason"), WRONG)
async def test_a_wrong_record_spoils_the_whole_answer(
    world: World, make: Callable[[World], SignedRecord], reason: str
) -> None:
    await add_peers(world.gateway, range(2, 6))
    async with world.machine.running():
        await assigned(world.gateway, world.machine)
        before, applied = world.device(), world.machine.devices.applied

        def tamper(reply: SyncReply) -> SyncReply:
            if not reply.scope.startswith("network:"):
                return reply
            return reply.model_copy(update={"records": (*reply.records, make(world)), "more": False})

        world.gateway.tamper = tamper
        world.gateway.is_deaf_live = True
        await add_peers(world.gateway, range(7, 8))
        world.gateway.is_deaf_live = False
        await add_peers(world.gateway, range(8, 9))
        await world.refused(reason, 2)
        assert world.device() == before
        assert world.machine.devices.applied == applied
        assert set(world.beat().refused) == {reason}
        world.gateway.tamper = lambda reply: reply
        await wait_until(lambda: has_right_peers(world.gateway, world.machine))


async def test_an_answer_about_another_scope_is_refused(world: World) -> None:
    async with world.machine.running():
        await assigned(world.gateway, world.machine)
        world.gateway.tamper = lambda reply: reply.model_copy(update={"scope": f"network:{OTHER}"})
        world.gateway.is_deaf_live = True
        await add_peers(world.gateway, range(2, 3))
        world.gateway.is_deaf_live = False
        await add_peers(world.gateway, range(3, 4))
        await world.refused("misdirected")
        assert not world.machine.devices.peers(NAME)
        world.gateway.tamper = lambda reply: reply
        await wait_until(lambda: has_right_peers(world.gateway, world.machine))


async def test_a_replayed_record_changes_nothing(world: World) -> None:
    async with world.machine.running():
        await assigned(world.gateway, world.machine)
        first = world.model.announce(NETWORK, world.machine.machine_id, a_key(), ())
        model = world.model
        model.assign(NETWORK, UUID(int=5), "172.20.0.5")
        old = [model.signed(entry) for entry in model.announce(NETWORK, UUID(int=5), a_key(), ())]
        gone = [model.signed(entry) for entry in model.unassign(NETWORK, UUID(int=5))]
        for said in (*map(model.signed, first), *old, *gone):
            await world.gateway.repeat(said)
        await world.settled()
        before, applied = world.device(), world.machine.devices.applied
        assert not world.beat().refused
        await world.gateway.repeat(old[0])
        await world.refused("replayed")
        assert world.device() == before
        assert world.machine.devices.applied == applied
        await world.settled()
        assert world.beat().refused == {"replayed": 1}


async def test_records_that_are_signed_anew_are_no_replays(world: World) -> None:
    await add_peers(world.gateway, range(2, 5))
    async with world.machine.running():
        await assigned(world.gateway, world.machine)
        await add_peers(world.gateway, range(5, 8))
        await world.gateway.say(world.model.unassign(NETWORK, UUID(int=3)))
        await world.settled()
        world.model.signer = world.plane.rotate()
        world.gateway.ring = world.plane.ring
        for subject, record in list(world.model.records.items()):
            if subject.startswith("state.network."):
                await world.gateway.repeat(world.model.signed(SubjectRecord(subject=subject, record=record)))
        await wait_until(lambda: world.door.kept, what="the ring is kept")
        await world.settled()
        assert not world.beat().refused


async def test_many_records_that_are_signed_anew_at_once_are_no_forgeries(world: World) -> None:
    await add_peers(world.gateway, range(2, 5))
    async with world.machine.running():
        await assigned(world.gateway, world.machine)
        await add_peers(world.gateway, range(5, 99))
        await world.settled()
        world.model.signer = world.plane.rotate()
        world.gateway.ring = world.plane.ring
        assert world.gateway.speaker is not None
        for subject, record in list(world.model.records.items()):
            if subject.startswith("state.network."):
                said = world.model.signed(SubjectRecord(subject=subject, record=record))
                headers = {SIGNATURE_HEADER: said.signature}
                await world.gateway.speaker.publish(said.subject, said.payload.encode(), headers=headers)
        await world.settled()
        assert not world.beat().refused


async def test_an_answer_that_would_go_back_is_refused_until_the_keys_change(world: World) -> None:
    await add_peers(world.gateway, range(2, 5))
    async with world.machine.running():
        await assigned(world.gateway, world.machine)
        await world.settled()
        past = StateModel(page=3, signer=world.plane.signer)
        past.records, past.revisions = dict(world.model.records), dict(world.model.revisions)
        await world.gateway.say(world.model.unassign(NETWORK, UUID(int=3)))
        await world.settled()
        before = world.device()
    world.gateway.model = past
    async with world.machine.running():
        await world.refused("older", MAX_STALE + 2)
        assert world.device() == before
    async with world.machine.running() as agent:
        await world.refused("older", 2)
        agent.networks[NETWORK]._listener.restart()
        await world.refused("older", MAX_STALE + 2)
        assert world.device() == before

        world.gateway.model.signer = world.plane.rotate()
        world.gateway.ring = world.plane.ring
        await wait_until(lambda: has_right_peers(world.gateway, world.machine), what="the older history")
        assert len(world.machine.devices.peers(NAME)) == 4


async def test_an_old_record_in_a_new_answer_is_refused(world: World) -> None:
    await add_peers(world.gateway, range(2, 5))
    async with world.machine.running() as agent:
        await assigned(world.gateway, world.machine)
        old = world.model.signed(world.model.announce(NETWORK, UUID(int=2), a_key(), ())[0])
        await world.gateway.repeat(old)
        await add_peers(world.gateway, range(2, 3))
        await world.settled()
        before = world.device()
        world.gateway.tamper = lambda reply: reply.model_copy(
            update={"records": tuple(old if said.subject == old.subject else said for said in reply.records)}
        )
        agent.networks[NETWORK]._listener.restart()
        await world.refused("older")
        assert world.device() == before


async def test_a_claim_that_no_record_shows_does_no_lasting_harm(world: World) -> None:
    """Whoever answers may claim any revision; the records do not follow from it."""
    async with world.machine.running() as agent:
        await assigned(world.gateway, world.machine)
        world.gateway.tamper = lambda reply: reply.model_copy(update={"revision": 10**9})
        agent.networks[NETWORK]._listener.resync()
        follower = agent.networks[NETWORK]._listener.follower
        await wait_until(lambda: follower.revision == 10**9)
        world.gateway.tamper = lambda reply: reply
        await add_peers(world.gateway, range(2, 6))
        await wait_until(lambda: has_right_peers(world.gateway, world.machine))
        await wait_until(lambda: follower.revision == world.model.revisions[f"network:{NETWORK}"])


async def test_keys_rotate_with_old_and_new_overlapping(world: World) -> None:
    former = world.plane.signer
    async with world.machine.running():
        await assigned(world.gateway, world.machine)
        world.model.signer = world.plane.rotate()
        world.gateway.ring = world.plane.ring
        await world.settled()
        assert [ring.version for ring in world.door.kept] == [2]
        world.model.signer = former
        await world.settled()
        assert not world.beat().refused

        newest = world.plane.rotate(keep_old=False)
        world.gateway.ring = world.plane.ring
        world.model.signer = newest
        await world.settled()
        world.model.signer = former
        await world.gateway.repeat(world.model.signed(said_to_all(world, 66)))
        await world.refused("forged")
        world.model.signer = newest
        await world.settled()
    async with world.machine.running():
        await world.settled()
        assert "forged" not in world.beat().refused


async def test_a_ring_that_the_root_key_did_not_sign_is_refused(world: World) -> None:
    async with world.machine.running():
        await assigned(world.gateway, world.machine)
        before = world.device()
        evil = generate("operator")
        world.gateway.ring = Ring(version=9, keys=(evil.public,)).signed_by(generate("operator"))
        entry = said_to_all(world, 66)
        payload = entry.record.model_dump_json()
        signature = Signer(evil).sign(entry.subject, payload.encode())
        await world.gateway.repeat(SignedRecord(subject=entry.subject, payload=payload, signature=signature))
        await world.refused("forged")
        assert world.device() == before
        assert not world.door.kept


async def test_the_ring_is_not_asked_for_in_a_storm(world: World) -> None:
    async with world.machine.running():
        await assigned(world.gateway, world.machine)
        for _ in range(300):
            await world.gateway.repeat(signed_by_a_stranger(world))
        await world.refused("forged", 300)
        assert [verb for verb, _ in world.gateway.asked].count("ring") <= 3
        await world.settled()


@pytest.mark.parametrize("what", ["own key", "own address", "outside", "everything"])
async def test_a_genuine_record_that_cannot_be_obeyed_is_not(world: World, what: str) -> None:
    async with world.machine.running():
        await assigned(world.gateway, world.machine)
        await world.settled()
        device = world.device()
        assert device is not None
        assert device.private_key is not None
        entry = said_to_all(world, 66, public_key(device.private_key) if what == "own key" else None)
        addresses = {"own address": "172.20.0.200", "outside": "8.8.8.8", "everything": "0.0.0.0"}
        address = addresses.get(what, "172.20.0.66")
        body = entry.record.body.model_copy(update={"address": IPv4Address(address)})  # type: ignore[union-attr]
        await world.gateway.say([world.model.put(entry.subject, body)])
        await world.refused("unusable")
        assert world.device() == device


async def test_a_membership_that_would_take_all_traffic_is_not_obeyed(world: World) -> None:
    async with world.machine.running() as agent:
        await wait_until(lambda: world.model.is_known(world.machine.machine_id))
        subject = machine_membership(world.machine.machine_id, NETWORK)
        (said,) = world.model.assign(NETWORK, world.machine.machine_id, "172.20.0.200")
        body = said.record.body
        assert body is not None
        wide = Record.model_validate_json(said.record.model_dump_json().replace("172.20.0.0/24", "0.0.0.0/0")).body
        await world.gateway.say([world.model.put(subject, wide)])
        await world.refused("unusable")
        assert not world.machine.devices.interfaces()
        assert not agent.networks
        await world.gateway.say([world.model.put(subject, body)])
        await wait_until(lambda: has_right_peers(world.gateway, world.machine))


async def test_a_machine_that_drops_a_peer_says_so_at_once(world: World) -> None:
    world.machine.options = Options("db-1", beat_interval=3600)
    await add_peers(world.gateway, range(2, 6))
    async with world.machine.running():
        await assigned(world.gateway, world.machine)
        (_, tombstone) = world.model.unassign(NETWORK, UUID(int=3))
        beats = len(world.gateway.beats)
        await world.gateway.say([tombstone])
        await wait_until(lambda: world.beat().applied.get(NETWORK, 0) >= tombstone.record.revision, what="the receipt")
        assert len(world.gateway.beats) == beats + 1
        assert len(world.machine.devices.peers(NAME)) == 3


async def test_a_receipt_waits_for_the_interface(world: World) -> None:
    await add_peers(world.gateway, range(2, 6))
    world.machine.options = replace(world.machine.options, reconcile_interval=0.05)
    async with world.machine.running():
        await assigned(world.gateway, world.machine)
        apply, world.machine.devices.taken_ports = world.machine.devices.apply, set()

        def refuse(interface: str, changes: object) -> None:
            raise DeviceError("The system says no.")

        world.machine.devices.apply = refuse  # type: ignore[method-assign]
        tombstone = world.model.unassign(NETWORK, UUID(int=3))[-1]
        await world.gateway.say([tombstone])
        beats = len(world.gateway.beats)
        await wait_until(lambda: len(world.gateway.beats) > beats + 5)
        assert world.beat().applied[NETWORK] < tombstone.record.revision
        world.machine.devices.apply = apply  # type: ignore[method-assign]
        await wait_until(lambda: world.beat().applied[NETWORK] >= tombstone.record.revision)
        assert has_right_peers(world.gateway, world.machine)
