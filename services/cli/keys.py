"""`wireloom key`: the keys that sign records, on the control plane's own machine.

Rotating puts a new key first in the ring, signed by the root key, and then in the place of the one that signs; the
topology service signs every record anew. Retiring takes the old ones out of the ring. A crash between two steps leaves
keys in the ring that sign nothing, which do no harm and are shown.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import typer

from events import state
from events.errors import ConflictError
from events.identity import Identity
from events.trust.keys import fingerprint, generate
from events.trust.signing import Ring, signed_with
from services.cli.embedded import told_url
from services.cli.first import BusUrl, DataDir, IdentityDir, located, reached
from services.cli.harmless import json_text
from services.cli.plan import DEFAULT_BUS
from services.cli.private import write_private
from services.cli.session import AsJson, console
from services.cli.tables import settings_table

app = typer.Typer(help="The keys that sign what machines are told; on the control plane's own machine.")


@dataclass(frozen=True, slots=True)
class Keys:
    """The ring, the key that signs, and how many records each key has signed: `""` counts those without signature."""

    version: int
    ring: tuple[str, ...]
    signing: str
    records: Mapping[str, int]

    @property
    def elsewhere(self) -> int:
        """How many records are not signed with the key that signs now."""
        return sum(self.records.values()) - self.records.get(self.signing, 0)

    def told(self) -> dict[str, object]:
        """This as JSON."""
        unsigned = self.records.get("", 0)
        records = {name: count for name, count in self.records.items() if name}
        return {
            "ring_version": self.version,
            "keys": list(self.ring),
            "signing": self.signing,
            "records": records,
            "unsigned": unsigned,
        }


@app.command()
def show(
    *, data_dir: DataDir = None, identity: IdentityDir = None, nats_url: BusUrl = "", as_json: AsJson = False
) -> None:
    """Show which keys count, which one signs, and how many records each has signed."""
    directory, found = located(data_dir, identity, os.environ)
    keys = _look(found, nats_url or told_url(directory / "bus") or DEFAULT_BUS)
    if as_json:
        typer.echo(json_text(keys.told(), indent=True))
        return
    out = console()
    out.print(settings_table(("Ring version", f"{keys.version}"), *_rows(keys)))
    for line in advice(keys):
        out.print(line, soft_wrap=True)


@app.command()
def rotate(*, data_dir: DataDir = None, identity: IdentityDir = None) -> None:
    """Have a new key sign all records. The one before it counts until `wireloom key retire`."""
    _, found = located(data_dir, identity, os.environ)
    with _alone(found):
        new, ring = generate("operator"), found.ring()
        _write_ring(found, (new.public, *ring.keys), ring.version + 1)
        write_private(found.folder / "keys" / "records.seed", new.seed)
    typer.echo(
        f"Key {fingerprint(new.public)} signs from now on (ring version {ring.version + 1}).\n"
        "`wireloom key show` tells when it has signed every record; then `wireloom key retire`.\n"
        "Where services run with folders of their own (`wireloom identity export`), give `ring.json` to every gateway "
        "first, then `keys/records.seed` to the topology services."
    )


@app.command()
def retire(*, data_dir: DataDir = None, identity: IdentityDir = None, nats_url: BusUrl = "") -> None:
    """Let no key count any more but the one that signs, once it has signed every record."""
    directory, found = located(data_dir, identity, os.environ)
    url = nats_url or told_url(directory / "bus") or DEFAULT_BUS
    with _alone(found):
        keys = _look(found, url)
        if keys.elsewhere:
            raise ConflictError(
                f"{keys.elsewhere:,} records are not signed with key {keys.signing} yet: machines would refuse them.",
                hint="Wait until `wireloom key show` says that all are; the topology service has to run.",
            )
        current, ring = found.key("records").public, found.ring()
        if ring.keys == (current,):
            typer.echo(f"Key {keys.signing} is the only one already.")
            return
        _write_ring(found, (current,), ring.version + 1)
    typer.echo(f"Key {keys.signing} is the only one now (ring version {ring.version + 1}).")


def advice(keys: Keys) -> Iterator[str]:
    """What a person who looks at the keys should know or do."""
    if keys.signing not in keys.ring:
        yield f"The key that signs, {keys.signing}, is not in the ring: machines refuse its records. Rotate."
    elif keys.ring[0] != keys.signing:
        yield "A rotation was interrupted before its key came to sign anything. Nothing is lost: rotate again."
    elif keys.elsewhere:
        yield f"{keys.elsewhere:,} records are still to be signed with {keys.signing}."
    elif len(keys.ring) > 1:
        yield "Every record is signed with the first key: `wireloom key retire` ends the others."


def _rows(keys: Keys) -> Iterator[tuple[str, str]]:
    for name in dict.fromkeys((*keys.ring, *(name for name in keys.records if name))):
        notes = ["signs"] if name == keys.signing else []
        notes += [] if name in keys.ring else ["not in the ring"]
        yield f"Key {name}", ", ".join([f"{keys.records.get(name, 0):,} records", *notes])
    if unsigned := keys.records.get("", 0):
        yield "No key", f"{unsigned:,} records"


def _look(identity: Identity, url: str) -> Keys:
    ring, signing = identity.ring(), identity.signer().fingerprint
    return Keys(ring.version, _names(ring.keys), signing, asyncio.run(_signed(identity, url)))


def _names(keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(fingerprint(key) for key in keys)


async def _signed(identity: Identity, url: str) -> dict[str, int]:
    """How many records of STATE each key has signed."""
    client = await reached(url, identity.credentials("topology"))
    try:
        dump = await state.load(client)
    finally:
        await client.close()
    return dict(Counter(signed_with(dump.signatures.get(subject, "")) for subject, _ in dump.entries))


def _write_ring(identity: Identity, keys: tuple[str, ...], version: int) -> None:
    ring = Ring(version=version, keys=keys).signed_by(identity.key("root"))
    write_private(identity.folder / "ring.json", ring.model_dump_json())


@contextmanager
def _alone(identity: Identity) -> Iterator[None]:
    """Nobody else changes this identity's keys meanwhile."""
    held = os.open(identity.folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)
