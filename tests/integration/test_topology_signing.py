"""The signatures of records on a real, secured bus: beside every record, and made anew when the key is another."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from events import state
from events.client import BusClient
from events.domain import DomainEvent
from events.errors import UnavailableError
from events.feed import last_sequence
from events.identity import Identity, IdentityError
from events.subjects import STATE_STREAM, live_scope, machine_info, scope_of, state_of
from events.trust.keys import fingerprint, generate
from events.trust.signing import Signer, Verifier, signed_with
from services.cli.private import write_private
from services.cli.process import ChildProcess
from services.cli.serve import Service
from services.cli.up import service_process
from services.topology import writer
from services.topology.derived import Derived
from services.topology.rebuild import compare, rebuild
from services.topology.restore import restore
from services.topology.service import serve
from services.topology.settings import Settings
from services.topology.writer import StateDivergedError, StateWriter
from tests.support.histories import History
from tests.support.log_writer import write_events
from tests.support.program import environment
from tests.support.secured import SecuredBus, secured_bus
from tests.support.waiting import wait_until


class Plane:
    """A secured bus, with one connection that writes the log as the allocator may, and one that reads and writes STATE
    as the topology service may."""

    def __init__(self, bus: SecuredBus, allocator: BusClient, topology: BusClient) -> None:
        self.bus = bus
        self.identity = bus.identity
        self._allocator = allocator
        self.client = topology

    async def write(self, events: list[DomainEvent]) -> int:
        """Append to the log; returns its end."""
        return await write_events(self._allocator, events)

    def rotate(self) -> str:
        """Have a new key sign, as `wireloom key rotate` does, and return its fingerprint."""
        new, ring = generate("operator"), self.identity.ring()
        following = ring.model_copy(update={"version": ring.version + 1, "keys": (new.public, *ring.keys)})
        signed = following.signed_by(self.identity.key("root"))
        write_private(self.identity.folder / "ring.json", signed.model_dump_json())
        write_private(self.identity.folder / "keys" / "records.seed", new.seed)
        return fingerprint(new.public)

    def verifier(self) -> Verifier:
        """What a machine believes."""
        return Verifier(self.identity.public.root, self.identity.ring())

    @asynccontextmanager
    async def service(self) -> AsyncIterator[asyncio.Task[None]]:
        """A running service, which must not end by itself. It is told to stop, and does."""
        stop = asyncio.Event()
        settings = Settings(nats_url=self.bus.url, identity=self.identity.folder)
        task = asyncio.create_task(serve(settings, stop))
        try:
            yield task
            assert not task.done()
        finally:
            stop.set()
            await asyncio.wait({task}, timeout=30)
            assert task.done()
            task.result()

    async def reach(self, sequence: int) -> None:
        """Wait until STATE has come so far in the log."""

        async def reached() -> bool:
            try:
                last = await state.last_message(self.client)
            except UnavailableError:
                return False
            return last is not None and last.position >= sequence

        await wait_until(reached, what=f"STATE reaches event {sequence}")

    async def signed_by(self, key: str) -> None:
        """Wait until every record is signed with a key and STATE is what follows from the log, byte for byte."""

        async def is_signed() -> bool:
            dump = await state.load(self.client)
            return {signed_with(dump.signatures.get(subject, "")) for subject, _ in dump.entries} == {key}

        async def is_same() -> bool:
            return not await compare(self.client)

        await wait_until(is_signed, what=f"every record is signed with {key}")
        await wait_until(is_same, what="STATE is what follows from the log")
        dump, verifier = await state.load(self.client), self.verifier()
        assert dict(dump.entries) == await rebuild(self.client)
        assert all(verifier.is_genuine(subject, payload, dump.signatures[subject]) for subject, payload in dump.entries)

    def assert_nothing_was_forbidden(self) -> None:
        """The service may do what it does."""
        assert "Violation" not in self.bus.server.log_path.read_text()


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    async with (
        secured_bus(tmp_path) as bus,
        bus.connected("allocator") as allocator,
        bus.connected("topology") as topology,
    ):
        yield Plane(bus, allocator, topology)


def history_of(steps: int, seed: int = 1) -> History:
    history = History(seed)
    for _ in range(steps):
        history.step()
    return history


def current(identity: Identity) -> str:
    return identity.signer().fingerprint


class Ear:
    """What a machine hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes, str]] = []

    async def take(self, message: Msg) -> None:
        self.heard.append((state_of(message.subject), message.data, state.signature_of(message)))

    def revisions(self) -> dict[str, list[int]]:
        """For each scope, the revisions that were new when they were heard."""
        new: dict[str, list[int]] = {}
        for subject, payload, _ in self.heard:
            record, held = state.decode_record(payload), new.setdefault(scope_of(subject), [])
            if record.revision > (held[-1] if held else 0):
                assert record.previous == (held[-1] if held else 0), "a gap"
                held.append(record.revision)
        return new


