"""Which WireGuard this machine has."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Literal

from agent.device import DeviceError, Devices, NoBackendError
from agent.kernel import KernelDevices
from agent.links import Links
from agent.wireguard_go import PROGRAM, WireguardGoDevices

BackendChoice = Literal["auto", "kernel", "wireguard-go"]
_PROBE = f"wlprobe{os.getpid() % 1_000_000}"
_TUN = Path("/dev/net/tun")


def choose(choice: BackendChoice) -> Devices:
    """The backend asked for; by itself the kernel's WireGuard, and wireguard-go where the kernel has none.

    Raises `NoBackendError` that says what to install.
    """
    kernel_refusal = "" if choice == "wireguard-go" else _kernel_refusal()
    if choice in {"auto", "kernel"} and not kernel_refusal:
        return KernelDevices()
    go_refusal = "" if choice == "kernel" else _wireguard_go_refusal()
    if choice in {"auto", "wireguard-go"} and not go_refusal:
        return WireguardGoDevices()
    reasons = " ".join(reason for reason in (kernel_refusal, go_refusal) if reason)
    raise NoBackendError(
        f"No WireGuard can be driven here. {reasons}",
        hint="Use a kernel with the wireguard module, or install wireguard-go where there is /dev/net/tun.",
    )


def _kernel_refusal() -> str:
    links = Links()
    try:
        links.create(_PROBE, "wireguard")
        links.delete(_PROBE)
    except DeviceError as error:
        return str(error)
    finally:
        links.close()
    return ""


def _wireguard_go_refusal() -> str:
    if shutil.which(PROGRAM) is None:
        return f"The program {PROGRAM} is not installed."
    if not _TUN.exists():
        return f"There is no {_TUN}."
    return ""
