"""Who gets in over HTTPS, and who does not: then nothing changes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from random import randbytes
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from events import bus
from events.fields import AccountRole
from events.subjects import REACH_PREFIX
from events.trust.keys import generate
from services.gateway.authority import includes
from services.gateway.http import edge, wire
from services.gateway.http.app import routes
from services.gateway.http.changes import Gateway
from services.gateway.http.guard import COOKIE, GuardedRoute
from services.gateway.pages import site
from services.gateway.settings import Limits
from tests.support.gateway import create_network, done, register_machine
from tests.support.secured_plane import API, SecuredPlane, secured_plane
from tests.support.waiting import wait_until

ROLES: tuple[AccountRole, ...] = ("viewer", "operator", "admin")
CSRF = "X-CSRF-Token"
ENROL = b"POST /api/v1/agents/enrol HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[SecuredPlane]:
    async with secured_plane(tmp_path, limits=Limits(failures=1000)) as running:
        yield running


async def status_of(client: httpx2.AsyncClient, method: str, path: str, **more: Any) -> int:
    """Only the status: some answers have no end."""
    async with client.stream(method, path, **more) as response:
        return response.status_code


async def refused(request: Awaitable[httpx2.Response], status: int) -> dict[str, Any]:
    response = await request
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    if status == 401:
        assert response.headers["www-authenticate"] == "Bearer"
    problem: dict[str, Any] = response.json()
    return problem


Target = Callable[[], Awaitable[str]]


@dataclass(frozen=True)
class Case:
    """What a route answers to who may call it."""

    status: int
    target: str = ""
    body: Callable[[], Any] = lambda: None


class Targets:
    """Fresh things for routes to work on, made by an admin."""

    def __init__(self, admin: httpx2.AsyncClient, plane: SecuredPlane) -> None:
        self.admin = admin
        self.plane = plane
        self.number = count(1)

    def name(self) -> str:
        return f"n-{next(self.number)}"

    def network_body(self) -> dict[str, str]:
        number = next(self.number)
        return {"name": f"n-{number}", "network_cidr": f"10.{number // 256}.{number % 256}.0/24"}

    def route_body(self) -> dict[str, Any]:
        number = next(self.number)
        return {"name": f"n-{number}", "prefixes": [f"192.168.{number}.0/24"]}

    def vip_body(self) -> dict[str, str]:
        number = next(self.number)
        return {"name": f"n-{number}", "address": f"203.0.113.{number}"}

    async def uuid(self, path: str, body: Any) -> str:
        return str((await done(self.admin.post(f"{API}/{path}", json=body)))["uuid"])

    async def make(self, target: str) -> dict[str, str]:
        """What stands for the parameters of a path."""
        match target:
            case "network":
                return {"uuid": await self.uuid("mesh-networks", self.network_body())}
            case "machine":
                return {"uuid": await self.uuid("machines", {"hostname": self.name()})}
            case "member":
                network, machine = (await self.make("network"))["uuid"], (await self.make("machine"))["uuid"]
                await done(self.admin.post(f"{API}/mesh-networks/{network}/machines", json={"machine_uuid": machine}))
                return {"uuid": network, "machine_uuid": machine}
            case "placed":
                member = await self.make("member")
                return {"uuid": member["machine_uuid"], "network_uuid": member["uuid"]}
            case "pair":
                member, peer = await self.make("member"), (await self.make("machine"))["uuid"]
                path = f"{API}/mesh-networks/{member['uuid']}/machines"
                await done(self.admin.post(path, json={"machine_uuid": peer}))
                return member | {"peer_uuid": peer}
            case "assigned":
                return {"uuid": (await self.make("member"))["machine_uuid"]}
            case "enrolled":
                return {"uuid": str((await self.plane.enrolled(self.name())).id)}
            case "revoked":
                machine = (await self.make("enrolled"))["uuid"]
                await done(self.admin.post(f"{API}/machines/{machine}/revoke"))
                return {"uuid": machine}
            case "bootstrap":
                return {"uuid": await self.uuid("bootstrap-tokens", {})}
            case "route":
                return {"uuid": await self.uuid("routes", self.route_body())}
            case "vip":
                return {"uuid": await self.uuid("vips", self.vip_body())}
            case "policy":
                return {"uuid": await self.uuid("route-policies", {"name": self.name(), "direction": "import"})}
            case "account":
                return {"uuid": await self.uuid("accounts", {"name": self.name(), "role": "viewer"})}
            case "token":
                account = (await self.make("account"))["uuid"]
                return {"uuid": await self.uuid("tokens", {"account_uuid": account, "name": self.name()})}
            case "command":
                made = await self.admin.post(f"{API}/mesh-networks", json=self.network_body())
                return {"command_id": made.headers["x-command-id"]}
        return {}


def cases(targets: Targets, machine: str) -> dict[tuple[str, str], Case]:
    """For each route what it answers to who may call it."""
    names, machines = f"{API}/mesh-networks", f"{API}/machines"
    return {
        ("GET", "/healthz"): Case(200),
        ("GET", "/readyz"): Case(200),
        ("GET", f"{API}/openapi.json"): Case(200),
        ("GET", f"{API}/ca"): Case(200),
        ("POST", f"{API}/agents/challenge"): Case(200),
        ("POST", f"{API}/agents/enrol"): Case(422, body=dict),
        ("POST", f"{API}/agents/renew"): Case(422, body=dict),
        ("POST", f"{API}/session"): Case(401, body=lambda: {"token": "wla_x"}),
        ("GET", f"{API}/session"): Case(200),
        ("GET", "/metrics"): Case(200),
        ("GET", f"{API}/events"): Case(200),
        ("GET", f"{API}/events/stream"): Case(200),
        ("GET", f"{API}/log/checkpoints"): Case(200),
        ("POST", f"{API}/log/checkpoints"): Case(200),
        ("POST", f"{API}/log/verification"): Case(200),
        ("GET", f"{API}/log/export"): Case(200),
        ("GET", f"{API}/diff"): Case(422),  # it takes a moment at least
        ("GET", f"{API}/ledger"): Case(200),
        **{("GET", f"{API}/why/{what}"): Case(422) for what in ("peer", "path", "address", "route")},
        ("GET", f"{API}/keys"): Case(200),
        ("GET", names): Case(200),
        ("POST", names): Case(201, body=targets.network_body),
        ("GET", f"{names}/{{uuid}}"): Case(200, "network"),
        ("PATCH", f"{names}/{{uuid}}"): Case(200, "network", lambda: {"is_default": True}),
        ("DELETE", f"{names}/{{uuid}}"): Case(204, "network"),
        ("GET", f"{API}/commands/{{command_id}}"): Case(200, "command"),
        ("POST", f"{API}/commands/{{command_id}}/undo"): Case(200, "command"),
        ("GET", f"{names}/{{uuid}}/status"): Case(200, "network"),
        ("GET", f"{names}/{{uuid}}/machines"): Case(200, "network"),
        ("POST", f"{names}/{{uuid}}/machines"): Case(201, "network", lambda: {"machine_uuid": machine}),
        ("POST", f"{names}/{{uuid}}/machines/batch"): Case(201, "network", lambda: {"machine_uuids": [machine]}),
        ("GET", f"{names}/{{uuid}}/machines/{{machine_uuid}}"): Case(200, "member"),
        ("DELETE", f"{names}/{{uuid}}/machines/{{machine_uuid}}"): Case(204, "member"),
        ("GET", f"{names}/{{uuid}}/paths"): Case(200, "network"),
        ("GET", f"{names}/{{uuid}}/paths/{{machine_uuid}}/{{peer_uuid}}"): Case(200, "pair"),
        ("GET", f"{machines}/{{uuid}}/peers"): Case(200, "machine"),
        ("GET", f"{machines}/{{uuid}}/tunnels"): Case(409, "revoked"),
        ("GET", f"{names}/{{uuid}}/reflectors"): Case(200, "network"),
        ("PUT", f"{names}/{{uuid}}/reflectors"): Case(200, "network", lambda: {"machine_uuids": []}),
        ("GET", f"{machines}/{{uuid}}/gateway"): Case(200, "machine"),
        ("PUT", f"{machines}/{{uuid}}/gateway"): Case(200, "machine", lambda: {"network_uuids": []}),
        **_routing_cases(targets),
        ("GET", f"{names}/{{uuid}}/bgp"): Case(200, "network"),
        ("GET", f"{names}/{{uuid}}/bgp/sessions"): Case(200, "network"),
        ("GET", f"{machines}/{{uuid}}/bgp"): Case(200, "machine"),
        ("GET", f"{machines}/{{uuid}}/mesh-networks/{{network_uuid}}/rib"): Case(200, "placed"),
        ("GET", machines): Case(200),
        ("POST", machines): Case(201, body=lambda: {"hostname": targets.name()}),
        ("GET", f"{machines}/{{uuid}}"): Case(200, "machine"),
        ("PATCH", f"{machines}/{{uuid}}"): Case(200, "machine", lambda: {"hostname": targets.name()}),
        ("DELETE", f"{machines}/{{uuid}}"): Case(204, "machine"),
        ("POST", f"{machines}/{{uuid}}/revoke"): Case(200, "enrolled"),
        ("GET", f"{machines}/{{uuid}}/revocation"): Case(200, "revoked"),
        ("POST", f"{machines}/{{uuid}}/rotate-key"): Case(200, "assigned", dict),
        ("GET", f"{API}/bootstrap-tokens"): Case(200),
        ("POST", f"{API}/bootstrap-tokens"): Case(201, body=dict),
        ("GET", f"{API}/bootstrap-tokens/{{uuid}}"): Case(200, "bootstrap"),
        ("DELETE", f"{API}/bootstrap-tokens/{{uuid}}"): Case(204, "bootstrap"),
        ("POST", f"{API}/bus-credentials"): Case(200, body=lambda: {"public_key": generate("user").public}),
        ("GET", f"{API}/accounts"): Case(200),
        ("POST", f"{API}/accounts"): Case(201, body=lambda: {"name": targets.name(), "role": "viewer"}),
        ("GET", f"{API}/accounts/{{uuid}}"): Case(200, "account"),
        ("PATCH", f"{API}/accounts/{{uuid}}"): Case(200, "account", lambda: {"role": "operator"}),
        ("DELETE", f"{API}/accounts/{{uuid}}"): Case(204, "account"),
        ("GET", f"{API}/tokens"): Case(200),
        ("POST", f"{API}/tokens"): Case(201, body=lambda: {"name": targets.name()}),
        ("DELETE", f"{API}/tokens/{{uuid}}"): Case(204, "token"),
        ("DELETE", f"{API}/session"): Case(204),
    }


def _routing_cases(targets: Targets) -> dict[tuple[str, str], Case]:
    policy = {"direction": "import"}
    kinds: tuple[tuple[str, str, Callable[[], Any]], ...] = (
        ("routes", "route", targets.route_body),
        ("vips", "vip", targets.vip_body),
        ("route-policies", "policy", lambda: {"name": targets.name(), **policy}),
    )
    found: dict[tuple[str, str], Case] = {}
    for path, target, body in kinds:
        found |= {
            ("GET", f"{API}/{path}"): Case(200),
            ("POST", f"{API}/{path}"): Case(201, body=body),
            ("GET", f"{API}/{path}/{{uuid}}"): Case(200, target),
            ("PATCH", f"{API}/{path}/{{uuid}}"): Case(200, target, lambda: {"name": targets.name()}),
            ("DELETE", f"{API}/{path}/{{uuid}}"): Case(204, target),
        }
    return found


async def test_every_route_by_every_role(plane: SecuredPlane) -> None:
    """Of the API; who may see and do what in the dashboard, its own tests tell."""
    admin = await plane.admin()
    targets = Targets(admin, plane)
    known = cases(targets, str(await register_machine(admin, "db-1")))
    shown = {route.path for router in site.ROUTERS for route in router.routes if isinstance(route, GuardedRoute)}
    guarded = [route for route in routes() if route.path not in shown]
    needed = {(method, route.path): route.needed_role for route in guarded for method in route.methods or ()}
    assert set(known) == set(needed)
    callers: dict[AccountRole | None, httpx2.AsyncClient] = {None: await plane.client()}
    for role in ROLES:
        callers[role] = await plane.account(f"some-{role}", role)

    for role, client in callers.items():
        allowed, refusals = [], []
        for (method, path), case in known.items():
            # What the case revokes is another's token.
            takes = "admin" if (method, path) == ("DELETE", f"{API}/tokens/{{uuid}}") else needed[method, path]
            request = (method, path.format(**await targets.make(case.target)), case.body())
            if takes is None or (role is not None and includes(role, takes)):
                allowed.append((*request, case.status))
            else:
                refusals.append(request)
        assert len(refusals) == {None: 77, "viewer": 37, "operator": 7, "admin": 0}[role]
        before = await plane.position()
        for method, place, body in refusals:
            if role is None:
                await refused(client.request(method, place, json=body), 401)
                await refused(client.request(method, place, content=b"{", headers={"content-type": "x"}), 401)
            else:
                problem = await refused(client.request(method, place, json=body), 403)
                assert f"yours is {role}" in problem["detail"]
        assert await plane.position() == before
        for method, place, body, status in allowed:
            assert await status_of(client, method, place, json=body) == status, (role, method, place)


async def test_tokens_that_do_not_count(plane: SecuredPlane) -> None:
    admin = await plane.admin()
    bootstrap = await plane.bootstrap_token()
    gone = await done(admin.post(f"{API}/tokens", json={"name": "gone"}))
    await done(admin.delete(f"{API}/tokens/{gone['uuid']}"))
    orphan = await plane.token_of("orphan", "admin")
    account = (await done((await plane.client(orphan)).get(f"{API}/session")))["account"]
    await done(admin.delete(f"{API}/accounts/{account['uuid']}"))
    session = (await signed_in(plane, plane.admin_token))[0]
    good = plane.admin_token
    body = {"name": "office", "network_cidr": "172.16.0.0/24"}
    before = await plane.position()
    for shown in (
        "Bearer", f"Basic {good}", good, f"Bearer {good}x", f"Bearer {good[:-1]}", f"Bearer {good.upper()}",
        f"Bearer {bootstrap}", f"Bearer {gone['token']}", f"Bearer {orphan}", f"Bearer {session}",
        f"Bearer {'wla_' + 'a' * 52}", f"Bearer {'wla_' + 'a' * 10_000}", f"Bearer {good}, Bearer {good}",
        b"Bearer wla_\xe4",
    ):  # fmt: skip
        stranger = await plane.client()
        for request in (
            stranger.post(f"{API}/mesh-networks", json=body, headers={"Authorization": shown}),
            stranger.get(f"{API}/accounts", headers={"Authorization": shown}),
        ):
            problem = await refused(request, 401)
            assert "wla_" not in str(problem)
    assert await plane.position() == before


async def test_an_expired_token_counts_no_more(plane: SecuredPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = await plane.admin()
    short = await plane.client(
        (await done(admin.post(f"{API}/tokens", json={"name": "a", "lifetime": "10m"})))["token"]
    )
    session, headers = await signed_in(plane, plane.admin_token)
    browser = await plane.client(Cookie=f"{COOKIE}={session}")
    before = await plane.position()
    change = {"name": "office", "network_cidr": "172.16.0.0/24"}
    for minutes, short_status, browser_status in ((9, 200, 200), (10, 401, 200), (719, 401, 200), (721, 401, 401)):
        with monkeypatch.context() as patch:
            patch.setattr(Gateway, "now", lambda _, ahead=minutes: datetime.now(UTC) + timedelta(minutes=ahead))
            assert (await short.get(f"{API}/session")).status_code == short_status
            assert (await browser.get(f"{API}/session")).status_code == browser_status
            if minutes > 720:
                await refused(browser.post(f"{API}/mesh-networks", json=change, headers=headers), 401)
                await refused(short.post(f"{API}/mesh-networks", json=change), 401)
    assert await plane.position() == before


async def test_a_role_is_the_lower_of_the_accounts_and_the_tokens(plane: SecuredPlane) -> None:
    admin = await plane.admin()
    reading = await done(admin.post(f"{API}/tokens", json={"name": "read-only", "role": "viewer"}))
    viewer = await plane.client(reading["token"])
    assert (await done(viewer.get(f"{API}/session")))["role"] == "viewer"
    before = await plane.position()
    await refused(viewer.post(f"{API}/tokens", json={"name": "more", "role": "operator"}), 403)
    listed = (await done(viewer.get(f"{API}/tokens")))["items"]
    first = next(item for item in listed if item["name"] == "first")
    await refused(viewer.delete(f"{API}/tokens/{first['uuid']}"), 403)
    assert await plane.position() == before

    operator = await plane.account("olga", "operator")
    account = (await done(operator.get(f"{API}/session")))["account"]
    await create_network(operator, "office", "172.16.0.0/24")
    await done(admin.patch(f"{API}/accounts/{account['uuid']}", json={"role": "viewer"}))
    before = await plane.position()
    await refused(operator.post(f"{API}/mesh-networks", json={"name": "lab", "network_cidr": "10.0.0.0/24"}), 403)
    assert await plane.position() == before
    assert (await done(operator.get(f"{API}/session")))["role"] == "viewer"


async def test_everybody_manages_his_own_tokens_only(plane: SecuredPlane) -> None:
    admin = await plane.admin()
    ann, ben = await plane.account("ann", "viewer"), await plane.account("ben", "operator")
    bens = (await done(ben.get(f"{API}/session")))["account"]["uuid"]
    made = await done(ann.post(f"{API}/tokens", json={"name": "phone", "lifetime": "1d"}))
    assert (made["account_name"], made["role"], made["use"]) == ("ann", "viewer", "api")
    assert (await done((await plane.client(made["token"])).get(f"{API}/session")))["token_name"] == "phone"
    names = [item["name"] for item in (await done(ann.get(f"{API}/tokens")))["items"]]
    assert names == ["test", "phone"]
    assert "token" not in (await done(ann.get(f"{API}/tokens")))["items"][0]
    other = (await done(ben.get(f"{API}/tokens")))["items"][0]
    before = await plane.position()
    await refused(ann.delete(f"{API}/tokens/{other['uuid']}"), 403)
    await refused(ann.delete(f"{API}/tokens/{uuid4()}"), 404)
    await refused(ben.post(f"{API}/tokens", json={"name": "x", "role": "admin"}), 403)
    await refused(ann.post(f"{API}/tokens", json={"name": "x", "account_uuid": bens}), 403)
    await refused(admin.post(f"{API}/tokens", json={"name": "x", "account_uuid": str(uuid4())}), 404)
    assert (await admin.post(f"{API}/tokens", json={"name": "x", "account_uuid": bens, "role": "admin"})).is_error
    assert (await done(ann.get(f"{API}/tokens", params={"account_uuid": bens})))["total"] == 0
    assert await plane.position() == before
    assert (await done(admin.get(f"{API}/tokens", params={"account_uuid": bens})))["total"] == 1
    assert (await ann.delete(f"{API}/tokens/{made['uuid']}")).status_code == 204
    await refused((await plane.client(made["token"])).get(f"{API}/session"), 401)
    gone = await plane.position()
    assert (await ann.delete(f"{API}/tokens/{made['uuid']}")).status_code == 204, "a repetition of one's own"
    await refused(ben.delete(f"{API}/tokens/{made['uuid']}"), 404)
    assert (await admin.delete(f"{API}/tokens/{made['uuid']}")).status_code == 204
    assert await plane.position() == gone


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nG",
        ENROL + b"Content-Length: 9\r\n\r\n{",
        ENROL + b"Content-Length: 999999\r\n\r\n{",
    ],
    ids=["nothing", "half a head", "half a second head", "half a body", "a little of a body that is too large"],
)
async def test_who_does_not_finish_his_request_is_cut_off(
    plane: SecuredPlane, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(wire, "REQUEST_SECONDS", 0.3)
    monkeypatch.setattr(edge, "BODY_SECONDS", 0.3)
    before = await plane.position()
    url = httpx2.URL(plane.url)
    reader, writer = await asyncio.open_connection(url.host, url.port, ssl=plane.identity.tls())
    try:
        writer.write(said)
        async with asyncio.timeout(30):
            answer = await reader.read()
    finally:
        writer.close()
    assert (b" 408 " in answer or b" 413 " in answer) == said.endswith(b"{")
    assert await plane.position() == before


async def test_who_only_listens_is_not_cut_off(plane: SecuredPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "REQUEST_SECONDS", 0.2)
    monkeypatch.setattr(edge, "BODY_SECONDS", 0.2)
    async with (await plane.admin()).stream("GET", f"{API}/events/stream") as stream:
        heard = stream.aiter_lines()
        for _ in range(2):
            while await anext(heard) != ": nothing yet":
                pass


async def test_there_is_always_an_admin(plane: SecuredPlane) -> None:
    admin = await plane.admin()
    account = f"{API}/accounts/{(await done(admin.get(f'{API}/session')))['account']['uuid']}"
    before = await plane.position()
    assert (await refused(admin.delete(account), 409))["code"] == "last-admin"
    assert (await refused(admin.patch(account, json={"role": "viewer"}), 409))["code"] == "last-admin"
    assert await plane.position() == before


async def test_a_repeated_request_gets_the_same_token_and_another_account_none(plane: SecuredPlane) -> None:
    admin, other = await plane.admin(), await plane.account("eve", "admin")
    key = {"Idempotency-Key": str(uuid4())}
    body = {"name": "robot", "role": "admin"}
    first = await admin.post(f"{API}/tokens", json=body, headers=key)
    again = await admin.post(f"{API}/tokens", json=body, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert first.headers["cache-control"] == "no-store"
    bootstrap = {"Idempotency-Key": str(uuid4())}
    made = await done(admin.post(f"{API}/bootstrap-tokens", json={"uses": 5}, headers=bootstrap))
    assert await done(admin.post(f"{API}/bootstrap-tokens", json={"uses": 5}, headers=bootstrap)) == made

    # The log shows every command's id; an allocator that just started knows no more than the log.
    await plane.start_allocator()
    await create_network(admin, "office", "172.16.0.0/24")
    before = await plane.position()
    session = await done(admin.get(f"{API}/session"))
    for client, path, sent, headers in (
        (other, "tokens", body, key),
        (other, "tokens", body | {"account_uuid": session["account"]["uuid"]}, key),
        (admin, "tokens", body | {"role": "viewer"}, key),
        (other, "bootstrap-tokens", {"uses": 5}, bootstrap),
    ):
        response = await client.post(f"{API}/{path}", json=sent, headers=headers)
        assert response.is_client_error, response.text
        assert first.json()["token"] not in response.text
        assert made["token"] not in response.text
    assert await plane.position() == before


async def signed_in(plane: SecuredPlane, token: str) -> tuple[str, dict[str, str]]:
    """A browser's session: its token, and the header of its changes."""
    response = await (await plane.client()).post(f"{API}/session", json={"token": token})
    assert response.status_code == 201, response.text
    return response.cookies[COOKIE], {CSRF: response.json()["csrf_token"]}


