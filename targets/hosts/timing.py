"""The replies to ``bind``, ``bench`` and ``profile``, checked field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.targets.agent import messages
from edgecnn.targets.hosts.reply_fields import read_natural, read_required_natural
from edgecnn.targets.printable import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundInfo:
    """The reply to ``bind``.

    Attributes:
        first_ns: Time of the first inference.
        overhead_ns: What the timing loop measures for a call that does nothing.
        debug: Whether the runtime or Python was built for debugging.
        delegates: Parts of the artifact that a delegate has taken over; None if the runtime has no delegates.
    """

    first_ns: int
    overhead_ns: int
    debug: bool = False
    delegates: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingSlice:
    """The reply to ``bench``: calls that were timed on the device.

    Attributes:
        samples: Time of each call in ns.
        wall_ns: Time of the whole loop.
        cpu_ns: Processor time of the calling thread in the loop.
        khz: The highest frequency of the processors right after the loop; 0 if it is not known.
        peak_kb: Peak resident memory of the process since the artifact was opened, if it is known.
    """

    samples: NDArray[np.int64]
    wall_ns: int
    cpu_ns: int
    khz: int
    peak_kb: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorTimes:
    """An operator as the runtime's profiler names it, and its time in each call in ns."""

    name: str
    operator: str
    samples: NDArray[np.int64]


def parse_bound(message: messages.Message) -> BoundInfo:
    """Read the reply to ``bind``.

    Raises:
        ProtocolError: A field is missing or has the wrong type.
    """
    fields = message.fields
    return BoundInfo(
        first_ns=read_required_natural(fields, "first_ns"),
        overhead_ns=read_required_natural(fields, "overhead_ns"),
        debug=fields.get("debug") is True,
        delegates=read_natural(fields, "delegates"),
    )


def parse_slice(message: messages.Message) -> TimingSlice:
    """Read the reply to ``bench``.

    Raises:
        ProtocolError: A field is missing or has the wrong type, or the samples are not times.
    """
    if len(message.arrays) != 1 or message.arrays[0].dtype != np.int64 or message.arrays[0].ndim != 1:
        raise messages.ProtocolError("the samples are not one row of int64")
    samples = message.arrays[0]
    if not samples.size or samples.min() < 0:
        raise messages.ProtocolError("there are no samples, or some are negative")
    return TimingSlice(
        samples=samples,
        wall_ns=read_required_natural(message.fields, "wall_ns"),
        cpu_ns=read_required_natural(message.fields, "cpu_ns"),
        khz=read_required_natural(message.fields, "khz"),
        peak_kb=read_natural(message.fields, "peak_kb"),
    )


def parse_profile(message: messages.Message) -> list[OperatorTimes]:
    """Read the reply to ``profile``.

    Raises:
        ProtocolError: A field is missing or has the wrong type, or the times do not fit the operators.
    """
    operators = message.fields.get("operators")
    if not isinstance(operators, list) or len(message.arrays) != 1 or message.arrays[0].dtype != np.int64:
        raise messages.ProtocolError("a profile is not a list of operators and one array of int64")
    times = message.arrays[0]
    if times.ndim != 2 or times.shape[1] != len(operators) or not times.size:
        raise messages.ProtocolError(f"{len(operators)} operators were profiled, and times of shape {times.shape} came")
    names = [(_text(item, "name"), _text(item, "operator")) for item in operators]
    return [OperatorTimes(name=n, operator=o, samples=times[:, i]) for i, (n, o) in enumerate(names)]


def _text(item: Any, name: str) -> str:
    value = item.get(name) if isinstance(item, dict) else None
    if not isinstance(value, str):
        raise messages.ProtocolError(f"an operator has no {name}")
    return printable(value[:1000])
