"""What a person means by a name: pure choices among the items that the API listed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from uuid import UUID

from events.errors import InvalidInputError, NotFoundError
from events.trust.tokens import PREFIXES
from services.cli.api import Json

_SHOWN = 10
_SHORTEST = 4
"""So much of an id must be given."""


def as_uuid(text: str) -> str | None:
    """The canonical form of a uuid, or None where `text` is a name."""
    try:
        return str(UUID(text)) if len(text) == 36 else None
    except ValueError:
        return None


def choose_network(text: str, networks: Sequence[Json]) -> Json:
    """The network that has this name, whatever the case, or this uuid.

    Raises `NotFoundError` with the names that look like it.
    """
    return choose_named(text, networks, "network", "wireloom network list")


def choose_machines(texts: Iterable[str], machines: Sequence[Json]) -> list[Json]:
    """The machines that have these hostnames or uuids, each once, in the order asked for.

    Raises `NotFoundError` with the hostnames that look like the unknown one, and `InvalidInputError` with the uuids
    where several machines share a hostname.
    """
    by_uuid = {machine["uuid"]: machine for machine in machines}
    by_hostname: dict[str, list[Json]] = {}
    for machine in machines:
        by_hostname.setdefault(machine["hostname"].lower(), []).append(machine)
    chosen: dict[str, Json] = {}
    for text in texts:
        found = by_uuid.get(as_uuid(text) or "") or _only(text, by_hostname.get(text.lower(), []))
        if found is None:
            hint = _hint(text, by_hostname, "wireloom machine list")
            raise NotFoundError(f"There is no machine {text!r}.", hint=hint)
        chosen[found["uuid"]] = found
    return list(chosen.values())


def choose_account(text: str, accounts: Sequence[Json]) -> Json:
    """The account that has this name, whatever the case, or this uuid.

    Raises `NotFoundError` with the names that look like it.
    """
    return choose_named(text, accounts, "account", "wireloom account list")


def choose_named(text: str, items: Sequence[Json], what: str, listing: str) -> Json:
    """The item that has this name, whatever the case, or this uuid.

    Raises `NotFoundError` with the names that look like it.
    """
    for item in items:
        if text.lower() == item["name"].lower() or as_uuid(text) == item["uuid"]:
            return item
    names = [item["name"] for item in items]
    raise NotFoundError(f"There is no {what} {text!r}.", hint=_hint(text, names, listing))


def choose_by_id(text: str, items: Sequence[Json], what: str, listing: str) -> Json:
    """The one item whose uuid is, or begins with, `text`.

    Raises `NotFoundError`, and `InvalidInputError` where several do, or where `text` is the secret itself: that is
    never repeated.
    """
    if text.startswith(tuple(PREFIXES.values())):
        raise InvalidInputError(
            f"That is a token itself, not a {what}'s id.",
            hint=f"`{listing}` shows the ids. Whoever reads your shell's history can read the token now: revoke it.",
        )
    found = [item for item in items if item["uuid"].startswith(text.lower())] if len(text) >= _SHORTEST else []
    if not found:
        raise NotFoundError(f"There is no {what} {text!r}.", hint=f"`{listing}` shows what there is.")
    if len(found) > 1:
        uuids = ", ".join(item["uuid"] for item in found[:_SHOWN])
        raise InvalidInputError(f"The ids of {len(found)} begin with {text!r}.", hint=f"Give more of one: {uuids}.")
    return found[0]


def _only(text: str, found: Sequence[Json]) -> Json | None:
    if len(found) > 1:
        uuids = [machine["uuid"] for machine in found]
        more = f" and {len(uuids) - _SHOWN} more" if len(uuids) > _SHOWN else ""
        raise InvalidInputError(
            f"{len(uuids)} machines have the hostname {text!r}.",
            hint=f"Give the uuid of the one you mean: {', '.join(uuids[:_SHOWN])}{more}.",
        )
    return found[0] if found else None


def _hint(text: str, names: Iterable[str], listing: str) -> str:
    close = get_close_matches(text, list(names), n=3, cutoff=0.6)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    return f"`{listing}` shows what there is."
