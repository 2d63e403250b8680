"""Fields of an agent's replies, checked one by one: what a device sends is data, and may be wrong or hostile.

Every function raises `ProtocolError` for a field that is missing or of the wrong type. Functions that may return None
also accept a field that is missing or null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgecnn.targets.agent.messages import ProtocolError
from edgecnn.targets.printable import printable

LONGEST_LINE = 300
"""Characters of a text on one line; the rest is cut off."""

_LONGEST_LIST = 512


def read_field(fields: Mapping[str, Any], name: str, expected: type) -> Any:
    """Return a field of exactly the expected type."""
    value = fields.get(name)
    if type(value) is not expected:  # isinstance would accept True as a session's number
        raise ProtocolError(f"the field {name} is missing or not of type {expected.__name__}")
    return value


def read_line(fields: Mapping[str, Any], name: str) -> str | None:
    """Return a text as one line of at most `LONGEST_LINE` characters, or None."""
    if fields.get(name) is None:
        return None
    return printable(" ".join(read_field(fields, name, str)[: 4 * LONGEST_LINE].split()))[:LONGEST_LINE]


def read_natural(fields: Mapping[str, Any], name: str) -> int | None:
    """Return an integer that is not negative, or None."""
    value = fields.get(name)
    if value is not None and (type(value) is not int or value < 0):
        raise ProtocolError(f"the field {name} is not a natural number")
    return value


def read_required_natural(fields: Mapping[str, Any], name: str) -> int:
    """Return an integer that is not negative."""
    value = read_natural(fields, name)
    if value is None:
        raise ProtocolError(f"the field {name} is missing")
    return value


def check_number(value: Any, name: str) -> int | float:
    """Return a value that is a number."""
    if type(value) is not int and type(value) is not float:
        raise ProtocolError(f"the field {name} is not a number")
    return value


def read_list(fields: Mapping[str, Any], name: str) -> list[Any]:
    """Return a list; an empty one if the field is missing or null."""
    return [] if fields.get(name) is None else list(read_field(fields, name, list))


def read_texts(fields: Mapping[str, Any], name: str) -> list[str]:
    """Return the first texts of a list; none if the field is missing or null."""
    items = read_list(fields, name)
    if not all(isinstance(item, str) for item in items):
        raise ProtocolError(f"the field {name} is not a list of strings")
    return items[:_LONGEST_LIST]


def read_numbers(fields: Mapping[str, Any], name: str) -> tuple[float, ...] | None:
    """Return the numbers of a list, or None."""
    if fields.get(name) is None:
        return None
    return tuple(float(check_number(item, name)) for item in read_list(fields, name))
