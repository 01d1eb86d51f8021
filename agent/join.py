"""`wireloom-agent join` and `leave`: becoming part of a control plane's machines, and ceasing to be. A shell."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path

from agent import identity as identities
from agent.gateway import Address, Gateway, fetch_ca
from agent.identity import Identity
from agent.install import STATE_DIR, Service, own_program
from agent.port_mapping.releasing import release
from agent.store import DiskStore, erase, exclusive
from agent.wireguard_go import WireguardGoDevices
from events.enrolment import Access, EnrolRequest
from events.errors import ConflictError, InvalidInputError, WireloomError
from events.interfaces import interface_name
from events.trust import tokens
from events.trust.proof import ENROL, prove

TOKEN_VARIABLE = "WIRELOOM_TOKEN"  # noqa: S105 - its name, not its value
_HIDDEN = b"x"
_PROC = Path("/proc/self")

Say = Callable[[str], None]


class JoinedElsewhereError(ConflictError):
    """Raised when a machine that belongs to one control plane is to join another."""

    code = "joined-elsewhere"
    title = "The machine belongs to another control plane"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person wants with `join`."""

    url: str
    token: str = field(repr=False)
    hostname: str
    ca_sha256: str = ""
    given_hostname: str = ""
    endpoints: tuple[str, ...] = ()
    with_service: bool = True
    agent_version: str = ""


def join(wish: Wish, state_dir: Path, service: Service, say: Say) -> None:
    """Make this machine one of a control plane's, and have its agent run.

    Joining again is harmless: the machine stays the same, and what changed is taken over.

    Raises `JoinedElsewhereError`, what the gateway refuses with, and errors about the state folder and systemd. Error
    contract: whatever fails, the identity key that was made stays, so that the next attempt is the same machine's.
    """
    address = Address.parse(wish.url)
    _check_token(wish.token)
    program = own_program() if _wants_service(wish, state_dir, service) else ""
    was_running = _is_its(service, state_dir) and service.is_running
    if was_running:
        service.stop()  # while the agent runs, its state folder is its own
    try:
        with exclusive(state_dir):
            _enrol(wish, address, state_dir, with_service=bool(program), say=say)
    except BaseException:
        if was_running:
            service.start()
        raise
    if program:
        service.install(program)
    elif was_running:
        service.start()
    else:
        say(_by_hand(wish, state_dir, service))


def _is_its(service: Service, state_dir: Path) -> bool:
    return service.is_possible and state_dir.absolute() == STATE_DIR


def _wants_service(wish: Wish, state_dir: Path, service: Service) -> bool:
    return wish.with_service and _is_its(service, state_dir)


def _by_hand(wish: Wish, state_dir: Path, service: Service) -> str:
    if not wish.with_service:
        why = "no systemd unit, as wished"
    elif not service.is_possible:
        why = "systemd does not run here"
    else:
        why = f"no systemd unit, which is for {STATE_DIR} only"
    where = "" if state_dir.absolute() == STATE_DIR else f" --state-dir {state_dir.absolute()}"
    return f"{why}: start the agent with `wireloom-agent run{where}`"


def _enrol(wish: Wish, address: Address, state_dir: Path, *, with_service: bool, say: Say) -> None:
    before = identities.load(state_dir)
    if before is not None and before.is_enrolled and before.url != address.url:
        raise JoinedElsewhereError(
            f"This machine has joined {before.url}.",
            hint="To leave that, with all its networks, run `wireloom-agent leave` first. If it is the same control "
            "plane under another address, do the same.",
        )
    ca = fetch_ca(address, wish.ca_sha256) if wish.ca_sha256 else _pinned_ca(before, address)
    gateway = Gateway(address, ca)
    challenge = gateway.challenge()
    store = DiskStore(state_dir)
    try:
        machine_id = store.machine_id(before.machine_id if before else None)
        identity = identities.made(state_dir, machine_id, address.url)
        say(f"machine {machine_id}, identity key {identity.key.public}")
        told = {"url": address.url, "ca": ca, "hostname": wish.given_hostname, "endpoints": wish.endpoints}
        identity = identity.model_copy(update=told | {"service": identity.service or with_service})
        identity = identity.admitted(_ask(gateway, identity, challenge, wish))
        if not (before and before.is_enrolled):
            # Nobody vouches for what was heard openly. It counts until it was read again, from who can be trusted.
            store.reread()
        identities.save(state_dir, identity)
    finally:
        store.close()
    say(f"joined {address.url}")


