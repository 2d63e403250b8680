"""Check files that a user names, and make file names."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from edgecnn.errors import ModelError


def require_file(path: Path) -> None:
    """Raise a ModelError if ``path`` is a folder or missing; the hint is a file in its folder with a similar name."""
    if path.is_dir():
        raise ModelError("this is a folder, not a file", where=str(path))
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, siblings, n=1)
        raise ModelError("no such file", where=str(path), hint=f"{path.with_name(near[0])}?" if near else "")


def file_name(text: str) -> str:
    """A file name made from ``text``: letters, digits, ``_``, ``-``."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_-") or "model"
