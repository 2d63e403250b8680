"""What the agent replies to a request that it cannot serve."""

from __future__ import annotations

import traceback

from edgecnn.targets.agent.messages import Message

MAX_TEXT = 16_000  # characters of a message or traceback in an error reply


class RefusalError(Exception):
    """A request that the agent understands but cannot serve; `kind` goes into the error reply."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def error_reply(kind: str, error: BaseException) -> Message:
    """Return the ``error`` reply for an exception; its texts are cut to `MAX_TEXT` characters."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    message = str(error).strip() or type(error).__name__
    return Message("error", {"kind": kind, "message": message[:MAX_TEXT], "traceback": text[-MAX_TEXT:]}, ())
