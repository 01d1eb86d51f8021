"""The HTTP API over a real control plane."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx2
import orjson
import pytest

from events.errors import UnavailableError
from services.cli.embedded import EmbeddedServer
from services.gateway.service import Settings, listener, serve
from tests.support.gateway import allocating, control_plane, create_network, deriving, done, is_ready, register_machine
from tests.support.waiting import wait_until

NETWORKS = "/api/v1/mesh-networks"
MACHINES = "/api/v1/machines"
EVENTS = "/api/v1/events"


@pytest.fixture
async def http(bus_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with control_plane(bus_url) as client:
        yield client


async def refusal(request: Any, status: int) -> dict[str, Any]:
    response = await request
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    return problem


async def test_a_network_from_creation_to_deletion(http: httpx2.AsyncClient) -> None:
    response = await http.post(NETWORKS, json={"name": "office", "network_cidr": "172.16.0.0/24"})
    assert response.status_code == 201
    made = response.json()
    place = f"{NETWORKS}/{made['uuid']}"
    assert response.headers["location"] == place
    UUID(response.headers["x-command-id"])
    assert int(response.headers["x-log-sequence"]) >= 1
    assert list(made) == [
        "uuid", "name", "network_cidr", "is_default", "route_reflector_mode", "available_ip_count", "machine_count",
        "created_at", "updated_at", "bgp_stage", "recommendation",
    ]  # fmt: skip
    assert (made["available_ip_count"], made["machine_count"]) == (254, 0)
    assert await done(http.get(place)) == made
    assert await done(http.get(NETWORKS)) == {"items": [made], "total": 1, "next": None}

    changed = await done(
        http.patch(place, json={"name": "home", "is_default": True, "route_reflector_mode": True}),
    )
    assert (changed["name"], changed["is_default"], changed["route_reflector_mode"]) == ("home", True, True)
    assert changed["updated_at"] > made["updated_at"]
    assert not (await done(http.patch(place, json={"is_default": False})))["is_default"]

    assert (await http.delete(place)).status_code == 204
    problem = await refusal(http.get(place), 404)
    assert problem["code"] == "not-found"


async def test_machines_join_and_leave(http: httpx2.AsyncClient) -> None:
    network_id = await create_network(http, "office", "172.16.0.0/24")
    machines = [await register_machine(http, f"db-{number}") for number in range(1, 5)]
    members = f"{NETWORKS}/{network_id}/machines"
    response = await http.post(members, json={"machine_uuid": str(machines[0])})
    assert (response.status_code, response.json()["wg_ip_address"]) == (201, "172.16.0.1")
    assert (await done(http.get(response.headers["location"])))["mesh_network_name"] == "office"
    asked = await done(http.post(members, json={"machine_uuid": str(machines[1]), "wg_ip_address": "172.16.0.9"}))
    assert asked["wg_ip_address"] == "172.16.0.9"
    batch = await done(http.post(f"{members}/batch", json={"machine_uuids": [str(m) for m in machines]}))
    assert [item["wg_ip_address"] for item in batch["items"]] == [f"172.16.0.{n}" for n in (1, 9, 2, 3)]

    listed = await done(http.get(members))
    assert [item["hostname"] for item in listed["items"]] == ["db-1", "db-3", "db-4", "db-2"]
    assert (await done(http.get(f"{NETWORKS}/{network_id}")))["available_ip_count"] == 250
    machine = await done(http.get(f"{MACHINES}/{machines[1]}"))
    assert list(machine) == [
        "uuid", "hostname", "state", "is_online", "last_seen_at", "agent_version", "transit", "memberships",
        "enrolled_at", "revoked_at", "refused_records", "created_at", "updated_at",
    ]  # fmt: skip
    assert machine["memberships"] == [
        {
            "mesh_network_uuid": str(network_id),
            "mesh_network_name": "office",
            "wg_ip_address": "172.16.0.9",
            "public_key": None,
            "endpoints": [],
        }
    ]

    assert (await http.delete(f"{members}/{machines[0]}")).status_code == 204
    assert (await refusal(http.get(f"{members}/{machines[0]}"), 404))["code"] == "not-found"
    assert (await refusal(http.delete(f"{MACHINES}/{machines[1]}"), 409))["code"] == "in-use"
    assert (await http.delete(f"{MACHINES}/{machines[1]}", params={"force": "true"})).status_code == 204
    assert (await refusal(http.delete(f"{NETWORKS}/{network_id}"), 409))["code"] == "in-use"
    assert (await http.delete(f"{NETWORKS}/{network_id}", params={"force": "true"})).status_code == 204
    assert (await done(http.get(f"{MACHINES}/{machines[2]}")))["memberships"] == []


async def test_pages_and_filters(http: httpx2.AsyncClient) -> None:
    office = await create_network(http, "office", "172.16.0.0/24")
    await create_network(http, "lab", "10.0.0.0/24", is_default=True)
    for number in range(7):
        await register_machine(http, f"db-{number}")
    await register_machine(http, "Web-1")

    async def hostnames(**params: Any) -> list[str]:
        found: list[str] = []
        after = None
        while True:
            page = await done(http.get(MACHINES, params=params | ({"after": after} if after else {})))
            found += [item["hostname"] for item in page["items"]]
            after = page["next"]
            if after is None:
                assert page["total"] == len(found)
                return found

    ordered = [*(f"db-{number}" for number in range(7)), "Web-1"]
    assert await hostnames(limit=3) == ordered
    assert await hostnames(limit=4, sort="-hostname") == ordered[::-1]
    assert await hostnames(limit=2, sort="created_at") == ordered
    assert await hostnames(hostname="WEB-1") == ["Web-1"]
    assert await hostnames(search="B-") == ordered
    assert await hostnames(is_online="true") == []
    assert await hostnames(mesh_network_uuid=str(office)) == []
    machine = (await done(http.get(MACHINES, params={"hostname": "db-3"})))["items"][0]
    await done(http.post(f"{NETWORKS}/{office}/machines", json={"machine_uuid": machine["uuid"]}))
    assert await hostnames(mesh_network_uuid=str(office)) == ["db-3"]
    assert await hostnames(search="172.16.0.1") == ["db-3"]

    async def names(**params: Any) -> list[str]:
        return [item["name"] for item in (await done(http.get(NETWORKS, params=params)))["items"]]

    assert await names() == ["lab", "office"]
    assert await names(sort="-machine_count") == ["office", "lab"]
    assert await names(is_default="true") == ["lab"]
    assert await names(name="office") == ["office"]
    assert await names(name="Office") == []
    assert await names(search="172.16") == ["office"]


async def test_the_same_key_is_the_same_request(http: httpx2.AsyncClient) -> None:
    body = {"name": "office", "network_cidr": "172.16.0.0/24"}
    headers = {"Idempotency-Key": "my order no. 5"}
    first = await http.post(NETWORKS, json=body, headers=headers)
    again = await http.post(NETWORKS, json=body, headers=headers)
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert again.headers["x-command-id"] == first.headers["x-command-id"]
    assert again.headers["x-log-sequence"] == first.headers["x-log-sequence"]
    other = await refusal(http.post(NETWORKS, json=body | {"name": "lab"}, headers=headers), 409)
    assert other["code"] == "command-id-reused"

    place, key = first.headers["location"], {"Idempotency-Key": str(uuid4())}
    change = {"name": "home", "is_default": True}
    changed = await http.patch(place, json=change, headers=key)
    assert changed.status_code == 200
    assert (await http.patch(place, json=change, headers=key)).json() == changed.json()
    assert (await http.delete(place, headers=key)).status_code == 409

    key = {"Idempotency-Key": str(uuid4())}
    change = {"is_default": False, "route_reflector_mode": True}
    changed = await http.patch(place, json=change, headers=key)
    again = await http.patch(place, json=change, headers=key)
    assert (again.status_code, again.json()) == (200, changed.json())
    assert again.headers["x-log-sequence"] == changed.headers["x-log-sequence"]

    gone = {"Idempotency-Key": str(uuid4())}
    answers = [(await http.delete(place, headers=gone)).status_code for _ in range(2)]
    assert answers == [204, 204]


async def test_a_change_is_checked_before_anything_is_done(http: httpx2.AsyncClient) -> None:
    place = f"{NETWORKS}/{await create_network(http, 'office', '172.16.0.0/24')}"
    await create_network(http, "lab", "10.0.0.0/24")
    fixed = await refusal(http.patch(place, json={"name": "x", "network_cidr": "10.0.0.0/24"}), 422)
    assert (fixed["field"], "immutable" in fixed["detail"]) == ("network_cidr", True)
    taken = await refusal(http.patch(place, json={"is_default": True, "name": "lab"}), 409)
    assert taken["code"] == "name-taken"
    bad = await refusal(http.patch(place, json={"is_default": True, "name": "no good"}), 422)
    assert bad["code"] == "invalid-name"
    await refusal(http.patch(place, json={}), 422)
    await refusal(http.patch(place, json={"name": None}), 422)
    network = await done(http.get(place))
    assert (network["name"], network["is_default"]) == ("office", False)


async def test_every_refusal_is_a_problem_that_helps(http: httpx2.AsyncClient) -> None:
    cidr = await refusal(http.post(NETWORKS, json={"name": "office", "network_cidr": "172.16.0.5/24"}), 422)
    assert (cidr["code"], cidr["hint"]) == ("invalid-cidr", "Did you mean 172.16.0.0/24?")
    missing = await refusal(http.post(NETWORKS, json={"nam": "office"}), 422)
    assert {fault["field"] for fault in missing["errors"]} == {"body.name", "body.network_cidr", "body.nam"}
    assert (await refusal(http.get("/api/v1/nothing"), 404))["code"] == "not-found"
    assert (await refusal(http.put(NETWORKS), 405))["code"] == "method-not-allowed"
    json = {"content-type": "application/json"}
    assert (await refusal(http.post(NETWORKS, content=b"{", headers=json), 400))["code"] == "bad-request"
    for content in (rb'{"name": "\ud800", "network_cidr": "10.0.0.0/8"}', b'{"name": "\xff"}', b'{"name": NaN}'):
        assert (await refusal(http.post(NETWORKS, content=content, headers=json), 400))["code"] == "bad-request"
    await refusal(http.post(NETWORKS, content=b"{}", headers={"content-type": "text/plain"}), 415)
    await refusal(http.post(NETWORKS, content=b" " * 600_000, headers=json), 413)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b" " * 100_000

    await refusal(http.post(NETWORKS, content=chunks(), headers=json), 413)
    assert (await refusal(http.get(MACHINES, params={"hostnam": "x"}), 422))["errors"][0]["field"] == "query.hostnam"
    assert (await refusal(http.get(f"{MACHINES}/{uuid4()}", params={"x": "y"}), 422))["field"] == "x"
    for after in (-1, 2**53, 10**30):
        assert (await refusal(http.get(f"{EVENTS}/stream", params={"after": after}), 422))["field"] == "query.after"
        await refusal(http.get(f"{EVENTS}/stream", headers={"Last-Event-ID": str(after)}), 422)
        await refusal(http.get(EVENTS, params={"before": after}), 422)
    assert (await refusal(http.get(f"{MACHINES}/7"), 422))["errors"][0]["field"] == "path.uuid"
    assert (await refusal(http.get(MACHINES, params={"after": "abc"}), 422))["field"] == "after"
    actor = {"X-Wireloom-Actor": "two words"}
    await refusal(http.post(MACHINES, json={"hostname": "db-1"}, headers=actor), 422)
    assert (await refusal(http.get(MACHINES, headers={"host": "evil.example"}), 421))["code"] == "misdirected-request"
    await refusal(http.delete(f"{MACHINES}/{uuid4()}"), 404)
    place = f"{NETWORKS}/{uuid4()}/machines"
    for address in (True, 1, 2886729729, "172.16.0.300"):
        number = await refusal(http.post(place, json={"machine_uuid": str(uuid4()), "wg_ip_address": address}), 422)
        assert number["field"] == "body.wg_ip_address"


async def test_events_in_words(http: httpx2.AsyncClient) -> None:
    network_id = await create_network(http, "office", "172.16.0.0/24")
    one, two = await register_machine(http, "db-1"), await register_machine(http, "db-2")
    key = {"X-Wireloom-Actor": "cli:alice", "Idempotency-Key": str(uuid4())}
    await done(http.post(f"{NETWORKS}/{network_id}/machines", json={"machine_uuid": str(one)}, headers=key))
    await done(http.delete(f"{MACHINES}/{two}"))

    newest = await done(http.get(EVENTS, params={"limit": 3}))
    assert [item["text"] for item in newest["items"]] == [
        "deleted machine db-2",
        "assigned db-1 to office as 172.16.0.1",
        "registered machine db-2",
    ]
    assigned = newest["items"][1]
    assert (assigned["actor"], assigned["kind"]) == ("cli:alice", "network.machines_assigned")
    assert assigned["command_id"] == key["Idempotency-Key"]
    assert (assigned["network_uuids"], assigned["machine_uuids"]) == ([str(network_id)], [str(one)])
    assert assigned["data"]["assignments"] == [{"machine_id": str(one), "address": "172.16.0.1"}]
    rest = await done(http.get(EVENTS, params={"before": newest["next"]}))
    everything = await done(http.get(EVENTS, params={"after": 0}))
    assert (rest["next"], everything["next"]) == (None, None)
    assert everything["items"] == (newest["items"] + rest["items"])[::-1]
    first = await done(http.get(EVENTS, params={"after": 0, "limit": 2}))
    second = await done(http.get(EVENTS, params={"after": first["next"], "limit": 1000}))
    assert first["items"] + second["items"] == everything["items"]

    about_one = await done(http.get(EVENTS, params={"machine": str(one)}))
    assert [item["kind"] for item in about_one["items"]] == ["network.machines_assigned", "machine.registered"]
    about_network = await done(http.get(EVENTS, params={"network": str(network_id), "after": 0}))
    assert [item["kind"] for item in about_network["items"]] == ["network.created", "network.machines_assigned"]
    await refusal(http.get(EVENTS, params={"after": 1, "before": 2}), 422)


async def test_events_by_actor_kind_and_time(http: httpx2.AsyncClient) -> None:
    for number, who in enumerate(("cli:alice", "cli:bob")):
        body = {"name": f"n-{number}", "network_cidr": f"10.{number}.0.0/24"}
        await done(http.post(NETWORKS, json=body, headers={"X-Wireloom-Actor": who}))
    await register_machine(http, "db-1")

    async def found(**query: Any) -> list[str]:
        items = (await done(http.get(EVENTS, params=query)))["items"]
        assert (await done(http.get(EVENTS, params=query | {"after": 0})))["items"] == items[::-1]
        return [item["text"] for item in items]

    first, second, third = (await found())[::-1]
    assert await found(actor="alice") == [first]
    assert await found(actor="CLI:Bob") == [second]
    assert await found(actor="cli") == []
    assert await found(kind="network.created") == [second, first]
    assert await found(kind=["network.created", "machine.registered"]) == [third, second, first]
    time = (await done(http.get(EVENTS, params={"actor": "bob"})))["items"][0]["time"]
    assert await found(since=time) == [third, second]
    assert await found(until=time) == [first]
    assert await found(since=time, until=time) == []
    assert await found(since="2100-01-01T00:00:00Z") == await found(until="2000-01-01T00:00:00+02:00") == []
    for query in ({"kind": "network"}, {"since": "soon"}, {"actor": ""}):
        await refusal(http.get(EVENTS, params=query), 422)
    async with http.stream(
        "GET", f"{EVENTS}/stream", params={"after": 0, "actor": "bob", "kind": "network.created"}
    ) as response:
        events = httpx2.EventSource(response).__aiter__()
        assert orjson.loads((await anext(events)).data)["text"] == second
        await events.aclose()


async def test_the_event_stream_goes_on_where_it_was(http: httpx2.AsyncClient) -> None:
    await register_machine(http, "db-1")
    async with http.stream("GET", f"{EVENTS}/stream", params={"after": 0}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = httpx2.EventSource(response).__aiter__()
        first = await anext(events)
        assert orjson.loads(first.data)["text"] == "registered machine db-1"
        await register_machine(http, "db-2")
        second = await anext(events)
        assert orjson.loads(second.data)["text"] == "registered machine db-2"
        await events.aclose()
    async with http.stream("GET", f"{EVENTS}/stream", headers={"Last-Event-ID": first.id}) as response:
        events = httpx2.EventSource(response).__aiter__()
        assert (await anext(events)).id == second.id
        await events.aclose()


async def test_without_authorisation_there_is_nobody_to_sign_in(http: httpx2.AsyncClient) -> None:
    made: dict[str, Any] = {"name": "a", "role": "admin"}
    for method, path, body in (
        ("POST", "session", {"token": "wla_" + "a" * 52}),
        ("GET", "session", None),
        ("GET", "accounts", None),
        ("POST", "accounts", made),
        ("GET", "tokens", None),
        ("POST", "tokens", {"name": "a"}),
        ("POST", "bootstrap-tokens", {}),
        ("POST", "bus-credentials", {"public_key": "U"}),
        ("GET", "keys", None),
        ("POST", "agents/challenge", None),
    ):
        problem = await refusal(http.request(method, f"/api/v1/{path}", json=body), 409)
        assert "without authorisation" in problem["detail"]
    assert (await refusal(http.get("/api/v1/ca"), 404))["code"] == "not-found"
    assert (await done(http.get(EVENTS)))["last_sequence"] == 0
    assert (await http.get(MACHINES, headers={"Authorization": "Bearer x"})).is_success


async def test_health_and_metrics(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/healthz")).text == "ok\n"
    assert await done(http.get("/readyz")) == {"ready": True, "bus": True, "mirror": True, "allocator": True}
    machine = await register_machine(http, "db-1")
    await refusal(http.post(f"{NETWORKS}/{uuid4()}/machines", json={"machine_uuid": str(machine)}), 404)
    text = (await http.get("/metrics")).text
    assert 'wireloom_commands_total{kind="register-machine",result="done"} 1.0' in text
    assert 'wireloom_commands_total{kind="assign-machine",result="not-found"} 1.0' in text
    assert 'wireloom_command_seconds_count{kind="register-machine"} 1.0' in text
    assert 'wireloom_http_requests_total{method="POST",route="/api/v1/machines",status="201"} 1.0' in text
    assert "wireloom_machines 1.0" in text
    assert "wireloom_mirror_lag 0.0" in text


async def test_the_document_names_every_answer(http: httpx2.AsyncClient) -> None:
    document = await done(http.get("/api/v1/openapi.json"))
    assert {"/api/v1/mesh-networks", "/api/v1/machines/{uuid}", "/api/v1/events/stream"} <= set(document["paths"])
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], path
            assert operation["description"], path
            if path.startswith("/api/v1"):
                problem = operation["responses"]["503"]["content"]["application/problem+json"]
                assert problem["schema"] == {"$ref": "#/components/schemas/Problem"}, (path, method)
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for page in ("/docs", "/redoc"):
        await refusal(http.get(page), 404)


async def test_readiness_without_a_bus(bus_server: EmbeddedServer, http: httpx2.AsyncClient) -> None:
    network_id = await create_network(http, "office", "172.16.0.0/24")
    bus_server.port = int(bus_server.url.rpartition(":")[2])
    await bus_server.stop()
    response = await http.get("/readyz")
    assert (response.status_code, response.json()["ready"]) == (503, False)
    assert (await done(http.get(f"{NETWORKS}/{network_id}")))["name"] == "office"
    await bus_server.start()
    await wait_until(lambda: is_ready(http), what="the control plane is ready again")
    assert await create_network(http, "lab", "10.0.0.0/24")


async def test_an_open_stream_ends_with_the_gateway(bus_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with allocating(bus_url), deriving(bus_url):
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        stop, settings = asyncio.Event(), Settings(nats_url=bus_url, port=0)
        task = asyncio.create_task(serve(settings, stop, port.set_result))
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{await port}", trust_env=False) as http:
            await wait_until(lambda: is_ready(http), what="the control plane is ready")
            async with http.stream("GET", f"{EVENTS}/stream") as response:
                assert response.is_success
                stop.set()
                assert [line async for line in response.aiter_lines()] == []
        await asyncio.wait_for(task, 30)
    assert "graceful shutdown exceeded" not in caplog.text


async def test_a_taken_port_is_said(bus_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(nats_url=bus_url, port=taken.getsockname()[1])
        with pytest.raises(UnavailableError, match="cannot listen"):
            await serve(settings, asyncio.Event())


async def test_an_answer_does_not_wait_for_the_one_before_to_be_acknowledged() -> None:
    """Nagle's algorithm is off (RFC 1122, section 4.2.3.4): with it, an answer takes some 40 ms."""
    accepted: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
    with listener("127.0.0.1", 0) as listening:
        server = await asyncio.start_server(lambda _, writer: accepted.set_result(writer), sock=listening)
        async with server:
            _, caller = await asyncio.open_connection(*listening.getsockname())
            answering = await accepted
            assert answering.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            for writer in (answering, caller):
                writer.close()
                await writer.wait_closed()
