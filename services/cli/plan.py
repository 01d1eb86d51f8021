"""What `wireloom up` is to run, checked, and what follows from it: addresses, settings, the words for people.

Pure but for reading a given certificate.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from events.errors import InvalidInputError
from services.cli.certificates import certificate_hosts, is_for
from services.cli.session import DEFAULT_URL

DEFAULT_BUS = "nats://127.0.0.1:7422"

_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.(?!-)[A-Za-z0-9_-]{1,63})*")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `wireloom up` is to run."""

    data_dir: Path
    identity: Path | None
    """The folder of the identity; None to let everybody do everything."""
    nats_url: str
    """A bus that runs already; empty to bring our own."""
    bus_host: str
    bus_port: int
    http_host: str
    http_port: int
    replicas: int
    host_name: str = "localhost"
    """What this machine calls itself."""
    public_host: str = ""
    """The name or address that machines and people know this one by; empty where that follows from the others."""
    certificate: Path | None = None
    key: Path | None = None
    """A given certificate for the gateway; None for the identity's own, which is self-made."""

    @property
    def local_url(self) -> str:
        """Where the gateway answers on this machine."""
        return f"{self._scheme}://{reachable(self.http_host)}:{self.http_port}"

    @property
    def url(self) -> str:
        """Where people and machines find the gateway."""
        return f"{self._scheme}://{_in_url(self._known_as(self.http_host))}:{self.http_port}"

    @property
    def local_bus(self) -> str:
        """Where the services find the bus."""
        return self.nats_url or f"nats://{reachable(self.bus_host)}:{self.bus_port}"

    @property
    def bus_urls(self) -> str:
        """Where machines find the bus."""
        if self.nats_url or is_loopback(self.bus_host):
            return self.local_bus
        return f"nats://{_in_url(self._known_as(self.bus_host))}:{self.bus_port}"

    @property
    def hosts(self) -> list[str]:
        """What self-made certificates are for."""
        listening = [host for host in (self.http_host, self.bus_host) if not _is_unspecified(host)]
        named = [self.host_name, *([self.public_host] if self.public_host else []), *listening]
        return list(dict.fromkeys(["127.0.0.1", "::1", "localhost", *(host for host in named if is_host(host))]))

    def settings(self) -> dict[str, str]:
        """The environment by which the services are set up."""
        settings = {
            "NATS_URL": self.local_bus,
            "WIRELOOM_REPLICAS": str(self.replicas),
            "WIRELOOM_HTTP_HOST": self.http_host,
            "WIRELOOM_HTTP_PORT": str(self.http_port),
        }
        if self.identity is not None:
            settings |= {
                "WIRELOOM_IDENTITY": str(self.identity),
                "WIRELOOM_PUBLIC_URL": self.url,
                "WIRELOOM_BUS_URLS": self.bus_urls,
            }
        if self.certificate is not None and self.key is not None:
            settings |= {"WIRELOOM_TLS_CERT": str(self.certificate), "WIRELOOM_TLS_KEY": str(self.key)}
        return settings

    @property
    def goes_by_host_name(self) -> bool:
        """Whether others are told what this machine calls itself, for want of anything better."""
        listening = (self.http_host, *(() if self.nats_url else (self.bus_host,)))
        return not self.public_host and any(map(_is_unspecified, listening))

    @property
    def _scheme(self) -> str:
        return "http" if self.identity is None else "https"

    def _known_as(self, listening: str) -> str:
        if self.public_host:
            return self.public_host
        return self.host_name if _is_unspecified(listening) else listening


def check(plan: Plan) -> Plan:
    """The plan if it can be. Raises `InvalidInputError`."""
    if plan.replicas > 1 and not plan.nats_url:
        raise InvalidInputError(
            f"The bus that wireloom brings along is one server and cannot keep {plan.replicas} copies.",
            hint="Give a cluster's address with --nats-url, or leave out --replicas and WIRELOOM_REPLICAS.",
            field="replicas",
        )
    for option, host in (("--http-host", plan.http_host), ("--bus-host", plan.bus_host)):
        _check_listening(option, host, open_to_all=plan.identity is None)
    if plan.public_host and not is_host(plan.public_host):
        raise InvalidInputError(
            f"{plan.public_host!r} is no host's name or address.",
            hint="Give it without scheme and port, like --public-host wireloom.example.org.",
            field="public_host",
        )
    if plan.identity is not None and plan.goes_by_host_name and not _is_name_for_others(plan.host_name):
        raise InvalidInputError(
            "It would listen on every address, and this machine has no name by which others can find it.",
            hint="Give the name or address that they know it by with --public-host.",
            field="public_host",
        )
    if plan.certificate is not None or plan.key is not None:
        _check_certificate(plan)
    return plan


def remarks(plan: Plan) -> list[str]:
    """What a plan lets happen that is hardly meant."""
    said = []
    if plan.goes_by_host_name:
        said.append(
            f"machines and people are told to find this one by the name {plan.host_name}. If they do not know it by "
            "that, give a name or address with --public-host."
        )
    if not plan.nats_url and is_loopback(plan.bus_host) and not is_loopback(plan.http_host):
        said.append(
            f"the message bus listens on {plan.bus_host} only, so machines elsewhere join and then hear nothing. Give "
            "an address that they reach with --bus-host."
        )
    return said


