"""The agent of one machine: what runs, and what it is told.

Four things run side by side: *tending* brings memberships and interfaces to what they should be; the *connection*
makes the machine known and keeps its scopes up to date; *heartbeats* say that it is alive; the *watch* notices when the
machine moves in the networks underneath. Without a connection, tending goes on with what the store holds: nothing is
ever torn down because the control plane is not there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import structlog
from nats.aio.client import Client

from agent.access import Connect, Door
from agent.backoff import Backoff
from agent.believing import ASK_TIMEOUT, Belief
from agent.bgp.routing import Gear, Routing
from agent.connection import Connection
from agent.context import Context, Options
from agent.desired import Locality
from agent.device import DeviceError, Devices
from agent.guidance import Guidance
from agent.heart import Heart
from agent.memberships import Memberships, Wishes
from agent.network import Network
from agent.pathfinding import Probing
from agent.port_mapping.mapper import PortMapper
from agent.port_mapping.notes import Notes
from agent.reporting import Reports
from agent.store import Store
from agent.surroundings import Surroundings
from agent.transit import Rules, Transit
from agent.trust import Judge
from agent.tunnels import Tunnels
from events.bus import ask
from events.enrolment import Access
from events.errors import MachineDeletedError, MachineRevokedError, UnavailableError, WireloomError
from events.interfaces import interface_name
from events.records import MembershipRecord, RegisterRequest
from events.subjects import ask as ask_subject
from events.trust.signing import Ring, Verifier

_FLUSH_AFTER = 0.25
_RETRY_AFTER = 5.0
_REFUSED_PAUSE = 60.0


class Agent:
    """Makes one machine agree with its desired state. `run` is its whole life."""

    def __init__(
        self,
        machine_id: UUID,
        options: Options,
        *,
        connect: Connect,
        door: Door | None = None,
        devices: Devices,
        store: Store,
        surroundings: Surroundings,
        rules: Rules | None = None,
        probing: Probing | None = None,
        gear: Gear | None = None,
        mappings: Notes | None = None,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        """With a door only signed records are believed, and the machine's access is renewed there. With `rules` the
        machine may be a transit; with `probing` it finds out how it reaches its peers; with `gear` it has a part in
        BGP; with `mappings`, where what is mapped is noted, it asks its router for mappings. `on_ready` is called once
        the interfaces are first as the store says."""
        self.machine_id = machine_id
        self.networks: dict[UUID, Network] = {}
        """The networks that the machine is in, by id."""
        self._options = options
        self._door = door
        self._connection = Connection(connect, door, self)
        self._devices = devices
        self._store = store
        self._surroundings = surroundings
        self._rules = rules
        self._probing = probing
        self._gear = gear
        self._routing: Routing | None = None
        self._mappings = mappings
        self._mapper: PortMapper | None = None
        self._on_ready = on_ready
        self._locality = Locality()
        self._greeting: asyncio.Task[None] | None = None
        self._flush: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._stopped = asyncio.Event()
        self._log = structlog.get_logger("agent").bind(machine=str(machine_id))

    async def run(self) -> None:
        """Live until `stop` is called. Interfaces stay afterwards, unless the options say otherwise.

        What nobody foresaw ends it with an exception group; tunnels stay up then, too.
        """
        is_blocking = self._devices.blocking or self._surroundings.blocking or self._gear is not None
        thread = ThreadPoolExecutor(1, "devices") if is_blocking else None
        try:
            async with asyncio.TaskGroup() as group:
                self._open(group, thread)
                self._memberships.restore()
                self._guidance.restore()
                connection = self._connection
                beating = self._heart.live(lambda: connection.client, self._options.beat_interval)
                for part in (self._tend(), connection.keep(), connection.renew(), beating, self._keep_watch()):
                    self._context.spawn(part)
                await self._stopped.wait()
                await self._heart.stop(connection.client)
                await self._end_tasks()
        finally:
            await self._close(thread)

    def stop(self) -> None:
        """End `run`."""
        self._stopped.set()

    async def _end_tasks(self) -> None:
        # A task that waits in asyncio.wait_for can miss its cancellation (Python before 3.12), so it is repeated.
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=0.1)

    def _open(self, group: asyncio.TaskGroup, thread: ThreadPoolExecutor | None) -> None:
        def spawn(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
            task = group.create_task(coroutine)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return task

        async def run(function: Callable[..., Any], *arguments: Any) -> Any:
            if thread is None:
                return function(*arguments)
            return await asyncio.get_running_loop().run_in_executor(thread, function, *arguments)

        boot_id, belief = uuid4(), self._make_belief()
        self._mapper = PortMapper(self._mappings, spawn) if self._mappings is not None else None
        self._heart = Heart(
            self.machine_id,
            boot_id,
            applied=lambda: {network_id: network.applied for network_id, network in self.networks.items()},
            refused=belief.refusals.counts,
        )
        self._memberships = Memberships(
            self.machine_id,
            belief=belief,
            store=self._store,
            spawn=spawn,
            wishes=Wishes(self._flush_soon, self._wake.set, self._routed, self._joined, self._doubted, self._looked),
        )
        self._context = Context(
            machine_id=self.machine_id,
            options=self._options,
            devices=self._devices,
            store=self._store,
            run=run,
            spawn=spawn,
            wake=self._wake.set,
            wrote=self._flush_soon,
            doubted=lambda _: self._memberships.restart(),
            deleted=self._memberships.end_network,
            belief=belief,
            acknowledge=self._heart.owe,
            reports=Reports(boot_id),
            routed=self._routed,
            probing=self._probing,
            mapper=self._mapper,
        )
        self._tunnels = Tunnels(self._context, self.networks, lambda: self._connection.client)
        self._transit = Transit(self._rules, run)
        if self._gear is not None:
            duties = self._memberships
            self._routing = Routing(self._gear, self._context, networks=self.networks, duties=lambda: duties.routing)
        self._guidance = Guidance(
            self.machine_id,
            belief=belief,
            store=self._store,
            spawn=spawn,
            wrote=self._flush_soon,
            walker=self.networks.get,
        )

    def _make_belief(self) -> Belief:
        def keep(ring: Ring) -> None:
            if self._door is not None and ring.version > self._door.access.ring.version:
                self._door.keep(ring)

        access = self._door.access if self._door is not None else None
        judge = Judge(Verifier(access.root, access.ring) if access is not None else None)
        return Belief(self.machine_id, judge, keep=keep, adopted=self._resync)

    async def _close(self, thread: ThreadPoolExecutor | None) -> None:
        if self._flush is not None:
            self._flush.cancel()
        for network in self.networks.values():
            network.hush()
        if self._routing is not None:
            self._routing.hush()
        if self._mapper is not None:  # tunnels that stay need what the router maps
            await self._mapper.close(release=self._options.down_on_exit)
        if self._options.down_on_exit:
            if self._routing is not None:
                await self._routing.lift()
            for network in self.networks.values():
                with suppress(DeviceError):
                    await self._context.run(self._devices.remove, network.interface)
            await self._transit.lift()
        if self._routing is not None:
            await self._routing.close()
        await self._context.run(self._devices.close)
        await self._context.run(self._surroundings.close)
        if thread is not None:
            thread.shutdown()
        self._store.close()
        await self._connection.close()

    # -- tending

    async def _tend(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        is_first = True
        if self._routing is not None:
            await self._routing.begin()
        while True:
            self._wake.clear()
            is_full = loop.time() >= due
            if is_full:
                due = loop.time() + self._options.reconcile_interval
                await self._look()
            if not await self._settle() or not await self._reconcile(is_full):
                due = min(due, loop.time() + _RETRY_AFTER)
            if is_first:
                is_first = False
                if self._routing is not None:
                    self._context.spawn(self._routing.live())
                self._on_ready()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._wake.wait()

    async def _settle(self) -> bool:
        """Join and leave networks as the memberships say. Returns whether it worked."""
        is_settled = True
        for network_id, network in list(self.networks.items()):
            if not network.takes(self._memberships.records.get(network_id)):
                is_settled &= await self._leave(network)
        for network_id in self._store.tunnels():
            if network_id not in self._memberships.records and network_id not in self.networks:
                is_settled &= await self._clear_away(network_id)
        for network_id, membership in list(self._memberships.records.items()):
            if network_id not in self.networks:
                await self._join(membership)
        return is_settled

    async def _join(self, membership: MembershipRecord) -> None:
        self._log.info("in a network", network=str(membership.network_id), address=str(membership.address))
        network = Network(membership, self._locality, self._context)
        for other in self.networks.values():  # none of their peers is to be sent to inside this one
            other.moved(self._locality)
        self.networks[membership.network_id] = network
        self._allow(network)
        if self._routing is not None:
            self._routing.join(network)
        client = self._connection.client
        if client is not None and self._connection.may_hear(membership.network_id):
            await self._attach(client, network)
            network.resync()
            self._resync_routing()

    async def _leave(self, network: Network) -> bool:
        self._log.info("leaving a network", network=str(network.network_id), interface=network.interface)
        del self.networks[network.network_id]
        await network.stop()
        if self._routing is not None:
            await self._routing.leave(network.network_id)
        return await self._clear_away(network.network_id)

    async def _clear_away(self, network_id: UUID) -> bool:
        """Remove what the machine has of a network. Until that has worked, the store still knows of it."""
        try:
            await self._context.run(self._devices.remove, interface_name(network_id))
        except DeviceError as error:
            self._log.error("cannot leave a network yet", error=error.detail, hint=error.hint)
            return False
        self._store.forget_network(network_id)
        return True

    async def _reconcile(self, is_full: bool) -> bool:
        machine = self._memberships.machine
        self._transit.mode = machine.transit if machine is not None else "auto"
        is_right, is_new = True, self._transit.differs(self.networks.values())
        if is_full or is_new:
            await self._guard()
        for network in list(self.networks.values()):
            if is_full or network.needs_compare:
                is_right &= await network.reconcile(rotate=is_full)
        if is_new:  # of an interface that was not there before, the system knows no settings
            await self._guard()
        return is_right

    async def _guard(self) -> None:
        await self._transit.guard(list(self.networks.values()))
        for network in self.networks.values():
            self._allow(network)

    def _allow(self, network: Network) -> None:
        if network.allow(self._transit.may_nest, self._transit.is_transit):
            self._guidance.tell(network.network_id)

    def _flush_soon(self) -> None:
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(_FLUSH_AFTER, self._flush_now)

    def _flush_now(self) -> None:
        self._flush = None
        self._store.flush()

    # -- the connection

    def memberships(self) -> tuple[UUID, ...]:
        """See `agent.connection.User.memberships`."""
        return tuple(self._memberships.records)

    async def attach(self, client: Client) -> None:
        """See `agent.connection.User.attach`."""
        may_hear = self._connection.may_hear
        networks = [network for network in self.networks.values() if may_hear(network.network_id)]
        own = self._memberships.attach(client), self._guidance.attach(client)
        await asyncio.gather(*own, *(self._attach(client, network) for network in networks))

    async def _attach(self, client: Client, network: Network) -> None:
        await network.attach(client)
        if self._routing is not None:
            await self._routing.attach(client, network.network_id)

    def renewed(self, access: Access) -> None:
        """See `agent.connection.User.renewed`."""
        self._context.belief.adopt(access.ring)

    def expelled(self, error: WireloomError) -> None:
        """See `agent.connection.User.expelled`."""
        self._memberships.end("revoked" if isinstance(error, MachineRevokedError) else "deleted")

    def greet(self) -> None:
        """See `agent.connection.User.greet`: make the machine known and bring its scopes up to date."""
        if self._greeting is not None:
            self._greeting.cancel()
        if (client := self._connection.client) is not None:
            self._greeting = self._context.spawn(self._register(client))

    def _joined(self, network_id: UUID) -> None:
        if not self._connection.may_hear(network_id):
            self._connection.want()

    def _looked(self) -> None:
        self._tunnels.look()

    def _doubted(self) -> None:
        if self._greeting is None or self._greeting.done():
            self.greet()

    async def _register(self, client: Client) -> None:
        request = RegisterRequest(hostname=self._options.hostname, agent_version=self._options.agent_version)
        body = request.model_dump_json().encode()
        backoff = Backoff(0.2, 10.0)
        is_known = is_synced = False
        while not is_known and client is self._connection.client:
            try:
                await ask(client, ask_subject(self.machine_id, "register"), body, ASK_TIMEOUT)
                is_known = True
                await self._heart.beat(client)
            except UnavailableError as error:
                self._log.info("cannot register yet", error=str(error))
                await backoff.wait()
                continue
            except MachineDeletedError:
                self._memberships.end("deleted")
            except WireloomError as error:
                self._log.warning("registering is refused", error=error.detail, hint=error.hint)
            if not is_synced or is_known:
                is_synced = True
                self._resync()
            if not is_known:
                await asyncio.sleep(_REFUSED_PAUSE)

    def _resync(self) -> None:
        self._memberships.resync()
        self._guidance.resync()
        for network in self.networks.values():
            network.resync()
        self._resync_routing()

    def _resync_routing(self) -> None:
        if self._routing is not None:
            self._routing.resync()

    def _routed(self) -> None:
        if self._routing is not None:
            self._routing.stir()

    # -- the networks underneath

    async def _keep_watch(self) -> None:
        while True:
            await self._surroundings.changed()
            await self._look()
            for network in self.networks.values():
                network.compare()

    async def _look(self) -> None:
        try:
            locality = await self._context.run(self._surroundings.look)
        except DeviceError as error:
            self._log.warning("cannot see where this machine stands", error=error.detail, hint=error.hint)
            return
        if locality != self._locality:
            self._locality = locality
            self._log.info("addresses", addresses=[str(interface) for interface in locality.addresses])
            for network in self.networks.values():
                network.moved(locality)
            self._context.spawn(self._connection.check())
            if self._mapper is not None:
                self._mapper.moved(locality)
