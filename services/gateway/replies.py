"""Whom the gateway answers: only inboxes. Pure.

The message bus checks what a client may publish, not which subject it asks to be answered on (NATS, "Security"): an
answer to `log.<uuid>` would be a message in the log that is no event, for good.
"""

from __future__ import annotations

from nats.aio.msg import Msg

_INBOX = "_INBOX."


def without_foreign_reply(message: Msg) -> Msg:
    """`message`, from now on unanswered if it asks to be answered elsewhere than in an inbox."""
    if not message.reply.startswith(_INBOX):
        message.reply = ""
    return message
