"""Everybody against every subject, on a real secured bus: what is not allowed is refused by nats-server itself, and
nothing changes. And tokens that are forged, widened, stolen or out of date."""

from __future__ import annotations

import asyncio
import base64
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import nats.errors
import orjson
import pytest
from nats.aio.client import Client

from events import bus
from events.client import BusClient
from events.feed import jetstream
from events.identity import Identity
from events.subjects import LOG, SNAPSHOTS, STATE
from events.trust import jwt
from events.trust.keys import Key, generate
from events.trust.permissions import ACCOUNT_ROLES, Role, inbox, network_tag
from services.cli.embedded import EmbeddedServer
from services.cli.identity import create
from tests.support.waiting import wait_until

NETWORK, OTHER_NETWORK = uuid4(), uuid4()


@dataclass(frozen=True)
class Principal:
    """Somebody who wants onto the bus."""

    machine_id: UUID
    key: Key
    token: str

    @property
    def name(self) -> str:
        return str(self.machine_id)


@dataclass(frozen=True)
class Bus:
    """A secured bus with all streams."""

    url: str
    identity: Identity

    def machine(self, *networks: UUID, machine_id: UUID | None = None, key: Key | None = None) -> Principal:
        """A machine with a token such as the gateway gives."""
        machine_id, key = machine_id or uuid4(), key or generate("user")
        public = self.identity.public
        token = jwt.user(
            self.identity.key("machine"),
            public.account,
            key.public,
            str(machine_id),
            issued_at=int(time.time()),
            expires_at=int(time.time()) + 3600,
            tags=[network_tag(network) for network in networks],
        )
        return Principal(machine_id, key, token)

    async def revoke(self, *keys: str) -> None:
        """Have the tokens of these users count no more."""
        public, now = self.identity.public, int(time.time())
        scopes = {public.scopes[each.role]: each for each in ACCOUNT_ROLES}
        account = jwt.account(
            self.identity.key("signing"),
            public.account,
            "wireloom",
            scopes=scopes,
            issued_at=now + 1,
            jetstream=True,
            revocations=dict.fromkeys(keys, now),
        )
        keeper = await bus.connect(self.url, "keeper", self.identity.credentials("keeper"))
        try:
            answer = orjson.loads((await keeper.request("$SYS.REQ.CLAIMS.UPDATE", account.encode(), timeout=30)).data)
            assert answer["data"]["code"] == 200, answer
        finally:
            await keeper.close()


class Connection:
    """A connection that notes what the server refused."""

    def __init__(self, client: BusClient, refusals: list[str]) -> None:
        self.client = client
        self.refusals = refusals

    async def may_hear(self, subject: str, queue: str = "") -> bool:
        """Whether the server takes a subscription."""
        return await self._is_let(self.client.subscribe(subject, queue=queue))

    async def may_say(self, subject: str, reply: str = "", headers: dict[str, str] | None = None) -> bool:
        """Whether the server takes a message."""
        return await self._is_let(self.client.publish(subject, b"{}", reply=reply, headers=headers))

    async def _is_let(self, doing: object) -> bool:
        before = len(self.refusals)
        await doing  # type: ignore[misc]
        # nats-py's ping can overtake what is said before it, a second one cannot.
        await self.client.flush(timeout=30)
        await self.client.flush(timeout=30)
        return len(self.refusals) == before


@asynccontextmanager
async def connected(the_bus: Bus, principal: Principal) -> AsyncIterator[Connection]:
    """A connection with a token, by whoever holds the key; fails as nats-server refuses it."""
    refusals: list[str] = []

    async def note(error: Exception) -> None:
        refusals.append(str(error))

    client = BusClient()
    await client.connect(
        the_bus.url,
        tls=the_bus.identity.tls(),
        user_jwt_cb=lambda: bytearray(principal.token.encode()),
        signature_cb=lambda nonce: base64.b64encode(principal.key.sign(nonce.encode())),
        inbox_prefix=inbox(principal.name),
        allow_reconnect=False,
        connect_timeout=5,
        error_cb=note,
    )
    try:
        yield Connection(client, refusals)
    finally:
        await client.close()