async def test_a_browser_signs_in_and_out(plane: SecuredPlane) -> None:
    stranger = await plane.client()
    before = await plane.position()
    for token in ("", "wla_" + "a" * 52, "wla_" + "a" * 10_000, await plane.bootstrap_token(), "\x00", "<b>"):
        response = await stranger.post(f"{API}/session", json={"token": token})
        assert (response.status_code, "set-cookie" in response.headers) == (401, False)
        assert not token or token not in response.text
    for wrong in ({"token": 5}, {"token": None}, {}, {"token": "x", "wla_" + "b" * 52: 1}, {"tokn": "wla_" + "b" * 52}):
        response = await stranger.post(f"{API}/session", json=wrong)
        assert response.status_code == 422
        assert "bbbb" not in response.text
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert (await stranger.post(f"{API}/session", content=b"token=x", headers=form)).status_code == 415
    assert await plane.position() == before + 1  # the bootstrap token

    response = await stranger.post(f"{API}/session", json={"token": plane.admin_token})
    name, *flags = response.headers["set-cookie"].split("; ")
    assert name.startswith(f"{COOKIE}=wla_")
    assert sorted(flag.lower() for flag in flags) == [
        "httponly",
        "max-age=43200",
        "path=/",
        "samesite=strict",
        "secure",
    ]
    assert response.headers["cache-control"] == "no-store"
    session = response.json()
    assert set(session) == {"account", "token_name", "role", "use", "expires_at", "csrf_token"}
    assert (session["account"]["name"], session["use"], session["role"]) == ("admin", "session", "admin")
    token = name.partition("=")[2]
    assert token not in response.text

    browser = await plane.client(Cookie=f"{COOKIE}={token}")
    assert await done(browser.get(f"{API}/session")) == session
    assert (await browser.delete(f"{API}/session")).status_code == 403
    out = await browser.delete(f"{API}/session", headers={CSRF: session["csrf_token"]})
    assert out.status_code == 204
    assert f'{COOKIE}=""' in out.headers["set-cookie"]
    await refused(browser.get(f"{API}/session"), 401)
    assert (await (await plane.admin()).get(f"{API}/session")).is_success


