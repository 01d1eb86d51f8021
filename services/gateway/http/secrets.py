"""The secrets of new tokens. Pure."""

from __future__ import annotations

from uuid import UUID

import orjson

from events.trust import tokens
from events.trust.tokens import Purpose
from services.gateway.http.changes import Change


def new_token(change: Change, mint: bytes, purpose: Purpose, *about: object) -> tuple[UUID, str]:
    """The id and secret of the token that a change makes: the same for a repetition of the request.

    Both follow from the command's id and from `about`: who asks, and for what. Command ids stand in the log for all to
    see, so who repeats another's must get nothing that counts.
    """
    token_id = change.another_id(f"{purpose} token {orjson.dumps(about).decode()}")
    return token_id, tokens.make(mint, purpose, token_id)
