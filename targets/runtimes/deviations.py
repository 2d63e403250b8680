"""What a runtime computes less exactly than others, by its own design: measured, with the cause and what to try."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from edgecnn.targets.runtimes import OptionValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """A float kernel that is off by more than rounding.

    Attributes:
        runtime: Its name.
        machine: The machine as wheels are named after it.
        operators: The operators that it computes so, as the format spells them.
        unless: Options under which another kernel runs.
        error: Its largest error, as a share of the value.
        why: The cause.
        hint: What to try.
    """

    runtime: str
    machine: str
    operators: tuple[str, ...]
    unless: Mapping[str, OptionValue] = field(default_factory=lambda: MappingProxyType({}))
    error: float
    why: str
    hint: str


DEVIATIONS = (
    Deviation(
        runtime="tflite-runtime",
        machine="armv7l",
        operators=("LOGISTIC", "TANH"),
        unless=MappingProxyType({"reference_kernels": True}),
        error=8.1e-6,
        why="32-bit Arm has no vector division: tflite-runtime's sigmoid and tanh multiply by an estimate of the"
        " reciprocal that is improved once (docs/runtimes.md)",
        hint="[reference_kernels=on,xnnpack=off], or --limit fp32:relative_error=1e-4",
    ),
)


def deviation_of(
    runtime: str, machine: str, options: Mapping[str, OptionValue], operators: Collection[str]
) -> Deviation | None:
    """The deviation that is known of a runtime on a machine, if a file has an operator that it concerns.

    Args:
        runtime: Its name.
        machine: As `edgecnn.targets.hosts.machine_info.AgentInfo.wheel_machine` has it.
        options: All in force.
        operators: The file's, as the format spells them.
    """
    for row in DEVIATIONS:
        other = any(options.get(name) == value for name, value in row.unless.items())
        if (runtime, machine) == (row.runtime, row.machine) and not other and set(row.operators) & set(operators):
            return row
    return None
