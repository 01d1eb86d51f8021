"""`wireloom log verify` and `wireloom log checkpoint`: whether the log is what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from events.audit.checkpoints import KeptCheckpoint
from events.errors import InvalidInputError, UnavailableError, WireloomError
from services.cli.api import Json
from services.cli.harmless import json_text
from services.cli.session import AsJson, Session, Url, opened

VERIFICATION = "/api/v1/log/verification"
CHECKPOINTS = "/api/v1/log/checkpoints"

_STEPS = {"log": "reading the log", "state": "comparing what follows from it"}

Files = Annotated[
    list[Path] | None,
    typer.Option(
        "--checkpoint",
        "-c",
        metavar="FILE",
        help="Compare with a checkpoint that `wireloom log checkpoint` wrote; may be given several times.",
    ),
]
Root = Annotated[
    str,
    typer.Option(metavar="KEY", help="The control plane's public root key, to believe no other than what it signed."),
]


def verify(
    context: typer.Context,
    *,
    checkpoint: Files = None,
    root: Root = "",
    url: Url = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line, for programs.")] = False,
) -> None:
    """Check that the log is what was written: nothing missing, moved or altered, and the state what follows from it.

    Each event carries the digest of the one before it; signed checkpoints say what the whole log was. Ends with 1 if
    anything is wrong.
    """
    kept = [_read(file) for file in checkpoint or ()]
    with opened(context, url, as_json) as session:
        verdict, findings = _run(session, {"checkpoints": [one.model_dump(mode="json") for one in kept]})
        is_known = not root or _is_root(session, root, verdict, kept)
        if not as_json:
            _tell(session, verdict, findings)
            _tell_kept(session, verdict, checkpoint or [], kept)
            _tell_root(session, root, verdict)
        if not verdict["in_order"] or not is_known:
            raise typer.Exit(1)


def checkpoint(
    context: typer.Context,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to; else it is printed.")
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Get a signed checkpoint of the log as it is now, to keep elsewhere.

    `wireloom log verify --checkpoint FILE` tells later whether the log still holds all that it held now.
    """
    if output is not None and output.exists():
        raise InvalidInputError(f"{output} exists already.", hint="Give another file: checkpoints are kept.")
    with opened(context, url, as_json) as session:
        made = session.api.change("POST", CHECKPOINTS)
        if output is None:
            session.json(made)
            return
        _write(output, made)
        if as_json:
            session.json(made)
            return
        said = KeptCheckpoint.model_validate(made).read()
        signed = f"signed under root key {made['root']}" if made["root"] else "unsigned: this control plane has no keys"
        session.say(
            f"Checkpoint of position {said.position:,} written to {output}, {signed}.\n"
            f"Keep it away from the control plane; compare with: wireloom log verify --checkpoint {output}"
        )


def _run(session: Session, asked: Json) -> tuple[Json, list[Json]]:
    """The verdict and the findings. Raises what the check broke off with."""
    findings: list[Json] = []
    columns: tuple[Any, ...] = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=session.err, transient=True, disable=not session.err.is_terminal) as progress:
        task = progress.add_task(_STEPS["log"], total=None)
        for line in session.api.lines(VERIFICATION, asked):
            if session.as_json:
                typer.echo(json_text(line))
            match line["type"]:
                case "progress":
                    progress.update(
                        task, description=_STEPS[line["step"]], completed=line["position"], total=line["end"]
                    )
                case "finding":
                    findings.append(line)
                case "problem":
                    raise WireloomError.from_problem(line["problem"])
                case "verdict":
                    return line, findings
    raise UnavailableError("The gateway broke the check off without a verdict.", hint="Verify again.")


def _tell(session: Session, verdict: Json, findings: list[Json]) -> None:
    for finding in findings:
        _tell_finding(session, finding)
    if verdict["untold"]:
        session.say(f"… and {verdict['untold']:,} more.")
    for code in dict.fromkeys(finding["code"] for finding in findings):
        said = next(finding for finding in findings if finding["code"] == code)
        session.out.print(f"\n{code}: ", end="", style="bold")
        session.out.print(f"{said['meaning']}\n  {said['advice']}", soft_wrap=True)
    if findings:
        session.out.print()
    if verdict["redacted"]:
        session.out.print(f"Personal data was removed from {_number(verdict['redacted'], 'event')}.", soft_wrap=True)
    style = "green" if verdict["in_order"] else "bold red"
    session.out.print(_sentence(verdict), style=style, soft_wrap=True)
    session.out.print(_coverage(verdict), soft_wrap=True)


