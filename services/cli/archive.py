"""`wireloom log export` and `import`, and `forget`: the log in a file."""

from __future__ import annotations

import asyncio
import gzip
import logging
import os
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from events.archive.checking import Checked
from events.archive.forgetting import Forgetting, Survey
from events.archive.format import MAX_LINE, ArchiveError, Reader, Writer
from events.errors import ConflictError, InvalidInputError
from events.subjects import CHECKPOINTS_STREAM, LOG_STREAM
from services.cli.first import BusUrl, DataDir, IdentityDir, located
from services.cli.logs import configure_logging
from services.cli.restoring import Restored, restore
from services.cli.session import AsJson, Session, Url, opened

EXPORT = "/api/v1/log/export"

File = Annotated[Path, typer.Argument(metavar="FILE", help="An export of a log.")]


@dataclass(frozen=True)
class Held:
    """What a file holds."""

    events: int
    reports: int
    covered: int
    """Up to which position checkpoints vouch for the log."""

    @property
    def text(self) -> str:
        """In words."""
        return f"{counted(self.events, 'event')} and {counted(self.reports, 'report')}"

    @property
    def vouched(self) -> str:
        """Up to where it is signed, in words."""
        return f"; signed checkpoints vouch for it up to position {self.covered:,}" if self.covered else ""


