"""One network this machine is in: its records, its interface, and what the machine announces about itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from random import SystemRandom
from typing import Any
from uuid import UUID

import structlog
from nats.aio.client import Client
from pydantic import ValidationError

from agent.announcing import Announcer
from agent.bgp.duties import Place
from agent.bgp.words import Words
from agent.context import Context
from agent.desired import Locality
from agent.device import Changes, DeviceError, PortTakenError, merged
from agent.follow import Update
from agent.guidance import Word
from agent.heart import Applied
from agent.keys import generate_private_key, is_due, public_key
from agent.listening import Listener
from agent.members import Increment
from agent.paths import nested_mtu
from agent.plan import diff, next_endpoints
from agent.reaching import Reaching
from agent.store import NextKey, Tunnel
from agent.surroundings import candidates
from agent.trust import Entry
from agent.view import NetworkView
from events.commands import MAX_ENDPOINTS
from events.interfaces import interface_name
from events.records import (
    AnnouncementRecord,
    MembershipRecord,
    MembershipRequest,
    NetworkPolicyRecord,
    NetworkRecord,
    PathRecord,
    PeerRecord,
    Record,
)
from events.subjects import scope

PORTS = range(51820, 52820)
_PORT_TRIES = 20
_random = SystemRandom()


class Network:
    """One network of an agent."""

    def __init__(self, membership: MembershipRecord, locality: Locality, context: Context) -> None:
        """Takes up what the store holds of the network; does nothing to the system yet."""
        self.membership = membership
        self.network_id = membership.network_id
        self.interface = interface_name(self.network_id)
        self.name = ""
        self.needs_compare = True
        """Whether the interface may not be as it should."""
        self.words = Words()
        """What the network's records say of BGP."""
        self._context = context
        self._scope = scope("network", self.network_id)
        self._tunnel = self._take_tunnel()
        key = public_key(self._tunnel.private_key)
        self.view = NetworkView(self.network_id, context.machine_id, membership.network_cidr, membership.address, key)
        context.meshes.update(self.view.meshes)
        self.view.meshes = context.meshes
        self.view.mtu = context.options.mtu
        self.view.locality = locality
        self._show_next_key()
        self._listener = Listener(
            "network",
            self.network_id,
            context.machine_id,
            hearer=self,
            belief=context.belief,
            store=context.store,
            spawn=context.spawn,
        )
        self._announcer = Announcer(context.machine_id, self._to_announce, context.spawn)
        self._reaching = Reaching(self.view, self.network_id, context, change=self._change, news=self.announce)
        self._may_nest = False
        self._pending: list[Changes] = []
        self._applying: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._is_up = False
        self._applied = Applied(0, time.monotonic())
        self._log = structlog.get_logger("agent").bind(network=str(self.network_id), interface=self.interface)
        self._restore()

    def _take_tunnel(self) -> Tunnel:
        tunnel = self._context.store.tunnel(self.network_id)
        if tunnel is None:
            made_for = self.membership.key_generation
            tunnel = Tunnel(generate_private_key(), _random.choice(PORTS), time.time(), made_for)
            self._context.store.set_tunnel(self.network_id, tunnel)
        return tunnel

    # -- keys: a new one is announced while the old is used, and used once the records show it

    def takes(self, membership: MembershipRecord | None) -> bool:
        """Whether a membership leaves the machine in its place here. If so it is taken on: it may want a new key."""
        if membership is None:
            return False
        generation = membership.key_generation
        if self.membership.model_copy(update={"key_generation": generation}) != membership:
            return False
        self.membership = membership
        self.turn_key()
        return True

    def turn_key(self) -> None:
        """Make the next key if the control plane wants one or the key is too old, and there is none under way."""
        tunnel, wanted = self._tunnel, self.membership.key_generation
        if tunnel.next_key is not None:
            return
        now, max_age = time.time(), self._context.options.key_max_age
        # Unequal, not greater: where the machine was assigned anew, counting began anew.
        if wanted != tunnel.generation or is_due(self.view.public_key, tunnel.made_at, max_age, now):
            self._keep(replace(tunnel, next_key=NextKey(generate_private_key(), now, wanted)))
            self._log.info("made the next key", public_key=self.view.next_public_key)
            self.announce()

    def _use_next_key(self) -> None:
        """Switch keys if the network's records show the next one: so do the peers, on the same message."""
        own = self.view.own
        if own is None or not self.view.next_public_key or own.public_key != self.view.next_public_key:
            return
        self._keep(self._tunnel.switched())
        self._log.info("the next key is in use", public_key=self.view.public_key)
        self.compare()
        self.turn_key()

    def _keep(self, tunnel: Tunnel) -> None:
        self._context.store.set_tunnel(self.network_id, tunnel)
        self._tunnel = tunnel
        self.view.public_key = public_key(tunnel.private_key)
        self._show_next_key()
        if self._is_up:
            self._probe()

    def _show_next_key(self) -> None:
        following = self._tunnel.next_key
        self.view.next_public_key = public_key(following.private_key) if following else ""

    def _restore(self) -> None:
        for stored in self._context.store.records(self._scope):
            try:
                entry = Entry(stored.subject, Record.model_validate_json(stored.body), stored.body)
                self._listener.follower.hold(entry)
                self._take_in(entry.subject, entry.record)
            except ValidationError:
                self._log.warning("cannot read a stored record; it is fetched again", subject=stored.subject)
                self._listener.follower.restart()

    @property
    def applied(self) -> Applied:
        """The revision of the network's records up to which the interface agrees with them, and since when."""
        is_right = self._is_up and not self.needs_compare and not self._pending and not self._lock.locked()
        shown = self._listener.follower.shown
        if is_right and not self._listener.follower.behind and shown != self._applied.revision:
            self._applied = Applied(shown, time.monotonic())
        return self._applied

    def _acknowledge(self) -> None:
        """Have the control plane told, where the interface agrees with more records than before."""
        before = self._applied
        if self.applied != before:
            self._context.acknowledge()

    async def attach(self, client: Client) -> None:
        """Hear the network's records on this connection."""
        self._announcer.attach(client)
        self._reaching.attach(client)
        await self._listener.attach(client)

    def resync(self) -> None:
        """Ask for what may have been missed, and compare what was announced."""
        self._announcer.repeat()
        self._listener.resync()
        self.announce()

    def heard(self, entry: Entry) -> None:
        """See `Hearer.heard`. The cost does not grow with the network."""
        self._take_in(entry.subject, entry.record)
        body = None if entry.record.body is None else entry.payload
        self._context.store.put(self._scope, entry.subject, entry.record.revision, body)
        self._context.wrote()
        self._acknowledge()

    def updated(self, update: Update) -> None:
        """See `Hearer.updated`."""
        store = self._context.store
        for entry in update.records:
            self._take_in(entry.subject, entry.record)
            body = None if entry.record.body is None else entry.payload
            store.put(self._scope, entry.subject, entry.record.revision, body)
        if update.keep is not None:
            kept = {_machine_of(subject) for subject in update.keep}
            for machine_id in [held for held in self.view.members if held not in kept]:
                self._change(self.view.drop(machine_id))
                self._reaching.seek(machine_id)
            if self._context.machine_id not in kept:
                self.view.drop(self._context.machine_id)
            self.words.retain(update.keep)
            self._context.routed()
            store.retain(self._scope, update.keep)
        store.set_revision(self._scope, update.revision)
        self._context.wrote()
        self.announce()
        self._acknowledge()

    def gone(self) -> None:
        """See `Hearer.gone`. Whether it is true, the machine's own scope tells."""
        self._log.info("the network may be gone")
        self._context.doubted(self.network_id)

    def _take_in(self, subject: str, record: Record) -> None:
        match record.body:
            case PeerRecord() as peer:
                former = self.view.own
                self._change(self.view.put(peer), peer.machine_id)
                self._reaching.seek(peer.machine_id)
                if peer.machine_id == self._context.machine_id:
                    if former is None or former.endpoints != peer.endpoints:
                        self._reaching.announced()
                    self._use_next_key()
                    self.announce()
            case NetworkRecord() as network:
                self.name = network.name
            case AnnouncementRecord() | NetworkPolicyRecord() as word:
                self.words.put(subject, word)
            case None if subject.endswith(".info"):
                self._context.deleted(self.network_id)
            case None:
                self.words.drop(subject)
                machine_id = _machine_of(subject)
                if machine_id is not None:
                    self._change(self.view.drop(machine_id))
                    self._reaching.seek(machine_id)
        self._context.routed()

    def _change(self, increment: Increment, machine_id: UUID | None = None) -> None:
        if increment.refusal:
            self._context.belief.refuse("unusable", increment.refusal, network=self.name, peer=str(machine_id))
        if increment.compare:
            self.compare()
        if increment.reached_otherwise:
            self._context.routed()
        if not increment.changes or not self._is_up:
            return
        if self._context.devices.blocking:
            self._pending.append(increment.changes)
            if self._applying is None or self._applying.done():
                self._applying = self._context.spawn(self._apply_pending())
            return
        try:
            self._context.devices.apply(self.interface, increment.changes)
        except DeviceError as error:
            self._refused(error)

    async def _apply_pending(self) -> None:
        async with self._lock:
            while self._pending:
                batch, self._pending = merged(*self._pending), []
                try:
                    await self._context.run(self._context.devices.apply, self.interface, batch)
                except DeviceError as error:
                    self._refused(error)
                    return
        self._acknowledge()

    def _refused(self, error: DeviceError) -> None:
        self._log.warning("a change to the interface failed", error=error.detail, hint=error.hint)
        self._pending.clear()
        self._is_up = False
        self.compare()

    def compare(self) -> None:
        """Have the interface compared with what it should be, soon."""
        self.needs_compare = True
        self._context.wake()

    def moved(self, locality: Locality) -> None:
        """This machine stands elsewhere in the networks underneath."""
        self.view.locality = locality
        self.compare()
        self.announce()
        self._reaching.moved(self._own_endpoints())

    async def reconcile(self, rotate: bool) -> bool:
        """Make the interface as it should be; with `rotate`, also try other endpoints of peers that do not answer.

        Idempotent. Returns whether it worked; what went wrong is logged.
        """
        self.turn_key()
        is_right = await self._reconciled(rotate)
        self._acknowledge()
        return is_right

    async def _reconciled(self, rotate: bool) -> bool:
        async with self._lock:
            for _ in range(_PORT_TRIES):
                try:
                    await self._reconcile(rotate)
                except PortTakenError as error:
                    self._log.warning("choosing another UDP port", error=error.detail)
                    self._choose_port()
                except DeviceError as error:
                    self._log.error("cannot set the interface right", error=error.detail, hint=error.hint)
                    break
                else:
                    self._is_up = True
                    self._context.routed()
                    self._probe()
                    self.announce()
                    return True
        self._is_up = False
        self.needs_compare = True
        return False

    async def _reconcile(self, rotate: bool) -> None:
        devices = self._context.devices
        self.needs_compare = False
        actual = await self._context.run(devices.read, self.interface)
        # From here to the end of diff nothing else runs: what is pending is part of the view already.
        self._pending.clear()
        if actual is not None:
            self.view.present(key for key, peer in actual.peers.items() if peer.endpoint)
        desired = self.view.desired(self._tunnel.private_key, self._tunnel.listen_port)
        now = time.time()
        changes = diff(desired, actual, now)
        if changes:
            self._log.info("setting the interface right", **_summary(changes))
            # While this runs, records only join what is pending: it is made afterwards, in its turn.
            self._is_up = True
            await self._context.run(devices.apply, self.interface, changes)
        elif (
            rotate
            and not self.view.is_probed
            and actual is not None
            and (turns := next_endpoints(desired, actual, now))
        ):
            await self._context.run(devices.apply, self.interface, turns)

    def _choose_port(self) -> None:
        others = [port for port in PORTS if port != self._tunnel.listen_port]
        self._keep(replace(self._tunnel, listen_port=_random.choice(others)))

    def announce(self) -> None:
        """Tell the control plane this machine's key, port and endpoints, if it has others."""
        if self._is_up:
            self._announcer.announce()

    def _to_announce(self) -> MembershipRequest | None:
        """None where nothing is to be said."""
        port, own = self._tunnel.listen_port, self.view.own
        own_endpoints, observed = self._own_endpoints(), self._reaching.observed_endpoints
        endpoints = tuple(dict.fromkeys((*own_endpoints, *self._mapped_endpoints(), *observed)))[:MAX_ENDPOINTS]
        key = self.view.next_public_key or self.view.public_key
        if own is not None and (own.public_key, own.endpoints) == (key, endpoints):
            return None
        return MembershipRequest(network_id=self.network_id, public_key=key, listen_port=port, endpoints=endpoints)

    def _own_endpoints(self) -> tuple[str, ...]:
        return candidates(self._context.options.endpoints, self.view.locality, self._tunnel.listen_port)

    def _mapped_endpoints(self) -> tuple[str, ...]:
        return self._context.mapper.endpoints(self.network_id) if self._context.mapper is not None else ()

    def _probe(self) -> None:
        if self._context.mapper is not None:
            self._context.mapper.want(self.network_id, self._tunnel.listen_port, self.announce)
        self._reaching.begin(self._tunnel.private_key, self._tunnel.listen_port, self._own_endpoints())

    # -- paths

    def obey(self, word: Word) -> None:
        """See `Walker.obey`. A machine that cannot guard its transit addresses takes no ways through others."""
        if not self._may_nest:
            return
        self._change(self.view.put_path(word) if isinstance(word, PathRecord) else self.view.put_relay(word))
        self._context.routed()

    def disregard(self, kind: str, peer_id: UUID) -> None:
        """See `Walker.disregard`."""
        self._change(self.view.drop_path(peer_id) if kind == "path" else self.view.drop_relay(peer_id))
        self._context.routed()

    def allow(self, may_nest: bool, is_transit: bool) -> bool:
        """Whether this machine may use transit addresses, and whether it may be a transit. Returns whether it may now
        use them and could not before: then its paths are to be told."""
        if self.view.is_transit != is_transit:
            self.view.is_transit = is_transit
            self.compare()
        had, self._may_nest = self._may_nest, may_nest
        if had and not may_nest:
            for change in self.view.forget_paths():
                self._change(change)
        return may_nest and not had

    # -- routes

    @property
    def place(self) -> Place:
        """This machine's place here, as far as BGP needs it."""
        view = self.view
        return Place(
            network_id=self.network_id,
            cidr=view.network_cidr,
            interface=self.interface,
            address=view.address,
            members={machine_id: member.address for machine_id, member in view.members.items() if member.allowed_ip},
            words=self.words,
            narrow=frozenset(view.paths.reached()),
            narrow_mtu=nested_mtu(view.mtu),
            lost=view.unreached,
        )

    def route(self, owners: Mapping[str, UUID]) -> None:
        """These prefixes lie behind these members, and no others."""
        self._change(self.view.learn(owners))

    def answer(self, vips: frozenset[str], mark: int) -> None:
        """Have these addresses of virtual IPs, and mark the packets of WireGuard itself so."""
        if (self.view.vips, self.view.mark) != (vips, mark):
            self.view.vips, self.view.mark = vips, mark
            self.compare()

    @property
    def is_up(self) -> bool:
        """Whether the interface is there."""
        return self._is_up

    @property
    def listen_port(self) -> int:
        """WireGuard's port."""
        return self._tunnel.listen_port

    def hush(self) -> None:
        """Say and probe nothing more."""
        self._announcer.close()
        self._reaching.close()

    async def stop(self) -> None:
        """Stop listening and changing; the interface stays."""
        self._is_up = False
        self.hush()
        if self._context.mapper is not None:
            self._context.mapper.drop(self.network_id)
        self._context.meshes.pop(self.network_id, None)
        await self._listener.detach()
        if self._applying is not None:
            self._applying.cancel()


def _machine_of(subject: str) -> UUID | None:
    kind, _, machine_id = subject.split(".", 3)[3].partition(".")
    return UUID(machine_id) if kind == "peer" else None


def _summary(changes: Changes) -> dict[str, Any]:
    """What is changed, for the log: never the key itself."""
    summary: dict[str, Any] = {
        "created": changes.create,
        "key": changes.private_key is not None,
        "port": changes.listen_port,
        "mtu": changes.mtu,
        "up": changes.up,
        "addresses": sorted(changes.add_addresses),
        "foreign_addresses": sorted(changes.remove_addresses),
        "routes": sorted(map(str, changes.add_routes)),
        "peers": len(changes.peers),
    }
    return {name: value for name, value in summary.items() if value}
