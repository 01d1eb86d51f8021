"""A WireGuard key gives way to a new one: announced while the old is used, and used once the records show it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from agent.agent import Agent
from agent.context import Options
from agent.device import Changes
from agent.keys import public_key
from agent.recording import RecordingDevices
from agent.store import DiskStore, NextKey, Tunnel
from events.bus import connect
from events.errors import KeyTakenError
from events.records import MembershipRecord
from events.subjects import machine_membership
from tests.support.device_contract import a_key
from tests.support.fake_gateway import FakeGateway
from tests.support.machines import NAME, NETWORK, Machine, add_peers, assigned, has_right_peers, own_record
from tests.support.state_model import StateModel
from tests.support.waiting import wait_until


class Devices(RecordingDevices):
    """Writes down what is changed."""

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[Changes] = []

    def apply(self, interface: str, changes: Changes) -> None:
        super().apply(interface, changes)
        self.changes.append(changes)


@pytest.fixture
async def gateway(bus_url: str) -> AsyncIterator[FakeGateway]:
    client = await connect(bus_url, "fake gateway")
    gateway = FakeGateway(client, StateModel())
    await gateway.start()
    gateway.model.create_network(NETWORK, "office", "172.20.0.0/24")
    await add_peers(gateway, range(2, 6))
    try:
        yield gateway
    finally:
        await client.close()


@pytest.fixture
def machine(bus_url: str, tmp_path: Path) -> Machine:
    options = Options("db-1", beat_interval=0.05)
    return Machine(bus_url, devices=Devices(), options=options, store=lambda: DiskStore(tmp_path / "state"))


def changes(machine: Machine) -> list[Changes]:
    assert isinstance(machine.devices, Devices)
    return machine.devices.changes


async def request(gateway: FakeGateway, machine: Machine) -> None:
    """The control plane wants another key."""
    subject = machine_membership(machine.machine_id, NETWORK)
    membership = gateway.model.body(subject)
    assert isinstance(membership, MembershipRecord)
    generation = membership.key_generation + 1
    await gateway.say([gateway.model.put(subject, membership.model_copy(update={"key_generation": generation}))])


def used(machine: Machine) -> str:
    """The public key of the interface."""
    device = machine.devices.read(NAME)
    assert device is not None
    assert device.private_key is not None
    return public_key(device.private_key)


def shown(gateway: FakeGateway, machine: Machine) -> str:
    """The public key that the others know."""
    own = own_record(gateway, machine)
    assert own is not None
    return own.public_key


def kept(machine: Machine) -> Tunnel:
    store = machine.store()
    tunnel = store.tunnel(NETWORK)
    store.close()
    assert tunnel is not None
    return tunnel


def announcements(gateway: FakeGateway) -> int:
    return sum(verb == "membership" for verb, _ in gateway.asked)


async def changed(gateway: FakeGateway, machine: Machine, old: str) -> str:
    """Wait until the machine uses another key, and the others know it; return that."""
    await wait_until(lambda: old != used(machine) == shown(gateway, machine), what="the new key")
    return used(machine)


async def test_on_request_only_the_key_changes(gateway: FakeGateway, machine: Machine) -> None:
    async with machine.running() as agent:
        await assigned(gateway, machine)
        network, old, before = agent.networks[NETWORK], used(machine), machine.devices.read(NAME)
        assert before is not None
        peers = dict(machine.devices.peers(NAME))
        changes(machine).clear()
        await request(gateway, machine)
        await changed(gateway, machine, old)
        after = machine.devices.read(NAME)
        assert after is not None
        assert changes(machine) == [Changes(private_key=after.private_key)]
        assert replace(after, private_key=before.private_key) == before
        assert all(machine.devices.peers(NAME)[key] is peer for key, peer in peers.items())
        assert agent.networks[NETWORK] is network, "the network was not left and joined again"
    tunnel = kept(machine)
    assert (tunnel.private_key, tunnel.generation, tunnel.next_key) == (after.private_key, 1, None)
    assert abs(tunnel.made_at - time.time()) < 60


async def test_the_old_key_is_used_until_the_records_show_the_new_one(gateway: FakeGateway, machine: Machine) -> None:
    async with machine.running():
        await assigned(gateway, machine)
        old = used(machine)
        await request(gateway, machine)
        gateway.is_deaf_live = True
        await wait_until(lambda: shown(gateway, machine) != old, what="the announcement")
        following = kept(machine).next_key
        assert following is not None
        assert shown(gateway, machine) == public_key(following.private_key), "it was on the disk first"
        assert used(machine) == old
        gateway.is_deaf_live = False
        await add_peers(gateway, range(6, 7))  # which shows that something was missed
        assert await changed(gateway, machine, old) == public_key(following.private_key)
        await wait_until(lambda: has_right_peers(gateway, machine))


async def test_two_requests_in_a_row_are_both_answered(gateway: FakeGateway, machine: Machine) -> None:
    async with machine.running():
        await assigned(gateway, machine)
        old = used(machine)
        await request(gateway, machine)
        await wait_until(lambda: kept(machine).next_key or kept(machine).generation == 1, what="the first to be taken")
        await request(gateway, machine)
        await wait_until(lambda: kept(machine).generation == 2, what="the answer to the second")
        await wait_until(lambda: shown(gateway, machine) == used(machine) != old)
        # The second may come before the first is answered: then one new key answers both.
        assert sum(change.private_key is not None for change in changes(machine)) in {2, 3}
        assert kept(machine).next_key is None


async def test_what_is_said_again_changes_nothing(gateway: FakeGateway, machine: Machine) -> None:
    async with machine.running():
        await assigned(gateway, machine)
        old = used(machine)
        await request(gateway, machine)
        await changed(gateway, machine, old)
        before, asked, made = used(machine), announcements(gateway), len(changes(machine))
        own = own_record(gateway, machine)
        membership = gateway.model.body(machine_membership(machine.machine_id, NETWORK))
        assert own is not None
        await gateway.say(gateway.model.announce(NETWORK, machine.machine_id, own.public_key, own.endpoints))
        await gateway.say([gateway.model.put(machine_membership(machine.machine_id, NETWORK), membership)])
        await add_peers(gateway, range(6, 7))
        await wait_until(lambda: has_right_peers(gateway, machine))
        assert (used(machine), announcements(gateway), len(changes(machine))) == (before, asked, made + 1)


async def test_a_request_that_comes_while_it_is_away_counts(gateway: FakeGateway, machine: Machine) -> None:
    async with machine.running():
        await assigned(gateway, machine)
        old = used(machine)
    await request(gateway, machine)
    async with machine.running():
        await changed(gateway, machine, old)
    assert kept(machine).generation == 1


async def test_it_goes_on_where_it_was_cut_off_before_the_announcement(gateway: FakeGateway, machine: Machine) -> None:
    async with machine.running():
        await assigned(gateway, machine)
        old = used(machine)
        gateway.refusal = KeyTakenError("no")
        await request(gateway, machine)
        await wait_until(lambda: kept(machine).next_key, what="the next key on the disk")
    gateway.refusal = None
    following = kept(machine).next_key
    assert following is not None
    assert (used(machine), shown(gateway, machine)) == (old, old)
    async with machine.running():
        assert await changed(gateway, machine, old) == public_key(following.private_key), "no third key was made"


async def test_it_goes_on_where_it_was_cut_off_after_the_announcement(gateway: FakeGateway, machine: Machine) -> None:
    async with machine.running():
        await assigned(gateway, machine)
        old = used(machine)
        await request(gateway, machine)
        gateway.is_deaf_live = True
        await wait_until(lambda: shown(gateway, machine) != old, what="the announcement")
    assert used(machine) == old
    gateway.is_deaf_live = False
    announced = shown(gateway, machine)
    async with machine.running():
        assert await changed(gateway, machine, old) == announced


async def test_it_goes_on_where_it_was_cut_off_before_the_switch(gateway: FakeGateway, machine: Machine) -> None:
    """The record that shows the next key is on the disk, and the bus is gone: the first thing it sets is that key."""
    async with machine.running():
        await assigned(gateway, machine)
        first = kept(machine)
        old = used(machine)
        await request(gateway, machine)
        await changed(gateway, machine, old)
    second = kept(machine)
    store = machine.store()
    next_key = NextKey(second.private_key, second.made_at, second.generation)
    store.set_tunnel(NETWORK, replace(first, next_key=next_key))
    store.close()
    alone = Machine("nats://127.0.0.1:1", machine.machine_id, devices=Devices(), store=machine.store)
    async with alone.running():
        assert [change.private_key for change in changes(alone)] == [second.private_key]
    assert kept(machine) == second


@pytest.mark.parametrize(("days", "max_age", "is_changed"), [(91, 90, True), (80, 90, False), (9999, 0, False)])
async def test_old_keys_give_way_by_themselves(
    gateway: FakeGateway, machine: Machine, days: float, max_age: float, is_changed: bool
) -> None:
    async with machine.running():
        await assigned(gateway, machine)
        old = used(machine)
    store = machine.store()
    store.set_tunnel(NETWORK, replace(kept(machine), made_at=time.time() - days * 86400))
    store.close()
    machine.options = replace(machine.options, key_max_age=max_age * 86400, reconcile_interval=0.05)
    async with machine.running():
        if is_changed:
            await changed(gateway, machine, old)
        else:
            beats = len(gateway.beats)
            await wait_until(lambda: len(gateway.beats) > beats + 5)
            assert (used(machine), shown(gateway, machine)) == (old, old)
    tunnel = kept(machine)
    assert (tunnel.generation, tunnel.next_key) == (0, None)


async def test_a_machine_that_is_assigned_anew_begins_anew(gateway: FakeGateway, machine: Machine) -> None:
    async with machine.running() as agent:
        await assigned(gateway, machine)
        gateway.refusal = KeyTakenError("no")
        await request(gateway, machine)
        await wait_until(lambda: kept(machine).next_key)
        await gateway.say(gateway.model.unassign(NETWORK, machine.machine_id))
        await wait_until(lambda: not agent.networks)
        await wait_until(lambda: not machine.devices.interfaces())
        store = machine.store()
        assert store.tunnels() == []
        store.close()
        gateway.refusal = None
        await assigned(gateway, machine, "172.20.0.201")
        tunnel = kept(machine)
        assert (tunnel.generation, tunnel.next_key) == (0, None)


async def test_a_peers_new_key_replaces_its_old_one(gateway: FakeGateway, machine: Machine) -> None:
    other, key = UUID(int=3), a_key()
    async with machine.running() as agent:
        await assigned(gateway, machine)
        peers = dict(machine.devices.peers(NAME))
        old = gateway.model.members(NETWORK)[other].public_key
        await gateway.say(gateway.model.announce(NETWORK, other, key, ("192.0.2.3:51820",)))
        await wait_until(lambda: has_right_peers(gateway, machine))
        after = machine.devices.peers(NAME)
        assert after[key].endpoint == "192.0.2.3:51820"
        assert all(after[each] is peer for each, peer in peers.items() if each != old)
        await wait_until(lambda: revision_told(gateway, agent) == gateway.model.revisions[f"network:{NETWORK}"])


def revision_told(gateway: FakeGateway, agent: Agent) -> int | None:
    """The newest revision that the machine said its interface agrees with."""
    return next(beat.applied.get(NETWORK) for who, beat in reversed(gateway.beats) if who == agent.machine_id)
