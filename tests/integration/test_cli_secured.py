"""The client commands as real processes against a whole secured control plane."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from events import bus
from events.bus import Credentials
from events.client import BusClient
from events.enrolment import Access
from events.records import Heartbeat, MembershipRequest
from events.subjects import ask, beat
from events.trust.certificates import certificate_fingerprint, trusting
from events.trust.permissions import inbox
from tests.support.gateway import done
from tests.support.program import Ended, environment, run_wireloom
from tests.support.secured_plane import API, Machine, SecuredPlane, fresh_machine, secured_plane
from tests.support.waiting import wait_until, wait_until_sync

WIRELOOM = (sys.executable, "-m", "services.cli")


class Person:
    """Somebody with a home of their own, who uses `wireloom`."""

    def __init__(self, home: Path, plane: SecuredPlane) -> None:
        self.home = home
        self.plane = plane
        self.fingerprint = certificate_fingerprint(plane.identity.ca())

    @property
    def environment(self) -> dict[str, str]:
        return environment(XDG_CONFIG_HOME=str(self.home))

    async def run(self, *arguments: str, **values: str) -> Ended:
        """Run a command to its end."""
        return await asyncio.to_thread(run_wireloom, *arguments, XDG_CONFIG_HOME=str(self.home), **values)

    async def json(self, *arguments: str) -> Any:
        """The JSON that a command prints."""
        ended = await self.run(*arguments, "--json")
        assert ended.code == 0, ended.stderr
        return json.loads(ended.stdout)

    async def sign_in(self, token: str) -> Ended:
        """Sign in, the token in the environment."""
        return await self.run("login", self.plane.url, "--ca-sha256", self.fingerprint, WIRELOOM_TOKEN=token)

    @property
    def login(self) -> Path:
        """Where the login is kept."""
        return self.home / "wireloom" / "login.json"


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[SecuredPlane]:
    async with secured_plane(tmp_path / "plane") as running:
        yield running


@pytest.fixture
async def stranger(plane: SecuredPlane, tmp_path: Path) -> Person:
    return Person(tmp_path / "stranger", plane)


@pytest.fixture
async def admin(plane: SecuredPlane, tmp_path: Path) -> Person:
    person = Person(tmp_path / "admin", plane)
    ended = await person.sign_in(plane.admin_token)
    assert ended.code == 0, ended.stderr
    return person


async def test_signing_in_and_out(plane: SecuredPlane, stranger: Person) -> None:
    for url, code, said in (
        (plane.url, 5, "signed by nobody that is believed here"),
        (plane.url.replace("https:", "http:"), 6, f"Sign in first: wireloom login {plane.url}"),
    ):
        refused = await stranger.run("network", "list", "--url", url)
        assert (refused.code, refused.stdout) == (code, "")
        assert said in refused.stderr
    ca = {"WIRELOOM_CA": str(plane.identity.folder / "tls/ca.pem")}
    nobody = await stranger.run("network", "list", "--url", plane.url, **ca)
    assert nobody.code == 6
    assert f"Sign in: wireloom login {plane.url}" in nobody.stderr

    made = await stranger.sign_in(plane.admin_token)
    assert made.stdout == f"Signed in to {plane.url} as admin with the role admin, until it is revoked.\n"
    assert (await stranger.json("whoami"))["account"]["name"] == "admin"
    assert (await stranger.run("network", "list")).code == 0
    elsewhere = await stranger.run("network", "list", "--url", plane.url.replace("127.0.0.1", "localhost"), **ca)
    assert elsewhere.code == 6, "a login is for its own address"

    assert (await stranger.run("logout", "--revoke")).code == 0
    assert not stranger.login.exists()
    revoked = await stranger.run("network", "list", "--url", plane.url, WIRELOOM_TOKEN=plane.admin_token, **ca)
    assert revoked.code == 6


async def test_a_login_that_is_refused_leaves_nothing(plane: SecuredPlane, stranger: Person) -> None:
    position = await plane.position()
    for token, arguments, code in (
        (plane.admin_token, ("--ca-sha256", "0" * 64), 5),
        (plane.admin_token, (), 5),
        ("wla_" + "a" * 52, ("--ca-sha256", stranger.fingerprint), 6),
        (await plane.bootstrap_token(), ("--ca-sha256", stranger.fingerprint), 2),
    ):
        ended = await stranger.run("login", plane.url, *arguments, WIRELOOM_TOKEN=token)
        assert ended.code == code, ended.stderr
        assert token not in ended.stdout + ended.stderr
        assert not stranger.login.exists()
    assert await plane.position() == position + 1, "the bootstrap token was made, and nothing else"


async def test_at_a_terminal_the_fingerprint_is_compared_and_the_token_does_not_show(
    plane: SecuredPlane, stranger: Person
) -> None:
    def sign_in() -> tuple[int, bytes]:
        ours, theirs = pty.openpty()
        asking = subprocess.Popen(
            [*WIRELOOM, "login", plane.url], env=stranger.environment, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        heard = bytearray()

        def hears(text: bytes) -> None:
            wait_until_sync(lambda: heard.extend(os.read(ours, 1000)) or text in heard, what=f"it says {text!r}")

        try:
            hears(b"Is it the same?")
            os.write(ours, b"y\n")
            hears(b"does not show")
            os.write(ours, plane.admin_token.encode() + b"\n")
            hears(b"Signed in")
            return asking.wait(60), bytes(heard)
        finally:
            asking.kill()
            asking.wait()
            os.close(ours)

    code, heard = await asyncio.to_thread(sign_in)
    assert code == 0
    assert stranger.fingerprint.encode() in heard
    assert plane.admin_token.encode() not in heard
    assert stranger.login.stat().st_mode & 0o777 == 0o600


async def test_what_a_role_may_do(plane: SecuredPlane, stranger: Person) -> None:
    await stranger.sign_in(await plane.token_of("eve", "viewer"))
    position = await plane.position()
    for command in (
        ("network", "create", "evil", "10.0.0.0/24"),
        ("token", "create"),
        ("account", "create", "mallory", "--role", "admin"),
        ("account", "token", "create", "--role", "admin"),
        ("account", "list"),
    ):
        refused = await stranger.run(*command)
        assert (refused.code, refused.stdout) == (6, ""), command
    assert await plane.position() == position
    mine = await stranger.json("account", "token", "list")
    assert [token["account_name"] for token in mine["items"]] == ["eve"]
    assert (await stranger.run("account", "token", "create", "--lifetime", "1d")).code == 0


async def test_accounts_and_their_tokens(plane: SecuredPlane, admin: Person, stranger: Person) -> None:
    assert (await admin.run("account", "create", "ci", "--role", "operator")).code == 0
    made = await admin.run("account", "token", "create", "--account", "ci", "--name", "runner", "--lifetime", "30d")
    token = made.stdout.strip()
    assert re.fullmatch(r"wla_[a-z2-7]{52}", token)
    assert (await stranger.sign_in(token)).stdout.startswith(f"Signed in to {plane.url} as ci with the role operator")
    assert (await stranger.run("network", "create", "office", "172.16.0.0/24")).code == 0
    assert (await admin.run("account", "role", "ci", "viewer")).code == 0
    assert (await stranger.run("network", "create", "lab", "10.0.0.0/24")).code == 6
    tokens = {item["name"]: item for item in (await admin.json("account", "token", "list"))["items"]}
    assert token not in json.dumps(tokens)
    assert (await admin.run("account", "token", "revoke", tokens["runner"]["uuid"][:8])).code == 0
    assert (await stranger.run("whoami")).code == 6
    assert (await admin.run("account", "delete", "ci")).code == 0
    assert [account["name"] for account in (await admin.json("account", "list"))["items"]] == ["admin"]
    assert (await admin.run("account", "delete", "admin")).code == 4
    told = (await admin.run("log", "--limit", "100")).stdout
    assert "account:ci/runner" in told
    assert token not in told


async def test_bootstrap_tokens(plane: SecuredPlane, admin: Person) -> None:
    assert (await admin.run("network", "create", "lab", "10.0.0.0/24")).code == 0
    made = await admin.run("token", "create", "--uses", "2", "--network", "lab", "--lifetime", "1d")
    line = re.fullmatch(r"sudo wireloom-agent join (\S+) --token (wlb_\S+) --ca-sha256 (\S+)\n", made.stdout)
    assert line is not None, made
    assert (line[1], line[3]) == (plane.url, admin.fingerprint)
    http, machine = await plane.client(), fresh_machine("db-1")
    await done(http.post(f"{API}/agents/enrol", json=await plane.enrolment(http, machine, line[2])))
    assert [item["hostname"] for item in (await admin.json("machine", "list", "-n", "lab"))["items"]] == ["db-1"]
    listed = (await admin.run("token", "list")).stdout.splitlines()
    assert len(listed) == 2
    columns = listed[1].split()
    assert columns[1:7] == ["usable", "1", "of", "2", "lab", "admin/first"]
    assert (await admin.run("token", "revoke", columns[0])).code == 0
    assert (await admin.json("token", "list"))["items"][0]["state"] == "revoked"
    assert line[2] not in (await admin.run("token", "list", "--json")).stdout + (await admin.run("log")).stdout
    refused = await http.post(f"{API}/agents/enrol", json=await plane.enrolment(http, fresh_machine("db-2"), line[2]))
    assert refused.status_code == 403
    assert (await admin.json("machine", "list"))["total"] == 1


class Member:
    """A machine on the bus that says what a test has it say."""

    def __init__(self, machine: Machine, client: BusClient) -> None:
        self.machine = machine
        self._client = client
        self._boot, self._counter = uuid4(), 0

    async def announce(self, network_id: UUID, key: str) -> None:
        """Announce a WireGuard key for a network."""
        request = MembershipRequest(network_id=network_id, public_key=key, listen_port=51820)
        answer = await self._client.request(
            ask(self.machine.id, "membership"), request.model_dump_json().encode(), timeout=10
        )
        assert b'"status"' not in answer.data, answer.data

    async def say(self, **applied: int) -> None:
        """A heartbeat: these networks' revisions are applied."""
        self._counter += 1
        heartbeat = Heartbeat(
            boot_id=self._boot, counter=self._counter, applied={UUID(name): number for name, number in applied.items()}
        )
        await self._client.publish(beat(self.machine.id), heartbeat.model_dump_json().encode())
        await self._client.flush()


