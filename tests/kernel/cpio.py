"""The archive that Linux unpacks as its first root file system: cpio's "newc" form (cpio(5)). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from pathlib import PurePosixPath

_DIRECTORY, _FILE, _CHARACTER_DEVICE = 0o040755, 0o100755, 0o020600


def archive(files: Mapping[str, bytes], devices: Mapping[str, tuple[int, int]]) -> bytes:
    """The archive of executable files and character devices (major, minor), with the folders they need."""
    folders = {str(parent) for name in (*files, *devices) for parent in PurePosixPath(name).parents} - {"."}
    inodes = count(1)
    parts = [_entry(next(inodes), folder, _DIRECTORY) for folder in sorted(folders)]
    parts += [_entry(next(inodes), name, _CHARACTER_DEVICE, device=device) for name, device in devices.items()]
    parts += [_entry(next(inodes), name, _FILE, content) for name, content in files.items()]
    return b"".join([*parts, _entry(0, "TRAILER!!!", 0)])


def _entry(inode: int, name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    path = name.encode() + b"\0"
    # inode, mode, uid, gid, links, mtime, size, device of the file system (2), device (2), length of the name, checksum
    fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(head + path) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