async def test_an_export_ends_with_the_role_of_who_asked_for_it(plane: SecuredPlane) -> None:
    token = await plane.token_of("eve", "admin")
    eve, admin = await plane.client(token), await plane.admin()
    account = next(each for each in (await done(admin.get(f"{API}/accounts")))["items"] if each["name"] == "eve")
    client = await bus.connect(plane.bus_url, "test", plane.identity.credentials("gateway"))
    try:
        # Far more than connections hold on the way, and nothing that can be packed.
        for _ in range(100):
            await client.jetstream().publish(f"{REACH_PREFIX}.much", randbytes(200_000).hex().encode())
    finally:
        await client.close()
    async with eve.stream("GET", f"{API}/log/export") as response:
        assert response.is_success
        pieces = response.aiter_raw()
        received = len(await anext(pieces))
        await done(admin.patch(f"{API}/accounts/{account['uuid']}", json={"role": "operator"}))
        await wait_until(lambda: _is_refused(eve), what="the gateway knows")
        async for piece in pieces:
            received += len(piece)
    assert received < 20_000_000


async def _is_refused(client: httpx2.AsyncClient) -> bool:
    return (await client.get(f"{API}/accounts")).status_code == 403


async def test_a_session_ends_with_the_token_that_began_it(plane: SecuredPlane) -> None:
    ann = await plane.client(await plane.token_of("ann", "operator"))
    made = await done(ann.post(f"{API}/tokens", json={"name": "short", "lifetime": "10m"}))
    response = await (await plane.client()).post(f"{API}/session", json={"token": made["token"]})
    session, headers = response.cookies[COOKIE], {CSRF: response.json()["csrf_token"]}
    assert response.json()["expires_at"] == made["expires_at"]
    assert 500 <= int(re.findall("max-age=([0-9]+)", response.headers["set-cookie"].lower())[0]) <= 600
    browser = await plane.client(Cookie=f"{COOKIE}={session}")
    assert (await browser.get(f"{API}/session")).is_success

    async with browser.stream("GET", f"{API}/events/stream") as stream:
        assert (await ann.delete(f"{API}/tokens/{made['uuid']}")).status_code == 204
        before = await plane.position()
        async with asyncio.timeout(30):
            async for _ in stream.aiter_bytes():
                pass
    await refused(browser.get(f"{API}/session"), 401)
    change = {"name": "office", "network_cidr": "172.16.0.0/24"}
    await refused(browser.post(f"{API}/mesh-networks", json=change, headers=headers), 401)
    names = {token["name"] for token in (await done(ann.get(f"{API}/tokens")))["items"]}
    assert not any(name.startswith("browser-") for name in names)
    assert await plane.position() == before


