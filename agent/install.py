"""Having systemd run the agent: the unit, and the steps that install and remove it. A shell."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from events.errors import InternalError, InvalidInputError

UNIT = "wireloom-agent.service"
UNIT_FOLDER = Path("/etc/systemd/system")
RUNNING = Path("/run/systemd/system")
"""There where systemd is what runs the machine (sd_booted(3))."""
STATE_DIR = Path("/var/lib/wireloom-agent")
"""The only state folder that the unit may write to."""

_PROGRAM = "wireloom-agent"
_SHIPPED = "/opt/wireloom/bin/wireloom-agent"
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - named because the unit does not see them
_PATIENCE = 90.0


class ServiceError(InternalError):
    """Raised when systemd refuses a step. What was done before it stays done."""

    code = "service"
    title = "systemd refuses"


class Service:
    """The agent as a service of systemd's."""

    def __init__(
        self,
        say: Callable[[str], None],
        *,
        unit_folder: Path = UNIT_FOLDER,
        running: Path = RUNNING,
        systemctl: str = "systemctl",
    ) -> None:
        """`say` is told each step that was done."""
        self._say = say
        self._unit = unit_folder / UNIT
        self._running = running
        self._systemctl = systemctl

    @property
    def is_possible(self) -> bool:
        """Whether systemd runs here."""
        return self._running.is_dir()

    @property
    def is_running(self) -> bool:
        """Whether systemd runs the agent."""
        return self.is_possible and self._run("is-active", "--quiet", UNIT).returncode == 0

    def install(self, program: str) -> None:
        """Have `program run` started now and at every boot. Harmless if done before. Raises `ServiceError`."""
        text = rendered(program)
        try:
            if not self._unit.exists() or self._unit.read_text() != text:
                self._unit.write_text(text)
                self._unit.chmod(0o644)
                self._say(f"wrote {self._unit}")
        except OSError as error:
            raise ServiceError(
                f"{self._unit} cannot be written: {error.strerror}.", hint="Run this as root, or give --no-service."
            ) from error
        self._do("daemon-reload")
        self._do("enable", "--now", UNIT)
        self._say(f"enabled and started {UNIT}: see `systemctl status {UNIT}`")

    def start(self) -> None:
        """Have the agent run again. Raises `ServiceError`."""
        self._do("start", UNIT)
        self._say(f"started {UNIT}")

    def stop(self) -> None:
        """Have the agent end. Raises `ServiceError`."""
        self._do("stop", UNIT)
        self._say(f"stopped {UNIT}")

    def remove(self) -> None:
        """Undo `install`. Raises `ServiceError`."""
        if not self._unit.exists():
            return
        if self.is_possible:
            self._do("disable", "--now", UNIT)
        self._unit.unlink()
        if self.is_possible:
            self._do("daemon-reload")
        self._say(f"stopped, disabled and removed {UNIT}")

    def _do(self, *arguments: str) -> None:
        done = self._run(*arguments)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()
            raise ServiceError(
                f"`systemctl {' '.join(arguments)}` failed: {said[-1] if said else 'it does not say why'}.",
                hint=f"See `journalctl -u {UNIT}`; then repeat the command, or start the agent by hand.",
            )

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        whole = [self._systemctl, *arguments]
        try:
            return subprocess.run(
                whole, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return subprocess.CompletedProcess(whole, 1, "", str(error))


def shipped() -> str:
    """The unit as it comes with the package."""
    return files("agent").joinpath(UNIT).read_text()


def rendered(program: str) -> str:
    """The unit for the agent's program at this place. Pure but for reading the shipped one."""
    return shipped().replace(f"ExecStart={_SHIPPED} ", f"ExecStart={_escaped(program)} ")


def _escaped(program: str) -> str:
    """A path as one word of a command line in a unit (systemd.service(5), "Command lines")."""
    text = program.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"' if text != program or " " in program else program


def own_program() -> str:
    """Where the agent's program is: beside the Python that runs this. Raises `InvalidInputError` where systemd could
    not start it from there."""
    program = Path(sys.prefix) / "bin" / _PROGRAM
    if not program.exists():
        raise InvalidInputError(
            f"There is no program {program} for systemd to start.",
            hint="Install Wireloom (pip install 'wireloom[agent]'), or give --no-service.",
        )
    for path in (program, Path(sys.executable)):
        check_seen(path)
    return str(program)


def check_seen(path: Path) -> None:
    """Raises `InvalidInputError` for a path that the unit, which sees no home folders, does not see."""
    if any(resolved.is_relative_to(hidden) for resolved in (path.absolute(), path.resolve()) for hidden in _HIDDEN):
        raise InvalidInputError(
            f"systemd could not start the agent from {path}: the unit sees no home folders.",
            hint="Install Wireloom elsewhere, for example in /opt/wireloom, or give --no-service.",
        )
