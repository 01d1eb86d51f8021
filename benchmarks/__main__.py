"""`python -m benchmarks [NAME …]`: run all benchmarks or those named, print a table, write build/bench.json."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import allocation, bgp, commands, join, pages, past, paths, replay
from benchmarks.result import Result, show, write

BENCHMARKS: dict[str, Callable[[Path], Awaitable[list[Result]]]] = {
    "commands": commands.run,
    "allocation": allocation.run,
    "join": join.run,
    "replay": replay.run,
    "paths": paths.run,
    "bgp": bgp.run,
    "pages": pages.run,
    "past": past.run,
}
OUTPUT = Path("build/bench.json")


async def main(names: list[str]) -> None:
    """Run the benchmarks named, each on a control plane of its own."""
    results: list[Result] = []
    for name in names:
        print(f"{name} …", flush=True)
        with TemporaryDirectory(prefix="wireloom-bench-") as folder:
            results += await BENCHMARKS[name](Path(folder))
    show(results)
    write(results, OUTPUT)


if __name__ == "__main__":
    chosen = sys.argv[1:] or list(BENCHMARKS)
    unknown = [name for name in chosen if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"There is no benchmark {', '.join(unknown)}. There are: {', '.join(BENCHMARKS)}.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all is cleaned up, then, too
    asyncio.run(main(chosen))
