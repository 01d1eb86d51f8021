"""Whether what a file holds is a log in order: the same checks as of a log on the bus (`events.audit`). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from events.archive.format import Archived, ArchiveError, Header
from events.audit.checkpoints import SignedCheckpoint, sift
from events.audit.findings import Finding
from events.audit.verifier import LogVerifier
from events.client import Entry
from events.subjects import CHECKPOINTS_STREAM, EVENT_HEADER, LOG_STREAM
from events.trust.signing import UntrustedRingError, Verifier

_TOLD = 5


class Checked:
    """Checks the messages of a file as they pass."""

    def __init__(self, header: Header) -> None:
        """Raises `ArchiveError` where its keys are not its own."""
        if bool(header.root) != (header.ring is not None):
            raise ArchiveError(
                "The file lacks the keys that its checkpoints were signed with.", hint="Take another copy."
            )
        try:
            self._verifier = Verifier(header.root, header.ring) if header.root and header.ring else None
        except UntrustedRingError as error:
            raise ArchiveError(
                "The file's keys are not signed with its root key.", hint="Take another copy."
            ) from error
        self.findings: list[Finding] = []
        self.events = 0
        """How many events there were."""
        self.covered = 0
        """Up to which position checkpoints vouch for the log."""

    def messages(self, messages: Iterable[Archived]) -> Iterator[Archived]:
        """The messages, and at the end all `findings`."""
        checkpoints: list[tuple[str, SignedCheckpoint]] = []
        log: LogVerifier | None = None
        for message in messages:
            if message.stream == CHECKPOINTS_STREAM:
                signed = SignedCheckpoint(checkpoint=message.payload.decode(), signature=message.beside)
                checkpoints.append((message.subject, signed))
            elif message.stream == LOG_STREAM:
                log = log or self._begun(checkpoints)
                self.findings += log.take(entry_of(message))
            yield message
        log = log or self._begun(checkpoints)
        self.findings += log.finish(log.position)
        self.events, self.covered = log.count, log.covered

    def require_sound(self) -> None:
        """Raises `ArchiveError` that names what is wrong with the log."""
        serious = [finding for finding in self.findings if not finding.is_notice]
        if serious:
            told = "; ".join(finding.problem for finding in serious[:_TOLD])
            more = f"; and {len(serious) - _TOLD:,} more" if len(serious) > _TOLD else ""
            raise ArchiveError(
                f"The log in the file does not verify: {told}{more}.", hint="Take an older export that does."
            )

    def _begun(self, checkpoints: list[tuple[str, SignedCheckpoint]]) -> LogVerifier:
        trusted = sift(checkpoints, self._verifier)
        self.findings += trusted.findings
        return LogVerifier(trusted.checkpoints, self._verifier.root if self._verifier else "")


def entry_of(message: Archived) -> Entry:
    """An event of a file as it stands in LOG when it is written alone."""
    headers = f"NATS/1.0\r\n{EVENT_HEADER}: {message.beside}\r\n\r\n".encode()
    return Entry(message.sequence, message.subject, headers, message.payload)