def _pinned_ca(before: Identity | None, address: Address) -> str:
    return before.ca if before is not None and before.url == address.url else ""


def _ask(gateway: Gateway, identity: Identity, challenge: str, wish: Wish) -> Access:
    request = EnrolRequest(
        token=wish.token,
        machine_id=identity.machine_id,
        identity_key=identity.key.public,
        hostname=wish.hostname,
        agent_version=wish.agent_version,
        challenge=challenge,
        proof=prove(identity.key, ENROL, identity.machine_id, challenge),
    )
    try:
        return gateway.enrol(request)
    except WireloomError as error:
        for name in ("detail", "hint"):
            setattr(error, name, getattr(error, name).replace(wish.token, "the token"))
        raise


def leave(state_dir: Path, service: Service, say: Say) -> None:
    """Undo all that `join` and `run` did here: the unit, the interfaces, the keys and files.

    Raises errors about systemd, the state folder and the interfaces; what remains is undone by leaving again.
    """
    if _has_service(state_dir):
        service.remove()
    with exclusive(state_dir):
        store = DiskStore(state_dir)
        devices = WireguardGoDevices()
        try:
            for network_id in store.tunnels():
                # Removing its link is all that a kernel interface needs as well.
                devices.remove(interface_name(network_id))
                store.forget_network(network_id)
        finally:
            devices.close()
            store.close()
        release(state_dir)
        identities.erase(state_dir)
        erase(state_dir)
    say("Left every network here. The control plane still knows the machine: delete it there.")


def _has_service(state_dir: Path) -> bool:
    try:
        identity = identities.load(state_dir)
    except WireloomError:
        return False
    return identity is not None and identity.service


def taken_token(given: str | None, environment: MutableMapping[str, str]) -> str:
    """The bootstrap token: `given`, from standard input where that is `-`, else from `WIRELOOM_TOKEN`. It is taken out
    of this process's own command line and environment. Raises `InvalidInputError` where there is none."""
    if given not in {None, "", "-"}:
        hide_argument(str(given))
    from_environment = environment.pop(TOKEN_VARIABLE, "")
    token = sys.stdin.readline() if given == "-" else given or from_environment
    if not token.strip():
        raise InvalidInputError(
            "There is no token to join with.",
            hint="Paste the whole line that `wireloom token create` prints, or give the token in WIRELOOM_TOKEN.",
        )
    return token.strip()


def _check_token(token: str) -> None:
    if not tokens.looks_like(token, "bootstrap"):
        what = "a token for people and programs" if token.startswith(tokens.PREFIXES["api"]) else "no bootstrap token"
        raise InvalidInputError(
            f"What was given is {what}.", hint="Make one that lets machines in with `wireloom token create`."
        )


def hide_argument(secret: str) -> None:
    """Blot out a word in this process's command line as others see it (proc(5), "arg_start"). Who looked before has
    seen it."""
    try:
        fields = (_PROC / "stat").read_text().rpartition(")")[2].split()
        start, end = int(fields[45]), int(fields[46])
        words = ctypes.string_at(start, end - start)
        place = words.find(secret.encode())
        while place >= 0:
            ctypes.memset(start + place, ord(_HIDDEN), len(secret.encode()))
            place = words.find(secret.encode(), place + 1)
    except (OSError, IndexError, ValueError):
        return  # not on this system: nothing is promised
