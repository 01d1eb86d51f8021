"""The whole, secured, as processes of their own: a machine is let in, hears what is its own, and is known again."""

from __future__ import annotations

from pathlib import Path

import pytest

from events import bus
from events.errors import IdentityTakenError, TokenRefusedError
from services.cli.embedded import EmbeddedServer
from services.cli.identity import create
from tests.support.enrolled import BOOTSTRAP_TOKENS, renew
from tests.support.plane import MACHINES, running_plane


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