def _tell_finding(session: Session, finding: Json) -> None:
    place = f"position {finding['position']:,}" if finding["position"] else finding["subject"] or "the log"
    whose = f" · {finding['aggregate']}" if finding["aggregate"] else ""
    session.out.print("! " if finding["is_notice"] else "✗ ", end="", style="yellow" if finding["is_notice"] else "red")
    session.out.print(f"{place}{whose} ", end="", style="bold")
    session.out.print(f"({finding['code']})", style="dim")
    session.out.print(f"    {finding['problem']}", soft_wrap=True)
    if finding["expected"]:
        session.out.print(f"    expected: {finding['expected']}", style="dim", soft_wrap=True)


def _sentence(verdict: Json) -> str:
    events = f"{verdict['count']:,} event{'' if verdict['count'] == 1 else 's'}"
    notices = f" {_number(verdict['notices'], 'thing')} to look at." if verdict["notices"] else ""
    if not verdict["in_order"]:
        return f"Not in order: {_number(verdict['findings'], 'finding')} in {events}.{notices}"
    derived = _number(verdict["records"] + verdict["paths"], "derived record")
    if verdict["snapshots"]:
        derived += f" and {_number(verdict['snapshots'], 'snapshot')}"
    whole = f"In order: {events}, none missing, every chain unbroken"
    return f"{whole}; what follows from them is right: {derived}.{notices}"


def _coverage(verdict: Json) -> str:
    """How far checkpoints say what the log was."""
    signed = "unsigned checkpoint" if verdict["unsigned_checkpoints"] else "signed checkpoint"
    number = _number(verdict["checkpoints"], signed)
    if not verdict["checkpoints"]:
        said = "No checkpoint says what the log was"
    elif not verdict["covered"]:
        said = f"The log fits none of {number}"
    else:
        said = f"{number} {'says' if verdict['checkpoints'] == 1 else 'say'} what it was up to {verdict['covered']:,}"
    left = verdict["position"] - verdict["covered"]
    if left > 0 and verdict["in_order"]:
        rest = f"what comes after ({_number(left, 'event')}) rests on its chains"
        return f"{said}; {rest}. `wireloom log checkpoint` makes one now."
    return f"{said}. ({verdict['seconds']:.1f} s)"


def _number(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _tell_kept(session: Session, verdict: Json, files: list[Path], kept: list[KeptCheckpoint]) -> None:
    for file, one, holds in zip(files, kept, verdict["kept"], strict=True):
        said = one.read()
        what = f"{file} (position {said.position:,}, {said.time:%Y-%m-%d %H:%M} UTC)"
        session.out.print(
            f"{what}: the log still holds all that it held then."
            if holds
            else f"{what}: the log is not what it was then.",
            style="green" if holds else "bold red",
            soft_wrap=True,
        )


def _tell_root(session: Session, root: str, verdict: Json) -> None:
    if root or not verdict["checkpoints"]:
        return
    if verdict["root"]:
        source = f"The gateway says that the root key is {verdict['root']}; `--root` makes sure of it."
    else:
        source = "This control plane has no keys: whoever can write to its bus can write checkpoints too."
    session.out.print(source, style="dim", soft_wrap=True)


def _is_root(session: Session, root: str, verdict: Json, kept: list[KeptCheckpoint]) -> bool:
    """Whether the control plane, and whoever signed the files, have this root key."""
    wrong = [] if verdict["root"] == root else [f"the gateway's is {verdict['root'] or 'none'}"]
    wrong += [
        f"a checkpoint of position {one.read().position:,}: {fault}" for one in kept if (fault := one.fault(root))
    ]
    for fault in wrong:
        session.err.print(f"The root key is not {root}: {fault}.", style="bold red", soft_wrap=True)
    return not wrong


def _read(file: Path) -> KeptCheckpoint:
    try:
        kept = KeptCheckpoint.model_validate_json(file.read_bytes())
        kept.read()
    except OSError as error:
        raise InvalidInputError(f"{file} cannot be read: {error.strerror}.", field="checkpoint") from error
    except ValueError as error:
        raise InvalidInputError(
            f"{file} is no checkpoint.", hint="Give a file that `wireloom log checkpoint` wrote.", field="checkpoint"
        ) from error
    return kept


def _write(file: Path, made: Json) -> None:
    try:
        file.write_text(json_text(made, indent=True) + "\n")
    except OSError as error:
        raise InvalidInputError(f"{file} cannot be written: {error.strerror}.", hint="Give another file.") from error
