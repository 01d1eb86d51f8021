"""Whom the gateway answers: only the inboxes of who asks. Pure.

The message bus checks what a client may publish, not which subject it asks to be answered on (NATS, "Security"): an
answer to `log.<uuid>` would be a message in the log that is no event, for good, and one to another's inbox could pass
for the answer to what he asked.
"""

from __future__ import annotations

from nats.aio.msg import Msg

from events.trust.permissions import inbox

_ANY_INBOX = "_INBOX."


def without_foreign_reply(message: Msg, owner: str | None) -> Msg:
    """`message`, from now on unanswered if it asks to be answered elsewhere than below the inbox of `owner`; with None
    below any."""
    prefix = _ANY_INBOX if owner is None else f"{inbox(owner)}."
    if not message.reply.startswith(prefix):
        message.reply = ""
    return message
