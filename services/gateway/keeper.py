"""Keeps the revocations on the bus as the records want them: the account's token says up to which second of issue the
tokens of which machines do not count, and nats-server closes the connections made with those. Shell.

Every gateway has a keeper. They agree without talking: each computes the same from the records, adds it to what the
bus holds, and looks again until it is so. nats-server keeps the token across restarts.

The token also holds what each role may say and hear. A keeper that starts brings that to its own version's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import nats.errors
import orjson
import structlog
from nats.aio.client import Client

from events.errors import UnavailableError
from events.identity import Identity
from events.trust import jwt
from events.trust.permissions import ACCOUNT_ROLES
from services.gateway.cutoffs import merged
from services.gateway.follower import Follower
from services.gateway.metrics import Metrics

CHECK_SECONDS = 5.0
"""How often a keeper looks at the bus when nothing has changed: somebody may have restored an older token."""

_RETRY_SECONDS = 0.25
_ANSWER_SECONDS = 2.0
_ROUNDS = 5

_UPDATE = "$SYS.REQ.CLAIMS.UPDATE"


class Keeper:
    """One gateway's keeper. `client` is connected to the system account."""

    def __init__(
        self,
        client: Client,
        identity: Identity,
        follower: Follower,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        public = identity.public
        self._client = client
        self._account = public.account
        self._lookup = f"$SYS.REQ.ACCOUNT.{public.account}.CLAIMS.LOOKUP"
        self._name = str(jwt.claims(public.account_token)["name"])
        self._signing = identity.key("signing")
        self._scopes = {public.scopes[permissions.role]: permissions for permissions in ACCOUNT_ROLES}
        self._follower = follower
        self._metrics = metrics
        self._clock = clock
        self._due = asyncio.Event()
        self._version = -1
        self._has_begun = False
        follower.call_on_change(self._look)

    async def run(self) -> None:
        """Keep until cancelled. Raises `UnavailableError` when the connection is closed for good."""
        await self._follower.loaded.wait()
        failed = False
        while True:
            self._due.clear()
            self._version = self._follower.mirror.cutoffs.version
            try:
                await self.settle()
                failed = False
            except (UnavailableError, nats.errors.Error, TimeoutError, ValueError) as error:
                if self._client.is_closed:
                    raise UnavailableError("The bus has closed the connection for revocations.") from error
                if not failed:
                    structlog.get_logger("gateway").warning("revocations cannot be written yet", why=repr(error))
                failed = True
            try:
                async with asyncio.timeout(_RETRY_SECONDS if failed else CHECK_SECONDS):
                    await self._due.wait()
            except TimeoutError:
                continue

    async def settle(self) -> None:
        """Make the bus hold what it must. Raises `UnavailableError` if it does not take it on, and nats-py's errors."""
        cutoffs = self._follower.mirror.cutoffs
        for _ in range(_ROUNDS):
            held = await self._held()
            now = int(self._clock())
            on_bus: dict[str, int] = held["nats"].get("revocations") or {}
            cutoffs.learn(on_bus)
            wanted = merged(on_bus, cutoffs.wanted(self._follower.mirror.access.identities(), now), now)
            token = self._token(wanted, issued_at=max(now, int(held["iat"]) + 1))
            has_roles = self._has_begun or held["nats"].get("signing_keys") == jwt.claims(token)["nats"]["signing_keys"]
            if wanted == on_bus and has_roles:
                self._has_begun = True
                return
            await self._push(token)
            self._metrics.revocations.inc(sum(on_bus.get(key) != second for key, second in wanted.items()))
        raise UnavailableError("The bus does not keep the revocations.", hint="See the log of nats-server.")

    def _look(self) -> None:
        if self._follower.mirror.cutoffs.version != self._version:
            self._due.set()

    async def _held(self) -> dict[str, Any]:
        """What the account's token on the bus says. Raises ValueError where there is none."""
        answer = await self._client.request(self._lookup, timeout=_ANSWER_SECONDS)
        said = jwt.claims(answer.data.decode())
        if said.get("sub") != self._account:
            raise ValueError("the bus gave the token of another account")
        return said

    def _token(self, revocations: Mapping[str, int], issued_at: int) -> str:
        return jwt.account(
            self._signing,
            self._account,
            self._name,
            scopes=self._scopes,
            issued_at=issued_at,
            jetstream=True,
            revocations=revocations,
        )

    async def _push(self, token: str) -> None:
        answer = orjson.loads((await self._client.request(_UPDATE, token.encode(), timeout=_ANSWER_SECONDS)).data)
        if "error" in answer:
            raise UnavailableError(f"The bus refused the revocations: {answer['error'].get('description')}.")
