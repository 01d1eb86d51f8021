"""What machines report of their links, on a secured bus, and what the gateway tells of paths."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import orjson
import pytest
from nats.aio.client import Client

from events import bus
from events.client import BusClient
from events.errors import InvalidInputError, NotFoundError, RateLimitedError, UnavailableError
from events.records import (
    LinkState,
    ReachReply,
    ReachRequest,
    SyncReply,
    SyncRequest,
)
from events.subjects import ask, reach
from services.gateway.reach import REPORTS
from services.gateway.reporters import StaleReportError
from tests.support.gateway import done
from tests.support.gateway_place import Machine, Place, placed
from tests.support.reach_net import direct, unreachable
from tests.support.secured_plane import API, secured_plane
from tests.support.waiting import wait_until


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with placed(tmp_path) as found:
        yield found


async def report(
    client: Client, machine: Machine, network: UUID, *links: LinkState, boot: UUID, counter: int, whole: bool = False
) -> int:
    request = ReachRequest(network_id=network, boot_id=boot, counter=counter, whole=whole, links=links)
    answer = await bus.ask(client, ask(machine.id, "reach"), request.model_dump_json().encode(), 5)
    return ReachReply.model_validate_json(answer).sequence


async def sync(client: Client, machine: Machine, since: int) -> SyncReply:
    body = SyncRequest(scope=f"paths:{machine.id}", since=since).model_dump_json().encode()
    return SyncReply.model_validate_json(await bus.ask(client, ask(machine.id, "sync"), body, 10))


async def is_following(client: Client, machine: Machine) -> bool:
    """Whether the gateway has read the streams."""
    try:
        await sync(client, machine, 0)
        await report(client, machine, uuid4(), boot=uuid4(), counter=1)
    except UnavailableError:
        return False
    except NotFoundError:
        return True
    return False


@asynccontextmanager
async def heard(place: Place, machine: Machine) -> AsyncIterator[BusClient]:
    """A machine's connection, once the gateway takes its reports."""
    async with place.agent(machine) as client:
        await wait_until(lambda: is_following(client, machine), what="the gateway follows the streams")
        yield client


async def test_what_is_acknowledged_stands_in_the_stream(place: Place) -> None:
    await place.make_streams()
    one, two = await place.machine(1), await place.machine(2)
    boot = uuid4()
    async with heard(place, one) as client:
        links = [direct(two.id, 10)]
        first = await report(client, one, place.office, *links, boot=boot, counter=1, whole=True)
        assert (first, await place.written()) == (1, 1)
        assert await report(client, one, place.office, *links, boot=boot, counter=2) == 0, "that is nothing new"
        second = await report(client, one, place.office, unreachable(two.id, "192.0.2.1:1"), boot=boot, counter=3)
        assert (second, await place.written()) == (2, 2)
    last = await place.client.jetstream().get_last_msg("REACH", reach(place.office, one.id, two.id))
    assert last.seq == 2
    assert last.data is not None
    assert b"unreachable" in last.data


async def test_what_is_refused_writes_nothing(place: Place) -> None:
    await place.make_streams()
    one, two, stranger = await place.machine(1), await place.machine(2), await place.machine(3, place.lab)
    boot, link = uuid4(), direct(two.id)
    async with heard(place, one) as client:
        request = ReachRequest(network_id=place.office, boot_id=boot, counter=9, links=(direct(one.id),))
        # In another's name: the bus lets it say nothing there, and nobody answers.
        with pytest.raises(UnavailableError):
            await bus.ask(client, ask(two.id, "reach"), request.model_dump_json().encode(), 0.5)
        for network in (place.lab, uuid4()):
            with pytest.raises(NotFoundError):
                await report(client, one, network, link, boot=boot, counter=1)
        assert await report(client, one, place.office, direct(stranger.id), boot=boot, counter=2) == 0
        with pytest.raises(InvalidInputError):
            await bus.ask(client, ask(one.id, "reach"), too_many(place.office, two), 5)
        with pytest.raises(InvalidInputError):
            await report(client, one, place.office, direct(two.id, 11), boot=boot, counter=3)
        assert await place.written() == 0
        # An earlier start's, and one that was overtaken.
        await report(client, one, place.office, link, boot=boot, counter=3)
        later = uuid4()
        await report(client, one, place.office, unreachable(two.id), boot=later, counter=1)
        for old, counter in ((boot, 99), (later, 1)):
            with pytest.raises(StaleReportError):
                await report(client, one, place.office, link, boot=old, counter=counter)
        assert await place.written() == 2
        counters = range(2, REPORTS + 2)
        with pytest.raises(RateLimitedError):
            [await report(client, one, place.office, direct(stranger.id), boot=later, counter=n) for n in counters]
        assert await place.written() == 2


def too_many(network: UUID, peer: Machine) -> bytes:
    links = [{"peer_id": str(peer.id), "state": "direct"}] * 501
    return orjson.dumps({"network_id": str(network), "boot_id": str(uuid4()), "counter": 1, "links": links})


async def test_another_gateway_refuses_the_same(place: Place) -> None:
    """One that starts anew knows from REACH what was reported, and takes nothing before it does."""
    await place.make_streams()
    one, two = await place.machine(1), await place.machine(2)
    boots = [uuid4(), uuid4()]
    async with heard(place, one) as client:
        await report(client, one, place.office, direct(two.id), boot=boots[0], counter=5)
        await report(client, one, place.office, unreachable(two.id), boot=boots[1], counter=5)
    await place.start_gateway()
    async with heard(place, one) as client:
        for boot, counter in ((boots[0], 6), (boots[1], 5)):
            with pytest.raises(StaleReportError):
                await report(client, one, place.office, direct(two.id), boot=boot, counter=counter)
        assert await place.written() == 2
        assert await report(client, one, place.office, direct(two.id), boot=boots[1], counter=6) == 3


