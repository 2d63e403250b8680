"""One call in the background while the caller does something else: the work of one is hidden behind the other's."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
_PATIENCE = 1.0
"""Seconds to wait for a call that nobody wants the result of any more, before what it works with is closed."""


def in_background(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """The results of a function for each item, in order, from one thread that is kept busy.

    While it works on an item, the next is taken from ``items``; and while the caller looks at a result, it works on the
    next. No more than that is ever ahead. The thread is a daemon, so that a Ctrl-C ends the command at once.

    Raises:
        Exception: What the function raised, where its result would have come; nothing is called after that.
    """
    todo: queue.SimpleQueue[list[T]] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[list[R], BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        while item := todo.get():
            try:
                done.put(([function(item[0])], None))
            except BaseException as error:  # noqa: BLE001  (it is raised where the result is awaited)
                done.put(([], error))
            del item

    thread = threading.Thread(target=work, name="ahead", daemon=True)
    thread.start()
    waiting = False
    try:
        for item in items:
            if waiting:
                result = _result(done)
                todo.put([item])
                yield result
            else:
                todo.put([item])
            waiting = True
        if waiting:
            yield _result(done)
    finally:
        todo.put([])
        thread.join(_PATIENCE)


def _result(done: queue.SimpleQueue[tuple[list[R], BaseException | None]]) -> R:
    results, error = done.get()
    if error is not None:
        raise error
    return results[0]
