"""Whether processes run: what tests about nothing being left behind ask."""

from __future__ import annotations

import time
from pathlib import Path

import pytest


def running(pid):
    """Whether a process exists and is more than a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_until_gone(pid):
    for _ in range(2000):
        if not running(pid):
            return
        time.sleep(0.01)
    pytest.fail(f"process {pid} is still running")


def children(pid):
    """The processes that a process has started and not yet waited for."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found