async def test_a_machine_hears_its_own_paths(place: Place) -> None:
    await place.make_streams()
    one, two, edge = [await place.machine(number) for number in (1, 2, 3)]
    await place.choose(one, two, (edge.id,))
    async with heard(place, one) as client, heard(place, two) as other:
        reply = await sync(client, one, 0)
        assert (reply.revision, reply.reset, len(reply.records)) == (1, False, 1)
        assert (await sync(client, one, 99)).reset, "that is no revision of it"
        assert (await sync(other, two, 0)).records == ()
        body = SyncRequest(scope=f"paths:{one.id}").model_dump_json().encode()
        answer = await bus.ask(other, ask(two.id, "sync"), body, 5)
        assert SyncReply.model_validate_json(answer).gone, "it is not its to hear"


async def test_paths_over_http(place: Place) -> None:
    await place.make_streams()
    one, two, edge = [await place.machine(number) for number in (1, 2, 3)]
    async with heard(place, one) as client, heard(place, edge) as other:
        boot = uuid4()
        await report(client, one, place.office, direct(two.id, 10), direct(edge.id, 10), boot=boot, counter=1)
        await report(client, one, place.office, unreachable(two.id, "192.0.2.1:51820"), boot=boot, counter=2)
        await report(other, edge, place.office, direct(two.id, 20), boot=uuid4(), counter=1)
    await place.choose(one, two, (edge.id,))
    await place.choose(two, one, (edge.id,))
    paths = f"mesh-networks/{place.office}/paths"

    async def shows() -> bool:
        return bool((await place.look(f"{paths}/{two.id}/{one.id}"))["kind"] == "transit")

    await wait_until(shows, what="the gateway shows the way")
    found = await place.look(f"{paths}/{one.id}/{two.id}")
    assert (found["kind"], found["rtt_ms"], [via["uuid"] for via in found["via"]]) == (
        "transit",
        30,
        [str(edge.id)],
    )
    assert found["reports"][0]["tried"] == [{"endpoint": "192.0.2.1:51820", "result": "no answer"}]
    assert [(event["kind"], event["sequence"]) for event in found["events"]][-1] == ("choice", 7)
    assert sorted(event["sequence"] for event in found["events"] if event["kind"] == "report") == [1, 3]

    listed = await place.look(paths, limit="2")
    rest = await place.look(paths, after=listed["next"])
    kinds = [(item["machine"]["uuid"], item["peer"]["uuid"], item["kind"]) for item in listed["items"]]
    assert kinds == [(str(one.id), str(two.id), "transit"), (str(one.id), str(edge.id), "direct")]
    assert ([item["kind"] for item in rest["items"]], rest["next"]) == (["direct"], None)
    assert len((await place.look(paths, kind="transit"))["items"]) == 1
    assert len((await place.look(paths, machine=str(edge.id)))["items"]) == 2
    peers = (await place.look(f"machines/{two.id}/peers"))["items"]
    assert [(peer["peer"]["wg_ip_address"], peer["kind"], peer["rtt_ms"]) for peer in peers] == [
        ("172.16.0.1", "transit", 30),
        ("172.16.0.3", "direct", 20),
    ]
    gone = await place.http.get(f"{API}/{paths}/{one.id}/{uuid4()}")
    itself = await place.http.get(f"{API}/{paths}/{one.id}/{one.id}")
    assert (gone.status_code, itself.status_code) == (404, 422)


async def test_a_gateway_works_before_anything_is_known_of_paths(place: Place) -> None:
    """It is as ready as without, takes no reports, and begins as soon as it can."""
    one, two = await place.machine(1), await place.machine(2)
    ready = (await place.http.get("/readyz")).json()
    assert (ready["bus"], ready["mirror"]) == (True, True)
    paths = f"mesh-networks/{place.office}/paths"

    async def shows() -> bool:
        return [item["kind"] for item in (await place.look(paths))["items"]] == ["unknown"]

    await wait_until(shows, what="the gateway shows the machines")
    async with place.agent(one) as client:
        with pytest.raises(UnavailableError):
            await report(client, one, place.office, direct(two.id), boot=uuid4(), counter=1)
        with pytest.raises(UnavailableError):
            await sync(client, one, 5)
        await place.make_streams()
        await wait_until(lambda: is_following(client, one), what="the gateway takes reports")
        assert await report(client, one, place.office, direct(two.id), boot=uuid4(), counter=1) == 1


async def test_whether_a_machine_is_a_transit(tmp_path: Path) -> None:
    async with secured_plane(tmp_path) as plane:
        machine = await plane.enrolled("db-1")
        where = f"{API}/machines/{machine.id}"
        assert (await done((await plane.admin()).get(where)))["transit"] == "auto"
        operator, viewer = await plane.account("ops", "operator"), await plane.account("eve", "viewer")
        assert (await viewer.patch(where, json={"transit": "never"})).status_code == 403
        assert (await done(operator.patch(where, json={"transit": "never"})))["transit"] == "never"
        both = await done(operator.patch(where, json={"hostname": "edge-1", "transit": "always"}))
        assert (both["hostname"], both["transit"]) == ("edge-1", "always")
        before = await plane.position()
        for body in ({}, {"transit": "maybe"}, {"transit": None}):
            assert (await operator.patch(where, json=body)).status_code == 422
        assert await plane.position() == before
