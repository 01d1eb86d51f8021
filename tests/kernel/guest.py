"""A virtual machine with a distribution's own kernel, for what this machine's kernel may not have: WireGuard.

QEMU, in software emulation, boots the kernel that `deploy/setup/kernel.sh` fetched with a small initramfs made here.
The host's file system is its root, shared read-only over 9p with a tmpfs laid over it, so that the very checkout and
virtual environment of the test run are used inside, and nothing that happens inside can reach the host's files.
"""

from __future__ import annotations

import gzip
import lzma
import re
import shlex
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.kernel.cpio import archive

MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay", "veth", "wireguard", "crc32c_generic", "nf_tables")
"""What the machine loads, after what each of them depends on; but for crc32c, which nf_tables does not say it needs."""

_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")
_STATUS = "guest exit status: "

_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /host /over /new
/bin/busybox mount -t devtmpfs none /dev
say() {{ echo "guest: $*" >/dev/ttyS0; }}
for module in {modules}; do /bin/busybox insmod /modules/$module || say "cannot load $module"; done
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro host /host || say "no 9p"
/bin/busybox mount -t tmpfs none /over
/bin/busybox mkdir /over/upper /over/work
/bin/busybox mount -t overlay -o lowerdir=/host,upperdir=/over/upper,workdir=/over/work none /new || say "no overlay"
/bin/busybox mount -t proc none /new/proc
/bin/busybox mount -t sysfs none /new/sys
/bin/busybox mount -t devtmpfs none /new/dev
/bin/busybox mkdir -p /new/dev/pts /new/dev/shm
/bin/busybox mount -t devpts none /new/dev/pts
for scratch in dev/shm run; do /bin/busybox mount -t tmpfs none /new/$scratch; done
/bin/busybox mkdir -p /new/run/netns
/bin/busybox ip link set lo up
/bin/busybox stty -F /dev/ttyS1 raw
/bin/busybox chroot /new /bin/sh -c {command} </dev/null >/dev/ttyS1 2>&1
echo "{status}$?" >/dev/ttyS1
/bin/busybox reboot -f
"""


@dataclass(frozen=True)
class Finished:
    """What became of a command inside: its exit status, everything it printed, and the kernel's console."""

    status: int
    output: str
    console: str


class GuestError(Exception):
    """Raised when the virtual machine ended, or had to be ended, without the command's exit status."""


def run_in_guest(kernel: Path, command: str, scratch: Path, timeout: float) -> Finished:
    """Boot the kernel in the directory `kernel`, run a shell command as root, and shut down.

    `scratch` is for the initramfs and the logs. Raises `GuestError`, with what the console said.
    """
    modules = list(_in_order(kernel, MODULES))
    initramfs = scratch / "initramfs.gz"
    initramfs.write_bytes(_initramfs(kernel, modules, command))
    console, output = scratch / "console.log", scratch / "output.log"
    why = "ended early"
    try:
        subprocess.run(_qemu(kernel, initramfs, console, output), stdin=subprocess.DEVNULL, check=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        why = f"was not done within {timeout:g} s"
    said, booted = _text(output), _text(console)
    text, found, status = said.rpartition(_STATUS)
    if not found:
        raise GuestError(f"The virtual machine {why}.\n--- console\n{booted[-4000:]}\n--- output\n{said[-8000:]}")
    return Finished(int(status), text, booted)


def _qemu(kernel: Path, initramfs: Path, console: Path, output: Path) -> list[str]:
    return [
        "qemu-system-x86_64",
        *("-accel", "tcg,thread=multi", "-cpu", "max", "-m", "1G", "-smp", "2"),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-kernel", str(kernel / "vmlinuz"), "-initrd", str(initramfs)),
        *("-append", "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on"),
        *("-serial", f"file:{console}", "-serial", f"file:{output}"),
        *("-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"),
    ]


def _initramfs(kernel: Path, modules: Sequence[Path], command: str) -> bytes:
    names = [module.name.removesuffix(".xz").removesuffix(".zst") for module in modules]
    init = _INIT.format(modules=" ".join(names), command=shlex.quote(command), status=_STATUS)
    files = {"init": init.encode(), "bin/busybox": (kernel / "busybox").read_bytes()}
    files |= {f"modules/{name}": _module(path) for name, path in zip(names, modules, strict=True)}
    return gzip.compress(archive(files, devices={"dev/console": (5, 1)}), compresslevel=1)


def _in_order(kernel: Path, wanted: Iterable[str]) -> Iterator[Path]:
    """The modules' files, each after those it depends on; what is built into the kernel needs none."""
    found = {_name(path.name): path for path in kernel.glob("modules/*/kernel/**/*.ko*")}
    built_in = {
        _name(line.rpartition("/")[2])
        for listing in kernel.glob("modules/*/modules.builtin")
        for line in listing.read_text().splitlines()
    }
    done = set(built_in)

    def visit(name: str) -> Iterator[Path]:
        if name in done:
            return
        done.add(name)
        if name not in found:
            raise GuestError(f"The kernel in {kernel} has no module {name}; remove the directory and try again.")
        match = _DEPENDS.search(_module(found[name]))
        for dependency in match[1].decode().split(",") if match and match[1] else ():
            yield from visit(dependency.replace("-", "_"))
        yield found[name]

    for name in wanted:
        yield from visit(name)


def _name(file_name: str) -> str:
    return file_name.partition(".ko")[0].replace("-", "_")


def _module(path: Path) -> bytes:
    """A kernel module, unpacked: distributions compress them differently."""
    match path.suffix:
        case ".xz":
            return lzma.decompress(path.read_bytes())
        case ".zst":
            return subprocess.run(["zstd", "-dcq", path], stdout=subprocess.PIPE, check=True).stdout
        case _:
            return path.read_bytes()


def _text(path: Path) -> str:
    return path.read_text(errors="replace").replace("\r", "") if path.exists() else ""
