"""The agent as a file, for tests that start it by its path or change it before they start it."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from edgecnn.targets.agent.single_file import agent_source


@functools.cache
def agent_file() -> Path:
    """Return the path of the agent's file, which is removed when the tests end."""
    folder = tempfile.mkdtemp(prefix="edgecnn-agent-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "agent.py"
    path.write_text(agent_source(), "utf-8")
    return path
