"""Waiting for many hosts at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def at_once(function: Callable[[T], R], items: Sequence[T], *, workers: int = 16) -> list[R]:
    """The results of a function for each item, in the items' order, from so many threads.

    One item needs no thread. The threads are daemons, so that a Ctrl-C ends the command at once; the agents that they
    have started are ended with it.

    Raises:
        Exception: What the function raised for the first of the items that it failed for, once all are done.
    """
    if len(items) <= 1:
        return [function(item) for item in items]
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, R | None, BaseException | None]] = queue.SimpleQueue()
    for index in range(len(items)):
        todo.put(index)

    def work() -> None:
        while True:
            try:
                index = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((index, function(items[index]), None))
            except BaseException as error:  # noqa: BLE001  (it is raised where the results are gathered)
                done.put((index, None, error))

    for number in range(min(workers, len(items))):
        threading.Thread(target=work, name=f"host {number}", daemon=True).start()
    results: list[R] = [None] * len(items)  # type: ignore[list-item]
    errors: dict[int, BaseException] = {}
    for _ in items:
        index, result, error = done.get()
        if error is not None:
            errors[index] = error
        results[index] = result  # type: ignore[assignment]
    if errors:
        raise errors[min(errors)]
    return results