@asynccontextmanager
async def listening(plane: Plane, machine_id: UUID, network_id: UUID) -> AsyncIterator[Ear]:
    """A machine that is on the bus with a token of its own and hears its scopes."""
    key, ear = generate("user"), Ear()
    token = plane.bus.machine_token(key, machine_id, [network_id])
    async with plane.bus.user(key, token, str(machine_id)) as client:
        for subject in (live_scope("machine", machine_id), live_scope("network", network_id)):
            await client.subscribe(subject, cb=ear.take)
        await client.flush()
        yield ear


async def test_every_record_is_heard_with_a_signature_for_its_subject_and_bytes_alone(plane: Plane) -> None:
    history = History()
    network_id = history.create_network()
    machine_id = history.enrol(history.create_bootstrap_token())
    async with listening(plane, machine_id, network_id) as ear, plane.service():
        history.assign(network_id, machine_id)
        history.announce(network_id, machine_id)
        for _ in range(20):
            history.join(network_id)
        history.rotate_key(network_id, machine_id)
        history.rename_machine(machine_id)
        history.delete_machine(history.join(network_id))
        await plane.reach(await plane.write(history.events))
        network, machine = f"network:{network_id}", f"machine:{machine_id}"
        await wait_until(
            lambda: ear.revisions().get(network, [0])[-1] == 25 and ear.revisions().get(machine, [0])[-1] == 4,
            what="all records of both scopes are heard",
        )
        await plane.signed_by(current(plane.identity))
    verifier = plane.verifier()
    for subject, payload, signature in ear.heard:
        assert verifier.is_genuine(subject, payload, signature)
        assert not verifier.is_genuine(machine_info(network_id), payload, signature)
        assert not verifier.is_genuine(subject, payload.replace(b'"revision":', b'"revision":1'), signature)
    plane.assert_nothing_was_forbidden()


async def test_a_new_key_while_the_service_runs_signs_everything_anew(plane: Plane) -> None:
    history = history_of(300)
    network_id = next(iter(history.networks))
    machine_id = history.join(network_id)
    first = current(plane.identity)
    async with listening(plane, machine_id, network_id) as ear, plane.service():
        await plane.reach(await plane.write(history.events))
        await plane.signed_by(first)
        before = await state.load(plane.client)
        second = plane.rotate()
        await plane.signed_by(second)
        after = await state.load(plane.client)
        assert dict(after.entries) == dict(before.entries), "only the signatures are others"
        assert await _position(plane.client) == len(history.events)

        written = len(history.events)
        history.announce(network_id, machine_id)
        await plane.reach(await plane.write(history.events[written:]))
        third = plane.rotate()
        await plane.signed_by(third)
        await wait_until(
            lambda: {signed_with(signature) for _, _, signature in ear.heard} >= {first, second, third},
            what="the machine hears of every key",
        )
        assert ear.revisions(), "and of nothing that it did not know, nor with a gap"
    plane.assert_nothing_was_forbidden()


async def test_records_without_a_signature_get_one_at_the_start(plane: Plane) -> None:
    history = history_of(150, seed=2)
    await plane.write(history.events)
    unsigned = await _derived(plane, history, signer=None)
    assert unsigned.signatures == {}
    async with plane.service():
        await plane.signed_by(current(plane.identity))
        sequence = await last_sequence(plane.client, STATE_STREAM)
    async with plane.service():
        history.register_machine()
        await plane.reach(await plane.write(history.events[-1:]))
        await plane.signed_by(current(plane.identity))
        assert await last_sequence(plane.client, STATE_STREAM) == sequence + 1, "what is signed is left alone"


async def test_what_is_to_be_purged_is_not_written_again(plane: Plane) -> None:
    history = History()
    network_id = history.create_network()
    for _ in range(3):
        history.join(network_id)
    history.delete_network(network_id)
    await plane.write(history.events)
    dump = await _derived(plane, history, signer=None, purges=False)
    assert len(await compare(plane.client)) == 3, "its peers stand in STATE still"
    async with plane.service():
        await plane.signed_by(current(plane.identity))
    assert await last_sequence(plane.client, STATE_STREAM) == dump.last_sequence + len(dump.entries) - 3


