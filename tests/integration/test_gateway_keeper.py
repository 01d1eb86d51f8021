"""Revocations on a real secured bus, as the gateway's keeper puts them there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import nats.errors
import pytest
from nats.aio.client import Client

from events.ending import end
from events.enrolment import ACCESS_SECONDS
from events.errors import UnauthenticatedError
from events.subjects import machine_info
from events.trust import jwt
from events.trust.keys import Key
from events.trust.permissions import ACCOUNT_ROLES, Permissions
from services.gateway.cutoffs import MARGIN_SECONDS
from services.gateway.follower import Follower
from services.gateway.keeper import Keeper
from services.gateway.metrics import Metrics
from services.gateway.mirror import Mirror
from tests.support.secured import SecuredBus, StateWriter, closed, secured_bus
from tests.support.waiting import wait_until


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[tuple[SecuredBus, StateWriter]]:
    async with secured_bus(tmp_path) as running, running.connected("topology") as topology:
        yield running, StateWriter(topology)


@asynccontextmanager
async def keeping(the_bus: SecuredBus, clock: Callable[[], float] = time.time) -> AsyncIterator[tuple[Keeper, Mirror]]:
    """A running keeper with its mirror, as each gateway has."""
    async with the_bus.connected("gateway") as client, the_bus.connected("keeper") as system:
        follower = Follower(client)
        keeper = Keeper(system, the_bus.identity, follower, Metrics(), clock)
        tasks = [asyncio.create_task(follower.run()), asyncio.create_task(keeper.run())]
        try:
            await follower.loaded.wait()
            yield keeper, follower.mirror
        finally:
            await end(tasks)


async def on_bus(the_bus: SecuredBus) -> dict[str, int]:
    """The revocations that the server holds."""
    async with the_bus.connected("keeper") as system:
        lookup = f"$SYS.REQ.ACCOUNT.{the_bus.identity.public.account}.CLAIMS.LOOKUP"
        answer = await system.request(lookup, timeout=30)
        revocations: dict[str, int] = jwt.claims(answer.data.decode())["nats"].get("revocations") or {}
        return revocations


async def test_who_left_a_network_hears_it_no_more(world: tuple[SecuredBus, StateWriter]) -> None:
    the_bus, state = world
    office, lab = await state.network(), await state.network()
    one, key = await state.machine(office, lab)
    other, other_key = await state.machine(office)
    async with AsyncExitStack() as stack:
        _, mirror = await stack.enter_async_context(keeping(the_bus))
        mine = await stack.enter_async_context(
            the_bus.user(key, the_bus.machine_token(key, one, [office, lab]), str(one))
        )
        others = await stack.enter_async_context(
            the_bus.user(other_key, the_bus.machine_token(other_key, other, [office]), str(other))
        )
        heard = await others.subscribe(f"live.network.{office}.>")
        await others.flush()
        await state.unassign(one, office)
        await closed(mine)
        await assert_refused(the_bus, key, the_bus.machine_token(key, one, [office, lab]), one)

        identity = mirror.access.identity(one)
        assert identity is not None
        token = the_bus.machine_token(key, one, [lab], issued_at=mirror.cutoffs.of(identity) + 1)
        again = await stack.enter_async_context(the_bus.user(key, token, str(one)))
        await again.subscribe(f"live.network.{lab}.>")
        await again.flush()
        await state.unassign(other, lab)  # nobody was in it: a tombstone all the same
        await closed(others)
        assert heard.pending_msgs == 0
        assert again.is_connected

        await state.unassign(one, lab)
        await closed(again)


async def assert_refused(the_bus: SecuredBus, key: Key, token: str, machine_id: UUID) -> None:
    with pytest.raises(UnauthenticatedError):
        async with the_bus.user(key, token, str(machine_id)):
            pass


async def test_revoked_and_deleted_machines_are_out(world: tuple[SecuredBus, StateWriter]) -> None:
    the_bus, state = world
    office = await state.network()
    (one, key), (two, other_key), (three, third_key) = [await state.machine(office) for _ in range(3)]
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(keeping(the_bus))
        clients = [
            await stack.enter_async_context(the_bus.user(k, the_bus.machine_token(k, m, [office]), str(m)))
            for m, k in ((one, key), (two, other_key), (three, third_key))
        ]
        await state.revoke(one, key)
        await state.put(machine_info(two), None)
        await closed(clients[0])
        await closed(clients[1])
        await clients[2].flush()
        assert set(await on_bus(the_bus)) == {key.public, other_key.public}


async def test_keepers_that_race_agree(world: tuple[SecuredBus, StateWriter]) -> None:
    the_bus, state = world
    office = await state.network()
    machines = [await state.machine(office) for _ in range(30)]
    async with keeping(the_bus), keeping(the_bus), keeping(the_bus):
        await asyncio.gather(*(state.unassign(machine, office) for machine, _ in machines))

        async def complete() -> bool:
            return set(await on_bus(the_bus)) == {key.public for _, key in machines}

        await wait_until(complete, what="every machine is revoked")


async def test_a_restarted_server_keeps_them(world: tuple[SecuredBus, StateWriter]) -> None:
    the_bus, state = world
    office = await state.network()
    one, key = await state.machine(office)
    before = the_bus.machine_token(key, one, [office])
    async with keeping(the_bus) as (keeper, _):
        await state.unassign(one, office)
        await until_held(the_bus, key)
        await the_bus.server.stop()
        await the_bus.server.start()
        assert await held(the_bus, key)
        await assert_refused(the_bus, key, before, one)

        two, other_key = await state.machine(office)
        await state.unassign(two, office)
        await until_held(the_bus, other_key)
        await keeper.settle()


async def until_held(the_bus: SecuredBus, key: Key) -> None:
    async def is_held() -> bool:
        return await held(the_bus, key)

    await wait_until(is_held, what="the machine is revoked")


async def held(the_bus: SecuredBus, key: Key) -> bool:
    return key.public in await on_bus(the_bus)


async def test_a_keeper_that_was_away_catches_up(world: tuple[SecuredBus, StateWriter]) -> None:
    the_bus, state = world
    office = await state.network()
    one, key = await state.machine(office)
    await state.unassign(one, office)
    assert await on_bus(the_bus) == {}
    async with keeping(the_bus):
        await until_held(the_bus, key)


async def test_what_somebody_took_away_comes_back(world: tuple[SecuredBus, StateWriter]) -> None:
    the_bus, state = world
    office = await state.network()
    one, key = await state.machine(office)
    async with keeping(the_bus) as (keeper, _), the_bus.connected("keeper") as system:
        await state.unassign(one, office)
        await until_held(the_bus, key)
        stranger = uuid4().hex
        await push(the_bus, system, {stranger: int(time.time())})
        assert not await held(the_bus, key)
        await keeper.settle()
        assert set(await on_bus(the_bus)) == {key.public, stranger}


async def test_those_that_concern_no_token_any_more_are_pruned(world: tuple[SecuredBus, StateWriter]) -> None:
    the_bus, state = world
    office = await state.network()
    one, key = await state.machine(office)
    later = [time.time()]
    async with keeping(the_bus, lambda: later[0]) as (keeper, _):
        await state.unassign(one, office)
        await until_held(the_bus, key)
        later[0] += ACCESS_SECONDS
        await keeper.settle()
        assert await held(the_bus, key)
        later[0] += 2 * MARGIN_SECONDS
        await keeper.settle()
        assert await on_bus(the_bus) == {}


async def test_another_versions_permissions_are_brought_up_to_date(world: tuple[SecuredBus, StateWriter]) -> None:
    the_bus, state = world
    one, key = await state.machine()
    older = [replace(each, publish=("beat.{{name()}}",)) if each.role == "machine" else each for each in ACCOUNT_ROLES]
    async with the_bus.connected("keeper") as system, AsyncExitStack() as stack:
        await push(the_bus, system, {"kept": int(time.time())}, older)
        assert not await may_ask(the_bus, key, one)
        await stack.enter_async_context(keeping(the_bus))

        async def allowed() -> bool:
            return await may_ask(the_bus, key, one)

        await wait_until(allowed, what="machines may ask again")
        assert set(await on_bus(the_bus)) == {"kept"}


async def may_ask(the_bus: SecuredBus, key: Key, machine_id: UUID) -> bool:
    async with the_bus.user(key, the_bus.machine_token(key, machine_id, []), str(machine_id)) as client:
        try:
            await client.request(f"ask.{machine_id}.sync", timeout=0.3)
        except nats.errors.NoRespondersError:
            return True
        except TimeoutError:
            return False
    raise AssertionError("somebody answers")


async def push(
    the_bus: SecuredBus,
    system: Client,
    revocations: dict[str, int],
    roles: Sequence[Permissions] = ACCOUNT_ROLES,
) -> None:
    public = the_bus.identity.public
    token = jwt.account(
        the_bus.identity.key("signing"),
        public.account,
        "wireloom",
        scopes={public.scopes[permissions.role]: permissions for permissions in roles},
        issued_at=int(time.time()) + 60,
        jetstream=True,
        revocations=revocations,
    )
    await system.request("$SYS.REQ.CLAIMS.UPDATE", token.encode(), timeout=30)
