"""Finding what a person named: asks the gateway for as little as the question needs, `resolve` chooses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from events.errors import NotFoundError
from services.cli.api import Api, Json
from services.cli.resolve import as_uuid, choose_machines, choose_named, choose_network

NETWORKS = "/api/v1/mesh-networks"
MACHINES = "/api/v1/machines"

_FIRST_PART = 8
_FEW = 8
"""Up to so many machines are asked for one by one; for more, all are listed."""


def network_named(api: Api, text: str) -> Json:
    """The network with this name or uuid. Raises `NotFoundError`."""
    uuid = as_uuid(text)
    if uuid is not None:
        return api.get(f"{NETWORKS}/{uuid}")
    found = api.get(NETWORKS, name=text)["items"]
    return choose_network(text, found or api.all(NETWORKS))


def machines_named(api: Api, texts: Sequence[str], tell: Callable[[str], None] = lambda _: None) -> list[Json]:
    """The machines with these hostnames or uuids. Raises `NotFoundError`, `InvalidInputError`."""
    if len(texts) <= _FEW:
        found = [machine for text in texts for machine in _candidates(api, text)]
        named = {machine["hostname"].lower() for machine in found} | {machine["uuid"] for machine in found}
        if all((as_uuid(text) or text.lower()) in named for text in texts):
            unique = {machine["uuid"]: machine for machine in found}
            return choose_machines(texts, list(unique.values()))
    return choose_machines(texts, all_machines(api, tell))


def machine_named(api: Api, text: str) -> Json:
    """The machine with this hostname or uuid. Raises `NotFoundError`, `InvalidInputError`."""
    return machines_named(api, [text])[0]


def all_machines(api: Api, tell: Callable[[str], None]) -> list[Json]:
    """Every machine; `tell` hears how far the listing is."""
    machines: list[Json] = []
    for page in api.pages(MACHINES):
        machines += page["items"]
        tell(f"Listed {len(machines):,} of {page['total']:,} machines")
    return machines


def item_named(api: Api, path: str, text: str, what: str, listing: str) -> Json:
    """The item of a collection that has this name or uuid. Raises `NotFoundError`."""
    uuid = as_uuid(text)
    if uuid is not None:
        return api.get(f"{path}/{uuid}")
    found = api.get(path, name=text)["items"]
    return choose_named(text, found or api.all(path), what, listing)


def hostnames(api: Api, uuids: Iterable[str]) -> dict[str, str]:
    """The hostnames of machines by uuid; of those that are gone the uuid's first part."""
    asked = list(dict.fromkeys(uuids))
    found = {uuid: uuid[:_FIRST_PART] for uuid in asked}
    machines = all_machines(api, lambda _: None) if len(asked) > _FEW else _there(api, asked)
    return found | {machine["uuid"]: machine["hostname"] for machine in machines}


def _there(api: Api, uuids: Iterable[str]) -> Iterable[Json]:
    for uuid in uuids:
        try:
            yield api.get(f"{MACHINES}/{uuid}")
        except NotFoundError:
            continue  # deleted a moment ago


def _candidates(api: Api, text: str) -> list[Json]:
    uuid = as_uuid(text)
    if uuid is not None:
        return [api.get(f"{MACHINES}/{uuid}")]
    found: list[Json] = api.get(MACHINES, hostname=text)["items"]
    return found
