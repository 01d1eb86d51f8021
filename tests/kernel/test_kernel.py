"""The kernel backend, in a virtual machine with a distribution's kernel: this machine's may have no WireGuard."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.guest import run_in_guest

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 480.0
"""Seconds for booting and testing in software emulation, on a busy machine."""


@pytest.fixture(scope="module")
def kernel() -> Path:
    """A directory with a kernel, fetched if it was not yet."""
    directory = ROOT / "build" / "kernel"
    subprocess.run([ROOT / "deploy" / "setup" / "kernel.sh", directory], check=True, timeout=600)
    return directory


@pytest.mark.timeout(900)
def test_the_kernel_backend_keeps_its_contract(kernel: Path, tmp_path: Path) -> None:
    """Runs the tests of `inside.py` in the virtual machine; none may be missing or skipped."""
    # Plugins that these tests do not need would take half as long to import there as the tests take.
    plugins = ("-p", "pytest_asyncio.plugin", "-p", "pytest_timeout", "-p", "no:cacheprovider")
    pytest_inside = [sys.executable, "-B", "-m", "pytest", *plugins, "--color=no", "-q", "tests/kernel/inside.py"]
    alone = "export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1"
    command = f"cd {shlex.quote(str(ROOT))} && {alone} && exec {shlex.join(pytest_inside)}"
    finished = run_in_guest(kernel, command, tmp_path, PATIENCE)
    assert finished.status == 0, finished.output + finished.console
    summary = re.search(r"^(\d+) passed in [\d.]+s", finished.output, re.MULTILINE)
    assert summary, finished.output
    assert int(summary[1]) >= 22, finished.output