def _check_listening(option: str, host: str, open_to_all: bool) -> None:
    if host != "localhost" and not _is_address(host):
        raise InvalidInputError(
            f"{option} {host} is no address of this machine.",
            hint="Give an address, like 0.0.0.0 for all; what the machine is called goes into --public-host.",
            field=option.strip("-").replace("-", "_"),
        )
    if open_to_all and not is_loopback(host):
        raise InvalidInputError(
            f"With --no-auth nothing may listen on {host}: whoever reached it could read and change everything.",
            hint=f"Leave out --no-auth, or leave out {option}, so that only this machine can reach it.",
            field=option.strip("-").replace("-", "_"),
        )


def _check_certificate(plan: Plan) -> None:
    certificate, key = plan.certificate, plan.key
    if certificate is None or key is None or plan.identity is None:
        raise InvalidInputError(
            "A certificate needs its key, and authorisation.",
            hint="Give --tls-cert and --tls-key together, and leave out --no-auth.",
            field="tls_cert",
        )
    try:
        # An empty password: nobody is there to be asked for one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
        pem = certificate.read_text()
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"The certificate {certificate} with the key {key} cannot be used: {_why(error)}.",
            hint="Give a certificate and its own key, both PEM, the key without a password, readable by this user.",
            field="tls_cert",
        ) from error
    host = plan.public_host or plan.http_host
    if not is_for(pem, host):
        names = ", ".join(certificate_hosts(pem)) or "nobody"
        raise InvalidInputError(
            f"The certificate {certificate} is for {names}, not for {host}.",
            hint="Give the name that it is for with --public-host: machines and people use that.",
            field="public_host",
        )


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)


@dataclass(frozen=True, slots=True)
class Welcome:
    """What a person is shown once everything runs and may do something."""

    token: str | None = field(repr=False)
    """The first admin's token, where it was made just now."""
    pin: str
    """The fingerprint of the self-made authority; empty where there is none."""
    hidden: bool = False
    """Whether what is shown is kept as a log, where no token belongs."""


def summary(plan: Plan, welcome: Welcome | None) -> str:
    """What a person should know once everything runs: where things are, and what to type next. `welcome` is None in
    open mode."""
    data = f"with the bus, at {plan.nats_url}" if plan.nats_url else str(plan.data_dir)
    steps = _open_steps(plan) if welcome is None else _steps(plan, welcome)
    return f"""
Wireloom is up. Ctrl-C stops it.

  Dashboard     {plan.url}
  HTTP API      {plan.url}/api/v1
  Message bus   {plan.bus_urls}
  Data          {data}
{steps}"""


def _open_steps(plan: Plan) -> str:
    export = "" if plan.url == DEFAULT_URL else f"  export WIRELOOM_URL={plan.url}\n"
    agent = "sudo wireloom-agent run" + ("" if plan.bus_urls == DEFAULT_BUS else f" --nats {plan.bus_urls}")
    return f"""
Next, in another terminal:

{export}  wireloom network create office 172.16.0.0/24
  {agent}
  wireloom machine assign HOSTNAME --network office
  wireloom log --follow
"""


def _steps(plan: Plan, welcome: Welcome) -> str:
    pin = f" --ca-sha256 {welcome.pin}" if welcome.pin else ""
    sign_in = f"  wireloom login {plan.url}{pin}\n"
    if welcome.token is not None:
        first = f"""
The first admin's token, shown this once and kept nowhere:

  {welcome.token}

Next, in another terminal; `login` asks for the token:

{sign_in}"""
    elif welcome.hidden:
        first = f"""
Next, on this machine, if you have not signed in yet; the first shows an admin's token, which `login` asks for:

  wireloom account recover{_where(plan)}
{sign_in}"""
    else:
        first = f"""
Next, in another terminal, if you have not signed in yet (lost your token? `wireloom account recover{_where(plan)}`):

{sign_in}"""
    return f"""{first}  wireloom network create office 172.16.0.0/24 --default
  wireloom token create

The last one prints the line to paste on each machine. Then:

  wireloom machine list
  wireloom log --follow
"""


def _where(plan: Plan) -> str:
    if plan.nats_url:
        return f" --identity {plan.identity} --nats-url {plan.nats_url}"
    return f" --data-dir {plan.data_dir}"


def environment(plan: Plan, inherited: Mapping[str, str]) -> dict[str, str]:
    """A service's whole environment: what we have, without what sets up us and our client commands."""
    return {name: value for name, value in inherited.items() if not _is_ours(name)} | plan.settings()


def _is_ours(name: str) -> bool:
    return name.startswith("WIRELOOM_") or name == "NOTIFY_SOCKET"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    return ip_address(host).is_loopback if _is_address(host) else host == "localhost"


def reachable(host: str) -> str:
    """An address at which a server that listens on `host` can be reached from this machine, as a URL has it."""
    if _is_unspecified(host):
        return "127.0.0.1" if ip_address(host).version == 4 else "[::1]"
    return _in_url(host)


def _is_unspecified(host: str) -> bool:
    return _is_address(host) and ip_address(host).is_unspecified


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return "%" not in host  # what counts on one link only (RFC 4007) is of no use to others


def _is_name_for_others(host: str) -> bool:
    return is_host(host) and not is_loopback(host)


def is_host(host: str) -> bool:
    """Whether this is a host's name or address, without port."""
    return _is_address(host) or (len(host) <= 253 and _NAME.fullmatch(host) is not None)
