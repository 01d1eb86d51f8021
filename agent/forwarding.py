"""Lets WireGuard packets pass between tunnel addresses on a transit machine, and nothing else reach transit addresses.

It needs IPv6 forwarding. Linux 6.17 and later can forward what comes in on one interface (`force_forwarding`). Earlier
ones forward all or nothing: `net.ipv6.conf.all.forwarding`. Where only the agent wants that, it takes care that all
else stays as it was: the interfaces keep their own settings (and with them router advertisements, which hosts heed and
routers do not), default routes learnt from advertisements stay, and the packet filter drops what would not have been
forwarded before. That the agent has done so is seen from the settings: `all` is on and `default`, which everyone else's
writing to `all` turns on as well, is off.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from contextlib import suppress
from pathlib import Path

from agent.nft import Nft
from agent.transit_rules import REMOVAL, TransitNetwork, not_from, only_from, replacement
from events.errors import UnavailableError
from events.interfaces import INTERFACE_PREFIX

__all__ = ["Forwarding", "NoTransitError", "TransitNetwork"]

_SETTINGS = Path("/proc/sys/net/ipv6/conf")
_FORCE = "force_forwarding"


class NoTransitError(UnavailableError):
    """Raised when this machine cannot keep transit addresses to WireGuard, so that it must not have any."""

    code = "no-transit"
    title = "This machine cannot take part in transit"


_NFT = Nft(NoTransitError, "transit", "which keeps transit addresses to WireGuard")


class Forwarding:
    """The system's forwarding of IPv6, and the agent's table of the packet filter. Calls wait for the system."""

    def __init__(self, settings: Path = _SETTINGS, one_by_one: bool | None = None) -> None:
        """`one_by_one` is whether the system can forward from single interfaces; None to find out."""
        self._settings = settings
        self._one_by_one = one_by_one

    def apply(self, networks: Sequence[TransitNetwork]) -> None:
        """Have the rules of these networks and no others, and forward where they say so. Doing it again is harmless,
        and repairs what others did, such as flushing all rules.

        Raises `NoTransitError`. Error contract: nothing is forwarded for the sake of transit then.
        """
        if not self._settings.exists():
            raise NoTransitError("This system has no IPv6.", hint="Boot without ipv6.disable=1.")
        try:
            self._apply(networks)
        except NoTransitError:
            self._stop(set())
            raise

    def _apply(self, networks: Sequence[TransitNetwork]) -> None:
        forwarding = {network.interface for network in networks if network.forwards}
        self._stop(forwarding)
        if self._can_one_by_one():
            _NFT.tell(replacement(networks, not_from(forwarding) if self._get("all") == "0" else ()))
            for interface in forwarding:
                self._put(interface, "1", _FORCE)
        else:
            closed = bool(forwarding) and (self._get("all") == "0" or self._is_ours())
            _NFT.tell(replacement(networks, only_from(self._routers()) if closed else ()))
            if forwarding and self._get("all") == "0":
                self._switch_all("1")

    def obstacles(self) -> list[str]:
        """The base chains of others that drop what is forwarded unless they name it, as Docker's do: family, table and
        name of each."""
        return _NFT.dropping({"ip6", "inet"})

    def remove(self) -> None:
        """Leave the system as if there had been no transit. Raises `NoTransitError`."""
        self._stop(set())
        if Nft.is_installed():
            _NFT.tell(REMOVAL)

    def _can_one_by_one(self) -> bool:
        if self._one_by_one is None:
            self._one_by_one = (self._settings / "all" / _FORCE).exists()
        return self._one_by_one

    def _stop(self, still: Set[str]) -> None:
        """Forward no more, but for the interfaces in `still`."""
        if self._can_one_by_one():
            for folder in self._settings.glob(f"{INTERFACE_PREFIX}*"):
                if folder.name not in still:
                    self._put(folder.name, "0", _FORCE)
        elif not still and self._is_ours() and not self._routers():
            self._switch_all("0")

    def _is_ours(self) -> bool:
        """Whether all interfaces forward only because of the agent."""
        return self._get("all") == "1" and self._get("default") == "0"

    def _routers(self) -> frozenset[str]:
        """The interfaces that others want to forward."""
        names = {folder.name for folder in self._settings.iterdir()} - {"all", "default"}
        return frozenset(
            name for name in names if not name.startswith(INTERFACE_PREFIX) and self._get(name) not in {"0", ""}
        )

    def _switch_all(self, value: str) -> None:
        """Set `all`, which sets every interface too, and set those back. Default routes that were learnt are dropped
        by the kernel meanwhile, except where `accept_ra` is 2."""
        before = {folder.name: self._get(folder.name) for folder in self._settings.iterdir() if folder.name != "all"}
        heeding = [name for name in before if name != "default" and self._get(name, "accept_ra") == "1"]
        try:
            for name in heeding:
                self._put(name, "2", "accept_ra")
            self._put("all", value)
        finally:
            for name, own in before.items():
                self._put(name, own)
            for name in heeding:
                self._put(name, "1", "accept_ra")

    def _get(self, name: str, setting: str = "forwarding") -> str:
        """A setting; empty if the interface is gone."""
        with suppress(OSError):
            return (self._settings / name / setting).read_text().strip()
        return ""

    def _put(self, name: str, value: str, setting: str = "forwarding") -> None:
        """Change a setting, if it is another, unless the interface is gone."""
        if self._get(name, setting) not in {value, ""}:
            with _NFT.refusals(), suppress(FileNotFoundError):
                (self._settings / name / setting).write_text(value)