@pytest.fixture(scope="module")
def the_bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    folder = tmp_path_factory.mktemp("bus")
    identity = create(folder / "identity", ["127.0.0.1"])
    server = EmbeddedServer(folder / "bus", port=0, identity=identity)

    async def start() -> str:
        url = await server.start()
        for role, streams in (("allocator", (LOG, SNAPSHOTS)), ("topology", (STATE,))):
            client = await bus.connect(url, role, identity.credentials(role))
            await bus.ensure_streams(client, streams, 1)
            await client.close()
        return url

    url = asyncio.run(start())
    try:
        yield Bus(url, identity)
    finally:
        asyncio.run(server.stop())


OWN, SAME, OTHER = (UUID(int=number) for number in (1, 2, 3))
"""The machine whose subjects are in question, one in its network, and one in another."""

HEAR = (
    *(f"live.machine.{machine}.>" for machine in (OWN, SAME, OTHER)),
    f"live.machine.{OWN}.info",
    f"live.network.{NETWORK}.>",
    f"live.network.{NETWORK}.peer.{OWN}",
    f"live.network.{OTHER_NETWORK}.>",
    f"_INBOX.{OWN}.>",
    f"_INBOX.{OWN}.abc.*",
    f"_INBOX.{SAME}.>",
    "_INBOX.gateway.>",
    *(
        "live.>",
        "live.network.>",
        "live.network.*.>",
        "live.machine.*.>",
        "live.access.>",
        "_INBOX.>",
        "_INBOX.*.>",
        ">",
    ),
    *("*.*.*", "log.>", "state.>", "snapshot.>", "ask.>", "beat.>", f"ask.{OWN}.*", f"beat.{OWN}", "allocator.execute"),
    *(f"live.machine.{OWN}.look", f"live.machine.{SAME}.look", "live.machine.*.look", "ask.*.tunnels"),
    *(f"ask.{OWN}.tunnels", f"ask.{SAME}.tunnels"),
    *("wireloom.command.>", "$SRV.>", "$JS.API.>", "$JS.EVENT.>", "$SYS.>", "$SYS.ACCOUNT.>"),
)
VERBS = ("register", "membership", "sync", "ring", "tunnels")
SAY = (
    *(f"ask.{machine}.{verb}" for machine in (OWN, SAME, OTHER) for verb in VERBS),
    *(f"beat.{machine}" for machine in (OWN, SAME, OTHER)),
    *(f"live.machine.{OWN}.info", f"live.network.{NETWORK}.info", f"live.network.{NETWORK}.peer.{SAME}"),
    *(f"live.machine.{OWN}.look", f"live.machine.{SAME}.look", f"beat.{OWN}.tunnels", f"ask.{OWN}.tunnels.x"),
    *(f"_INBOX.{OWN}.x", f"_INBOX.{SAME}.x", "_INBOX.gateway.x", "_INBOX.allocator.x"),
    *(f"log.{NETWORK}", f"state.network.{NETWORK}.info", f"state.access.account.{OWN}", f"snapshot.{NETWORK}"),
    *("allocator.execute", "wireloom.command.anybody.create-network", f"wireloom.command.{OWN}.create-network"),
    *("$JS.API.INFO", "$JS.API.STREAM.INFO.LOG", "$JS.API.STREAM.MSG.GET.LOG", "$JS.API.STREAM.DELETE.LOG"),
    *("$JS.API.STREAM.PURGE.STATE", "$JS.API.STREAM.UPDATE.LOG", "$JS.API.STREAM.CREATE.MINE"),
    *("$JS.API.CONSUMER.CREATE.LOG", "$JS.API.CONSUMER.CREATE.STATE.x.live.>", "$JS.API.DIRECT.GET.STATE"),
    *("$JS.ACK.LOG.x.1.1.1.1.1", "$JS.FC.x", "$SRV.PING", "$SRV.INFO.wireloom", "$SYS.REQ.CLAIMS.UPDATE"),
    *("$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.INFO"),
)


def may_hear(machine_id: UUID, networks: tuple[UUID, ...], subject: str) -> bool:
    """By the rule: one's own networks, one's own records, one's own answers."""
    mine = (f"live.machine.{machine_id}.", f"_INBOX.{machine_id}.", *(f"live.network.{each}." for each in networks))
    return subject.startswith(mine)


