"""The number of instructions of an inference: the same at every run, whatever else the machine does.

It is no latency, since it models neither caches nor pipelines. With more than one thread it would vary.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from edgecnn.errors import UsageError
from edgecnn.targets.runtimes import OptionValue

if TYPE_CHECKING:
    from edgecnn.targets.hosts.emulated import EmulatedHost

WARM_UP = 2
"""Inferences before those that are counted, since the first ones allocate memory and pack weights."""

DEFAULT_REPEAT = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionCounts:
    """Instructions of inferences.

    Attributes:
        board: The board's name.
        runtime: The runtime's name.
        version: The runtime's version.
        options: All options in force.
        per_inference: Instructions of each inference, in the order in which they ran.
        kinds: Instructions of the median inference by kind: ``dot``, ``mmla``, ``fmla32``, ``fmla16``, ``sve``. Empty
            on architectures other than 64-bit Arm, where kinds are not counted.
        outputs: Outputs of the last inference.
    """

    board: str
    runtime: str
    version: str
    options: Mapping[str, OptionValue]
    per_inference: tuple[int, ...]
    kinds: Mapping[str, int]
    outputs: list[NDArray[Any]]

    @property
    def instructions(self) -> int:
        """The median of ``per_inference``, always one of its values."""
        return median_low(self.per_inference)


def count_instructions(
    host: EmulatedHost,
    runtime: str,
    artifact: bytes,
    label: str,
    inputs: Sequence[NDArray[Any]] | Mapping[str, NDArray[Any]],
    *,
    repeat: int = DEFAULT_REPEAT,
    time_limit: float = 300.0,
    **options: OptionValue,
) -> InstructionCounts:
    """Count the instructions of inferences on an emulated board.

    Args:
        host: The board, built.
        runtime: One of the board's runtimes.
        artifact: The file's bytes.
        label: What errors call the artifact.
        inputs: Arrays, as `Session.infer` takes them.
        repeat: How many inferences are counted, from 1 to 1000, after two that are not counted.
        time_limit: Seconds for each step.
        options: Options of the runtime. Only one thread can be counted.

    Raises:
        UsageError: More than one thread is asked for.
        TargetError: The board is not built, has no such runtime, or cannot count: there is no C compiler.
    """
    if options.get("threads", 1) != 1:
        raise UsageError("instructions are counted with one thread", why="threads that wait execute instructions too")
    with host.start_counting(host.environment_of(runtime), time_limit=time_limit) as connection:
        with connection.open(runtime, artifact, label, time_limit=None, **options) as session:
            session.count(inputs, repeat=WARM_UP)
            before = len(connection.marks())
            outputs = session.count(inputs, repeat=repeat)
        marks = connection.marks()[before:]
    steps = [{kind: after[kind] - value for kind, value in mark.items()} for mark, after in itertools.pairwise(marks)]
    middle = sorted(steps, key=lambda step: step["total"])[(len(steps) - 1) // 2]
    return InstructionCounts(
        board=host.name,
        runtime=runtime,
        version=session.version,
        options=session.options,
        per_inference=tuple(step["total"] for step in steps),
        kinds={kind: value for kind, value in middle.items() if kind != "total"},
        outputs=outputs,
    )
