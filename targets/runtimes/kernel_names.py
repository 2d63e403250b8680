"""Names of operators as ONNX Runtime's passes leave them, led back to their names in the file."""

from __future__ import annotations

import re

_ADDED = re.compile(r"(_nchwc|_token_\d+|_quant)+$")
_FUSED = "fused "


def name_in_file(name: str) -> str:
    """An operator's name in the file, without what ONNX Runtime's passes put before and after it."""
    return _ADDED.sub("", name.removeprefix(_FUSED))
