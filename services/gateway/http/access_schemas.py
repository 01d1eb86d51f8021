"""The objects of the HTTP API about who may do what: tokens, accounts, keys, revocations."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, SecretStr

from events.commands import MAX_USES, Lifetime
from events.fields import AccountRole, Moment, TokenUse
from services.gateway.http.schemas import After, Given, Limit, Page, View

BootstrapState = Literal["usable", "used-up", "expired", "revoked"]

_BOOTSTRAP_TOKEN = "wlb_" + "a" * 52
_API_TOKEN = "wla_" + "a" * 52
_BUS_KEY = "UDXB2YQ6FVVPWMHHWRNNXA6BUNIGUNMDAACV3K33EOMGZQMLOAOTKLLN"

Uses = Annotated[int, Field(strict=True, ge=1, le=MAX_USES)]


class BootstrapToken(View):
    """A token that lets machines in."""

    uuid: UUID
    created_at: Moment
    created_by: str = Field(examples=["account:alice/laptop"])
    expires_at: Moment
    uses: int | None = Field(description="How many machines it lets in; null for any number.", examples=[1])
    used: int = Field(description="How many it has let in.", examples=[0])
    mesh_network_uuid: UUID | None = Field(description="The network they join; null for the default one.")
    state: BootstrapState


class NewBootstrapToken(BootstrapToken):
    """A token that lets machines in, with its secret: shown once."""

    token: str = Field(examples=[_BOOTSTRAP_TOKEN])
    join_command: str = Field(
        description="What to paste on a machine.",
        examples=[f"sudo wireloom-agent join https://mesh.example.org --token {_BOOTSTRAP_TOKEN}"],
    )


class BootstrapTokenPage(Page):
    """Bootstrap tokens."""

    items: tuple[BootstrapToken, ...]


class Account(View):
    """A person's or program's account."""

    uuid: UUID
    name: str = Field(examples=["alice"])
    role: AccountRole
    created_at: Moment


class AccountPage(Page):
    """Accounts."""

    items: tuple[Account, ...]


class ApiToken(View):
    """A token that speaks for an account."""

    uuid: UUID
    account_uuid: UUID
    account_name: str = Field(examples=["alice"])
    name: str = Field(examples=["laptop"])
    role: AccountRole = Field(description="It may do what this role and the account's both may.")
    use: TokenUse = Field(description="A `session` is a browser's.")
    created_at: Moment
    expires_at: Moment | None = Field(description="Null: it counts until it is revoked.")


class NewApiToken(ApiToken):
    """A token that speaks for an account, with its secret: shown once."""

    token: str = Field(examples=[_API_TOKEN])


class ApiTokenPage(Page):
    """API tokens."""

    items: tuple[ApiToken, ...]


class SessionAccount(View):
    """The account that speaks."""

    uuid: UUID
    name: str = Field(examples=["alice"])
    role: AccountRole


class Session(View):
    """Who asks, and what he may do."""

    account: SessionAccount
    token_name: str = Field(examples=["laptop"])
    role: AccountRole = Field(description="What the caller may do: the lower of the account's role and the token's.")
    use: TokenUse
    expires_at: Moment | None
    csrf_token: str | None = Field(description="For the header X-CSRF-Token; null for one who shows a bearer token.")


class BusCredentials(View):
    """A program's access to the message bus, of no use without the private half of the key that it was asked for."""

    token: str = Field(description="The bus's own token (JWT) for the program's key.")
    expires_at: Moment
    principal: UUID = Field(description="The id of the API token that the program speaks with.")
    subject: str = Field(description="Where it gives commands.", examples=["wireloom.command.<principal>.<kind>"])
    inbox: str = Field(description="The prefix of the inboxes where it may hear answers.", examples=["_INBOX.<uuid>"])
    bus: tuple[str, ...] = Field(examples=[["nats://mesh.example.org:7422"]])
    bus_ca: str = Field(description="The certificate (PEM) that signed the bus's own.")


class Keys(View):
    """The keys by which machines know the control plane's records."""

    root: str = Field(description="The public root key, which machines pin when they enrol.")
    ring_version: int = Field(examples=[1])
    keys: tuple[str, ...] = Field(description="The fingerprints of the keys that count, the signing one first.")
    records: dict[str, int] = Field(description="How many records are signed with each key, by its fingerprint.")


class Witness(View):
    """A machine that had a revoked machine as its peer, and has dropped it."""

    uuid: UUID
    hostname: str = Field(examples=["db-1"])


class Debtor(Witness):
    """A machine that has not said yet that it dropped a revoked peer."""

    is_online: bool
    last_seen_at: Moment | None


class NetworkRevocation(View):
    """How far the machines of one network are with dropping a revoked machine."""

    mesh_network_uuid: UUID
    name: str = Field(examples=["office-mesh"])
    revision: int = Field(description="The network's revision that a machine must have applied.")
    dropped: tuple[Witness, ...]
    pending: tuple[Debtor, ...]


class Revocation(View):
    """Who has dropped a revoked machine, and who has not yet."""

    machine_uuid: UUID
    revoked_at: Moment
    complete: bool = Field(description="Whether all have dropped it.")
    networks: tuple[NetworkRevocation, ...]


class BootstrapTokenCreate(Given):
    """A bootstrap token to be."""

    lifetime: Lifetime = "10m"
    uses: Uses | None = Field(1, description="How many machines it lets in; null for any number.")
    mesh_network_uuid: UUID | None = Field(
        None, description="The network that they join; without it, the one that is the default then."
    )


class AccountCreate(Given):
    """An account to be."""

    name: str = Field(description="Letters, digits, '.', '_' and '-', up to 63; unique.", examples=["alice"])
    role: AccountRole


class AccountChange(Given):
    """What to change about an account."""

    role: AccountRole


class ApiTokenCreate(Given):
    """An API token to be."""

    account_uuid: UUID | None = Field(None, description="Whom it speaks for; without it, who asks. Others' take admin.")
    name: str = Field(description="Letters, digits, '.', '_' and '-', up to 63.", examples=["laptop"])
    role: AccountRole | None = Field(
        None, description="At most the account's. Without it the caller's for his own, else the account's."
    )
    lifetime: Lifetime | None = Field(None, description="Null: until it is revoked.")


class SessionCreate(Given):
    """Signing in."""

    model_config = ConfigDict(hide_input_in_errors=True)

    token: SecretStr = Field(description="An API token.", examples=[_API_TOKEN])


class BusCredentialsCreate(Given):
    """A program wants to give commands over the bus."""

    public_key: str = Field(description="The public half of the program's own user key (nkey).", examples=[_BUS_KEY])


class KeyRotation(Given):
    """Which of a machine's WireGuard keys to rotate."""

    mesh_network_uuid: UUID | None = Field(None, description="Only in this network; without it, in all.")


class BootstrapTokenQuery(Given):
    """Which bootstrap tokens; the oldest come first."""

    state: BootstrapState | None = None
    limit: Limit = 100
    after: After = None


class AccountQuery(Given):
    """Which accounts; they come in the order of their names."""

    name: str | None = Field(None, description="Exactly this name.")
    limit: Limit = 100
    after: After = None


class ApiTokenQuery(Given):
    """Which API tokens; the oldest come first."""

    account_uuid: UUID | None = Field(None, description="Only this account's.")
    use: TokenUse | None = None
    limit: Limit = 100
    after: After = None
