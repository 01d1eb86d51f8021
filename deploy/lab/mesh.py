"""Wireloom in the lab: a control plane on the machine `control`, an agent on every other one."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from deploy.lab.lab import Lab, Pings, ping_all
from deploy.lab.machine import PATIENCE, LabError, Machine, Program
from events.interfaces import INTERFACE_PREFIX

CONTROL = "control"
BUS_PORT = 7422
HTTP_PORT = 7480
WIRELOOM = Path(sys.executable).with_name("wireloom")
AGENT = Path(sys.executable).with_name("wireloom-agent")
_OK = 200
_DONE = (200, 201, 204)
_FIELDS_OF_INTERFACE = 5
"""In `wg show all dump`: a peer has more."""
_PAUSE = 0.02
_ADMIN_TOKEN = re.compile(r"\bwla_[a-z2-7]{52}\b")

Json = dict[str, Any]
T = TypeVar("T")


class Mesh:
    """A control plane and machines with agents, in a lab."""

    def __init__(self, lab: Lab, *, by_name: bool = False) -> None:
        """With `by_name`, the control plane is known by a name that stands for its IPv4 and its IPv6 address, so that
        machines which have only one of the two find it."""
        self.lab = lab
        self.by_name = by_name
        self.control = lab.add_machine(CONTROL)
        self.agents: dict[str, Program] = {}
        self.control_plane: Program | None = None
        self.token = ""

    @property
    def machines(self) -> list[Machine]:
        """The machines that have an agent, in the order they came."""
        return [machine for name, machine in self.lab.machines.items() if name in self.agents]

    @property
    def url(self) -> str:
        """Where the machines find the control plane."""
        return f"https://{self._known_as}:{HTTP_PORT}"

    @property
    def _known_as(self) -> str:
        return CONTROL if self.by_name else self.control.address

    def know_control(self, machine: Machine) -> None:
        """Have a machine know the control plane by its name, where it has one."""
        if self.by_name:
            hosts = self.lab.directory / "hosts"
            names = [f"{address} {CONTROL}" for address in (self.control.address6, self.control.address)]
            hosts.write_text("\n".join(["127.0.0.1 localhost", "::1 localhost", *names, ""]))
            machine.run(["mount", "--bind", hosts, "/etc/hosts"])

    @property
    def settings(self) -> dict[str, str]:
        """What the environment of a `wireloom` on the control machine must say, so that it finds who is signed in."""
        return {"XDG_CONFIG_HOME": str(self.control.directory / "config")}

    def start_control_plane(self) -> None:
        """Start it, on the data that it had before, if any, and wait until it is ready. The first time, sign in."""
        address, data = "::" if self.by_name else self.control.address, self.control.directory / "data"
        command: list[str | Path] = [WIRELOOM, "up", "--data-dir", data]
        command += ["--http-host", address, "--bus-host", address, "--public-host", self._known_as]
        program = self.control_plane = self.control.start("control-plane", command)

        def ready() -> bool:
            if not program.running:
                raise LabError(f"The control plane ended:\n{program.last_lines()}")
            return self.is_ready()

        wait_for(ready, "the control plane to be ready")
        if not self.token:
            self.know_control(self.control)
            self._sign_in(program)

    def _sign_in(self, program: Program) -> None:
        shown = wait_for(lambda: _ADMIN_TOKEN.search(program.log.read_text()), "the first token to be shown")
        assert shown
        self.token = shown[0]
        self.wireloom("login", self.url, "--ca-sha256", self.fingerprint(), "--token-stdin", text=self.token)

    def fingerprint(self) -> str:
        """What a join line pins: the SHA-256 of the certificate that signed the control plane's."""
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self._ca.read_text())).hexdigest()

    @property
    def _ca(self) -> Path:
        return self.control.directory / "data" / "identity" / "tls" / "ca.pem"

    def is_ready(self) -> bool:
        """Whether the control plane says so."""
        try:
            return self._ask("/readyz")[0] == _OK
        except OSError:
            return False

    def kill_control_plane(self) -> None:
        """End every process of the control plane at once, as a power cut would."""
        # To -1 is to all but the sender and the machine's first process.
        self.control.run(["sh", "-c", "kill -9 -1"], check=False)
        if self.control_plane:
            self.control_plane.wait()

    def add(self, name: str, token: str = "") -> Machine:
        """A new machine that joins with a bootstrap token (a new one if none is given), with a running agent."""
        machine = self.lab.add_machine(name)
        self.enrol(machine, token or self.bootstrap_token())
        return machine

    def enrol(self, machine: Machine, token: str) -> None:
        """Have a machine join, and start its agent."""
        self.know_control(machine)
        self.join(machine, token)
        self.start_agent(machine)

    def bootstrap_token(self, *options: str) -> str:
        """A new bootstrap token, for one machine if the options do not say otherwise."""
        made: Json = json.loads(self.wireloom("token", "create", "--json", *options))
        return str(made["token"])

    def join(self, machine: Machine, token: str) -> str:
        """Have a machine join; what that prints. Raises `LabError` if it is refused."""
        command: list[str | Path] = [AGENT, "join", self.url, "--token", "-", "--ca-sha256", self.fingerprint()]
        command += ["--no-service", "--hostname", machine.name, "--state-dir", machine.directory / "state"]
        return machine.run(command, text=token)

    def start_agent(self, machine: Machine) -> Program:
        """Start the agent of a machine that has joined."""
        command: list[str | Path] = [AGENT, "run", "--state-dir", machine.directory / "state"]
        self.agents[machine.name] = machine.start("agent", command)
        return self.agents[machine.name]

    def wireloom(self, *arguments: str, text: str = "") -> str:
        """What a command of `wireloom` that reads `text` prints. Raises `LabError` if it fails."""
        return self.control.run([WIRELOOM, *arguments], text=text, environment=self.settings)

    def get(self, path: str) -> Any:
        """An answer of the HTTP API. Raises `LabError` where it is none."""
        status, body = self._ask(f"/api/v1/{path}")
        if status != _OK:
            raise LabError(f"GET {path} is answered with {status}: {body.decode()}")
        return json.loads(body)

    def send(self, method: str, path: str, body: Json) -> Json:
        """Change something by the HTTP API; the answer. Raises `LabError` where it is refused."""
        status, answer = self._ask(f"/api/v1/{path}", method, json.dumps(body))
        if status not in _DONE:
            raise LabError(f"{method} {path} is answered with {status}: {answer.decode()}")
        made: Json = json.loads(answer or b"{}")
        return made

    def _ask(self, path: str, method: str = "GET", body: str | None = None) -> tuple[int, bytes]:
        address = self.control.address
        connection = http.client.HTTPSConnection(address, HTTP_PORT, timeout=PATIENCE)
        with self.control.network():
            plain = socket.create_connection((address, HTTP_PORT), timeout=PATIENCE)
        trust = ssl.create_default_context(cafile=str(self._ca))
        try:
            connection.sock = trust.wrap_socket(plain, server_hostname=self._known_as)
            headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
            connection.request(method, path, body, headers | ({"Content-Type": "application/json"} if body else {}))
            response = connection.getresponse()
            return response.status, response.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"{path} is not answered: {error!r}") from error
        finally:
            connection.close()

    def hostnames(self) -> set[str]:
        """The machines that the control plane knows."""
        return {machine["hostname"] for machine in self.get("machines?limit=1000")["items"]}

    def addresses(self, network: str) -> dict[str, str]:
        """The mesh addresses of a network's machines, by hostname."""
        return {
            machine["hostname"]: membership["wg_ip_address"]
            for machine in self.get("machines?limit=1000")["items"]
            for membership in machine["memberships"]
            if membership["mesh_network_name"] == network
        }

    def pairs(self, network: str) -> list[tuple[Machine, Machine, str]]:
        """Every machine of a network with every other and the other's mesh address."""
        addresses = self.addresses(network)
        members = [machine for machine in self.machines if machine.name in addresses]
        return [(one, other, addresses[other.name]) for one in members for other in members if one is not other]

    def await_known(self, names: Iterable[str]) -> None:
        """Wait until the agents of these machines have made them known."""
        wanted = set(names)
        wait_for(lambda: wanted <= self.hostnames(), f"{', '.join(sorted(wanted))} to register")

    def interfaces(self, name: str) -> list[str]:
        """The WireGuard interfaces that a machine's agent has made."""
        links: list[Json] = json.loads(self.lab.machines[name].run(["ip", "-json", "link", "show"]))
        return [link["ifname"] for link in links if link["ifname"].startswith(INTERFACE_PREFIX)]

    def endpoints(self, names: Iterable[str]) -> dict[tuple[str, str], str]:
        """The endpoint that the WireGuard of each of these machines has for each other one of them, where there is one.
        They must not be in more than one network."""
        owners: dict[str, str] = {}
        seen: list[list[str]] = []
        for name in names:
            for line in self.lab.machines[name].run(["wg", "show", "all", "dump"]).splitlines():
                fields = line.split("\t")
                if len(fields) == _FIELDS_OF_INTERFACE:
                    owners[fields[2]] = name
                elif fields[3] != "(none)":
                    seen.append([name, fields[1], fields[3]])
        return {(name, owners[key]): endpoint for name, key, endpoint in seen if key in owners}

    def await_interface_gone(self, name: str) -> None:
        """Wait until a machine has no mesh interface any more."""
        wait_for(lambda: not self.interfaces(name), f"{name} to take its interfaces away")

    def await_all_reach_all(self, network: str, names: Iterable[str]) -> Pings:
        """Wait until these machines are in a network and each reaches every other through the tunnels; the pings."""
        wanted = set(names)
        wait_for(lambda: wanted == set(self.addresses(network)), f"{network} to have just these machines")
        done: Pings = {}

        def all_answer() -> bool:
            missing = [pair for pair in self.pairs(network) if done.get((pair[0].name, pair[1].name)) is None]
            done.update(ping_all(missing, timeout=0.5))
            return all(time is not None for time in done.values())

        try:
            wait_for(all_answer, f"every machine in {network} to reach every other")
        except LabError as error:
            silent = [f"{one} → {other}" for (one, other), time in done.items() if time is None]
            raise LabError(f"{error} Not answered: {', '.join(silent)}.") from error
        return done


def wait_for(condition: Callable[[], T], what: str, timeout: float = PATIENCE) -> T:
    """The first true answer of `condition`. Raises `LabError` that says `what` was waited for."""
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise LabError(f"Waited {timeout:g} s in vain for {what}.")
        time.sleep(_PAUSE)
    return answer
