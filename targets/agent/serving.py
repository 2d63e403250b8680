"""The agent's loop: it reads requests, answers them, and writes replies."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

from edgecnn.targets.agent.messages import Message, ProtocolError, Readable, Writable, read_message, write_message
from edgecnn.targets.agent.refusal_error import error_reply
from edgecnn.targets.agent.requests import Agent

T = TypeVar("T")


def serve(requests: Readable, replies: Writable, *, watchdog: bool = False, ahead: bool = False) -> int:
    """Answer requests until ``shutdown`` or the end of the stream.

    Args:
        requests: Where requests are read from.
        replies: Where replies are written to.
        watchdog: Whether to end the process when a request's ``limit`` is long past.
        ahead: Whether a thread reads the next request while the current one is answered.

    Returns:
        The exit code: 0, or 2 where a malformed message made the rest of the stream unreadable.
    """
    agent = Agent(watchdog=watchdog)
    for request in _read_ahead(_messages(requests)) if ahead else _messages(requests):
        if isinstance(request, ProtocolError):
            write_message(replies, *error_reply("protocol", request))
            return 2
        if request.kind == "shutdown":
            write_message(replies, "shutdown", {})
            return 0
        _reply(replies, agent.answer(request))
    return 0


def _messages(stream: Readable) -> Iterator[Message | ProtocolError]:
    """Yield all messages up to ``shutdown``, or up to an error, after which nothing can be read."""
    while True:
        try:
            message = read_message(stream)
        except ProtocolError as error:
            yield error
            return
        if message is None:
            return
        yield message
        if message.kind == "shutdown":
            return


def _read_ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield all items; a thread takes the next one while the current one is in use."""
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=1)

    def take() -> None:
        try:
            for item in items:
                ready.put(("item", item))
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asks for items
            ready.put(("error", error))
        else:
            ready.put(("end", None))

    threading.Thread(target=take, name="requests", daemon=True).start()
    while True:
        what, item = ready.get()
        if what == "error":
            raise item
        if what == "end":
            return
        yield item


def _reply(replies: Writable, reply: Message) -> None:
    try:
        write_message(replies, *reply)
    except ProtocolError as error:  # an output that cannot be sent, of which nothing was written
        write_message(replies, *error_reply("runtime", error))