def may_say(machine_id: UUID, subject: str) -> bool:
    """By the rule: one's own requests, one's own reports."""
    return subject == f"beat.{machine_id}" or (subject.startswith(f"ask.{machine_id}.") and subject.count(".") == 2)


async def everything_in(the_bus: Bus) -> list[int]:
    """Where every stream ends."""
    client = await bus.connect(the_bus.url, "look", the_bus.identity.credentials("allocator"))
    topology = await bus.connect(the_bus.url, "look", the_bus.identity.credentials("topology"))
    try:
        answers = [await jetstream(client, f"STREAM.INFO.{name}", {}) for name in ("LOG", "SNAPSHOTS")]
        answers.append(await jetstream(topology, "STREAM.INFO.STATE", {}))
        return [answer["state"]["last_seq"] for answer in answers]
    finally:
        await client.close()
        await topology.close()


@pytest.mark.parametrize(
    ("machine_id", "networks"),
    [(OWN, (NETWORK,)), (SAME, (NETWORK,)), (OTHER, (OTHER_NETWORK,)), (uuid4(), ())],
    ids=["own machine", "same network", "other network", "in no network"],
)
async def test_a_machine_hears_and_says_what_is_its_own_and_nothing_else(
    the_bus: Bus, machine_id: UUID, networks: tuple[UUID, ...]
) -> None:
    before = await everything_in(the_bus)
    async with connected(the_bus, the_bus.machine(*networks, machine_id=machine_id)) as machine:
        heard = {subject for subject in HEAR if await machine.may_hear(subject)}
        queued = {subject for subject in HEAR if await machine.may_hear(subject, queue="gateway")}
        said = {subject for subject in SAY if await machine.may_say(subject)}
    assert heard == {subject for subject in HEAR if may_hear(machine_id, networks, subject)}
    assert queued == heard
    assert said == {subject for subject in SAY if may_say(machine_id, subject)}
    assert await everything_in(the_bus) == before


HINT = f"live.machine.{OWN}.look"
"""Who may hint may say nothing that a machine takes for a record."""

WRITES = (
    *("log.x", "snapshot.x", "state.x", "live.x", "allocator.execute", f"ask.{OWN}.sync", f"beat.{OWN}"),
    *("wireloom.command.anybody.create-network", f"_INBOX.{OWN}.x", "$JS.API.STREAM.DELETE.LOG"),
    *("$JS.API.STREAM.DELETE.STATE", "$JS.API.STREAM.PURGE.LOG", "$JS.API.STREAM.PURGE.STATE"),
    *("$JS.API.STREAM.MSG.DELETE.LOG", "$JS.API.STREAM.UPDATE.LOG", "$JS.API.STREAM.RESTORE.LOG"),
    *("$JS.API.CONSUMER.CREATE.LOG", "$JS.API.CONSUMER.CREATE.STATE", "$SYS.REQ.CLAIMS.UPDATE"),
    *("$JS.API.CONSUMER.CREATE.LOG.x", "$JS.API.CONSUMER.CREATE.STATE.x.state.>", "$JS.API.CONSUMER.DELETE.STATE.x"),
    *("$JS.API.CONSUMER.MSG.NEXT.LOG.x", "$JS.API.CONSUMER.DURABLE.CREATE.LOG.x", "$JS.API.CONSUMER.PAUSE.LOG.x"),
    *(HINT, f"{HINT}.x", f"live.machine.{OWN}", f"live.machine.{OWN}.info", f"live.machine.{OWN}.network.{NETWORK}"),
    *(f"live.network.{NETWORK}.look", f"live.paths.{OWN}.look", f"live.{OWN}.look", f"ask.{OWN}.tunnels"),
)
INBOXES = f"_INBOX.{OWN}.x"
MAY: dict[Role, set[str]] = {
    "allocator": {"log.x", "snapshot.x", INBOXES, "$JS.API.STREAM.UPDATE.LOG"},
    "topology": {
        *("state.x", "$JS.API.STREAM.PURGE.STATE", "$JS.API.STREAM.UPDATE.LOG"),
        *("$JS.API.CONSUMER.CREATE.LOG", "$JS.API.CONSUMER.CREATE.STATE"),
    },
    "gateway": {"allocator.execute", HINT, INBOXES, "$JS.API.CONSUMER.CREATE.LOG", "$JS.API.CONSUMER.CREATE.STATE"},
    "console": {"allocator.execute"},
    "keeper": {"$SYS.REQ.CLAIMS.UPDATE"},
    "program": set(),
}
"""What each role may say of what writes, or moves others. Nobody may delete a stream, or a message of the log."""