async def test_a_change_from_a_browser_needs_the_sessions_own_mark(plane: SecuredPlane) -> None:
    token, mark = await signed_in(plane, plane.admin_token)
    other, others_mark = await signed_in(plane, plane.admin_token)
    assert token != other
    browser = await plane.client(Cookie=f"{COOKIE}={token}")
    body = {"name": "office", "network_cidr": "172.16.0.0/24"}
    before = await plane.position()
    wrong = mark[CSRF][:-1] + ("0" if mark[CSRF][-1] != "0" else "1")
    for shown in ("", wrong, others_mark[CSRF], mark[CSRF].upper(), mark[CSRF] + " x", "x" * 10_000, b"\xe4"):
        await refused(browser.post(f"{API}/mesh-networks", json=body, headers={CSRF: shown}), 403)
    await refused(browser.post(f"{API}/mesh-networks", json=body), 403)
    await refused(browser.delete(f"{API}/mesh-networks/{uuid4()}"), 403)
    await refused(browser.post(f"{API}/bus-credentials", json={"public_key": generate("user").public}), 403)
    assert await plane.position() == before
    assert (await browser.post(f"{API}/mesh-networks", json=body, headers=mark)).status_code == 201

    # Where both are shown, the header counts: it needs no mark, and a wrong one is not made good by the cookie.
    both = await plane.client(plane.admin_token, Cookie=f"{COOKIE}={token}")
    assert (await both.post(f"{API}/machines", json={"hostname": "db-1"})).status_code == 201
    bad = await plane.client("wla_" + "a" * 52, Cookie=f"{COOKIE}={token}")
    await refused(bad.post(f"{API}/machines", json={"hostname": "db-2"}, headers=mark), 401)


