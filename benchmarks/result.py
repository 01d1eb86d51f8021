"""What a benchmark finds, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import orjson
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Result:
    """One figure beside its floor. `ratio` is value / floor; the aim says on which side of it a good one lies."""

    name: str
    value: float
    floor: float
    aim_kind: Literal["at most", "at least"]
    aim_ratio: float
    unit: str

    @property
    def ratio(self) -> float:
        """How often the floor goes into the value."""
        return self.value / self.floor

    @property
    def ok(self) -> bool:
        """Whether the aim was met."""
        return self.ratio <= self.aim_ratio if self.aim_kind == "at most" else self.ratio >= self.aim_ratio

    @property
    def aim(self) -> str:
        """The aim in words."""
        return f"{self.aim_kind} {self.aim_ratio:g}"


def show(results: Sequence[Result]) -> None:
    """Print the results as a table."""
    table = Table("Benchmark", "Value", "Floor", "Ratio", "Aim", "", title="Each beside a floor of the same run")
    for column in table.columns[1:4]:
        column.justify = "right"
    for result in results:
        table.add_row(
            result.name,
            f"{result.value:,.3g} {result.unit}" if result.value < 1000 else f"{result.value:,.0f} {result.unit}",
            f"{result.floor:,.3g} {result.unit}" if result.floor < 1000 else f"{result.floor:,.0f} {result.unit}",
            f"{result.ratio:.2f}" if result.ratio >= 0.1 else f"{result.ratio:.1g}",
            result.aim,
            "[green]ok[/]" if result.ok else "[red]missed[/]",
        )
    Console().print(table)


def write(results: Sequence[Result], path: Path) -> None:
    """Write the results as JSON: a list of name, value, floor, ratio, aim and ok, with the unit beside them."""
    rows = []
    for result in results:
        row = asdict(result) | {"ratio": result.ratio, "aim": result.aim, "ok": result.ok}
        rows.append({key: row[key] for key in ("name", "value", "floor", "ratio", "aim", "ok", "unit")})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(rows, option=orjson.OPT_INDENT_2) + b"\n")