def export(
    context: typer.Context,
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that does not exist yet.")],
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Write the whole log, and the reports of the last 30 days, to one file: the backup, and the way to another server.

    The file is checked as it is written. It holds no secret, but names, addresses and the hashes of tokens: keep it
    safe. The control plane's keys are not in it: keep a copy of the identity folder as well.
    """
    if file.exists():
        raise InvalidInputError(f"{file} exists already.", hint="Give a file that does not.", field="file")
    with opened(context, url, as_json) as session, written(file) as draft:
        with session.working("exporting the log"):
            _download(session, draft)
            held = check(draft)
        session.say(f"Exported {held.text} to {file} ({draft.stat().st_size:,} bytes){held.vouched}.")
        if as_json:
            session.json({"file": str(file), "events": held.events, "reports": held.reports, "covered": held.covered})


def import_(
    *,
    file: File,
    data_dir: DataDir = None,
    identity: IdentityDir = None,
    nats_url: BusUrl = "",
    replicas: Annotated[
        int, typer.Option(min=1, max=5, envvar="WIRELOOM_REPLICAS", help="Copies of each stream, on a cluster.")
    ] = 1,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="For a control plane that runs with --no-auth.")] = False,
) -> None:
    """Put an exported log into a control plane that has none yet; on its own machine, while it is stopped.

    The whole file is checked first: one that does not verify changes nothing. Another server must have the identity
    folder of the one that made the file, because machines trust that alone.
    """
    configure_logging(logging.WARNING, service="log import")
    held = check(file)
    with opened_file(file) as reader:
        if reader.header.root and held.covered < held.events:
            typer.echo(
                f"No signed checkpoint vouches for {counted(held.events - held.covered, 'event')} at the log's end: "
                "whoever had the file could have changed that. Import a file that was in your hands alone.",
                err=True,
            )
        restored: Restored = asyncio.run(
            restore(
                reader.messages(),
                data_dir,
                identity,
                nats_url,
                root=reader.header.root,
                secured=not no_auth,
                replicas=replicas,
            )
        )
    typer.echo(
        f"Imported {counted(restored.events, 'event')} and {counted(restored.reports, 'report')} into {restored.where}."
    )
    typer.echo("Start the control plane, then run: wireloom log verify")


def forget(
    *,
    file: File,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A file that does not exist yet.")],
    account: Annotated[
        list[str] | None, typer.Option(metavar="NAME|UUID", help="A deleted account; may be given several times.")
    ] = None,
    machine: Annotated[
        list[str] | None, typer.Option(metavar="HOSTNAME|UUID", help="A deleted machine; may be given several times.")
    ] = None,
    actor: Annotated[
        list[str] | None, typer.Option(metavar="ACTOR", help="Who gave commands, just as the log has it: cli:anna.")
    ] = None,
    data_dir: DataDir = None,
    identity: IdentityDir = None,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="For a control plane that runs with --no-auth.")] = False,
) -> None:
    """Write an exported log anew without personal data: the names of deleted accounts and their tokens, the hostnames,
    endpoints and reports of deleted machines, and the names of those who gave commands.

    What was done stays, and so do the hash chain and the checkpoints: each event from which something was removed says
    so, signed with the control plane's root key. To take it into use, stop the control plane, move the folder `bus` out
    of its data directory, import the new file, start, verify, and delete the old folder and file.
    """
    if not (account or machine or actor):
        raise InvalidInputError("Nobody is to be forgotten.", hint="Give --account, --machine or --actor.")
    if out.exists():
        raise InvalidInputError(f"{out} exists already.", hint="Give a file that does not.", field="out")
    root = None if no_auth else located(data_dir, identity, os.environ)[1].key("root")
    check(file)
    with opened_file(file) as reader:
        if reader.header.root != (root.public if root else ""):
            raise ConflictError(
                "Another control plane made the file.", hint="Give the identity of the one that did, with --identity."
            )
        survey = Survey(reader.messages())
    forgetting = Forgetting(
        [survey.account(called) for called in account or ()],
        [survey.machine(called) for called in machine or ()],
        [survey.actor(called) for called in actor or ()],
        datetime.now(UTC),
        root,
    )
    with written(out) as draft:
        with opened_file(file) as reader:
            header = reader.header.model_copy(update={"made_at": datetime.now(UTC)})
            writer = Writer()
            lines = (writer.message(message) for message in forgetting.messages(reader.messages()))
            with gzip.open(draft, "wb") as packed:
                packed.write(writer.header(header))
                packed.writelines(lines)
                packed.write(writer.footer())
        check(draft)
    typer.echo(
        f"Removed what was to be forgotten from {counted(forgetting.changed, 'event')}, and left out "
        f"{counted(forgetting.dropped, 'report')}; wrote {out}."
    )


def _download(session: Session, draft: Path) -> None:
    with draft.open("wb") as file:
        file.writelines(session.api.download(EXPORT))


def check(file: Path) -> Held:
    """What a file holds. Raises `ArchiveError` for one that is not whole, or whose log does not verify."""
    with opened_file(file) as reader:
        checked = Checked(reader.header)
        streams = Counter(message.stream for message in checked.messages(reader.messages()))
    checked.require_sound()
    reports = streams.total() - streams[CHECKPOINTS_STREAM] - streams[LOG_STREAM]
    return Held(checked.events, reports, checked.covered)


@contextmanager
def opened_file(file: Path) -> Iterator[Reader]:
    """A file to read. Raises `InvalidInputError` where it cannot be, and `ArchiveError`."""
    try:
        with gzip.open(file, "rb") as unpacked:
            # A small file may unpack to one line without end.
            yield Reader(iter(lambda: unpacked.readline(MAX_LINE + 1), b""))
    except gzip.BadGzipFile as error:
        raise ArchiveError(
            f"{file} is no export of a log, or damaged.", hint="Give a file that `wireloom log export` wrote."
        ) from error
    except (EOFError, zlib.error) as error:
        raise ArchiveError(
            f"{file} is cut off or damaged.", hint="Export the log again, or take another copy."
        ) from error
    except OSError as error:
        raise InvalidInputError(f"{file} cannot be read: {error.strerror}.", hint="Give another file.") from error


@contextmanager
def written(file: Path) -> Iterator[Path]:
    """Where to write a file that is there whole or not at all; only its owner can read it."""
    draft = file.with_name(file.name + ".part")
    try:
        # Never into a file or through a link that stood there: it may be another's, who can read it.
        draft.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        yield draft
        with draft.open("rb") as done:
            os.fsync(done.fileno())
        draft.replace(file)
    except OSError as error:
        raise InvalidInputError(f"{file} cannot be written: {error.strerror}.", hint="Give another file.") from error
    finally:
        draft.unlink(missing_ok=True)


def counted(count: int, what: str) -> str:
    """A number of things in words."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