async def test_a_session_that_somebody_else_chose_is_not_taken_on(plane: SecuredPlane) -> None:
    foreign, _ = await signed_in(plane, plane.admin_token)
    await plane.token_of("eve", "viewer")
    planted = await plane.client(Cookie=f"{COOKIE}={foreign}")
    response = await planted.post(f"{API}/session", json={"token": await plane.token_of("ann", "viewer")})
    assert response.cookies[COOKIE] != foreign
    assert response.json()["account"]["name"] == "ann"
    for cookie in (plane.admin_token, "wla_" + "a" * 52, "", "x" * 10_000):
        await refused((await plane.client(Cookie=f"{COOKIE}={cookie}")).get(f"{API}/machines"), 401)
    await refused((await plane.client(Cookie=f"wireloom_session={foreign}")).get(f"{API}/machines"), 401)
    token, mark = await signed_in(plane, plane.admin_token)
    await refused((await plane.client()).post(f"{API}/session", json={"token": token}, headers=mark), 401)


async def test_the_log_names_account_and_token(plane: SecuredPlane) -> None:
    operator = await plane.account("olga", "operator")
    headers = {"X-Wireloom-Actor": "account:admin/first"}
    await done(operator.post(f"{API}/machines", json={"hostname": "db-1"}, headers=headers))
    newest = (await done(operator.get(f"{API}/events", params={"limit": 1})))["items"][0]
    assert (newest["kind"], newest["actor"]) == ("machine.registered", "account:olga/test")


