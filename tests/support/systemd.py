"""Where systemd does not run: a folder for units, and a program that writes down what systemctl is asked."""

from __future__ import annotations

from pathlib import Path

from agent.install import UNIT, Service


class Systemd:
    """Knows whether the unit is active, and does nothing else."""

    def __init__(self, folder: Path) -> None:
        self.units = folder / "units"
        self.units.mkdir()
        self.unit = self.units / UNIT
        self.active = folder / "active"
        self.refuses = folder / "refuses"
        self._calls = folder / "calls"
        self._needs = folder / "needs"
        self.said: list[str] = []
        program = folder / "systemctl"
        program.write_text(
            f"""#!/bin/sh
echo "$@" >> {self._calls}
if [ -e {self.refuses} ]; then echo "Access denied" >&2; exit 1; fi
case "$*" in
  is-active*) test -e {self.active} ;;
  enable*|start*) {{ [ ! -e {self._needs} ] || flock -n "$(cat {self._needs})" true; }} && touch {self.active} ;;
  disable*|stop*) rm -f {self.active} ;;
esac
"""
        )
        program.chmod(0o755)
        self.service = Service(self.said.append, unit_folder=self.units, running=self.units, systemctl=str(program))

    def starts_with(self, lock: Path) -> None:
        """Have the agent start only when nobody holds a lock, as the real one does."""
        self._needs.write_text(str(lock))

    @property
    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines() if self._calls.exists() else []