@pytest.mark.parametrize("role", MAY)
async def test_each_part_of_the_control_plane_writes_only_what_is_its_own(the_bus: Bus, role: Role) -> None:
    refusals: list[str] = []

    async def note(error: Exception) -> None:
        refusals.append(str(error))

    key = generate("user")
    public = the_bus.identity.public
    account = public.system_account if role == "keeper" else public.account
    if role == "program":
        token = jwt.user(the_bus.identity.key("program"), account, key.public, str(OWN), issued_at=int(time.time()))
        credentials = bus.Credentials(lambda: token, key.sign, inbox(str(OWN)), the_bus.identity.tls())
    else:
        credentials = the_bus.identity.credentials(role)
    client = await bus.connect(the_bus.url, "test", credentials)
    client._error_cb = note
    try:
        connection = Connection(client, refusals)
        # What is let through names a stream that is not there, so that none takes it.
        nowhere = {"Nats-Expected-Stream": "NOWHERE"}
        said = {subject for subject in WRITES if await connection.may_say(subject, headers=nowhere)}
    finally:
        await client.close()
    assert said == MAY[role]


async def test_a_revoked_machine_is_cut_off_at_once_and_others_are_not(the_bus: Bus) -> None:
    revoked, same = the_bus.machine(NETWORK), the_bus.machine(NETWORK)
    async with connected(the_bus, revoked) as machine, connected(the_bus, same) as other:
        assert await machine.may_hear(f"live.network.{NETWORK}.>")
        await the_bus.revoke(revoked.key.public)
        await wait_until(lambda: machine.client.is_closed, what="the revoked machine to be cut off")
        assert await other.may_hear(f"live.network.{NETWORK}.>")
    await assert_kept_out(the_bus, revoked)
    async with connected(the_bus, same):
        pass


async def assert_kept_out(the_bus: Bus, principal: Principal) -> None:
    before = await everything_in(the_bus)
    with pytest.raises((nats.errors.Error, OSError)):
        async with connected(the_bus, principal) as stranger:
            await stranger.may_say(f"beat.{principal.machine_id}")
    assert await everything_in(the_bus) == before


async def test_who_shows_no_token_or_only_a_key_is_kept_out(the_bus: Bus) -> None:
    for options in ({}, {"user": "wireloom", "password": "wireloom"}, {"token": "wireloom"}):
        client = Client()
        with pytest.raises((nats.errors.Error, OSError)):
            await client.connect(the_bus.url, tls=the_bus.identity.tls(), allow_reconnect=False, **options)
        await client.close()
    key = generate("user")
    await assert_kept_out(the_bus, Principal(uuid4(), key, ""))