async def joined(plane: SecuredPlane, stack: AsyncExitStack, *hostnames: str) -> list[Member]:
    """Machines that have enrolled into the default network, on the bus."""
    http, members = await plane.client(), []
    for hostname in hostnames:
        machine = await plane.enrolled(hostname)
        body = await plane.renewal(http, machine)
        access = Access.model_validate(await done(http.post(f"{API}/agents/renew", json=body)))
        credentials = Credentials(
            lambda access=access: access.token, machine.key.sign, inbox(str(machine.id)), trusting(access.bus_ca)
        )
        client = await bus.connect(plane.bus_url, hostname, credentials, insist=False)
        stack.push_async_callback(client.close)
        members.append(Member(machine, client))
    return members


def key(number: int) -> str:
    """A WireGuard public key."""
    return "A" * 40 + f"{number:02}" + "A="


async def test_revoking_shows_the_receipts_as_they_come(plane: SecuredPlane, admin: Person) -> None:
    office = UUID((await admin.json("network", "create", "office", "172.16.0.0/24", "--default"))["uuid"])
    http = await plane.admin()
    async with AsyncExitStack() as stack:
        gone, quick, slow = await joined(plane, stack, "gone", "quick", "slow")
        away = await plane.enrolled("away")
        for number, member in enumerate((gone, quick, slow)):
            await member.announce(office, key(number))
            await member.say()

        async def are_shown() -> bool:
            listed = await done(http.get(f"{API}/machines"))
            return all(item["is_online"] == (item["uuid"] != str(away.id)) for item in listed["items"])

        await wait_until(are_shown, what="three machines are online")
        revoking = await asyncio.create_subprocess_exec(
            *WIRELOOM, "machine", "revoke", "gone",
            env=admin.environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            revision = await revision_of(http, gone.machine.id)
            assert revoking.stderr is not None
            await quick.say(**{str(office): revision})
            assert await asyncio.wait_for(revoking.stderr.readline(), 20) == b"office: dropped by quick\n"
            await slow.say(**{str(office): revision - 1})
            await slow.say(**{str(office): revision})
            assert await asyncio.wait_for(revoking.stderr.readline(), 20) == b"office: dropped by slow\n"
            out, _ = await asyncio.wait_for(revoking.communicate(), 20)
            assert revoking.returncode == 0
        finally:
            if revoking.returncode is None:
                revoking.kill()
                await revoking.wait()
    lines = out.decode().splitlines()
    assert lines[0] == "Revoked machine gone."
    assert lines[3].split() == ["office", "2", "of", "3", "away", "(offline)"]
    assert lines[5] == "Every machine that is online has dropped gone."
    assert lines[6].startswith("Not yet: away, which is offline")
    shown = await admin.json("machine", "show", "gone")
    assert (shown["state"], shown["memberships"]) == ("revoked", [])
    again = await admin.run("machine", "revoke", "gone")
    assert (again.code, again.stdout.splitlines()[0]) == (0, "Machine gone is revoked already.")


async def revision_of(http: httpx2.AsyncClient, machine_id: UUID) -> int:
    """The office's revision at which a machine went, as soon as it has."""

    async def is_shown() -> bool:
        return (await http.get(f"{API}/machines/{machine_id}/revocation")).is_success

    await wait_until(is_shown, what="the machine is revoked")
    revision: int = (await done(http.get(f"{API}/machines/{machine_id}/revocation")))["networks"][0]["revision"]
    return revision


async def test_a_machine_that_is_online_and_does_not_drop_it(plane: SecuredPlane, admin: Person) -> None:
    office = UUID((await admin.json("network", "create", "office", "172.16.0.0/24", "--default"))["uuid"])
    async with AsyncExitStack() as stack:
        gone, deaf = await joined(plane, stack, "gone", "deaf")
        await gone.announce(office, key(1))
        await deaf.say()
        ended = await admin.run("machine", "revoke", "gone", "--timeout", "1", "--json")
    assert ended.code == 5
    assert "have not dropped gone yet: deaf." in ended.stderr
    receipts = json.loads(ended.stdout)
    assert receipts["complete"] is False
    assert [machine["hostname"] for machine in receipts["networks"][0]["pending"]] == ["deaf"]


async def test_rotating_a_key_waits_for_the_new_one(plane: SecuredPlane, admin: Person) -> None:
    office = UUID((await admin.json("network", "create", "office", "172.16.0.0/24", "--default"))["uuid"])
    http = await plane.admin()
    async with AsyncExitStack() as stack:
        (member,) = await joined(plane, stack, "db-1")
        await member.announce(office, key(1))
        await member.say()
        rotating = asyncio.create_task(admin.run("machine", "rotate-key", "db-1"))

        async def is_asked() -> bool:
            log = await done(http.get(f"{API}/events"))
            return any(event["kind"] == "network.key_rotation_requested" for event in log["items"])

        await wait_until(is_asked, what="the machine is asked for a new key")
        await member.announce(office, key(2))
        ended = await rotating
    assert (ended.code, ended.stdout) == (0, "Asked db-1 for new keys.\ndb-1 has new keys.\n"), ended.stderr
    assert (await admin.json("machine", "show", "db-1"))["memberships"][0]["public_key"] == key(2)
