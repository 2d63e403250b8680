"""The result of locating an artifact's fault: layer, size, cause, and every value along the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgecnn.graph.graph import Graph
from edgecnn.graph.ops import ValueName
from edgecnn.locate.expected import Gap


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One value, in running order.

    Attributes:
        value: Its name; for an output with ``output`` before it.
        module: Path of the module that computes it.
        operator: Kind of the operator.
        drift: How far it is from golden when the whole artifact runs.
        alone: How far its operator's result is from golden when the operator reads golden values.
        anew: ``alone`` for the operator re-exported from the program; None where the file was not modified.
        broken: Whether the operator alone breaks its rule.
    """

    value: ValueName
    module: str
    operator: str
    drift: Gap
    alone: Gap
    anew: Gap | None = None
    broken: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where an artifact goes wrong on a target.

    Attributes:
        artifact: Its file name.
        target: Where it ran.
        runtime: The runtime's name.
        board: The host.
        layer: Module and value that break their rule first; empty where none does.
        size: How far off it is, in words.
        fault: What is at fault: ``file``, ``runtime``, ``input``, ``quantization``; empty where nothing is wrong or
            found.
        cause: The likely cause, in a sentence.
        remedy: What to try.
        lines: All values that were observed, in running order.
        notes: What could not be observed, and why.
    """

    artifact: str
    target: str
    runtime: str
    board: str
    layer: str = ""
    size: str = ""
    fault: str = ""
    cause: str = ""
    remedy: str = ""
    lines: tuple[Line, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def found(self) -> bool:
        """Whether there is anything to say."""
        return bool(self.layer or self.cause)

    @property
    def summary(self) -> str:
        """Cause and remedy in one sentence."""
        return "; ".join(part for part in (self.cause, self.remedy) if part)

    def as_json(self) -> dict[str, Any]:
        """The location as ``--json`` prints it."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A cause that was recognised.

    Attributes:
        fault: What is at fault, as in `Location`.
        text: The cause, in a sentence.
        remedy: What to try.
        layer: The value that it concerns; empty where it concerns none in particular.
    """

    fault: str
    text: str
    remedy: str
    layer: ValueName = ""


def layer_name(graph: Graph, value: ValueName) -> str:
    """A value for people: its module, followed by operator and value in brackets where there is an operator."""
    module, operator = module_and_operator(graph, value)
    return module if operator == "Input" else f"{module} ({operator} {value})"


def module_and_operator(graph: Graph, value: ValueName) -> tuple[str, str]:
    """The module that computes a value, or the value's name where none does; and the kind of its operator."""
    node = graph.producers.get(value)
    if node is None:
        return value, "Input"
    return node.origin.module or value, type(node.op).__name__


def merged_lines(lines: Sequence[Line]) -> tuple[Line, ...]:
    """One line for each value: a file may hold it in several tensors, and the worst of them counts."""
    found: dict[ValueName, Line] = {}
    for line in lines:
        known = found.get(line.value, line)
        found[line.value] = replace(
            known,
            drift=max(known.drift, line.drift, key=_size),
            alone=max(known.alone, line.alone, key=_size),
            anew=max((g for g in (known.anew, line.anew) if g is not None), key=_size, default=None),
            broken=known.broken or line.broken,
        )
    return tuple(found.values())


def _size(gap: Gap) -> float:
    return gap.largest


def first_broken(lines: Sequence[Line]) -> Line | None:
    """The first operator that breaks its rule."""
    return next((line for line in lines if line.broken), None)
