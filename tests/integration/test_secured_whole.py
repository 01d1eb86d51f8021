"""The whole, secured, as processes of their own: a machine is let in, hears what is its own, and is known again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from events import bus
from events.client import BusClient
from events.errors import IdentityTakenError, MachineRevokedError, TokenRefusedError, UnavailableError
from events.feed import StreamMissingError, made_at
from events.instants import Instant
from events.subjects import HISTORY_STREAM
from services.cli.embedded import EmbeddedServer
from services.cli.identity import create
from services.gateway.past import Pasts
from services.topology.past.chronicler import Chronicler
from services.topology.past.vault import Vault
from tests.support.enrolled import BOOTSTRAP_TOKENS, renew
from tests.support.plane import MACHINES, running_plane
from tests.support.waiting import wait_until


async def test_a_machine_is_let_in_once_and_known_again(tmp_path: Path) -> None:
    identity = create(tmp_path / "identity", ["127.0.0.1"])
    server = EmbeddedServer(tmp_path / "bus", port=0, identity=identity)
    await server.start()
    try:
        async with running_plane(server.url, identity=identity) as plane:
            office = await plane.network("office", "172.16.0.0/24")
            body = {"mesh_network_uuid": str(office)}
            token = (await plane.change("POST", BOOTSTRAP_TOKENS, body))["token"]
            machine = await plane.enrol("berlin", token)
            assert (await renew(plane.http, machine)).access.networks == (office,)
            client = await bus.connect(server.url, "machine", machine.credentials)
            await client.close()
            with pytest.raises(TokenRefusedError):
                await plane.enrol("lisbon", token)
            with pytest.raises(IdentityTakenError):
                await plane.enrol("oslo", key=machine.key)
            await plane.give("set-default-network", network_id=str(office))
            assert [each["hostname"] for each in (await plane.get(MACHINES))["items"]] == ["berlin"]
            await plane.state_follows()
            plane.assert_running()
    finally:
        await server.stop()


async def test_nobody_gets_access_that_is_older_than_the_log(tmp_path: Path) -> None:
    """While nothing derives what the log says, a machine that it has revoked would get access that the revocation,
    dated by the log, does not cover."""
    identity = create(tmp_path / "identity", ["127.0.0.1"])
    server = EmbeddedServer(tmp_path / "bus", port=0, identity=identity)
    await server.start()
    try:
        async with running_plane(server.url, identity=identity) as plane:
            machine = await plane.enrol("berlin")
            await plane.stop("topology")
            assert (await renew(plane.http, machine)).access.machine_id == machine.machine_id
            await plane.give("revoke-machine", machine_id=machine.machine_id)
            with pytest.raises(UnavailableError):
                await renew(plane.http, machine)
            await plane.start("topology")
            await plane.state_follows()
            with pytest.raises(MachineRevokedError):
                await renew(plane.http, machine)
    finally:
        await server.stop()


async def test_the_past_is_kept_and_told_on_a_bus_that_asks_who_one_is(tmp_path: Path) -> None:
    identity = create(tmp_path / "identity", ["127.0.0.1"])
    server = EmbeddedServer(tmp_path / "bus", port=0, identity=identity)
    await server.start()
    try:
        async with running_plane(server.url, identity=identity) as plane:
            office = await plane.network("office", "172.16.0.0/24")
            for name in ("berlin", "oslo"):
                await plane.enrol(name)
            gateway = await bus.connect(server.url, "gateway", identity.credentials("gateway"))
            topology = await bus.connect(server.url, "topology", identity.credentials("topology"))
            try:
                await wait_until(lambda: has_history(topology), what="the topology service has made HISTORY")
                assert await Chronicler(topology, 2, rest=0).write_due() > 0
                (snapshot, *_) = await Vault(topology).heads()
                past = await Pasts(gateway).at(Instant(position=snapshot + 1))
                assert past.position == snapshot + 1
                await Vault(topology).remove(snapshot)
                end = await Pasts(gateway).at(Instant(time=datetime.now(UTC)))
                await end.look_into([office])
                assert end.mirror.network(office)[1].name == "office"
                assert end.reports_since is not None
            finally:
                await gateway.close()
                await topology.close()
            plane.assert_running()
    finally:
        await server.stop()


async def has_history(client: BusClient) -> bool:
    try:
        return await made_at(client, HISTORY_STREAM) != ""
    except StreamMissingError:
        return False
