"""Texts that XML can hold."""

from __future__ import annotations

import re

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml_text(text: str) -> str:
    """The text, its characters that XML 1.0 has no place for replaced."""
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