def _forgeries(the_bus: Bus) -> dict[str, Callable[[], Principal]]:
    public, own = the_bus.identity.public, generate("user")
    mine = the_bus.machine(NETWORK, key=own)
    header, body, signature = mine.token.split(".")
    said = jwt.claims(mine.token)

    def encoded(document: object) -> str:
        return base64.urlsafe_b64encode(orjson.dumps(document)).decode().rstrip("=")

    def changed(**nats: object) -> str:
        return encoded(said | {"nats": said["nats"] | nats})

    def signed(head: str, text: str, key: Key) -> Principal:
        whole = f"{head}.{text}"
        mark = base64.urlsafe_b64encode(key.sign(whole.encode())).decode().rstrip("=")
        return Principal(mine.machine_id, own, f"{whole}.{mark}")

    def bare(head: str, text: str, mark: str = "") -> Principal:
        return Principal(mine.machine_id, own, f"{head}.{text}.{mark}")

    def minted(signer: Key, account: str = public.account, **options: int) -> Principal:
        now = int(time.time())
        token = jwt.user(signer, account, own.public, mine.name, issued_at=now, tags=[network_tag(NETWORK)], **options)
        return Principal(mine.machine_id, own, token)

    none = encoded({"typ": "JWT", "alg": "none"})
    wide = {"pub": {"allow": [">"]}, "sub": {"allow": [">"]}}
    stranger, machine_key = generate("account"), the_bus.identity.key("machine")
    return {
        "alg none": lambda: bare(none, body),
        "alg none with the old signature": lambda: bare(none, body, signature),
        "without a signature": lambda: bare(header, body),
        "another network put in": lambda: bare(header, changed(tags=[network_tag(OTHER_NETWORK)]), signature),
        "another network, signed by the machine itself": lambda: signed(
            header, changed(tags=[network_tag(OTHER_NETWORK)]), own
        ),
        "another name put in": lambda: bare(header, encoded(said | {"name": str(SAME)}), signature),
        "widened, the old signature": lambda: bare(header, changed(**wide), signature),
        "widened, signed with the machines' own scoped key": lambda: signed(header, changed(**wide), machine_key),
        "signed by an unknown key that claims to be the account's": lambda: signed(header, body, stranger),
        "minted by an account of the attacker's own": lambda: minted(stranger, stranger.public),
        "minted by the attacker for our account": lambda: minted(stranger),
        "for the system account, by the machines' key": lambda: minted(machine_key, public.system_account),
        "expired": lambda: minted(machine_key, expires_at=int(time.time()) - 1),
        "stolen: another's token, one's own key": lambda: Principal(mine.machine_id, generate("user"), mine.token),
        "an account's token for a user's": lambda: Principal(mine.machine_id, own, public.account_token),
        "the operator's token for a user's": lambda: Principal(mine.machine_id, own, public.operator),
    }


FORGERIES = (
    "alg none",
    "alg none with the old signature",
    "without a signature",
    "another network put in",
    "another network, signed by the machine itself",
    "another name put in",
    "widened, the old signature",
    "widened, signed with the machines' own scoped key",
    "signed by an unknown key that claims to be the account's",
    "minted by an account of the attacker's own",
    "minted by the attacker for our account",
    "for the system account, by the machines' key",
    "expired",
    "stolen: another's token, one's own key",
    "an account's token for a user's",
    "the operator's token for a user's",
)


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_forged_token_lets_nobody_in(the_bus: Bus, forgery: str) -> None:
    forgeries = _forgeries(the_bus)
    assert tuple(forgeries) == FORGERIES
    await assert_kept_out(the_bus, forgeries[forgery]())


async def test_a_message_id_cannot_be_taken_in_advance(the_bus: Bus) -> None:
    """A guessed `Nats-Msg-Id` would have the server drop somebody else's event as a repetition."""
    before = await everything_in(the_bus)
    async with connected(the_bus, the_bus.machine(NETWORK)) as machine:
        for stream in ("log", "state", "snapshot"):
            assert not await machine.may_say(f"{stream}.{NETWORK}", headers={"Nats-Msg-Id": "1"})
    assert await everything_in(the_bus) == before


@asynccontextmanager
async def raw_connection(the_bus: Bus) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that has heard the server's greeting and said nothing yet."""
    host, port = the_bus.url.removeprefix("nats://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        assert (await reader.readline()).startswith(b"INFO ")
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def test_without_tls_nothing_is_answered(the_bus: Bus) -> None:
    async with raw_connection(the_bus) as (reader, writer):
        writer.write(b'CONNECT {"verbose":false}\r\nPING\r\n')
        assert b"PONG" not in await reader.read()


async def test_another_authority_s_certificate_is_not_trusted(the_bus: Bus, tmp_path: Path) -> None:
    stranger = create(tmp_path / "identity", ["127.0.0.1"])
    async with raw_connection(the_bus) as (_, writer):
        with pytest.raises(ssl.SSLCertVerificationError):
            await writer.start_tls(stranger.tls(), server_hostname="127.0.0.1")


async def test_a_certificate_for_another_name_is_not_trusted(the_bus: Bus) -> None:
    async with raw_connection(the_bus) as (_, writer):
        with pytest.raises(ssl.SSLCertVerificationError, match="match"):
            await writer.start_tls(the_bus.identity.tls(), server_hostname="192.0.2.1")
