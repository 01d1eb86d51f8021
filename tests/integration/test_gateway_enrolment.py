"""Machines that come in over HTTPS, strangers that try to, and who asks too often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from events.enrolment import Access
from events.trust import jwt, proof
from events.trust.certificates import certificate_fingerprint
from events.trust.keys import generate
from events.trust.signing import Verifier
from services.gateway.settings import Limits
from tests.support.gateway import create_network, done, register_machine
from tests.support.secured_plane import API, Machine, SecuredPlane, fresh_machine, secured_plane
from tests.support.waiting import wait_until

ENROL = f"{API}/agents/enrol"
RENEW = f"{API}/agents/renew"

HOSTILE = (
    "", " ", "<script>alert(1)</script>", "<b>", "a b", "a\x00b", "a\nb", "a\x1b[31mb", "\u202egnp", "\u0430dmin",
    "\uff41dmin", "adm\u200din", "a" * 10_000, "-a", "a-", "../a", "a/b", "a'b", 'a"b', "a;b", "%00", "{{7*7}}",
    "\U0001f9f6",
)  # fmt: skip
"""Names that nobody may have: one has a Cyrillic letter, one of full width, one an invisible joiner."""


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[SecuredPlane]:
    async with secured_plane(tmp_path, limits=Limits(failures=1000)) as running:
        yield running


@pytest.fixture
async def strict_plane(tmp_path: Path) -> AsyncIterator[SecuredPlane]:
    """A control plane with little patience."""
    async with secured_plane(tmp_path, limits=Limits(seconds=2, failures=3)) as running:
        yield running


async def test_a_machine_comes_in_and_joins_the_tokens_network(plane: SecuredPlane) -> None:
    admin, stranger = await plane.admin(), await plane.client()
    await create_network(admin, "office", "172.16.0.0/24", is_default=True)
    lab = await create_network(admin, "lab", "10.0.0.0/24")
    machine = fresh_machine("db-1")
    token = await plane.bootstrap_token(mesh_network_uuid=str(lab))
    response = await stranger.post(ENROL, json=await plane.enrolment(stranger, machine, token))
    access = Access.model_validate_json(response.content)
    assert response.headers["cache-control"] == "no-store"
    assert (access.machine_id, access.networks) == (machine.id, (lab,))
    said = jwt.claims(access.token)
    assert (said["sub"], said["name"], said["nats"]["tags"]) == (
        machine.key.public,
        str(machine.id),
        [f"network:{lab}"],
    )
    assert 3000 < said["exp"] - said["iat"] <= 3600
    Verifier(access.root, access.ring)
    assert (access.bus, access.bus_ca) == ((plane.bus_url,), plane.identity.ca())

    seen = await done(admin.get(f"{API}/machines/{machine.id}"))
    assert (seen["state"], seen["hostname"], seen["enrolled_at"] is not None) == ("active", "db-1", True)
    used = (await done(admin.get(f"{API}/bootstrap-tokens")))["items"][0]
    assert (used["used"], used["state"]) == (1, "used-up")
    renewed = Access.model_validate(await done(stranger.post(RENEW, json=await plane.renewal(stranger, machine))))
    assert (renewed.machine_id, renewed.networks) == (machine.id, (lab,))

    before = await plane.position()
    again = await done(stranger.post(ENROL, json=await plane.enrolment(stranger, machine, token)))
    assert again["machine_id"] == str(machine.id)
    assert await plane.position() == before


async def test_the_join_line_pins_the_certificate(plane: SecuredPlane) -> None:
    made = await done((await plane.admin()).post(f"{API}/bootstrap-tokens", json={}))
    pem = (await (await plane.client()).get(f"{API}/ca")).text
    assert pem == plane.identity.ca()
    pinned = certificate_fingerprint(pem)
    expected = f"sudo wireloom-agent join {plane.url} --token {made['token']} --ca-sha256 {pinned}"
    assert made["join_command"] == expected


async def test_fifty_at_once_and_one_token(plane: SecuredPlane) -> None:
    stranger, admin = await plane.client(), await plane.admin()
    await create_network(admin, "office", "172.16.0.0/24", is_default=True)
    token = await plane.bootstrap_token()
    machines = [fresh_machine(f"db-{number}") for number in range(50)]
    bodies = [await plane.enrolment(stranger, machine, token) for machine in machines]
    answers = await asyncio.gather(*(stranger.post(ENROL, json=body) for body in bodies))
    let_in = [machine for machine, answer in zip(machines, answers, strict=True) if answer.is_success]
    assert len(let_in) == 1
    assert sorted(answer.status_code for answer in answers) == [200] + 49 * [403]
    known = await done(admin.get(f"{API}/machines"))
    assert [item["uuid"] for item in known["items"]] == [str(let_in[0].id)]
    assert (await done(admin.get(f"{API}/mesh-networks")))["items"][0]["machine_count"] == 1
    events = (await done(admin.get(f"{API}/events", params={"after": 0, "limit": 1000})))["items"]
    assert [event["kind"] for event in events].count("access.machine_enrolled") == 1
    assert (await done(admin.get(f"{API}/bootstrap-tokens")))["items"][0]["used"] == 1


async def test_who_does_not_prove_himself_stays_out(plane: SecuredPlane) -> None:
    stranger, admin = await plane.client(), await plane.admin()
    known, token = await plane.enrolled("db-1"), await plane.bootstrap_token(uses=None)
    revoked = await plane.enrolled("db-2")
    await done(admin.post(f"{API}/machines/{revoked.id}/revoke"))
    gone = await done(admin.post(f"{API}/bootstrap-tokens", json={"uses": 9}))
    await done(admin.delete(f"{API}/bootstrap-tokens/{gone['uuid']}"))
    thief = Machine(known.id, generate("user"), "db-1")
    before = await plane.position()

    async def enrolment(machine: Machine, shown: str = token, **other: Any) -> dict[str, Any]:
        return await plane.enrolment(stranger, machine, shown) | other

    fresh = fresh_machine("db-9")
    good = await enrolment(fresh)
    foreign = proof.prove(generate("user"), proof.ENROL, fresh.id, good["challenge"])
    for_renewal = proof.prove(fresh.key, proof.RENEW, fresh.id, good["challenge"])
    refused = [
        ("another's machine", await enrolment(thief), 409),
        ("a revoked machine", await enrolment(revoked), 403),
        ("another's proof", good | {"proof": foreign}, 401),
        ("a proof for something else", await enrolment(fresh) | {"proof": for_renewal}, 401),
        ("another's key", await enrolment(fresh, identity_key=known.key.public), 401),
        ("another's id", await enrolment(fresh, machine_id=str(known.id)), 401),
        ("a challenge of his own", await enrolment(fresh, challenge="a" * 76), 401),
        ("a revoked token", await enrolment(fresh, gone["token"]), 403),
        ("an unknown token", await enrolment(fresh, "wlb_" + "a" * 52), 403),
        ("an API token", await enrolment(fresh, plane.admin_token), 403),
        ("a long token", await enrolment(fresh, "wlb_" + "a" * 10_000), 403),
        ("no proof", await enrolment(fresh, proof=""), 401),
        ("no key", await enrolment(fresh, identity_key="U" + "A" * 55), 422),
        ("a private key", await enrolment(fresh, identity_key=fresh.key.seed), 422),
    ]
    for what, body, status in refused:
        response = await stranger.post(ENROL, json=body)
        assert response.status_code == status, (what, response.text)
        for secret in (body["token"], fresh.key.seed):
            assert secret not in response.text, what
    for what, machine, status in (
        ("another's key", thief, 401),
        ("a stranger", fresh, 401),
        ("a revoked machine", revoked, 403),
    ):
        response = await stranger.post(RENEW, json=await plane.renewal(stranger, machine))
        assert response.status_code == status, (what, response.text)
    assert await plane.position() == before

    body = await plane.renewal(stranger, known)
    assert (await stranger.post(RENEW, json=body)).is_success
    assert (await stranger.post(RENEW, json=body)).status_code == 401  # a challenge counts once
    assert await plane.position() == before


async def test_names_that_nobody_may_have(plane: SecuredPlane) -> None:
    admin, stranger = await plane.admin(), await plane.client()
    machine, token = await register_machine(admin, "db-1"), await plane.bootstrap_token()
    before = await plane.position()
    for name in HOSTILE:
        for method, path, body in (
            ("POST", "accounts", {"name": name, "role": "viewer"}),
            ("POST", "tokens", {"name": name}),
            ("POST", "mesh-networks", {"name": name, "network_cidr": "172.16.0.0/24"}),
            ("POST", "machines", {"hostname": name}),
            ("PATCH", f"machines/{machine}", {"hostname": name}),
        ):
            response = await admin.request(method, f"{API}/{path}", json=body)
            assert response.status_code == 422, (name, path, response.text)
            assert len(response.content) < 1000
            assert response.headers["content-type"] == "application/problem+json"
            detail = response.json()["detail"]
            assert detail.isprintable(), detail
    for name in HOSTILE[:8]:
        body = await plane.enrolment(stranger, fresh_machine(name), token)
        assert (await stranger.post(ENROL, json=body)).status_code == 422
    assert await plane.position() == before


async def test_a_hostile_host_is_repeated_nowhere(plane: SecuredPlane) -> None:
    evil = await plane.client(plane.admin_token, Host="evil.example", **{"X-Forwarded-Host": "evil.example"})
    for response in (
        await evil.get(f"{API}/session"),
        await evil.post(f"{API}/bootstrap-tokens", json={}),
        await evil.post(f"{API}/mesh-networks", json={"name": "office", "network_cidr": "172.16.0.0/24"}),
        await evil.get(f"{API}/nothing"),
    ):
        assert "evil" not in response.text + str(response.headers)


async def test_every_answer_tells_browsers_to_keep_off(plane: SecuredPlane) -> None:
    admin, stranger = await plane.admin(), await plane.client()
    answers = [
        await admin.get(f"{API}/machines"),
        await stranger.get(f"{API}/machines"),
        await stranger.get(f"{API}/openapi.json"),
        await stranger.get("/healthz"),
        await stranger.get("/nothing"),
        await stranger.put(f"{API}/machines"),
        await admin.post(f"{API}/machines", content=b" " * 600_000, headers={"content-type": "application/json"}),
        await admin.post(f"{API}/machines", content=b"{", headers={"content-type": "application/json"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 401, 200, 200, 404, 405, 413, 400]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers


async def test_who_fails_too_often_has_to_wait_and_nobody_else(strict_plane: SecuredPlane) -> None:
    plane = strict_plane
    machine, token = await plane.enrolled("db-1"), await plane.bootstrap_token()
    admin, stranger = await plane.admin(), await plane.client()
    wrong = await plane.client("wla_" + "a" * 52)
    elsewhere = await neighbour(plane)
    newcomer = fresh_machine("db-2")
    renewals = [await plane.renewal(stranger, machine) for _ in range(5)]
    enrolment = await plane.enrolment(stranger, newcomer, token)
    before = await plane.position()

    statuses = [(await wrong.get(f"{API}/machines")).status_code for _ in range(4)]
    assert statuses == [401, 401, 401, 429]
    limited = await stranger.post(f"{API}/session", json={"token": "x"})
    assert (limited.status_code, limited.json()["code"]) == (429, "rate-limited")
    assert 1 <= int(limited.headers["retry-after"]) <= 2
    assert (await stranger.post(ENROL, json=enrolment)).status_code == 429
    assert await plane.position() == before

    for body in renewals:
        assert (await stranger.post(RENEW, json=body)).is_success
    assert (await admin.get(f"{API}/machines")).is_success
    assert (await elsewhere.get(f"{API}/machines", headers={"Authorization": "Bearer x"})).status_code == 401

    async def is_released() -> bool:
        return (await stranger.post(ENROL, json=await plane.enrolment(stranger, newcomer, token))).is_success

    await wait_until(is_released, what="the newcomer may try again")


async def test_requests_without_a_name_are_counted_too(tmp_path: Path) -> None:
    async with secured_plane(tmp_path, limits=Limits(seconds=3600, requests=1500)) as plane:
        stranger, admin = await plane.client(), await plane.admin()

        async def is_limited() -> bool:
            answers = await asyncio.gather(*(stranger.get("/healthz") for _ in range(200)))
            return any(answer.status_code == 429 for answer in answers)

        await wait_until(is_limited, timeout=120, what="too many")
        for response in (await stranger.get("/readyz"), await stranger.post(f"{API}/agents/challenge")):
            assert response.status_code == 429
            assert int(response.headers["retry-after"]) > 3000
        assert (await admin.get(f"{API}/machines")).is_success


async def test_no_secret_is_told_again(plane: SecuredPlane, capfd: pytest.CaptureFixture[str]) -> None:
    admin, stranger = await plane.admin(), await plane.client()
    made = await done(admin.post(f"{API}/bootstrap-tokens", json={}))
    issued = await done(admin.post(f"{API}/tokens", json={"name": "robot"}))
    session = (await stranger.post(f"{API}/session", json={"token": issued["token"]})).headers["set-cookie"]
    machine = fresh_machine("db-1")
    access = await done(stranger.post(ENROL, json=await plane.enrolment(stranger, machine, made["token"])))
    secrets = [plane.admin_token, made["token"], issued["token"], session.split(";")[0].partition("=")[2]]
    secrets += [machine.key.seed, access["token"]]
    for secret in secrets:  # given where it does not belong
        for response in (
            await admin.get(f"{API}/{secret}"),
            await admin.get(f"{API}/machines/{secret}"),
            await admin.get(f"{API}/machines", params={secret: secret, "limit": secret}),
            await admin.post(f"{API}/mesh-networks", json={secret: secret, "name": secret, "network_cidr": secret}),
            await admin.post(f"{API}/accounts", json={"name": f"<{secret}>", "role": "viewer"}),
            await admin.get(f"{API}/machines", headers={"Authorization": f"Bearer {secret}x"}),
        ):
            assert response.is_client_error
            assert secret not in response.text
    paths = ("events?limit=1000", "tokens", "accounts", "bootstrap-tokens", "machines", "keys", "session")
    told = [(await admin.get(f"{API}/{path}")).text for path in paths]
    told += [(await admin.get("/metrics")).text, "".join(capfd.readouterr())]
    for secret in secrets:
        assert not [text for text in told if secret in text]


async def neighbour(plane: SecuredPlane) -> httpx2.AsyncClient:
    """A client at another address."""
    transport = httpx2.AsyncHTTPTransport(verify=plane.identity.tls(), local_address="127.0.0.2", trust_env=False)
    client = httpx2.AsyncClient(base_url=plane.url, transport=transport, timeout=30)
    return await plane.entered(client)


async def test_a_machine_that_nobody_knows_is_not_told_whether_it_exists(plane: SecuredPlane) -> None:
    stranger, known = await plane.client(), await plane.enrolled("db-1")
    answers = []
    for machine_id in (known.id, uuid4()):
        body = await plane.renewal(stranger, Machine(machine_id, generate("user"), "db-1"))
        answers.append((await stranger.post(RENEW, json=body)).json())
    assert answers[0] == answers[1]
