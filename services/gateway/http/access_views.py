"""The access list as the API's objects. Pure."""

from __future__ import annotations

import shlex
from datetime import datetime

from events.records import AccountRecord, ApiTokenRecord, BootstrapTokenRecord
from events.trust.certificates import certificate_fingerprint
from services.gateway.access import AccessView, Speaker
from services.gateway.http.access_schemas import (
    Account,
    ApiToken,
    BootstrapState,
    BootstrapToken,
    Session,
    SessionAccount,
)


def bootstrap_state(record: BootstrapTokenRecord, now: datetime) -> BootstrapState:
    """Whether a bootstrap token still lets machines in, and if not, why."""
    if record.revoked_at is not None:
        return "revoked"
    if record.uses is not None and record.used >= record.uses:
        return "used-up"
    return "usable" if now < record.expires_at else "expired"


def bootstrap_view(record: BootstrapTokenRecord, now: datetime) -> BootstrapToken:
    """A bootstrap token."""
    return BootstrapToken(
        uuid=record.token_id,
        created_at=record.created_at,
        created_by=record.created_by,
        expires_at=record.expires_at,
        uses=record.uses,
        used=record.used,
        mesh_network_uuid=record.network_id,
        state=bootstrap_state(record, now),
    )


def account_view(record: AccountRecord) -> Account:
    """An account."""
    return Account(uuid=record.account_id, name=record.name, role=record.role, created_at=record.created_at)


def api_token_view(access: AccessView, record: ApiTokenRecord) -> ApiToken:
    """An API token. Raises `NotFoundError` where its account is gone."""
    return ApiToken(
        uuid=record.token_id,
        account_uuid=record.account_id,
        account_name=access.account(record.account_id).name,
        name=record.name,
        role=record.role,
        use=record.use,
        created_at=record.created_at,
        expires_at=record.expires_at,
    )


def session_view(speaker: Speaker, csrf_token: str | None) -> Session:
    """Who speaks."""
    account, token = speaker.account, speaker.token
    return Session(
        account=SessionAccount(uuid=account.account_id, name=account.name, role=account.role),
        token_name=token.name,
        role=speaker.role,
        use=token.use,
        expires_at=token.expires_at,
        csrf_token=csrf_token,
    )


def join_command(url: str, token: str, ca: str | None) -> str:
    """What to paste on a machine, so that it joins through the gateway at `url`. `ca` is the certificate (PEM) that
    signed the gateway's, if the machine cannot know it otherwise."""
    pinned = [] if ca is None else ["--ca-sha256", certificate_fingerprint(ca)]
    return shlex.join(["sudo", "wireloom-agent", "join", url, "--token", token, *pinned])