async def test_wherever_signing_anew_is_cut_off_it_is_gone_on_with(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = history_of(25, seed=3)
    network_id = history.create_network()
    machine_id = history.join(network_id)
    history.delete_network(network_id)  # leaves a void membership
    history.rename_machine(history.join(history.create_network()))
    await plane.write(history.events)
    dump = await _derived(plane, history, signer=plane.identity.signer())
    assert machine_id in restore(dump.records())[0].machines
    monkeypatch.setattr(writer, "MAX_BATCH", 1)
    for count in range(len(dump.entries) + 1):
        new = plane.rotate()
        dump = await state.load(plane.client)
        cut = StateWriter(plane.client, len(history.events), dump.last_sequence, plane.identity.signer())
        await cut.write_again(dump.entries[:count])

        assert await _position(plane.client) == len(history.events)
        assert await compare(plane.client) == []
        causes = [entry.record.cause for entry in (await state.load(plane.client)).records()]
        assert causes == sorted(causes), "a reader that starts now takes them in as they happened"
        written = len(history.events)
        history.register_machine()
        await plane.write(history.events[written:])
        async with plane.service():
            await plane.signed_by(new)
            await plane.reach(len(history.events))


async def test_the_service_is_killed_again_and_again_while_it_signs_anew(plane: Plane) -> None:
    history = History()
    network_id = history.create_network()
    for _ in range(1500):
        history.join(network_id)
    await plane.write(history.events)
    await _derived(plane, history, signer=plane.identity.signer())
    variables = environment(NATS_URL=plane.bus.url, WIRELOOM_IDENTITY=str(plane.identity.folder))
    new = plane.rotate()
    for _ in range(3):
        before = await last_sequence(plane.client, STATE_STREAM)
        child = service_process(Service.TOPOLOGY, variables)
        await child.start()
        await _killed_once_it_writes(plane, child, before)
        assert await _position(plane.client) == len(history.events)
        assert await compare(plane.client) == []
    async with plane.service():
        await plane.signed_by(new)


async def test_two_services_sign_anew_at_once(plane: Plane) -> None:
    history = history_of(400, seed=5)
    half = len(history.events) // 2
    async with plane.service(), plane.service():
        await plane.reach(await plane.write(history.events[:half]))
        new = plane.rotate()
        for event in history.events[half:]:
            await plane.write([event])
        await plane.reach(len(history.events))
        await plane.signed_by(new)
    plane.assert_nothing_was_forbidden()


async def test_of_two_who_sign_anew_one_is_refused_and_harms_nothing(plane: Plane) -> None:
    history = history_of(30, seed=6)
    await plane.write(history.events)
    dump = await _derived(plane, history, signer=None)
    signer = plane.identity.signer()
    first, second = (StateWriter(plane.client, len(history.events), dump.last_sequence, signer) for _ in range(2))
    await first.write_again(dump.entries)
    sequence = await last_sequence(plane.client, STATE_STREAM)
    with pytest.raises(StateDivergedError, match="while its records were signed anew"):
        await second.write_again(dump.entries)
    assert await last_sequence(plane.client, STATE_STREAM) == sequence
    assert await compare(plane.client) == []


async def test_without_a_key_it_ends_and_writes_nothing(plane: Plane) -> None:
    history = history_of(20, seed=7)
    stop, settings = asyncio.Event(), Settings(nats_url=plane.bus.url, identity=plane.identity.folder)
    task = asyncio.create_task(serve(settings, stop))
    await plane.reach(await plane.write(history.events))
    seed = plane.identity.folder / "keys" / "records.seed"
    secret = seed.read_text()
    write_private(seed, secret[:-4])
    with pytest.raises(IdentityError, match="is damaged") as caught:
        await asyncio.wait_for(task, 30)
    assert secret[:-4] not in str(caught.value), "the key does not show"
    seed.unlink()
    before = await last_sequence(plane.client, STATE_STREAM)
    with pytest.raises(IdentityError, match="cannot be read"):
        await serve(settings, stop)
    assert await last_sequence(plane.client, STATE_STREAM) == before


async def _position(client: Client) -> int:
    last = await state.last_message(client)
    assert last is not None
    return last.position


async def _derived(plane: Plane, history: History, signer: Signer | None, purges: bool = True) -> state.StateDump:
    """STATE as a service without keys, or with others, would have left it; without `purges` as if it had died then."""
    topology, _ = restore([])
    target = StateWriter(plane.client, 0, 0, signer)
    for sequence, event in enumerate(history.events, start=1):
        derived = topology.apply(sequence, event)
        target.add(sequence, derived if purges else Derived(derived.records))
    await target.flush()
    return await state.load(plane.client)


async def _killed_once_it_writes(plane: Plane, child: ChildProcess, before: int) -> None:
    """Kill a service as soon as STATE is longer than `before`."""
    ended = asyncio.create_task(child.wait())
    try:
        await wait_until(lambda: _is_longer(plane.client, before), what="the service writes")
    finally:
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        assert await ended == -signal.SIGKILL, "it ran until then"


async def _is_longer(client: Client, before: int) -> bool:
    return await last_sequence(client, STATE_STREAM) > before
