"""Runs nft, with which the agent keeps tables of its own in the packet filter: a shell."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Set
from contextlib import contextmanager

from events.errors import UnavailableError

_PATHS = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_PATIENCE = 10.0
"""Seconds that nft may take."""


class Nft:
    """The packet filter, for one purpose: what it and the system refuse is raised as one kind of error."""

    def __init__(self, refusal: type[UnavailableError], what: str, use: str) -> None:
        """`what` the rules are for, and of what `use` nft is: for people."""
        self._refusal = refusal
        self._what = what
        self._use = use

    @staticmethod
    def is_installed() -> bool:
        """Whether there is an nft."""
        return _program() is not None

    def tell(self, script: str) -> None:
        """Have nft do what a script says, all or nothing. Raises the refusal."""
        self._run("-f", "-", script=script)

    def dropping(self, families: Set[str]) -> list[str]:
        """The base chains that drop what is forwarded unless they name it, as Docker's do: family, table and name of
        each. None where that cannot be told."""
        try:
            listed = json.loads(self._run("-j", "list", "chains"))["nftables"]
        except (self._refusal, ValueError):
            return []
        chains = [entry["chain"] for entry in listed if "chain" in entry]
        return sorted(
            f"{chain['family']} {chain['table']} {chain['name']}"
            for chain in chains
            if (chain.get("hook"), chain.get("policy")) == ("forward", "drop") and chain["family"] in families
        )

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Raise what the system refuses as the refusal."""
        try:
            yield
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self._refusal(
                f"Cannot set the system's forwarding: {error}.", hint="Run the agent as root."
            ) from error

    def _run(self, *arguments: str, script: str = "") -> str:
        program = _program()
        if program is None:
            raise self._refusal(f"The program nft is not installed, {self._use}.", hint="Install the package nftables.")
        with self.refusals():
            done = subprocess.run(
                [program, *arguments], input=script, capture_output=True, text=True, timeout=_PATIENCE, check=False
            )
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()
            raise self._refusal(
                f"nft refuses the rules for {self._what}: "
                f"{said[0] if said else f'it ended with status {done.returncode}'}.",
                hint="Run the agent as root, on a kernel with nf_tables.",
            )
        return done.stdout


def _program() -> str | None:
    return shutil.which("nft", path=_PATHS)
