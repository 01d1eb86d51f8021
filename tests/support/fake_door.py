"""Access for machines in tests, without HTTPS: tokens as a gateway makes them, for a real secured bus."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from uuid import UUID, uuid4

from nats.aio.client import Client

from events.enrolment import Access
from events.errors import WireloomError
from events.trust import jwt
from events.trust.keys import Key, generate
from events.trust.permissions import ACCOUNT_ROLES, network_tag
from events.trust.signing import Ring, Signer
from services.cli.identity import ACCOUNT_NAME
from tests.support.secured import SecuredBus


class FakeControlPlane:
    """The keys of a secured bus's control plane, which tests may rotate, and its revocations."""

    def __init__(self, bus: SecuredBus) -> None:
        self.bus = bus
        self.ring = bus.identity.ring()
        self.signer = bus.identity.signer()
        self.revoked: dict[str, int] = {}

    def rotate(self, *, keep_old: bool = True) -> Signer:
        """Another key that signs records, the former one beside it or not; returns what signs with it."""
        key = generate("operator")
        former = self.ring.keys[:1] if keep_old else ()
        self.ring = self.signed(Ring(version=self.ring.version + 1, keys=(key.public, *former)))
        self.signer = Signer(key)
        return self.signer

    def signed(self, ring: Ring) -> Ring:
        """A ring with the root key's signature."""
        return ring.signed_by(self.bus.identity.key("root"))

    async def revoke(self, keeper: Client, key: Key) -> None:
        """Revoke all the tokens that a machine's key has by now."""
        self.revoked[key.public] = max(int(time.time()), self.revoked.get(key.public, 0) + 1)
        public = self.bus.identity.public
        token = jwt.account(
            self.bus.identity.key("signing"),
            public.account,
            ACCOUNT_NAME,
            scopes={public.scopes[each.role]: each for each in ACCOUNT_ROLES},
            issued_at=int(time.time()) + len(self.revoked),
            jetstream=True,
            revocations=self.revoked,
        )
        await keeper.request("$SYS.REQ.CLAIMS.UPDATE", token.encode(), timeout=5)


class FakeDoor:
    """See `agent.access.Door`."""

    def __init__(self, plane: FakeControlPlane, lifetime: int = 3600) -> None:
        self.key = generate("user")
        self.machine_id = uuid4()
        self.networks: tuple[UUID, ...] = ()
        """The networks that the machine gets access to."""
        self.lifetime = lifetime
        self.refusal: WireloomError | None = None
        """What renewing is refused with."""
        self.renewals: list[float] = []
        """When renewing was tried, in seconds of a clock of its own."""
        self.kept: list[Ring] = []
        self._plane = plane
        self.access = self.issue()

    def issue(self, lifetime: int | None = None) -> Access:
        """Fresh access."""
        bus, now = self._plane.bus, int(time.time())
        issued_at = max(now, self._plane.revoked.get(self.key.public, 0) + 1)
        expires_at = now + (self.lifetime if lifetime is None else lifetime)
        token = jwt.user(
            bus.identity.key("machine"),
            bus.identity.public.account,
            self.key.public,
            str(self.machine_id),
            issued_at=issued_at,
            expires_at=expires_at,
            tags=[network_tag(network_id) for network_id in self.networks],
        )
        return Access(
            machine_id=self.machine_id,
            token=token,
            expires_at=datetime.fromtimestamp(expires_at, UTC),
            networks=self.networks,
            bus=(bus.url,),
            bus_ca=bus.identity.ca(),
            root=bus.identity.public.root,
            ring=self._plane.ring,
        )

    async def renew(self, networks: tuple[UUID, ...]) -> Access:
        """See `Door.renew`."""
        self.renewals.append(time.monotonic())
        if self.refusal is not None:
            raise self.refusal
        self.access = self.issue()
        return self.access

    def keep(self, ring: Ring) -> None:
        """See `Door.keep`."""
        self.kept.append(ring)
        self.access = self.access.model_copy(update={"ring": ring})
