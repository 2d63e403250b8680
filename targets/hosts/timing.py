"""What an agent's replies to ``bind``, ``bench`` and ``profile`` say, checked field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.targets.agent import messages
from edgecnn.targets.hosts.replies import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundInfo:
    """The reply to ``bind``.

    Attributes:
        first_ns: What the first inference took.
        overhead_ns: What the timing loop charges to a call that does nothing.
        debug: Whether the runtime or Python says that it was built for debugging.
        delegates: Parts of the artifact that a delegate has taken over; None where the runtime has no delegates.
    """

    first_ns: int
    overhead_ns: int
    debug: bool = False
    delegates: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The reply to ``bench``: calls that were timed on the device.

    Attributes:
        samples: ns of each call.
        wall_ns: Of the loop as a whole.
        cpu_ns: Processor time that the calling thread had meanwhile.
        khz: The processors' highest frequency right after; 0 where it is not known.
        peak_kb: The most memory that the process has had resident since the artifact was opened, where that is known.
    """

    samples: NDArray[np.int64]
    wall_ns: int
    cpu_ns: int
    khz: int
    peak_kb: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorTimes:
    """An operator as the runtime's profiler names it, and what it took in each call, in ns."""

    name: str
    operator: str
    samples: NDArray[np.int64]


def parse_bound(message: messages.Message) -> BoundInfo:
    """Read the reply to ``bind``.

    Raises:
        ProtocolError: A field is missing or of another type.
    """
    fields = message.fields
    return BoundInfo(
        first_ns=_natural(fields, "first_ns"),
        overhead_ns=_natural(fields, "overhead_ns"),
        debug=fields.get("debug") is True,
        delegates=None if fields.get("delegates") is None else _natural(fields, "delegates"),
    )


def parse_slice(message: messages.Message) -> Slice:
    """Read the reply to ``bench``.

    Raises:
        ProtocolError: A field is missing or of another type, or the samples are not times.
    """
    if len(message.arrays) != 1 or message.arrays[0].dtype != np.int64 or message.arrays[0].ndim != 1:
        raise messages.ProtocolError("the samples are not one row of int64")
    samples = message.arrays[0]
    if not samples.size or samples.min() < 0:
        raise messages.ProtocolError("there are no samples, or some are negative")
    peak = message.fields.get("peak_kb")
    return Slice(
        samples=samples,
        wall_ns=_natural(message.fields, "wall_ns"),
        cpu_ns=_natural(message.fields, "cpu_ns"),
        khz=_natural(message.fields, "khz"),
        peak_kb=None if peak is None else _natural(message.fields, "peak_kb"),
    )


def parse_profile(message: messages.Message) -> list[OperatorTimes]:
    """Read the reply to ``profile``.

    Raises:
        ProtocolError: A field is missing or of another type, or the times do not fit the operators.
    """
    operators = message.fields.get("operators")
    if not isinstance(operators, list) or len(message.arrays) != 1 or message.arrays[0].dtype != np.int64:
        raise messages.ProtocolError("a profile is not a list of operators and one array of int64")
    times = message.arrays[0]
    if times.ndim != 2 or times.shape[1] != len(operators) or not times.size:
        raise messages.ProtocolError(f"{len(operators)} operators were profiled, and times of shape {times.shape} came")
    names = [(_text(item, "name"), _text(item, "operator")) for item in operators]
    return [OperatorTimes(name=n, operator=o, samples=times[:, i]) for i, (n, o) in enumerate(names)]


def _natural(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    if type(value) is not int or value < 0:
        raise messages.ProtocolError(f"the field {name} is missing or no natural number")
    return value


def _text(item: Any, name: str) -> str:
    value = item.get(name) if isinstance(item, dict) else None
    if not isinstance(value, str):
        raise messages.ProtocolError(f"an operator has no {name}")
    return printable(value[:1000])