async def test_a_stream_ends_with_the_token_that_opened_it(plane: SecuredPlane) -> None:
    admin, viewer = await plane.admin(), await plane.account("ann", "viewer")
    token = (await done(viewer.get(f"{API}/tokens")))["items"][0]["uuid"]
    async with viewer.stream("GET", f"{API}/events/stream") as response:
        assert response.is_success
        await done(admin.delete(f"{API}/tokens/{token}"))
        await register_machine(admin, "db-1")
        lines = [line async for line in response.aiter_lines()]
    assert not any("db-1" in line for line in lines)


async def test_bus_credentials_are_for_a_key_of_ones_own(plane: SecuredPlane) -> None:
    operator = await plane.account("olga", "operator")
    key = generate("user")
    given = await done(operator.post(f"{API}/bus-credentials", json={"public_key": key.public}))
    assert set(given) == {"token", "expires_at", "principal", "subject", "inbox", "bus", "bus_ca"}
    assert given["subject"] == f"wireloom.command.{given['principal']}.<kind>"
    assert given["inbox"] == f"_INBOX.{given['principal']}"
    assert (given["bus"], given["bus_ca"]) == ([plane.bus_url], plane.identity.ca())
    for wrong in ("", "x" * 10_000, key.seed, generate("account").public, key.public[:-1], "U\u0430"):
        problem = await refused(operator.post(f"{API}/bus-credentials", json={"public_key": wrong}), 422)
        assert key.seed not in str(problem)


async def test_a_revoked_token_is_refused_at_once_and_its_neighbours_are_not(plane: SecuredPlane) -> None:
    admin = await plane.admin()
    made = [await done(admin.post(f"{API}/tokens", json={"name": f"t-{number}"})) for number in range(3)]
    clients = [await plane.client(each["token"]) for each in made]
    assert (await admin.delete(f"{API}/tokens/{made[1]['uuid']}")).status_code == 204
    assert [(await client.get(f"{API}/machines")).status_code for client in clients] == [200, 401, 200]
